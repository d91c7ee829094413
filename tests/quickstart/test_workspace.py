import pytest

from tryage.errors import OutputFolderError
from tryage.quickstart import Plan
from tryage.quickstart.workspace import Workspace, cache_folder


def filled(folder, key):
    workspace = Workspace(folder, key)
    workspace.open()
    for name in ("models/one", "models/two.training", "scores/label", "router"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name)
    return workspace


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputFolderError, match=r"holds no quickstart\.json"):
        Workspace(tmp_path, "k").open()
    with pytest.raises(OutputFolderError, match="is a file"):
        Workspace(tmp_path / "thesis.tex", "k").open()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_quickstart_of_other_text_is_refused(tmp_path):
    Workspace(tmp_path, "k").open()
    Workspace(tmp_path, "k").open()
    with pytest.raises(OutputFolderError, match="key k, now other"):
        Workspace(tmp_path, "other").open()


def test_finished_pieces_of_the_same_key_are_taken_over(tmp_path):
    source = filled(tmp_path / "source", "k")
    target = Workspace(tmp_path / "target", "k")
    target.open()
    (tmp_path / "target" / "models" / "one").mkdir(parents=True)
    target.adopt(source)
    pieces = {
        path.relative_to(target.folder).as_posix()
        for path in target.folder.rglob("*")
        if path.is_file()
    }
    assert pieces == {"quickstart.json", "scores/label/file", "router/file"}


def test_pieces_of_another_key_stay_where_they_are(tmp_path):
    source = filled(tmp_path / "source", "k")
    target = Workspace(tmp_path / "target", "other")
    target.open()
    target.adopt(source)
    assert [path.name for path in target.folder.iterdir()] == ["quickstart.json"]


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TRYAGE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("TRYAGE_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "tryage")


def test_the_key_tells_text_and_plan_apart():
    keys = {
        Plan().key(["a", "b"]),
        Plan().key(["b", "a"]),
        Plan(label_prompts=1).key(["a", "b"]),
    }
    assert len(keys) == 3
    assert Plan(examples=()).key(["a", "b"]) in keys
