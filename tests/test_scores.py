import csv
import gzip
import json
import math
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tryage.errors import MissingExtraError, ScoreTableError
from tryage.experts import Expert
from tryage.library import Library
from tryage.scores import ScoreTable

FORMATS = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
TARGETS = {
    "costs": "cost",
    "response_chars": "response_chars",
    "readability": "readability",
    "latency": "latency",
    "probabilities": "probability",
}


def line(prompt="What is 2 + 3?", **fields):
    fields = fields or {"scores": {"a": 1.0, "b": 0.25}}
    return {"prompt": prompt, **fields}


def write_lines(path, *entries):
    text = "\n".join(entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def same(left, right):
    """Whether two tables hold the same, columns compared by name."""
    right = right.reorder(left.experts)
    return left.hash == right.hash and left.extras == right.extras


# Reading and writing


def test_scores_become_losses_and_missing_cells_are_nan(tmp_path):
    path = write_lines(
        tmp_path / "t.jsonl",
        line("one", id="x", group="g", task="text-generation", reference="r", scores={"a": 0.75}),
        line("two", scores={"b": 0, "a": 1}, costs={"b": 0.002}),
    )
    table = ScoreTable.read(path)
    assert len(table) == 2
    assert table.kind == "scores"
    assert table.experts == ("a", "b")
    np.testing.assert_array_equal(table.losses, [[0.25, np.nan], [0.0, 1.0]])
    np.testing.assert_array_equal(table.targets["cost"], [[np.nan, np.nan], [np.nan, 0.002]])
    assert (table.ids[0], table.groups, table.tasks) == (
        "x",
        ("g", None),
        ("text-generation", None),
    )
    assert table.references == ("r", None)


def test_an_id_is_made_of_the_prompt_and_its_occurrence():
    table = ScoreTable.from_rows([line("p"), line("q"), line("p")])
    again = ScoreTable.from_rows([line("q"), line("p"), line("p")])
    assert len(set(table.ids)) == 3
    assert set(table.ids) == set(again.ids)
    assert table.ids[0].removesuffix("-1") == table.ids[2].removesuffix("-2")


def test_unknown_keys_are_kept_and_ignored(tmp_path):
    entry = line("p", scores={"a": 0.5}, source={"page": 3}, note="hand-made")
    table = ScoreTable.from_rows([entry, line("q", scores={"a": 1})])
    assert table.extras == ({"source": {"page": 3}, "note": "hand-made"}, {})
    for ending in FORMATS:
        table.write(tmp_path / f"t{ending}")
        assert ScoreTable.read(tmp_path / f"t{ending}").extras == table.extras


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
optional = st.none() | texts
names = st.sampled_from(["a", "b/7B", "c, d", 'q"uote', "ünï"])
prompts = texts.filter(lambda text: not text.isspace())


def numbers(low, high):
    return st.dictionaries(names, st.floats(low, high, allow_nan=False), max_size=4)


@st.composite
def rows(draw, kind=None):
    kind = kind or draw(st.sampled_from(["scores", "losses"]))
    entries = []
    for number in range(draw(st.integers(1, 5))):
        entry = {"prompt": draw(prompts), kind: draw(numbers(0, 1 if kind == "scores" else 1e9))}
        for key, low, high in [
            ("costs", 0, 10),
            ("response_chars", 0, 1e6),
            ("readability", -50, 50),
            ("latency", 0, 1e3),
            ("probabilities", 0, 1),
        ]:
            if draw(st.booleans()):
                entry[key] = draw(numbers(low, high))
        for key in ("group", "task", "reference"):
            entry[key] = draw(optional)
        if draw(st.booleans()):
            entry["id"] = f"{number} {draw(texts)}"
        if draw(st.booleans()):
            entry["note"] = draw(texts)
        entries.append(entry)
    return entries


@pytest.mark.parametrize("ending", FORMATS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(entries=rows())
def test_written_and_read_again_a_table_is_identical(tmp_path, ending, entries):
    table = ScoreTable.from_rows(entries)
    path = tmp_path / f"table{ending}"
    table.write(path)
    again = ScoreTable.read(path)
    measured = [
        name
        for column, name in enumerate(table.experts)
        if any(not np.isnan(v[:, column]).all() for v in (table.losses, *table.targets.values()))
    ]
    assert set(again.experts) == set(measured)
    assert same(table.reorder(measured), again)


@settings(max_examples=50, deadline=None)
@given(entries=rows(), data=st.data())
def test_selecting_and_reordering_move_cells_and_change_none(entries, data):
    table = ScoreTable.from_rows(entries)
    rows_ = data.draw(st.permutations(range(len(table))))
    columns = data.draw(st.permutations(range(len(table.experts))))
    moved = table.select(rows_).reorder([table.experts[i] for i in columns])
    assert moved.prompts == tuple(table.prompts[i] for i in rows_)
    np.testing.assert_array_equal(moved.losses, table.losses[np.ix_(rows_, columns)])
    for name, values in table.targets.items():
        np.testing.assert_array_equal(moved.targets[name], values[np.ix_(rows_, columns)])
    back = moved.reorder(table.experts).select(np.argsort(rows_))
    assert back.hash == table.hash


def test_halves_of_surrogate_pairs_survive_in_jsonl_and_are_refused_elsewhere(tmp_path):
    table = ScoreTable.from_rows([line("half \ud800 of a pair")])
    table.write(tmp_path / "t.jsonl")
    assert ScoreTable.read(tmp_path / "t.jsonl").hash == table.hash
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(ScoreTableError, match=r"lone surrogate.*jsonl"):
            table.write(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_a_score_is_written_as_it_was_read(tmp_path):
    table = ScoreTable.from_rows([line("p", scores={"a": 0.3, "b": 0.1, "c": 1e-12})])
    table.write(tmp_path / "t.jsonl")
    written = json.loads((tmp_path / "t.jsonl").read_text())
    assert written["scores"] == {"a": 0.3, "b": 0.1, "c": 1e-12}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "t.jsonl"
    ScoreTable.from_rows([line("p", scores={"a": 1})]).write(path)
    before = path.read_bytes()
    with pytest.raises(ScoreTableError, match="unknown key holds no JSON value"):
        ScoreTable.from_rows([line("p", scores={"a": 1}, thing=object())]).write(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_without_prompts_is_not_written(tmp_path):
    table = ScoreTable.from_rows([line()]).select([])
    with pytest.raises(ScoreTableError, match="no prompts"):
        table.write(tmp_path / "t.csv")


def test_byte_order_marks_blank_lines_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(line()).encode() + b"\r\n\r\n\n")
    assert len(ScoreTable.read(path)) == 1


def test_line_separators_inside_a_prompt_do_not_end_its_line(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", json.dumps(line("a\u2028b\x85c"), ensure_ascii=False))
    assert ScoreTable.read(path).prompts == ("a\u2028b\x85c",)


def test_a_prompt_longer_than_the_csv_module_allows_is_read(tmp_path):
    before = csv.field_size_limit()
    table = ScoreTable.from_rows([line("x" * 300_000)])
    table.write(tmp_path / "t.csv")
    assert ScoreTable.read(tmp_path / "t.csv").hash == table.hash
    assert csv.field_size_limit() == before


def test_the_hash_sees_every_cell_and_not_the_unknown_keys():
    base = line("p", scores={"a": 1.0, "b": 0.5}, costs={"a": 0.1})
    table = ScoreTable.from_rows([base])
    assert ScoreTable.from_rows([base | {"note": "new"}]).hash == table.hash
    others = [
        base | {"group": "g"},
        base | {"reference": "r"},
        base | {"scores": {"a": 1.0}},
        base | {"costs": {"b": 0.1}},
        base | {"scores": {"b": 0.5, "a": 1.0}},
    ]
    hashes = {ScoreTable.from_rows([other]).hash for other in others}
    assert len(hashes | {table.hash}) == len(others) + 1


def test_arrays_cannot_be_written_to():
    table = ScoreTable.from_rows([line(costs={"a": 1.0}, losses={"a": 2.0})])
    for array in (table.losses, table.targets["cost"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 0.0


# Bad lines


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{not json", r"line 2: line: not JSON"),
        ('["a"]', r"line 2: line: \['a'\] is not an object"),
        ('{"prompt": "p", "scores": {"a": 1, "a": 0}}', r"line 2: a: stands twice"),
        ({"scores": {"a": 1}}, r"line 2: prompt: missing"),
        (line(None), r"line 2: prompt: None is not text"),
        (line(""), r"line 2: prompt: '' is empty"),
        (line(" \n"), r"line 2: prompt: .* is empty"),
        (line("p", task="t"), r"line 2: scores: missing, and so is 'losses'"),
        (line("p", scores={"a": 1}, losses={"a": 1}), r"line 2: scores: given next to 'losses'"),
        (line("p", losses={"a": 1}), r"line 2: losses: line 1 has 'scores'"),
        (line("p", scores={"a": 1.5}), r"line 2: scores: expert 'a': 1.5 is outside \[0, 1\]"),
        (line("p", scores={"a": -0.5}), r"line 2: scores: expert 'a': -0.5 is outside"),
        (
            line("p", scores={"a": None}),
            r"line 2: scores: expert 'a': null .* leave the expert out",
        ),
        (line("p", scores={"a": math.nan}), r"line 2: scores: expert 'a': NaN .* leave the expert"),
        (line("p", scores={"a": "1"}), r"line 2: scores: expert 'a': '1' is not a number"),
        (line("p", scores={"a": True}), r"line 2: scores: expert 'a': True is not a number"),
        (line("p", scores=[1]), r"line 2: scores: \[1\] is not an object"),
        (line("p", scores={"": 1}), r"line 2: expert: '' is not a name"),
        (line("p", scores={"a": 1}, costs={"a": -1}), r"line 2: costs: expert 'a': -1 is outside"),
        (line("p", scores={"a": 1}, latency={"a": 10**400}), r"line 2: latency: .* inf is outside"),
        (line("p", scores={"a": 1}, probabilities={"a": 2}), r"probabilities: .* 2 is outside"),
        (line("p", scores={"a": 1}, group=7), r"line 2: group: 7 is not text"),
        (line("p", scores={"a": 1}, id=0.5), r"line 2: id: 0.5 is neither text nor a whole number"),
        (line("p", scores={"a": 1}, id="first"), r"line 2: id: 'first' is also the id on line 1"),
        ("[" * 100_000, r"line 2: line: not JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path, bad, message):
    good = line("fine", id="first", scores={"a": 1.0})
    path = write_lines(tmp_path / "bad.jsonl", good, bad)
    with pytest.raises(ScoreTableError, match=message) as caught:
        ScoreTable.read(path)
    assert str(caught.value).startswith(f"{path}, ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [-0.1, math.nan, math.inf])
def test_a_loss_is_a_finite_number_from_zero(tmp_path, loss):
    path = write_lines(tmp_path / "bad.jsonl", line("p", losses={"a": loss}))
    with pytest.raises(ScoreTableError, match=r"line 1: losses: expert 'a'"):
        ScoreTable.read(path)


def test_the_same_id_may_stand_in_two_tasks():
    rows_ = [
        line("p", id="x", task="fill-mask", losses={"a": 1}),
        line("p", id="x", task="text-generation", losses={"b": 1}),
    ]
    assert ScoreTable.from_rows(rows_).ids == ("x", "x")


def test_rows_are_named_by_source_and_number():
    with pytest.raises(ScoreTableError, match=r"probes, row 2: scores: expert 'a': 3 is outside"):
        ScoreTable.from_rows([line(), line("q", scores={"a": 3})], source="probes")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.jsonl", b"", "holds no prompts"),
        ("t.jsonl", b'{"prompt": "\xff"}', r"line 1: line: not UTF-8 \(byte 13\)"),
        ("t.jsonl.gz", b"not gzip", "damaged gzip file"),
        ("t.jsonl.gz", gzip.compress(b'{"prompt": "p"}' * 99)[:-9], "damaged gzip file"),
        ("t.parquet", b"PAR1", "not a whole Parquet file"),
        ("t.txt", b"", r"known endings are \.jsonl"),
        ("t.csv", b"", "no column prompt and expert; found none"),
        (
            "t.csv",
            b"prompt,expert,scores\n",
            "no column score or loss; found expert, prompt, scores",
        ),
        ("t.csv", b"prompt,expert,score,loss\n", "both columns score and loss"),
        ("t.csv", b"prompt,expert,score\n", "holds no prompts"),
        ("t.csv", b"prompt,expert,score\np,a,1,2\n", "line 2: line: 4 values for 3 columns"),
        ("t.csv", b"prompt,expert,score\np,a,1\np,b,x\n", "line 3: score: .*'x' is not a number"),
        ("t.csv", b"prompt,expert,score\np,a,7\n", r"line 2: score: .* 7 is outside \[0, 1\]"),
        ("t.csv", b"prompt,expert,score\np,a,nan\n", "line 2: score: .* NaN"),
        ("t.csv", b"prompt,expert,score\np,a,\n", "line 2: score: expert 'a': empty; leave out"),
        ("t.csv", b"prompt,expert,score\np,,1\n", "line 2: expert: missing"),
        ("t.csv", b'prompt,expert,score\n"p\nq",a,1\n,a,1\n', "line 4: prompt: None is not text"),
        (
            "t.csv",
            b"prompt,expert,score\np,a,1\np,a,0\n",
            "line 3: expert: 'a' .* on line 2 too",
        ),
        ("t.csv", b"prompt,expert,score\np,a,1\xff\n", "line 2: line: not UTF-8"),
        ("t.csv", b'prompt,expert,score\n"p,a,1\n', "not CSV"),
        (
            "t.csv",
            b"prompt_id,prompt,expert,score\n1,p,a,1\n1,q,b,1\n",
            "line 3: prompt: 'q', but line 2 has 'p' for the same prompt_id",
        ),
        ("t.csv", b"prompt,expert,score,extras\np,a,1,[]\n", "extras: .* is not a JSON object"),
    ],
)
def test_a_bad_file_is_named_with_the_way_out(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ScoreTableError, match=message) as caught:
        ScoreTable.read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ScoreTableError, match="does not exist"):
        ScoreTable.read(tmp_path / "nothing.jsonl")


def test_long_form_without_ids_joins_rows_of_the_same_prompt(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt,group,expert,loss,cost\np,g,a,1.5,\nq,,a,2,0.1\np,g,b,0.5,\n")
    table = ScoreTable.read(path)
    assert table.prompts == ("p", "q")
    assert table.groups == ("g", None)
    np.testing.assert_array_equal(table.losses, [[1.5, 0.5], [2.0, np.nan]])
    np.testing.assert_array_equal(table.targets["cost"], [[np.nan, np.nan], [0.1, np.nan]])


def test_parquet_without_pyarrow_names_the_pip_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Parquet needs .*tryage\[parquet\]"):
        ScoreTable.from_rows([line()]).write(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError, match=r"tryage\[parquet\]"):
        ScoreTable.read(tmp_path / "t.parquet")


# Label folders


def shard(path, rows_):
    """Write long-form rows as one Parquet shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names_ = ("prompt_id", "prompt", "task", "expert", "loss", "error")
    columns = {
        name: pa.array(values, pa.float64() if name == "loss" else pa.string())
        for name, values in zip(names_, zip(*rows_, strict=True), strict=True)
    }
    pq.write_table(pa.table(columns), path)


def test_a_label_folder_is_read_and_failed_cells_are_not_measured(tmp_path):
    (tmp_path / "label.json").write_text("{}")
    task = "text-generation"
    shard(
        tmp_path / "cells-000001.parquet",
        [("1", "p", task, "a", 1.0, None), ("2", "q", task, "a", None, "out of memory")],
    )
    shard(
        tmp_path / "cells-000002.parquet",
        [
            ("1", "p", task, "b", 0.5, None),
            ("1", "p", task, "a", 1.25, None),
            ("2", "q", task, "b", None, "died"),
        ],
    )
    table = ScoreTable.read(tmp_path)
    assert table.prompts == ("p", "q")
    np.testing.assert_array_equal(table.losses, [[1.0, 0.5], [np.nan, np.nan]])
    shard(tmp_path / "cells-000003.parquet", [("2", "q", task, "a", 2.0, None)])
    assert ScoreTable.read(tmp_path).losses[1, 0] == 2.0


def test_a_bad_cell_of_a_shard_is_named_by_shard_and_row(tmp_path):
    (tmp_path / "label.json").write_text("{}")
    shard(tmp_path / "cells-000001.parquet", [("1", "p", "t", "a", 1.0, None)] * 1)
    shard(
        tmp_path / "cells-000002.parquet",
        [("1", "p", "t", "b", 1.0, None), ("2", "q", "t", "a", -1.0, None)],
    )
    with pytest.raises(ScoreTableError, match=r"cells-000002\.parquet, row 2: loss: .* -1 is outs"):
        ScoreTable.read(tmp_path)
    shard(tmp_path / "cells-000002.parquet", [("1", "other", "t", "b", 1.0, None)])
    message = r"000002\.parquet, row 1: prompt: 'other', but .*000001\.parquet, row 1 has 'p'"
    with pytest.raises(ScoreTableError, match=message):
        ScoreTable.read(tmp_path)


def test_a_folder_that_label_did_not_write_is_refused(tmp_path):
    with pytest.raises(ScoreTableError, match=r"without label\.json"):
        ScoreTable.read(tmp_path)
    (tmp_path / "label.json").write_text("{}")
    with pytest.raises(ScoreTableError, match="no measured cells yet"):
        ScoreTable.read(tmp_path)


# By task


def library(**tasks):
    return Library([Expert(name=name, model=f"m/{name}", task=t) for name, t in tasks.items()])


def test_by_task_gives_each_task_its_experts_in_library_order():
    table = ScoreTable.from_rows(
        [
            line("Water is [MASK].", losses={"m1": 1, "m2": 2}),
            line("Say it.", losses={"g": 3}),
            line("A [MASK] to write about.", task="text-generation", losses={"g": 4}),
        ]
    )
    lib = library(m2="fill-mask", g="text-generation", m1="fill-mask")
    parts = table.by_task(lib)
    assert list(parts) == ["fill-mask", "text-generation"]
    assert parts["fill-mask"].experts == ("m2", "m1")
    np.testing.assert_array_equal(parts["fill-mask"].losses, [[2, 1]])
    np.testing.assert_array_equal(parts["text-generation"].losses, [[3], [4]])
    assert parts["text-generation"].tasks == ("text-generation",) * 2


def test_a_prompt_without_task_is_of_the_librarys_only_task():
    table = ScoreTable.from_rows([line("no mark", losses={"m": 1})])
    assert list(table.by_task(library(m="fill-mask"))) == ["fill-mask"]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": "text-generation"}, r"measures 'b', which the library .* lacks"),
        ({"a": "text-generation", "bb": "text-generation"}, r"measures 'b'"),
        (
            {"a": "text-generation", "b": "text-generation", "c": "text-generation"},
            r"no cell of task 'text-generation' is measured for 'c'",
        ),
        (
            {"a": "text-generation", "b": "fill-mask"},
            r"'b' is measured on prompt id 'x' of task 'text-generation', .* task 'fill-mask'",
        ),
    ],
)
def test_table_and_library_must_name_the_same_experts(tasks, message):
    table = ScoreTable.from_rows([line("p", id="x", losses={"a": 1, "b": 2})])
    with pytest.raises(ScoreTableError, match=message):
        table.by_task(library(**tasks))


def test_a_task_that_the_library_has_no_expert_for_is_named():
    table = ScoreTable.from_rows([line("p", id="x", task="translation", losses={"a": 1})])
    with pytest.raises(ScoreTableError, match=r"task 'translation' \(the first: id 'x'\)"):
        table.by_task(library(a="text-generation"))


# The constructor


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": ()}, "ids: 0 entries for 1 prompts"),
        ({"experts": ("a", "a")}, "a named twice"),
        ({"losses": [[1.0]]}, r"losses: shape \(1, 1\), expected \(1, 2\)"),
        ({"losses": [[-1.0, 0.0]]}, "losses: -1 is outside"),
        ({"losses": [[2.0, 0.0]], "kind": "scores"}, r"2 is outside \[0, 1\]"),
        ({"targets": {"costs": [[1.0, 2.0]]}}, "unknown target 'costs'.* Did you mean 'cost'"),
    ],
)
def test_a_table_built_by_hand_is_checked(changes, message):
    fields = {
        "prompts": ("p",),
        "ids": ("x",),
        "groups": (None,),
        "tasks": (None,),
        "references": (None,),
        "experts": ("a", "b"),
        "losses": [[1.0, 2.0]],
    }
    with pytest.raises(ScoreTableError, match=message):
        ScoreTable(**fields | changes)


def test_reordering_to_an_unknown_expert_is_named():
    with pytest.raises(ScoreTableError, match="expert 'bb' is not in the table"):
        ScoreTable.from_rows([line()]).reorder(["a", "bb"])


# Real tables


@pytest.mark.parametrize(
    ("name", "prompts_", "experts", "targets"),
    [
        ("open7_train", 5935, 7, {"probability"}),
        ("open7_test", 9408, 7, {"probability"}),
        ("routerbench11_train", 2225, 11, {"cost", "response_chars"}),
    ],
)
def test_the_routing_tables_are_read(data_dir, name, prompts_, experts, targets):
    table = ScoreTable.read(data_dir / "routing" / f"{name}.jsonl.gz")
    assert (len(table), len(table.experts)) == (prompts_, experts)
    assert table.kind == "scores"
    assert set(table.targets) == targets


def test_a_gzip_file_that_unpacks_to_far_too_much_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 100_000_000))
    with pytest.raises(ScoreTableError, match="hold more than any honest file of this size"):
        ScoreTable.read(path)


def test_a_gzip_file_of_several_parts_is_read_whole(tmp_path):
    path = tmp_path / "parts.jsonl.gz"
    lines = [json.dumps({"prompt": f"p{i}", "scores": {"a": 0.5}}) + "\n" for i in range(3)]
    path.write_bytes(b"".join(gzip.compress(line.encode()) for line in lines))
    assert ScoreTable.read(path).prompts == ("p0", "p1", "p2")


def parquet(path, **columns):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def long_form(n=1, **changes):
    return {"prompt": ["p"] * n, "expert": ["a"] * n, "score": [0.5] * n} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": [["p"]]}, "column 'prompt' holds list<"),
        ({"expert": [["a"]]}, "column 'expert' holds list<"),
        ({"score": [[0.5]]}, "column 'score' holds list<"),
        ({"prompt_id": [{"a": 1}]}, "column 'prompt_id' holds struct<"),
        ({"expert": [3]}, "row 1: expert: 3 is not a name"),
        ({"prompt": [b"p"]}, "row 1: prompt: b'p' is not text"),
        ({"score": [float("inf")]}, "row 1: score: expert 'a': inf is outside"),
        ({"score": [True]}, "row 1: score: expert 'a': True is not a number"),
    ],
)
def test_cells_of_parquet_are_named_by_row_and_column(tmp_path, changes, message):
    path = parquet(tmp_path / "t.parquet", **long_form(**changes))
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable.read(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_columns_of_no_concern_may_hold_anything(tmp_path):
    path = parquet(tmp_path / "t.parquet", **long_form(tags=[["x"]]))
    assert ScoreTable.read(path).prompts == ("p",)


def test_parquet_that_says_it_holds_far_too_much_is_refused(tmp_path):
    n = 3_000_000
    rows = parquet(tmp_path / "rows.parquet", **long_form(n))
    assert rows.stat().st_size < 30_000
    with pytest.raises(ScoreTableError, match="say they hold 3000000 rows"):
        ScoreTable.read(rows)
    texts = parquet(tmp_path / "texts.parquet", **long_form(2000, prompt=["x" * 200_000] * 2000))
    assert texts.stat().st_size < 100_000
    with pytest.raises(ScoreTableError, match="texts are longer than any honest file"):
        ScoreTable.read(texts)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_that_stands_twice_is_named(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("prompt,expert,score,score\np,a,1,0\n")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        columns = [["p"], ["a"], [1.0], [0.0]]
        table = pyarrow.table(columns, names=["prompt", "expert", "score", "score"])
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    with pytest.raises(ScoreTableError, match="column 'score' stands twice; keep one"):
        ScoreTable.read(path)
