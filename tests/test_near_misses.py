"""Keys that nobody reads, but that look like one that is: they warn, in every file."""

import json
import warnings

import pytest

from tryage import Library, ScoreTable, TryageWarning
from tryage.errors import LibraryError
from tryage.near_misses import near_miss
from tryage.prompts import read_prompts

LINE = {"prompt": "a", "id": "1", "scores": {"x": 0.5, "y": 0.2}}


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("cost", "costs"),
        ("Cost", "costs"),
        ("Costs", "costs"),
        ("response-chars", "response_chars"),
        ("latencies", "latency"),
        ("Latency", "latency"),
        ("groups", "group"),
        ("probability", "probabilities"),
        ("refrence", "reference"),
    ],
)
def test_a_key_of_a_table_that_is_nearly_right_warns(tmp_path, key, meant):
    path = written(tmp_path / "t.jsonl", LINE, {**LINE, "id": "2", key: {"x": 1.0}})
    pattern = rf"t\.jsonl: not read: '{key}' \(did you mean '{meant}'\?\)"
    with pytest.warns(TryageWarning, match=pattern) as caught:
        table = ScoreTable.read(path)
    assert len(caught) == 1
    assert table.extras[1] == {key: {"x": 1.0}}


def test_ids_of_the_other_form_warn(tmp_path):
    rows = [{k if k != "id" else "prompt_id": v for k, v in LINE.items()}]
    with pytest.warns(TryageWarning, match=r"'prompt_id' \(did you mean 'id'\?\)"):
        ScoreTable.read(written(tmp_path / "t.jsonl", *rows))
    csv = tmp_path / "t.csv"
    csv.write_text("id,prompt,expert,score,Cost\n1,a,x,0.5,0.1\n1,a,y,0.4,0.2\n")
    with pytest.warns(TryageWarning) as caught:
        ScoreTable.read(csv)
    assert "'id' (did you mean 'prompt_id'?)" in str(caught[0].message)
    assert "'Cost' (did you mean 'cost'?)" in str(caught[0].message)


def test_rows_in_python_warn_too():
    with pytest.warns(TryageWarning, match="'cost'"):
        ScoreTable.from_rows([{**LINE, "cost": {"x": 0.1}}])


def test_other_keys_and_right_ones_do_not_warn(tmp_path):
    rows = [{**LINE, "source": "web", "costs": {"x": 0.1}, "cost": 3, "note": "", "answer": "b"}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScoreTable.read(written(tmp_path / "t.jsonl", *rows))
        list(read_prompts([{"prompt": "a", "id": "1", "prompt_id": "2", "label": "x", "url": ""}]))


def test_prompts_files_warn_once_with_their_line(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "b", "prompt_id": 1}, {"prompt": "c", "prompt_id": 2}]
    path = written(tmp_path / "p.jsonl", *rows)
    pattern = r"p\.jsonl, line 2: not read: 'prompt_id' \(did you mean 'id'\?\)"
    with pytest.warns(TryageWarning, match=pattern) as caught:
        assert len(list(read_prompts(path))) == 3
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("key", "meant"),
    [("Parameters", "parameters"), ("cost", "price"), ("prices", "price"), ("id", "name")],
)
def test_libraries_refuse_such_keys_and_name_the_right_one(key, meant):
    with pytest.raises(LibraryError, match=f"unknown key '{key}'. Did you mean '{meant}'"):
        Library.from_dict({"experts": [{"name": "a", "model": "b", key: "c"}]})


def test_names_unlike_any_other_are_left_alone():
    for key in ("x" * 100, "source", "", 3):
        assert near_miss(key, ("prompt", "costs", "latency")) is None
