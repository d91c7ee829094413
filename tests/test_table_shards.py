"""A table in several Parquet files is the table that one file of all rows would be."""

import json
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from tryage.cli import app
from tryage.errors import ScoreTableError
from tryage.scores import ScoreTable

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

runner = CliRunner()

pytestmark = pytest.mark.filterwarnings("ignore:.*read with a (row|column) per")


def long_rows(prompts=40, experts=5, names=("prompt_id", "prompt", "expert", "score")):
    values = [
        (str(p), f"question {p}", f"e{e}", (p * 7 + e * 3) % 10 / 10)
        for p in range(prompts)
        for e in range(experts)
    ]
    return dict(zip(names, map(list, zip(*values, strict=True)), strict=True))


def wide_rows(prompts=40):
    rows = {"id": [str(p) for p in range(prompts)], "question": [f"q {p}" for p in range(prompts)]}
    return rows | {f"e{e}": [(p + e) % 4 / 4 for p in range(prompts)] for e in range(3)}


def write_shards(folder, rows, starts=(0, 33, 90), name="part-{:03d}.parquet"):
    """Write rows as shards that begin at `starts`."""
    folder.mkdir(exist_ok=True)
    count = len(next(iter(rows.values())))
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], count], strict=True)):
        part = {key: values[start:end] for key, values in rows.items()}
        pq.write_table(pa.table(part), folder / name.format(number))
    return folder


@pytest.mark.parametrize(
    ("rows", "starts"),
    [
        (long_rows(), (0, 33, 90)),
        (long_rows(names=("id", "question", "model", "accuracy")), (0, 33, 90)),
        (wide_rows(), (0, 7, 8, 30)),
    ],
)
def test_a_folder_and_a_pattern_are_the_table_of_all_rows(tmp_path, rows, starts):
    pq.write_table(pa.table(rows), tmp_path / "one.parquet")
    expected = ScoreTable.read(tmp_path / "one.parquet")
    folder = write_shards(tmp_path / "shards", rows, starts)
    (folder / "_metadata.parquet").write_bytes(b"notes of another program")
    (folder / ".part.parquet").write_bytes(b"hidden")
    (folder / "_tmp").mkdir()
    (folder / "_tmp" / "half.parquet").write_bytes(b"PAR1")
    for source in (folder, str(folder / "part-*.parquet"), f"{tmp_path}/sh[a-z]rds/part*"):
        table = ScoreTable.read(source)
        assert table.hash == expected.hash
        assert table.experts == expected.experts


def test_shards_are_read_in_the_order_of_their_names(tmp_path):
    rows = long_rows(prompts=3, experts=1)
    folder = write_shards(tmp_path / "shards", rows, (0, 1, 2), "{}.parquet")
    (folder / "0.parquet").rename(folder / "b.parquet")
    assert ScoreTable.read(folder).ids == ("1", "2", "0")


def test_an_empty_shard_changes_nothing(tmp_path):
    rows = long_rows()
    folder = write_shards(tmp_path / "shards", rows)
    expected = ScoreTable.read(folder)
    empty = {key: pa.array([], pa.null()) for key in rows}
    pq.write_table(pa.table(empty), folder / "part-000b.parquet")
    assert ScoreTable.read(folder).hash == expected.hash


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("row", "changes", "message"),
    [
        (100, {"score": 1.5}, r"part-002\.parquet, row 11: {score}: expert 'e0': 1.5 is outside"),
        (
            100,
            {"prompt_id": "0", "prompt": "question 0"},
            r"part-002\.parquet, row 11: {expert}: 'e0' is measured .* on .*part-000\.parquet, "
            "row 1 too",
        ),
        (
            100,
            {"prompt_id": "0", "prompt": "other"},
            r"part-002\.parquet, row 11: {prompt}: 'other', but .*part-000\.parquet, row 1 has",
        ),
        (34, {"prompt": ""}, r"part-001\.parquet, row 2: {prompt}"),
    ],
)
def test_a_bad_row_is_named_by_shard_and_row(tmp_path, own, row, changes, message):
    names = ("prompt_id", "prompt", "expert", "score")
    names = names if own else ("id", "question", "model", "accuracy")
    rows = long_rows(names=names)
    for key, value in changes.items():
        rows[names[("prompt_id", "prompt", "expert", "score").index(key)]][row] = value
    folder = write_shards(tmp_path / "shards", rows)
    keys = {"prompt": names[1], "expert": names[2], "score": names[3]}
    with pytest.raises(ScoreTableError, match=message.format(**keys)) as caught:
        ScoreTable.read(folder)
    assert str(caught.value).startswith(f"{folder}/part-")


