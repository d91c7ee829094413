import json
from dataclasses import replace

import numpy as np
import pytest

from tryage import Expert, Library, Router, ScoreTable
from tryage.drawing.beginnings import beginning, fitting
from tryage.drawing.names import short_names
from tryage.errors import OptionError
from tryage.report import plots
from tryage.report.latent import draw


@pytest.fixture(scope="module")
def values(report):
    return report.tasks["text-generation"]


def test_heat_maps_hold_the_means_and_shares_of_the_table(values, report_table, report_router):
    groups = np.array(report_table.groups)
    scores = 1.0 - report_table.losses
    columns = [report_table.experts.index(name) for name in values.experts]
    chosen = np.array(
        [report_router.route(p, flags=False).expert for p in report_table.prompts], dtype=object
    )
    for row, group in enumerate(values.groups):
        member = groups == group
        expected = np.nanmean(scores[member][:, columns], axis=0)
        np.testing.assert_allclose(values.by_group.mean[row], expected)
        shares = [(chosen[member] == name).mean() for name in values.experts]
        np.testing.assert_allclose(values.by_group.chosen[row], shares)
    assert values.by_group.cells.sum() == (~np.isnan(scores)).sum() == values.measured.sum()


def test_the_figures_are_those_of_evaluate(values, report_router, report_table, report_train):
    assert values.evaluation == report_router.evaluate(report_table, train=report_train)
    regret, group = values.prompts.regret, values.prompts.group
    means = [np.nanmean(regret[group == g]) for g in range(len(values.groups))]
    # A prompt's regret is shown where its choice was measured; the mean is of all prompts.
    missing = np.isnan(report_table.losses[np.arange(len(report_table)), values.prompts.chosen])
    assert missing.sum() == 1
    assert np.isnan(regret).sum() == 1
    assert np.mean(means) == pytest.approx(values.evaluation.router["regret"], abs=0.02)


def test_the_worst_choices_come_first_and_say_why(values, report_router, report_table):
    regrets = [values.prompts.regret[choice.row] for choice in values.worst]
    assert regrets == sorted(regrets, reverse=True)
    assert min(regrets) > 0
    first = values.worst[0]
    decision = report_router.route(report_table.prompts[first.row], flags=False)
    assert first.explanation == decision.explain()


def test_groups_take_turns_among_equally_bad_choices(report_router, report_train):
    losses = np.tile([0.5, 0.5, 0.0], (len(report_train), 1))
    worst = report_router.report(replace(report_train, losses=losses)).tasks["text-generation"]
    groups = [int(worst.prompts.group[choice.row]) for choice in worst.worst]
    assert groups[:6] in ([0, 1] * 3, [1, 0] * 3)


def test_reliability_bins_hold_every_measured_cell(values, report_table):
    bins = values.reliability
    measured = report_table.losses[~np.isnan(report_table.losses)]
    assert bins.cells.sum() == len(measured)
    assert (bins.cells * bins.measured).sum() == pytest.approx(measured.sum())
    assert np.all(np.diff(bins.predicted) >= 0)


def test_kinds_separate_in_the_routers_view_and_shuffled_ones_do_not(router, held_out_table):
    [values] = router.report(held_out_table).tasks.values()
    for one in values.latent.separation:
        assert one.ci95[0] <= one.value <= one.ci95[1]
        assert one.shuffled_ci95[1] < one.ci95[0]
    assert values.latent.separation[0].value == 1.0
    assert values.latent.places.shape == (len(held_out_table), 2)
    assert np.isfinite(values.latent.places).all()


def test_the_same_seed_gives_the_same_map(router, held_out_table):
    first, second = (router.report(held_out_table, seed=3).values.tasks[0] for _ in range(2))
    np.testing.assert_array_equal(first.latent.places, second.latent.places)
    assert first.latent.separation == second.latent.separation


def test_a_large_table_is_drawn_by_a_sample_in_order():
    rows = draw(10_000, 1)
    assert len(rows) == 1500
    assert np.all(np.diff(rows) > 0)
    assert rows[-1] > 9_000
    assert draw(7, 1).tolist() == list(range(7))


def test_a_front_shows_where_the_router_stands(values, report_router, report_table):
    assert [placed.front.goals for placed in values.fronts] == [("cost",), ("size",)]
    size = values.fronts[1]
    assert size.weight == 0.0
    rows = np.flatnonzero(~np.isnan(report_table.losses).any(axis=1))
    place = {name: column for column, name in enumerate(report_table.experts)}
    decisions = report_router.route_batch([report_table.prompts[r] for r in rows], flags=False)
    losses = [report_table.losses[r, place[d.expert]] for r, d in zip(rows, decisions, strict=True)]
    groups = np.array(report_table.groups)[rows]
    macro = np.mean([np.mean(np.array(losses)[groups == group]) for group in set(groups)])
    assert size.loss == pytest.approx(macro)


