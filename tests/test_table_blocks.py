"""Long tables are read in blocks; what comes out is what row by row would give."""

import csv
import gzip
import io
import json
import tracemalloc

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tryage.errors import ScoreTableError
from tryage.scores import ScoreTable, blocks

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TARGETS = {"costs": "cost", "latency": "latency", "response_chars": "response_chars"}
COLUMNS = ["prompt_id", "prompt", "group", "task", "reference", "expert", "score"]

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    ["a, b", 'say "x"', "two\nlines", "cr\rlf\r\n", "ünï 日本", "a : b", '":', "nan", "1"]
)
prompts = texts.filter(lambda text: not text.isspace())
experts = st.sampled_from(["a", "b/7B", "c, d", 'q"uote', "ünï", "1"])


def cells(high):
    return st.dictionaries(experts, st.floats(0, high, allow_nan=False), max_size=6)


@st.composite
def entries(draw, with_ids):
    """Lines as Tryage writes them, in which no two share a prompt unless they have ids."""
    lines = []
    chosen = st.lists(prompts, min_size=1, max_size=8, unique=not with_ids)
    tasks = st.sampled_from([None, "fill-mask", "text-generation"])
    one_task = draw(tasks)
    for number, prompt in enumerate(draw(chosen)):
        line = {"prompt": prompt, "scores": draw(cells(1.0))}
        line |= {key: draw(cells(1e6)) for key in TARGETS if draw(st.booleans())}
        line["task"] = one_task if draw(st.booleans()) else draw(tasks)
        line |= {key: draw(st.none() | texts) for key in ("group", "reference")}
        if with_ids:
            line["id"] = f"{number}{draw(texts)}"
        lines.append(line)
    return lines


def long_form(line):
    """The rows of one line: one per measured expert, or one that only keeps the prompt."""
    keys = {"scores": "score", **TARGETS}
    measured = {name for key in keys for name in line.get(key, {})}
    shared = [line.get(name) for name in ("id", "prompt", "group", "task", "reference")]
    rows = [
        [*shared, name, *(line.get(key, {}).get(name) for key in keys)] for name in sorted(measured)
    ]
    return rows or [[*shared, None, *[None] * len(keys)]]


def write_rows(path, rows, mark, quoting):
    names = [*COLUMNS, *TARGETS.values()]
    if path.suffix == ".csv":
        file = io.StringIO(newline="")
        writer = csv.writer(file, quoting=quoting)
        writer.writerows([names, *rows])
        path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + file.getvalue().encode())
    elif path.suffix == ".parquet":
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        kinds = [pa.float64() if name in names[6:] else pa.string() for name in names]
        arrays = [pa.array(c, kind) for c, kind in zip(columns.values(), kinds, strict=True)]
        pq.write_table(pa.table(arrays, names=names), path, row_group_size=5)
    else:
        lines = [dict(zip(names, row, strict=True)) for row in rows]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


@pytest.mark.filterwarnings("ignore:.*read with a row per prompt")
@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_long_table_in_any_order_is_the_table_of_its_lines(
    tmp_path, monkeypatch, ending, with_ids, data
):
    lines = data.draw(entries(with_ids))
    rows = data.draw(st.permutations([row for line in lines for row in long_form(line)]))
    monkeypatch.setattr(blocks, "ROWS_AT_ONCE", data.draw(st.integers(1, 9)))
    path = tmp_path / f"long{ending}"
    quoting = data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    write_rows(path, rows, data.draw(st.booleans()), quoting)
    expected = ScoreTable.from_rows(lines)
    table = ScoreTable.read(path)
    measured = [row[5] for row in rows if row[5] is not None]
    assert table.experts == tuple(dict.fromkeys(measured))
    ids = [(row[3], row[0] if with_ids else row[1]) for row in rows]
    own = list(zip(expected.tasks, expected.ids if with_ids else expected.prompts, strict=True))
    order = [own.index(key) for key in dict.fromkeys(ids)]
    assert table.hash == expected.select(order).reorder(table.experts).hash


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=entries(True), blank=st.sampled_from(["", " ", "\r"]), colon=st.sampled_from(":;"))
def test_lines_are_read_alike_however_they_are_written(tmp_path, lines, blank, colon):
    """Blanks before colons, line ends and compression change nothing."""
    separators = (",", f"{blank}:") if colon == ":" else (", ", ": ")
    text = "\n\n".join(json.dumps(line, separators=separators) for line in lines)
    expected = ScoreTable.from_rows(lines).hash
    for name, contents in {
        "t.jsonl": b"\xef\xbb\xbf" + text.encode(),
        "t.jsonl.gz": gzip.compress(text.encode() + b"\r\n"),
    }.items():
        (tmp_path / name).write_bytes(contents)
        assert ScoreTable.read(tmp_path / name).hash == expected


@pytest.mark.parametrize("blank", ["", " ", "\t", "\r"])
def test_a_key_that_stands_twice_is_seen_whatever_stands_before_its_colon(tmp_path, blank):
    path = tmp_path / "t.jsonl"
    line = '{"prompt": "p", "scores": {"a": 1}, "prompt"' + blank + ': "q"}'
    path.write_text('{"prompt": "\\": x", "scores": {"a": 1}}\n' + line)
    with pytest.raises(ScoreTableError, match=r"line 2: prompt: stands twice; keep one of 'p' and"):
        ScoreTable.read(path)


