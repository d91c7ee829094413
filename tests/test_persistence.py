import hashlib
import json
import os
import shutil

import numpy as np
import pytest

from tryage import Goal, Library, Policy, Router, ScoreTable, TryageWarning
from tryage.errors import (
    DamagedFileError,
    FormatVersionError,
    GoalError,
    OutputFolderError,
    RouterNotFoundError,
    TryageError,
)
from tryage.goals import Security
from tryage.persistence import bundled_routers, find_router, load

PROMPTS = ["def value(index): return index", "The quiet river leaves the village.", "日本"]


@pytest.fixture
def folder(router, tmp_path):
    router.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_router_decides_identically(router, folder):
    again = Router.from_pretrained(folder)
    for before, after in zip(router.route_batch(PROMPTS), again.route_batch(PROMPTS), strict=True):
        assert before.to_dict() == after.to_dict()
        np.testing.assert_array_equal(before.totals, after.totals)
    assert again.provenance == router.provenance
    assert again.library == router.library


def test_the_folder_holds_json_safetensors_and_a_card(folder):
    suffixes = {path.suffix for path in folder.iterdir()}
    assert suffixes == {".json", ".safetensors", ".md"}
    card = (folder / "README.md").read_text()
    assert "coder" in card
    assert "SHA-256" in card


@pytest.mark.parametrize("kind", ["nearest", "linear", "best-single", "random"])
def test_every_predictor_is_saved_whole(table, table_library, tmp_path, kind):
    router = Router.fit(table, library=table_library, predictor=kind)
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    for prompt in PROMPTS:
        assert router.route(prompt).to_dict() == again.route(prompt).to_dict()


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".md")


