"""What the benchmarks' scripts do with figures: aims that are missed, and exit statuses."""

import argparse
import copy
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tryage.predictors import Prediction

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    """A function: name of a script → its module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def changed(results, path, value):
    """The results with another value at a path of keys."""
    other = copy.deepcopy(results)
    *parents, last = path
    place = other
    for key in parents:
        place = place[key]
    place[last] = value
    return other


OPEN7 = ("test", "open7_test")
AIMS = [
    ("goals", ("cost", "clusters", "aiq"), 0.2, "AIQ of the router is 0.2000"),
    ("routing", (*OPEN7, "paired", "group_best_of_train", "ci95"), [-0.008, 0], "on open7_test is"),
    (
        "routing",
        ("test", "without_humaneval", "paired", "group_best_of_train", "ci95"),
        [-0.02, 0],
        "on without_humaneval is -0.0200",
    ),
    ("routing", (*OPEN7, "reliability", "router", "brier"), 0.4, "Brier score is 0.4000"),
    ("routing", (*OPEN7, "reliability", "router", "calibration_error_pooled"), 0.04, "pooled is"),
    ("routing", (*OPEN7, "reliability", "router", "calibration_error_by_group"), 0.06, "by group"),
    ("routing", ("interval_coverage", "exchangeable"), 0.8, "coverage of 90 % intervals is 0.8000"),
    ("routing", ("interval_coverage", "exchangeable"), 0.99, "coverage of 90 % intervals is"),
]


@pytest.mark.parametrize(("name", "path", "value", "words"), AIMS)
def test_a_figure_that_misses_its_aim_is_named(script, name, path, value, words):
    module = script(name)
    results = json.loads(module.RESULTS.read_text(encoding="utf-8"))
    assert module.missed(results) == []
    [aim] = module.missed(changed(results, path, value))
    assert words in aim


def test_a_task_on_which_routing_gains_nothing_is_named(script):
    module = script("routerbench")
    results = json.loads(module.RESULTS.read_text(encoding="utf-8"))
    assert module.missed(results) == []
    for name, rows in results["aiq"].items():
        # One bad seed of three is made up for by the others; the mean counts.
        level = [{**row, "router": row["zero_router"]} for row in rows]
        assert module.missed(changed(results, ("aiq", name), [level[0], *rows[1:]])) == []
        [aim] = module.missed(changed(results, ("aiq", name), level))
        assert aim.startswith(f"AIQ on {name} is")


@pytest.mark.parametrize(("aims", "status"), [([], 0), (["too slow"], 1)])
def test_a_script_whose_figures_miss_an_aim_writes_them_and_fails(
    script, tmp_path, monkeypatch, caplog, aims, status
):
    publishing = script("publishing")
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\nold\n<!-- b -->\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["script"])
    tables = []

    def missed(results):
        tables.append(results)
        return aims

    exit_status = publishing.publish(
        lambda _: {"seconds": 3},
        lambda results: f"{results['seconds']} s",
        results=tmp_path / "results.json",
        page=page,
        marks=("<!-- a -->", "<!-- b -->"),
        parser=argparse.ArgumentParser(),
        missed=missed,
    )
    assert exit_status == status
    assert tables == [{"seconds": 3}]
    assert page.read_text(encoding="utf-8") == "<!-- a -->\n3 s\n<!-- b -->\n"
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        f"missed: {aim}" for aim in aims
    ]


def test_intervals_of_cells_hold_as_often_as_they_should(script):
    """Predicted means are off by noise of a known size; so are intervals of standard errors."""
    reliability = script("reliability")
    rng = np.random.default_rng(0)
    assigned = np.repeat(np.arange(40), 50)
    off = 0.1 * rng.normal(size=(40, 8))[assigned]
    losses = 0.5 + off + 0.2 * rng.normal(size=(2000, 8))
    held = {}
    for size in (0.1, 0.02):
        std = np.full((2000, 8), size)
        prediction = Prediction({"loss": np.full((2000, 8), 0.5)}, {"loss": std}, off[:, 0] > 9)
        inside, total = reliability.cell_coverage(prediction, assigned, losses)
        assert total == 320
        held[size] = inside / total
    assert 0.86 < held[0.1] < 0.94
    assert held[0.02] < 0.6
    losses[assigned == 3, 2] = np.nan
    losses[::7, 1] = np.nan
    gone, total = reliability.cell_coverage(prediction, assigned, losses)
    assert total == 319
    assert abs(gone - inside) < 10
    few = reliability.cell_coverage(prediction, np.arange(2000), losses)
    assert few == (0, 0)


def test_a_slope_is_the_power_between_the_two_largest_sizes(script):
    table = script("scale_table")
    sizes = {"1000": {"ms": 3.0}, "100": {"ms": 1.0}, "4000": {"ms": 24.0}}
    assert table.slope(sizes, "ms") == pytest.approx(1.5)


def test_an_interval_over_seeds_is_students(script):
    table = script("cotraining_table")
    # Mean 0, deviation 1, three seeds: 4.303 / sqrt(3).
    assert table.mean_and_interval([-1.0, 0.0, 1.0]) == "+0.000 (-2.484 to +2.484)"
    assert table.mean_and_interval([0.25]) == "+0.250"


def test_the_cotraining_page_shows_the_results(script):
    module = script("cotraining")
    table = script("cotraining_table")
    results = json.loads(module.RESULTS.read_text(encoding="utf-8"))
    assert table.text(results) in table.PAGE.read_text(encoding="utf-8")
    shown = table.loss_table(results["cells"])
    worse = changed(results, ("cells", 0, "rounds", -1, "held_out_loss"), 9.0)
    assert table.loss_table(worse["cells"]) != shown