# Errors


ROWS = 9000
"""More than two blocks."""


def long_csv(path, changes, own=True):
    """Write a long table whose rows `changes` replaces, by line."""
    header = "prompt_id,prompt,expert,score" if own else "id,question,model,accuracy"
    lines = [header]
    lines += [f"{i // 3},question {i // 3},e{i % 3},0.5" for i in range(ROWS)]
    for number, text in changes.items():
        lines[number - 1] = text
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.filterwarnings("ignore:.*read with a row per prompt")
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (8000, "9999,p,e0,1.5", "{score}: expert 'e0': 1.5 is outside [0, 1]"),
        (8000, "2,question 2,e0,1", "{expert}: 'e0' is measured on this prompt on line 8 too"),
        (8001, "2666,question 2666,e0,1", "'e0' is measured on this prompt on line 8000 too"),
        (8000, "2,other,e5,1", "{prompt}: 'other', but line 8 has 'question 2' for the same"),
        (8000, "8,question 8,,1", "{expert}: missing"),
        (8000, "9999,,e0,1", "{prompt}: "),
        (8000, "9999,p,e0,x", "{score}: "),
        (8000, "9999,p,e0", "3 values for 4 columns"),
        (4097, "9999,p,e0,1,5", "5 values for 4 columns"),
        (4098, "9999,p,e0,x", "{score}: "),
    ],
)
def test_a_bad_row_of_a_long_file_is_named_with_its_line(tmp_path, own, line, text, message):
    own_names = {"score": "score", "expert": "expert", "prompt": "prompt"}
    other_names = {"score": "accuracy", "expert": "model", "prompt": "question"}
    path = long_csv(tmp_path / "long.csv", {line: text}, own)
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable.read(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert message.format(**(own_names if own else other_names)) in str(caught.value)


def test_of_two_bad_rows_the_first_is_named(tmp_path):
    cases = {
        "later width": {8000: "9999,p,,1", 8001: "9999,p,e0"},
        "later number": {8000: "2,other,e5,1", 8001: "9999,p,e0,x"},
        "later prompt": {8000: "9999,p,,1", 8001: "2,other,e5,1"},
    }
    for name, changes in cases.items():
        path = long_csv(tmp_path / f"{name}.csv", changes)
        with pytest.raises(ScoreTableError, match="line 8000: "):
            ScoreTable.read(path)


def test_a_byte_that_is_no_text_is_named_by_its_line_before_anything_else(tmp_path):
    path = long_csv(tmp_path / "long.csv", {3: "9999,p,e0,x"})
    data = path.read_bytes().replace(b"question 2500,e1", b"question \xff,e1")
    path.write_bytes(data)
    with pytest.raises(ScoreTableError, match=r"line 7503: line: not UTF-8; save it as UTF-8"):
        ScoreTable.read(path)


def test_the_line_of_a_record_counts_the_line_ends_in_the_texts_before_it(tmp_path):
    path = long_csv(tmp_path / "long.csv", {5: '77777,"two\r\nlines",e0,1', 8000: "9999,p,e0,x"})
    with pytest.raises(ScoreTableError, match=r"line 8001: score: "):
        ScoreTable.read(path)


def test_cells_of_a_label_folder_that_two_runs_measured_count_once(tmp_path):
    (tmp_path / "label.json").write_text("{}")
    names = ["prompt_id", "prompt", "group", "task", "expert", "loss", "cost", "error"]
    rows = [
        ["1", "p", "g", "t", "a", 1.0, None, None],
        ["1", "p", "g", "t", "b", None, None, "out of memory"],
        ["2", "q", None, "t", "b", 3.0, 0.5, None],
        ["1", "p", "renamed", "t", "a", 9.0, 9.0, None],
        ["1", "p", "g", "t", "b", 2.0, 0.25, None],
        ["1", "p", "g", "t", "b", 8.0, 8.0, None],
    ]
    for part in (0, 3):
        columns = dict(zip(names, zip(*rows[part : part + 3], strict=True), strict=True))
        pq.write_table(pa.table(columns), tmp_path / f"cells-{part}.parquet")
    table = ScoreTable.read(tmp_path)
    assert (table.experts, table.groups) == (("a", "b"), ("g", None))
    np.testing.assert_array_equal(table.losses, [[1.0, 2.0], [np.nan, 3.0]])
    np.testing.assert_array_equal(table.targets["cost"], [[np.nan, 0.25], [np.nan, 0.5]])


# Memory


@pytest.mark.filterwarnings("ignore:.*read with a row per prompt")
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_a_long_file_is_not_held_as_a_whole(tmp_path, ending):
    rows = [
        {"id": str(i), "prompt": f"{i} " + "x" * 1500, "model": f"e{j}", "score": 0.5}
        for i in range(100)
        for j in range(100)
    ]
    path = tmp_path / f"long{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="," if ending == ".csv" else "\t"
            )
            writer.writeheader()
            writer.writerows(rows)
    del rows
    ScoreTable.read(path)
    tracemalloc.start()
    try:
        table = ScoreTable.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.losses.shape == (100, 100)
    assert peak < path.stat().st_size
