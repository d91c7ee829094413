"""What commands tell about a router: similar prompts, verdicts, summaries."""

import json

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library, Router, ScoreTable
from tryage.cli import app

runner = CliRunner()
PROSE = "The old teacher watches the garden, and the garden answers a quiet letter."


def call(*args, code=0):
    done = runner.invoke(app, [str(arg) for arg in args])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory, table, table_library):
    folder = tmp_path_factory.mktemp("describing")
    table_library.write(folder / "library.yaml")
    table.write(folder / "train.jsonl")
    return folder


def fit(files, *options):
    names = [files / "train.jsonl", "--library", files / "library.yaml", "--predictor", "clusters"]
    return call("fit", *names, *options)


def test_route_shows_similar_prompts_of_a_router_that_keeps_them(files, table):
    fit(files, "--out", files / "keeper", "--keep-prompts")
    shown = call("route", PROSE, "--router", files / "keeper", "--similar", 2).stdout
    assert "Nearest training prompts" in shown
    answer = json.loads(
        call("route", PROSE, "--router", files / "keeper", "--similar", 2, "--json").stdout
    )
    assert [one["prompt"] in table.prompts for one in answer["similar"]] == [True, True]
    assert "similar" not in json.loads(
        call("route", PROSE, "--router", files / "keeper", "--json").stdout
    )


def test_similar_prompts_need_a_router_that_keeps_them_and_one_prompt(files):
    fit(files, "--out", files / "plain")
    refused = call("route", PROSE, "--router", files / "plain", "--similar", 2, code=2)
    assert "--keep-prompts" in refused.stderr
    (files / "prompts.txt").write_text("one\n")
    call("route", "--input", files / "prompts.txt", "--similar", 1, code=2)


def test_show_tells_what_a_router_is(files, table):
    fit(files, "--out", files / "shown", "--keep-words", "--holdout", 0.25)
    shown = call("show", files / "shown").stdout
    router = Router.from_pretrained(files / "shown")
    assert shown == f"{router.summary()}\n"
    for part in ("a router over 3 experts", "25% held out", "Keeps no training prompts"):
        assert part in shown
    assert router.verdict.sentence() in shown
    assert "typical words" in shown
    summary = json.loads(call("show", files / "shown", "--json").stdout)
    assert [expert["name"] for expert in summary["experts"]] == list(router.library.names)
    assert summary["training"]["prompts"] == len(table) * 3 // 4
    assert summary["training"]["fitted_on"] == router.provenance["fitted_on"]
    assert summary["training"]["data_sha256"] == table.hash
    assert summary["verdicts"]["text-generation"]["held_out"] == "holdout"
    kinds = summary["kinds"]["text-generation"]
    assert sum(kind["share"] for kind in kinds) == pytest.approx(1.0)
    assert all(kind["best"] in router.library.names for kind in kinds)
    assert any(kind["words"] for kind in kinds)
    assert summary["stored_prompts"] == 0


def test_show_knows_bundled_routers_and_those_without_measurements(files, table_library):
    shown = call("show", "routerbench11").stdout
    assert "10 + 30 USD per 1M tokens" in shown
    assert "cross-validated): router 0.83, best single model" in shown
    bundled = Router.from_pretrained("routerbench11")
    old = {name: part for name, part in bundled.provenance.items() if name != "verdicts"}
    assert "cross-validated: score 0.8331" in str(bundled.replace(provenance=old).summary())
    summary = Router.from_library(table_library).summary()
    assert "Nothing was measured" in str(summary)
    assert summary.to_dict()["training"] == {}


def test_fit_ends_with_the_verdict_and_the_table_of_groups(files):
    router_folder = files / "judged"
    lines = fit(files, "--out", router_folder).stdout.rstrip().splitlines()
    verdict = Router.from_pretrained(router_folder).verdict
    assert lines[-1] == verdict.sentence()
    assert verdict.table().splitlines()[0] in lines
    printed = json.loads(fit(files, "--out", files / "again", "--json").stdout)
    assert printed["verdict"] == verdict.to_dict()
    refused = fit_refused(files, "--holdout", 1.5)
    assert "a holdout of 1.5" in refused


def fit_refused(files, *options):
    names = [files / "train.jsonl", "--library", files / "library.yaml", "--out", files / "none"]
    return call("fit", *names, *options, code=2).stderr


def test_fit_without_a_library_takes_the_experts_of_the_table(files, table):
    done = call("fit", files / "train.jsonl", "--out", files / "named", "--predictor", "clusters")
    assert "the library is the table's 3 experts by name" in done.stderr
    assert Router.from_pretrained(files / "named").library.names == table.experts


def test_add_takes_the_experts_that_a_router_lacks(files, table, table_library, tmp_path):
    fit(files, "--out", files / "three")
    (tmp_path / "models" / "new").mkdir(parents=True)
    new = Expert(name="new", model="./models/new")
    Library([*table_library.experts, new], root=tmp_path).write(tmp_path / "four.yaml")
    rows = [
        {"prompt": prompt, "losses": {"new": 0.01, "giant": float(loss)}}
        for prompt, loss in zip(table.prompts, table.reorder(["giant"]).losses[:, 0], strict=True)
    ]
    ScoreTable.from_rows(rows).write(tmp_path / "probes.jsonl")
    names = [files / "three", tmp_path / "four.yaml", tmp_path / "probes.jsonl"]
    added = json.loads(call("add", *names, "--out", tmp_path / "r", "--json").stdout)
    assert added == {"added": ["new"], "experts": 4, "share_of_probes": {"new": 1.0}}
    grown = Router.from_pretrained(tmp_path / "r")
    assert grown.library.names == (*table_library.names, "new")
    assert grown.library.model_path(grown.library["new"]).resolve() == tmp_path / "models" / "new"
    assert grown.route(PROSE).expert == "new"
    shown = call("add", *names, "--out", tmp_path / "r").stdout
    assert "new added; it is chosen for 100% of the 120 probes" in shown
    names[0] = tmp_path / "r"
    refused = call("add", *names, "--out", tmp_path / "r2", code=2).stderr
    assert "has all experts" in refused
    assert not (tmp_path / "r2").exists()
    assert "Experts were added" in call("show", tmp_path / "r").stdout


def test_fit_shows_costs_per_thousand_prompts(tmp_path):
    costs = {"a": 0.002, "b": 0.002}
    rows = [{"prompt": f"{n}", "scores": {"a": 1, "b": n % 2}, "costs": costs} for n in range(30)]
    ScoreTable.from_rows(rows).write(tmp_path / "t.jsonl")
    shown = call("fit", tmp_path / "t.jsonl", "--out", tmp_path / "r").stdout
    assert "USD per 1,000 2\n" in shown