@pytest.mark.parametrize(
    ("value", "message"), [(7.0, r"part-1\.parquet, row 3: e1: 7 is outside"), ("x", "differ")]
)
def test_a_bad_cell_of_a_wide_shard_is_named(tmp_path, value, message):
    rows = wide_rows()
    folder = write_shards(tmp_path / "shards", rows, (0, 20), "part-{}.parquet")
    rows = {key: values[20:] for key, values in rows.items()}
    rows["e1"][2] = value
    if value == "x":
        rows["e1"] = list(map(str, rows["e1"]))
    pq.write_table(pa.table(rows), folder / "part-1.parquet")
    with pytest.raises(ScoreTableError, match=message):
        ScoreTable.read(folder)


def test_shards_with_other_columns_are_named_in_one_error(tmp_path):
    rows = long_rows(prompts=2)
    folder = write_shards(tmp_path / "shards", rows, (0,), "a.parquet")
    changed = {
        "b": {key: values for key, values in rows.items() if key != "prompt_id"},
        "c": rows | {"price": [1.0] * 10, "score": ["1"] * 10},
        "d": dict(reversed(rows.items())),
        "e": rows | {"score": pa.array([None] * 10, pa.null())},
        "f": {**rows, "prompt": pa.array(rows["prompt"]).dictionary_encode()},
        "g": {**rows, "score": pa.array(rows["score"], pa.float32())},
    }
    for name, columns in changed.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    with pytest.raises(ScoreTableError) as caught:
        ScoreTable.read(folder)
    assert str(caught.value) == (
        f"2 of 7 shards differ from {folder}/a.parquet in their columns: {folder}/b.parquet lacks "
        f"prompt_id; {folder}/c.parquet also has price, has score as text, not numbers. Write all "
        "shards with the same columns"
    )


def test_a_shard_that_is_cut_is_named(tmp_path):
    folder = write_shards(tmp_path / "shards", long_rows())
    shard = folder / "part-001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(ScoreTableError, match=r"part-001\.parquet: not a whole Parquet file"):
        ScoreTable.read(folder)


def test_a_pattern_matches_parquet_files_or_is_an_error(tmp_path):
    folder = write_shards(tmp_path / "shards", long_rows())
    (empty := tmp_path / "empty").mkdir()
    (folder / "part-000.csv").write_text("prompt,expert,score\np,a,1\n")
    with pytest.raises(ScoreTableError, match=r"no file matches '.*/x-\*'; give a folder"):
        ScoreTable.read(folder / "x-*")
    with pytest.raises(ScoreTableError, match=r"matches .*part-000\.csv; only \.parquet files"):
        ScoreTable.read(folder / "part-*")
    with pytest.raises(ScoreTableError, match=r"without label\.json.* and without Parquet shards"):
        ScoreTable.read(empty)


def test_a_file_whose_name_looks_like_a_pattern_is_read(tmp_path):
    path = tmp_path / "results [v2].csv"
    path.write_text("prompt,expert,score\np,a,1\n")
    assert ScoreTable.read(path).prompts == ("p",)


def test_commands_take_shards(tmp_path):
    folder = write_shards(tmp_path / "shards", long_rows())
    shown = runner.invoke(app, ["table", "show", str(folder), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["prompts"] == 40
    out = tmp_path / "router"
    arguments = [
        "fit",
        str(folder / "part-*.parquet"),
        "--predictor",
        "clusters",
        "--out",
        str(out),
    ]
    fitted = runner.invoke(app, arguments)
    assert fitted.exit_code == 0, fitted.output
    assert (out / "router.json").is_file()


def test_the_texts_of_the_shards_are_not_all_held(tmp_path):
    """Each shard holds the same million characters, the table needs them once."""
    for shard in range(12):
        rows = {
            "prompt": [f"{i} " + "x" * 2000 for i in range(500)],
            "expert": [f"e{shard}"] * 500,
            "score": np.linspace(0, 1, 500),
        }
        pq.write_table(pa.table(rows), tmp_path / f"{shard:02d}.parquet")
    ScoreTable.read(tmp_path)
    tracemalloc.start()
    try:
        table = ScoreTable.read(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.losses.shape == (500, 12)
    assert peak < 5e6
