"""What commands tell about a router: similar prompts, verdicts, summaries."""

import json

import pytest
from typer.testing import CliRunner

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
