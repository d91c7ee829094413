"""Every command that reads a library reads it as YAML, JSONL and Parquet alike."""

import json

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library, Router
from tryage.cli import app
from tryage.errors import LibraryError

ENDINGS = ("yaml", "jsonl", "parquet")


def call(*args):
    done = CliRunner().invoke(app, [*map(str, args), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(params=ENDINGS)
def ending(request):
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


def test_a_router_is_fitted_grown_and_used(ending, table, table_library, tmp_path):
    library = tmp_path / f"library.{ending}"
    table_library.write(library)
    table.write(tmp_path / "train.jsonl")
    fit = ("fit", tmp_path / "train.jsonl", "--library", library, "--predictor", "clusters")
    call(*fit, "--out", tmp_path / "r")
    router = Router.from_pretrained(tmp_path / "r")
    assert router.library.experts == table_library.experts

    limit = ("--router", tmp_path / "r", "--limit", "size<=10e9")
    decision = call("route", "Write a poem.", *limit)
    large = {expert.name for expert in table_library if expert.parameters > 10**10}
    assert {row["expert"] for row in decision["ranking"] if not row["eligible"]} == large != set()

    expert = Expert(name="poet", model="org/poet", parameters="1B", languages=["en"])
    Library([*table_library, expert]).write(tmp_path / f"more.{ending}")
    rows = [{"prompt": prompt, "scores": {"poet": 0.5}} for prompt in table.prompts[:20]]
    (tmp_path / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    add = ("add", tmp_path / "r", tmp_path / f"more.{ending}", tmp_path / "probes.jsonl")
    call(*add, "--out", tmp_path / "r2")
    assert Router.from_pretrained(tmp_path / "r2").library["poet"] == expert


def test_models_beside_the_file_are_checked_and_measured(ending, tiny_library, tmp_path):
    library = tmp_path / f"library.{ending}"
    (tmp_path / "models").symlink_to(tiny_library.parent / "models")
    experts = [one for one in Library.read(tiny_library) if one.task == "text-generation"]
    Library(experts).write(library)
    (tmp_path / "p.jsonl").write_text('{"prompt": "The old teacher"}\n')
    allowed = ("--allow-models", tiny_library.parent / "models")
    assert call("library", "check", library, *allowed)["problems"] == {}
    label = ("label", "--library", library, "--prompts", tmp_path / "p.jsonl", *allowed)
    assert call(*label, "--out", tmp_path / "scores")["measured"] == len(experts) == 2


@pytest.mark.parametrize("end", ENDINGS)
def test_a_missing_library_is_named(end, table, tmp_path):
    with pytest.raises(LibraryError, match=rf"none\.{end}' does not exist"):
        Router.fit(table, library=tmp_path / f"none.{end}")
