"""Damaged router folders and tables: what cannot be trusted is refused, by name."""

import copy
import hashlib
import json
import random
import shutil
import warnings

import pytest
from kit import cases

from tryage import Library, Router, ScoreTable
from tryage.errors import TryageError

SEED = 25
PROMPTS = ["def value(index): return index", "The quiet river leaves the village.", "日本"]


def damaged(data, draw):
    """Return bytes in which something is flipped, cut, doubled, blanked, or put elsewhere."""
    ways = ["flip", "cut", "blank", "double", "insert", "empty", "move"]
    way = draw.choice(ways)
    place = draw.randrange(len(data)) if data else 0
    length = draw.choice([1, 2, 8, 512])
    if way == "flip":
        changed = bytearray(data)
        for _ in range(length):
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if way == "cut":
        return data[:place]
    if way == "blank":
        return data[:place] + bytes(min(length, len(data) - place)) + data[place + length :]
    if way == "double":
        return data[:place] + data[place : place + length] * 2 + data[place + length :]
    if way == "insert":
        return data[:place] + draw.randbytes(length) + data[place:]
    if way == "move":
        part = data[place : place + length]
        return part + data[:place] + data[place + length :]
    return b""


@pytest.fixture
def folder(routers, tmp_path):
    shutil.copytree(routers[0][0], tmp_path / "r")
    return tmp_path / "r"


def answers(router):
    return [decision.to_dict() for decision in router.route_batch(PROMPTS, flags=False)]


def test_no_damaged_folder_decides_otherwise(folder, routers):
    draw = random.Random(SEED)
    before = answers(Router.from_pretrained(folder))
    files = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    originals = {path: path.read_bytes() for path in files}
    named = []
    for number in range(cases(120)):
        path = files[number % len(files)]
        other = routers[1][0] / path.name
        if draw.random() < 0.1 and other.exists():
            path.write_bytes(other.read_bytes())
        else:
            path.write_bytes(damaged(originals[path], draw))
        try:
            after = answers(Router.from_pretrained(folder))
        except TryageError as error:
            named.append(str(folder) in str(error))
        else:
            assert after == before
        path.write_bytes(originals[path])
    assert len(named) > 0.9 * (number + 1)
    assert all(named)
    assert answers(Router.from_pretrained(folder)) == before


def signed(index):
    """Sign an index as `save_pretrained` does: anybody can."""
    rest = {key: value for key, value in index.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return rest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}


ODD = [None, True, -1, 10**400, 1e308, float("nan"), "", "x" * 9, "../../etc/passwd", [], {}, [[]]]
ODD += [{"a": 1}, ["a"], "\x00", 0, "1e9", {"": None}]


def places(value, path=()):
    """Yield the path of every value in JSON, the inner ones too."""
    if path:
        yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def changed(index, draw):
    index = copy.deepcopy(index)
    # Lists of thousands of numbers are not what most of the changes should go to.
    path = draw.choice([p for p in places(index) if p[0] != "sha256" and len(p) < 6])
    holder = index
    for key in path[:-1]:
        holder = holder[key]
    if draw.random() < 0.2:
        del holder[path[-1]]
    else:
        holder[path[-1]] = draw.choice(ODD)
    return index, path


def test_an_index_that_somebody_changed_and_signed_is_refused_or_whole(folder):
    draw = random.Random(SEED)
    index = json.loads((folder / "router.json").read_text())
    faults = []
    for _ in range(cases(250)):
        odd, path = changed(index, draw)
        (folder / "router.json").write_text(json.dumps(signed(odd)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                router = Router.from_pretrained(folder)
                answers(router)
                router.route(PROMPTS[0], goals=None).explain()
        except TryageError:
            pass
        except Exception as error:  # noqa: BLE001 - what must not happen is collected
            faults.append((path, repr(error)))
    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def test_a_damaged_table_is_refused_by_name_or_read(ending, scored_table, tmp_path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    draw = random.Random(SEED)
    path = tmp_path / f"table{ending}"
    scored_table.select(range(20)).write(path)
    original, named = path.read_bytes(), []
    for _ in range(cases(120)):
        path.write_bytes(damaged(original, draw))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", ".*not read")  # a damaged name of a column
                table = ScoreTable.read(path)
        except TryageError as error:
            named.append(path.name in str(error))
        else:
            assert len(table.prompts) == len(table.losses)
            assert not (table.losses < 0).any()
    assert named
    assert all(named)


def test_a_damaged_library_is_refused_by_name_or_read(table_library, tmp_path):
    draw = random.Random(SEED)
    path = tmp_path / "library.yaml"
    table_library.write(path)
    original, named = path.read_bytes(), []
    for _ in range(cases(150)):
        path.write_bytes(damaged(original, draw))
        try:
            library = Library.read(path)
        except TryageError as error:
            named.append(path.name in str(error))
        else:
            assert len(set(library.names)) == len(library)
    assert named
    assert all(named)


def test_files_that_are_none(folder, tmp_path):
    """A link to a device, a pipe and a folder stand where files should."""
    import os

    before = (folder / "router.json").read_bytes()
    for name in ("router.json", "predictor-0.safetensors"):
        content = (folder / name).read_bytes()
        for put in (
            lambda path: path.symlink_to("/dev/zero"),
            os.mkfifo,
            lambda path: path.mkdir(),
            lambda path: path.symlink_to(path),
        ):
            (folder / name).unlink()
            put(folder / name)
            with pytest.raises(TryageError, match=name.replace(".", r"\.")):
                Router.from_pretrained(folder)
            (folder / name).rmdir() if (folder / name).is_dir() else (folder / name).unlink()
            (folder / name).write_bytes(content)
    assert (folder / "router.json").read_bytes() == before
    Router.from_pretrained(folder)