def test_a_changed_file_is_refused_by_name(folder):
    for name in names(folder):
        original = (folder / name).read_bytes()
        changed = bytearray(original)
        changed[len(changed) // 2] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(DamagedFileError, match=name):
            Router.from_pretrained(folder)
        (folder / name).write_bytes(original)
    Router.from_pretrained(folder)


def test_a_cut_or_missing_file_is_refused_by_name(folder):
    for name in names(folder):
        original = (folder / name).read_bytes()
        (folder / name).write_bytes(original[: len(original) // 2])
        with pytest.raises(DamagedFileError, match=name):
            Router.from_pretrained(folder)
        if name != "router.json":
            (folder / name).unlink()
            with pytest.raises(DamagedFileError, match=name):
                Router.from_pretrained(folder)
        (folder / name).write_bytes(original)


def test_a_newer_format_says_to_upgrade(folder):
    index = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(FormatVersionError, match=r"format 99.*reads up to 1.*upgrade"):
        Router.from_pretrained(folder)


def test_what_is_not_there_is_named_with_the_bundled_routers(tmp_path):
    with pytest.raises(RouterNotFoundError, match="open7"):
        Router.from_pretrained("open8")
    with pytest.raises(RouterNotFoundError, match=r"holds no router\.json"):
        Router.from_pretrained(tmp_path)


def test_saving_replaces_a_router_and_nothing_else(router, folder, tmp_path):
    router.save_pretrained(folder)
    Router.from_pretrained(folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputFolderError, match="mine"):
        router.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_nothing_is_left_behind_when_saving_fails(router, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save", full)
    with pytest.raises(OSError, match="No space left"):
        router.save_pretrained(tmp_path / "r")
    assert list(tmp_path.iterdir()) == []


def test_the_policy_is_saved_with_its_router(router, tmp_path):
    policy = Policy(
        limits={"parameters": "<=10_123_456_789", "released": ">=2000-01-01"},
        weights={"recency": 0.2},
        max_weights={"size": 0.5},
        flags=["size", "parameters"],
        unknown_flags="warn",
    )
    stricter = router.with_policy(policy)
    stricter.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    assert again.policy == policy
    flagged = f"{PROMPTS[0]} [Flag: smallest, newest]"
    assert again.route(flagged).to_dict() == stricter.route(flagged).to_dict()
    assert Router.from_pretrained(tmp_path / "r", policy=Policy()).policy == Policy()
    card = (tmp_path / "r" / "README.md").read_text()
    assert "- max weights: size=0.5\n- unknown flags: warn\n- flags: parameters, size\n" in card
    closed = router.with_policy(Policy(flags=[]))
    closed.save_pretrained(tmp_path / "r")
    assert Router.from_pretrained(tmp_path / "r").policy == closed.policy
    assert "- flags: none\n" in (tmp_path / "r" / "README.md").read_text()


def test_a_router_without_a_policy_saves_none(folder):
    assert "policy" not in json.loads((folder / "router.json").read_text())
    assert Router.from_pretrained(folder).policy == Policy()


class Vowels(Goal):
    name, unit = "vowels", "vowels"

    def value(self, expert):
        return float(sum(letter in "aeiou" for letter in expert.name))


def test_saving_names_what_it_leaves_out(router, tmp_path):
    own = Policy(
        goals=[Vowels(0.2), Security(0.3)],
        limits={"parameters": "<=10B"},
        max_weights={"vowels": 0.5, "security": 0.5},
        flags=["size", "vowels"],
    )
    with pytest.warns(TryageWarning, match=r"own goals \(vowels, security\)"):
        router.with_policy(own).save_pretrained(tmp_path / "r")
    rest = Policy(limits={"parameters": "<=10B"}, max_weights={"security": 0.5}, flags=["size"])
    assert Router.from_pretrained(tmp_path / "r").policy == rest
    with pytest.warns(TryageWarning, match="the exclusion of giant"):
        router.excluding({"giant": "it is down"}).save_pretrained(tmp_path / "r")


def test_a_policy_that_cannot_be_read_is_named():
    with pytest.raises(GoalError, match=r"'limit' in a policy\. Did you mean 'limits'"):
        Policy.from_dict({"limit": []})


def test_a_users_file_in_a_router_folder_is_never_deleted(router, folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"notes\.txt"):
        router.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_link_stays_a_link(router, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    router.save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}
    Router.from_pretrained(tmp_path / "real")


def test_a_folder_without_a_router_does_not_hide_a_bundled_one(tmp_path, monkeypatch):
    (tmp_path / "open7").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Router.from_pretrained("open7").library.name == "open7"


def test_tasks_with_names_alike_do_not_share_a_file(tmp_path):
    experts = [{"name": t, "model": t, "task": t} for t in ("my_task", "my-task", "encoder")]
    rows = [
        {"prompt": "a b", "task": e["task"], "losses": {e["name"]: 1.0 + number}}
        for number, e in enumerate(experts)
    ]
    library = Library.from_dict({"experts": experts})
    router = Router.fit(ScoreTable.from_rows(rows), library=library)
    router.save_pretrained(tmp_path / "r")
    again = Router.from_pretrained(tmp_path / "r")
    for number, expert in enumerate(experts):
        assert again.route("a b", task=expert["task"]).predicted_loss == 1.0 + number


def test_files_get_the_modes_that_the_umask_gives(router, tmp_path):
    (tmp_path / "plain").write_text("")
    router.save_pretrained(tmp_path / "r")
    expected = (tmp_path / "plain").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "r").iterdir()} == {expected}


def test_the_library_root_moves_with_the_folder(table, table_library, tmp_path):
    from tryage import Library

    (tmp_path / "a").mkdir()
    library = Library(table_library.experts, root=tmp_path / "a")
    Router.fit(table, library=library).save_pretrained(tmp_path / "a" / "router")
    (tmp_path / "a").rename(tmp_path / "b")
    assert Router.from_pretrained(tmp_path / "b" / "router").library.root == tmp_path / "b"


def test_bundled_routers_load_and_decide():
    for name in bundled_routers():
        router = Router.from_pretrained(name)
        assert router.route("What is 17 * 3?").expert in router.library


def test_a_folder_that_may_not_be_written_to_is_refused(router, folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != str(folder))
    with pytest.raises(OutputFolderError, match="may not be written to"):
        router.save_pretrained(folder)


def test_the_files_of_two_routers_are_never_mixed(router, folder, tmp_path, monkeypatch):
    """Between the index and the other files, somebody saves another router."""
    other = Router.fit(
        ScoreTable.from_rows([{"prompt": "a", "losses": dict.fromkeys(router.library.names, 0.5)}]),
        library=router.library,
        predictor="best-single",
    )
    original = json.loads
    moments = iter([True])

    def parse(text, *args, **options):
        if next(moments, False):
            other.save_pretrained(folder)
        return original(text, *args, **options)

    monkeypatch.setattr("tryage.persistence.json.loads", parse)
    # All was opened before, so it is the old router, whole.
    assert Router.from_pretrained(folder).provenance == router.provenance
    assert Router.from_pretrained(folder).provenance == other.provenance


def test_a_router_that_stepped_aside_is_found(folder):
    aside = folder.with_name(f".{folder.name}.0123456789ab.old")
    folder.rename(aside)
    assert find_router(folder) == folder
    assert Router.from_pretrained(folder).library
    aside.rename(folder.with_name("gone"))
    with pytest.raises(RouterNotFoundError):
        load(folder)


def test_an_index_that_is_signed_anew_with_odd_values_is_refused(folder):
    index = json.loads((folder / "router.json").read_text())
    deep: list = []
    for _ in range(900):
        deep = [deep]
    for key in ("library", "objective", "tasks", "encoder", "training", "files", "policy", "joint"):
        for odd in ([], {}, None, 3, "x", -1e308, deep, {"a": deep}, {"../x": "y"}, [None]):
            changed = {k: v for k, v in index.items() if k != "sha256"} | {key: odd}
            text = json.dumps(changed, sort_keys=True, separators=(",", ":"))
            signed = changed | {"sha256": hashlib.sha256(text.encode()).hexdigest()}
            (folder / "router.json").write_text(json.dumps(signed))
            try:
                loaded = Router.from_pretrained(folder)
            except TryageError:
                continue
            assert loaded.library.names


@pytest.fixture
def moving(tmp_path):
    """A library beside one of its models, and a router on it."""
    (tmp_path / "home" / "models" / "a").mkdir(parents=True)
    library = tmp_path / "home" / "library.yaml"
    library.write_text("experts:\n- {name: a, model: ./models/a}\n- {name: b, model: org/b}\n")
    return tmp_path, Router.from_library(Library.read(library))


def model_of(folder):
    library = Router.from_pretrained(folder).library
    assert library.model_path(library["b"]) == "org/b"
    return library.model_path(library["a"])


def test_a_router_is_the_same_wherever_it_is_saved(moving):
    base, router = moving
    for place in ("r", "deep/down/r", "home/r"):
        router.save_pretrained(base / place)
        assert os.path.samefile(model_of(base / place), base / "home" / "models" / "a")
    indexes = {
        (base / place / "router.json").read_bytes() for place in ("r", "deep/down/r", "home/r")
    }
    assert len(indexes) == 1


def test_models_are_found_from_copies_links_and_moves(moving):
    base, router = moving
    router.save_pretrained(base / "home" / "r")
    shutil.copytree(base / "home" / "r", base / "far" / "away" / "copy")
    (base / "links").mkdir()
    (base / "links" / "r").symlink_to(base / "home" / "r")
    for place in ("far/away/copy", "links/r", "home/r"):
        assert os.path.samefile(model_of(base / place), base / "home" / "models" / "a")
    (base / "home").rename(base / "moved")
    assert os.path.samefile(model_of(base / "moved" / "r"), base / "moved" / "models" / "a")


def test_a_router_that_is_its_own_root_says_so_in_its_index(router, tmp_path):
    library = Library(router.library.experts, root=tmp_path / "r")
    router.replace(library=library).save_pretrained(tmp_path / "r")
    assert not (tmp_path / "r" / "library_root.json").exists()
    shutil.copytree(tmp_path / "r", tmp_path / "copy")
    assert Router.from_pretrained(tmp_path / "copy").library.root == tmp_path / "copy"


def test_a_root_that_tells_nothing_is_none(moving):
    base, router = moving
    router.save_pretrained(base / "home" / "r")
    for content in ("", "[]", "{", '{"root": 3}'):
        (base / "home" / "r" / "library_root.json").write_text(content)
        assert Router.from_pretrained(base / "home" / "r").library.root is None


def test_a_root_in_the_index_is_read_as_earlier_versions_wrote_it(moving):
    base, router = moving
    folder = base / "home" / "r"
    router.save_pretrained(folder)
    (folder / "library_root.json").unlink()
    index = json.loads((folder / "router.json").read_text())
    del index["sha256"]
    index["library_root"] = ".."
    canonical = json.dumps(index, sort_keys=True, separators=(",", ":"))
    index["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "router.json").write_text(json.dumps(index))
    assert os.path.samefile(model_of(folder), base / "home" / "models" / "a")