def test_without_sizes_the_report_says_why_there_is_no_front(router, held_out_table):
    [values] = router.report(held_out_table).tasks.values()
    assert "3 of 3 experts have no cost" in values.missing["cost"]
    assert [placed.front.goals for placed in values.fronts] == [("size",)]


def test_falling_back_is_compared_with_the_predictions(scored_router, scored_table):
    """On prompts unlike the training prompts, giant is right and what is predicted is wrong."""
    odd = [f"{word} 數學 問題 {number}" for number in range(30) for word in ("多少", "什麼")]
    rows = [{"prompt": p, "scores": {"coder": 0.0, "writer": 0.0, "giant": 1.0}} for p in odd]
    table = ScoreTable.from_rows(rows)
    [values] = scored_router.report(table).tasks.values()
    assert values.evaluation.out_of_distribution == 1.0
    fallback = values.fallback
    assert fallback.prompts == 60
    predicted = scored_router.predictors["text-generation"].predict(odd).mean["loss"]
    regret = (predicted.argmin(axis=1) != scored_router.library.index("giant")).mean()
    assert fallback.predictions == pytest.approx(regret)
    assert fallback.averages == 0.0
    assert fallback.difference == pytest.approx(regret)


def test_a_router_that_sees_no_prompts_has_no_map(table, table_library):
    router = Router.fit(table, library=table_library, predictor="best-single")
    [values] = router.report(table).tasks.values()
    assert values.latent is None
    assert "does not look at prompts" in values.missing["map"]
    with pytest.raises(OptionError, match="does not look"):
        plots.latent_map(values)


def test_notes_warn_of_the_training_table(report_router, report_train, report_table):
    def notes(table):
        return " ".join(report_router.report(table).values.notes)

    assert "fitted on these very prompts" in notes(report_train)
    assert "fitted on" not in notes(report_table)


def test_plots_are_written_as_svg_and_png(values, tmp_path):
    plots.summary(values.evaluation).save(tmp_path / "summary.svg")
    assert "router" in (tmp_path / "summary.svg").read_text()
    plots.latent_map(values, "predicted", "coder").save(tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match="Did you mean 'coder'"):
        plots.latent_map(values, "predicted", "codar")
    for draw_plot in (plots.heat_map, plots.regret):
        assert json.dumps(draw_plot(values).to_dict())


def test_beginnings_show_what_would_hide():
    assert beginning("a\u202eb\x00c\ud800\n\n d") == "a\\u202eb\\u0000c\ufffd d"
    assert beginning("x" * 500) == "x" * 240 + "…"
    assert beginning("e\u0301 漢字 🙂") == "e\u0301 漢字 🙂"
    cut = fitting(["漢" * 240] * 5000)
    assert sum(len(text.encode()) for text in cut) < 1_600_000


def test_short_names_stay_distinct():
    assert short_names(["a/one", "b/two"]) == ["one", "two"]
    assert short_names(["a/one", "b/one"]) == ["a/one", "b/one"]
    long = [f"{'x' * 40}{number}{'y' * 40}" for number in range(3)]
    assert len(set(short_names(long))) == 3


def test_a_wide_heat_map_begins_with_the_experts_that_are_chosen():
    names = [f"expert {number:02}" for number in range(14)]
    rows = [
        {
            "prompt": f"{word} {number}",
            "group": word,
            "scores": {name: float(name == names[best]) for name in names},
        }
        for word, best in (("sum of the numbers", 12), ("tale of the sea", 7))
        for number in range(30)
    ]
    library = Library([Expert(name=name, model=name, parameters="1B") for name in names])
    router = Router.fit(ScoreTable.from_rows(rows), library=library, predictor="clusters")
    fresh = [{**row, "prompt": f"{row['prompt']} again"} for row in rows]
    [values] = router.report(ScoreTable.from_rows(fresh)).tasks.values()
    order = plots.heat_map(values).to_dict()["layer"][0]["encoding"]["x"]["sort"]
    assert set(order[:2]) == {"expert 07", "expert 12"}
    assert sorted(order) == names


def test_names_of_points_that_would_cover_each_other_are_left_out(values):
    front = values.fronts[0].front
    crowded = replace(
        front,
        experts=tuple(f"expert number {number}" for number in range(30)),
        singles=replace(
            front.singles,
            losses=np.linspace(0.5, 0.5001, 30),
            values=np.linspace(1.0, 1.0001, 30)[:, None],
        ),
    )
    texts = [
        layer for layer in crowded.plot().to_dict()["layer"] if layer["mark"]["type"] == "text"
    ]
    assert 0 < len(texts) < 8
