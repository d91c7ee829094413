import concurrent.futures
import errno
import json
import os
import shutil
import sys
import threading

import numpy as np
import pytest

from tryage import Endpoint, Expert, Library, ScoreTable
from tryage.errors import (
    ExpertError,
    MissingExtraError,
    ModelNotFoundError,
    OutputFolderError,
    PromptError,
    TaskError,
)
from tryage.labeling import label, measure, run
from tryage.labeling.fingerprints import fingerprint
from tryage.labeling.store import LabelStore
from tryage.runtime import Runtime
from tryage.testing import FakeOpenAI

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def library(tiny_library) -> Library:
    return Library.read(tiny_library)


@pytest.fixture(scope="module")
def prompts(tiny_texts) -> list[dict[str, str]]:
    return [
        {"prompt": text, "id": f"{kind}-{i}", "group": kind}
        for kind in ("code", "prose")
        for i, text in enumerate(tiny_texts[kind][:6])
    ]


def test_the_folder_reads_as_a_score_table(library, prompts, tmp_path) -> None:
    steps: list[tuple[str, int, int]] = []
    summary = label(
        library,
        prompts,
        tmp_path / "out",
        mask_share=0.3,
        progress=lambda *step: steps.append(step),
    )
    assert summary.to_dict() == {
        "cells": 48,
        "measured": 48,
        "failed": 0,
        "reused": 0,
        "seconds": summary.seconds,
    }
    assert list(dict.fromkeys(step[0] for step in steps)) == list(library.names)
    assert [step for step in steps if step[0] == "code-gpt"][-1] == ("code-gpt", 12, 12)
    tables = ScoreTable.read(tmp_path / "out").by_task(library)
    assert set(tables) == {"text-generation", "fill-mask"}
    runtime = Runtime(library)
    for task, table in tables.items():
        assert table.ids == tuple(prompt["id"] for prompt in prompts)
        assert table.groups == ("code",) * 6 + ("prose",) * 6
        for column, name in enumerate(table.experts):
            alone = measure(runtime.load(name), [p["prompt"] for p in prompts], mask_share=0.3)
            np.testing.assert_allclose(
                table.losses[:, column], [one.loss for one in alone], atol=1e-4
            )
        marks = ["[MASK]" in prompt for prompt in table.prompts]
        assert all(marks) if task == "fill-mask" else not any(marks)


def test_files_give_what_mappings_give(library, prompts, tmp_path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, prompts)))
    for out, source in (("a", prompts), ("b", path)):
        label(library, source, tmp_path / out)
    one, other = (ScoreTable.read(tmp_path / out) for out in "ab")
    assert one.hash == other.hash


def test_a_second_run_measures_only_what_is_new(library, prompts, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    label(library, prompts[:8], out)
    shards = {shard: shard.read_bytes() for shard in LabelStore(out).shards()}
    more = label(library, prompts, out)
    assert (more.measured, more.reused) == (16, 32)
    assert shards.items() <= {s: s.read_bytes() for s in LabelStore(out).shards()}.items()
    monkeypatch.setattr(Runtime, "load", lambda *_: pytest.fail("nothing was to be loaded"))
    again = label(library, prompts, out)
    assert (again.measured, again.reused) == (0, 48)
    assert 0 < more.start_up < more.seconds
    assert 0 == again.start_up < again.seconds


def test_an_interrupted_run_keeps_what_it_measured(library, prompts, tmp_path) -> None:
    def stop(expert: str, done: int, total: int) -> None:
        if expert == "prose-gpt" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label(library, prompts, tmp_path / "out", progress=stop, batch_tokens=256)
    rest = label(library, prompts, tmp_path / "out", batch_tokens=256)
    assert rest.reused > 12
    assert rest.measured == 48 - rest.reused
    label(library, prompts, tmp_path / "whole", batch_tokens=256)
    one, other = (ScoreTable.read(tmp_path / out) for out in ("out", "whole"))
    np.testing.assert_allclose(one.losses, other.losses, atol=1e-4)


def test_work_is_written_now_and_then(library, prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "_SECONDS_UNWRITTEN", -1.0)
    label(library, prompts, tmp_path / "out", batch_tokens=200)
    assert len(LabelStore(tmp_path / "out").shards()) > 4
    assert np.isfinite(ScoreTable.read(tmp_path / "out").by_task(library)["fill-mask"].losses).all()


def test_failed_cells_say_why_and_are_tried_again(library, prompts, tmp_path, monkeypatch) -> None:
    load = Runtime.load

    def broken(self, name):
        if name == "code-gpt":
            raise ExpertError("expert 'code-gpt': out of memory")
        return load(self, name)

    out = tmp_path / "out"
    monkeypatch.setattr(Runtime, "load", broken)
    summary = label(library, prompts, out)
    assert (summary.measured, summary.failed) == (36, 12)
    assert summary.reasons == {"expert 'code-gpt': out of memory": 12}
    assert summary.to_dict()["failures"] == {"code-gpt": summary.reasons}
    assert "36 measured, 12 failed, 0 reused\n  code-gpt: 12 failed: expert 'code" in str(summary)
    assert "code-gpt" not in ScoreTable.read(out).experts
    monkeypatch.undo()
    again = label(library, prompts, out)
    assert (again.measured, again.reused, again.failed) == (12, 36, 0)
    assert np.isfinite(ScoreTable.read(out).by_task(library)["text-generation"].losses).all()


def test_a_text_without_words_fails_for_masked_experts_alone(library, tmp_path) -> None:
    summary = label(library, ["+++ ---", "the old river"], tmp_path / "out")
    assert (summary.measured, summary.failed) == (6, 2)
    assert summary.reasons == {"the text has no word to hide": 2}
    assert len(ScoreTable.read(tmp_path / "out")) == 4


def test_shards_say_what_was_cut_and_the_papers_loss(library, tmp_path) -> None:
    import pyarrow.parquet as parquet

    long = {"prompt": "def alpha(beta):\n" * 60, "reference": "x", "task": "text-generation"}
    label(library, [long, {"prompt": "def", "task": "text-generation"}], tmp_path / "out")
    cells = [
        cell
        for shard in LabelStore(tmp_path / "out").shards()
        for cell in parquet.read_table(shard).to_pylist()
    ]
    assert [cell["truncated"] for cell in cells] == [True, False, True, False]
    assert all(cell["error"] is None for cell in cells)
    assert all(0 <= cell["token_accuracy"] <= 1 and cell["token_loss"] > 0 for cell in cells)


def test_nothing_is_written_where_an_expert_cannot_run(library, prompts, tmp_path) -> None:
    gone = Expert(name="gone", model="./nowhere")
    odd = library["code-gpt"].model_copy(update={"name": "odd", "task": "summarization"})
    for expert, error in ((gone, ModelNotFoundError), (odd, TaskError)):
        with pytest.raises(error):
            label(Library([*library.experts, expert], root=library.root), prompts, tmp_path / "out")
    with pytest.raises(PromptError, match="prompt 1"):
        label(library, [""], tmp_path / "out")
    with pytest.raises(ValueError, match="share"):
        label(library, prompts, tmp_path / "out", mask_share=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["torch", "transformers", "pyarrow"])
def test_a_missing_extra_names_the_pip_line(
    library, prompts, tmp_path, monkeypatch, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'pip install "tryage\[hf\]"'):
        label(library, prompts, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.enable_socket
def test_experts_at_endpoints_need_no_torch(tmp_path, monkeypatch) -> None:
    pytest.importorskip("httpx")
    for package in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    with FakeOpenAI(reply=lambda body: "yes") as server:
        served = [
            Expert(name=name, model=name, endpoint=Endpoint(url=server.url)) for name in ("a", "b")
        ]
        questions = [{"prompt": "Say yes.", "reference": "yes"}]
        summary = label(Library(served), questions, tmp_path / "out", metric="exact")
    assert summary.measured == 2


def test_the_prompts_are_looked_at_before_the_packages(library, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PromptError, match=r"'nowhere.jsonl' does not exist"):
        label(library, "nowhere.jsonl", tmp_path / "out")


def test_a_folder_of_something_else_is_refused(library, prompts, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(OutputFolderError, match="something else made it"):
        label(library, prompts, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(OutputFolderError, match="is a file"):
        label(library, prompts, tmp_path / "mine" / "notes.txt")
    (tmp_path / "empty").mkdir()
    assert label(library, prompts[:1], tmp_path / "empty").measured == 4


def test_other_measurements_are_not_mixed_in(library, prompts, tmp_path) -> None:
    out = tmp_path / "out"
    label(library, prompts[:2], out)
    with pytest.raises(OutputFolderError, match=r"setting mask_share = 0\.15, now it is 0\.5"):
        label(library, prompts, out, mask_share=0.5)
    other = [
        expert.model_copy(update={"model": "models/prose-gpt"})
        if expert.name == "code-gpt"
        else expert
        for expert in library
    ]
    with pytest.raises(OutputFolderError, match="expert code-gpt"):
        label(Library(other, root=library.root), prompts, out)
    changed = [{**prompts[0], "prompt": "def another():"}]
    with pytest.raises(PromptError, match=r"'code-0'.*another text"):
        label(library, changed, out)


def test_a_library_may_grow_and_shrink(library, prompts, tmp_path) -> None:
    out = tmp_path / "out"
    assert label(library.of_task("fill-mask"), prompts, out).cells == 24
    assert label(library, prompts, out).reused == 24
    assert label(library.of_task("text-generation"), prompts, out).reused == 24
    assert set(json.loads((out / "label.json").read_text())["experts"]) == set(library.names)


def test_the_label_file_may_be_on_its_way(library, prompts, tmp_path) -> None:
    """Another run writes it through a temporary file; file managers leave dot files too."""
    for name in (".label.json.x1y2", ".DS_Store"):
        (tmp_path / name).write_text("{")
    assert label(library, prompts[:1], tmp_path).measured == 4


def test_runs_that_open_a_new_folder_at_once_agree(library, tmp_path) -> None:
    settings = {"mask_share": 0.15, "max_window": 2048}
    parts = [Library([expert], root=library.root) for expert in library]
    for number in range(20):
        folder = tmp_path / str(number)
        start = threading.Barrier(len(parts))

        def run(part, folder=folder, start=start):
            start.wait()
            LabelStore(folder).open(part, settings)

        with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
            list(pool.map(run, parts))
        label = json.loads((folder / "label.json").read_text())
        assert set(label["experts"]) == set(library.names)
        with pytest.raises(OutputFolderError, match="mask_share"):
            LabelStore(folder).open(library, {**settings, "mask_share": 0.5})


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:100] + bytes(len(data) - 200) + data[-100:],
    ],
    ids=["cut", "empty", "blank"],
)
def test_a_damaged_shard_is_named_with_the_way_out(library, prompts, tmp_path, damage) -> None:
    few = library.of_task("fill-mask")
    label(few, prompts[:2], tmp_path)
    _, last = LabelStore(tmp_path).shards()
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(OutputFolderError, match=r"not a whole shard: .*delete this file") as caught:
        label(few, prompts[:2], tmp_path)
    assert str(last) in str(caught.value)
    last.unlink()
    again = label(few, prompts[:2], tmp_path)
    assert (again.reused, again.measured) == (2, 2)


def test_a_shard_of_something_else_is_named(library, prompts, tmp_path) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    label(library, prompts[:1], tmp_path)
    parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "cells-000009-mine.parquet")
    with pytest.raises(OutputFolderError, match=r"cells-000009-mine\.parquet: not a whole shard"):
        label(library, prompts[:1], tmp_path)


@pytest.mark.parametrize(
    ("rows", "text", "reason"),
    [
        (3_000_000, "x", "say they hold 3000000 rows"),
        (2000, "x" * 200_000, "texts are longer than any honest file"),
        (1, ["x"], "column 'prompt' holds list<"),
    ],
    ids=["rows", "texts", "lists"],
)
def test_a_shard_that_unpacks_to_far_too_much_is_refused(
    library, prompts, tmp_path, rows, text, reason
) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    label(library, prompts[:1], tmp_path)
    whole = parquet.read_table(LabelStore(tmp_path).shards()[0]).slice(0, 1).to_pylist()[0]
    names = ("task", "prompt_id", "prompt", "reference", "expert", "error")
    cell = {name: pyarrow.scalar(whole[name]) for name in names} | {"prompt": pyarrow.scalar(text)}
    cells = pyarrow.table({name: pyarrow.repeat(cell[name], rows) for name in names})
    bomb = tmp_path / "cells-000009-mine.parquet"
    parquet.write_table(cells, bomb, compression="zstd")
    assert bomb.stat().st_size < 200_000
    with pytest.raises(OutputFolderError, match=reason) as caught:
        label(library, prompts[:1], tmp_path)
    assert str(bomb) in str(caught.value)


def test_a_full_disk_is_one_error_and_costs_one_shard(
    library, prompts, tmp_path, monkeypatch
) -> None:
    full = library.names[2]
    write = LabelStore.append

    def append(store, cells):
        if cells and cells[0].expert == full:
            fails = OSError(errno.ENOSPC, "No space left on device")
            monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(fails))
        write(store, cells)

    monkeypatch.setattr(LabelStore, "append", append)
    with pytest.raises(OSError, match=r"12 measured cells could not.*No space left") as caught:
        label(library, prompts, tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert set(ScoreTable.read(tmp_path).experts) == set(library.names[:2])
    monkeypatch.undo()
    again = label(library, prompts, tmp_path)
    assert (again.reused, again.measured) == (24, 24)


@pytest.fixture
def movable(library, tmp_path) -> Library:
    """The library with models of its own, that a test may change."""
    shutil.copytree(library.root, tmp_path, dirs_exist_ok=True)
    return Library.read(tmp_path / "library.yaml")


def change_weights(folder) -> None:
    """Change one tensor in the middle of the file and leave size and time as they were."""
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    before = path.stat()
    tensors = load_file(path)
    name = sorted(tensors)[len(tensors) // 2]
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, path, metadata={"format": "pt"})
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_tokenizer(folder) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text() + " ")


def change_config(folder) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "scale_attn_weights": False}))


@pytest.mark.parametrize("change", [change_weights, change_tokenizer, change_config])
def test_losses_of_a_model_that_changed_are_not_reused(movable, prompts, tmp_path, change) -> None:
    out = tmp_path / "out"
    label(movable, prompts[:2], out)
    change(movable.root / "models" / "code-gpt")
    before = (out / "label.json").read_bytes()
    with pytest.raises(
        OutputFolderError, match=r"expert 'code-gpt' \(models/code-gpt\) are no long"
    ):
        label(movable, prompts, out)
    assert (out / "label.json").read_bytes() == before
    others = Library([e for e in movable if e.name != "code-gpt"], root=movable.root)
    assert label(others, prompts[:2], out).reused == 6


def test_a_model_that_never_could_be_measured_may_be_mended(movable, prompts, tmp_path) -> None:
    weights = movable.root / "models" / "code-gpt" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert label(movable, prompts[:2], tmp_path / "out").failed == 2
    weights.write_bytes(whole)
    assert label(movable, prompts[:2], tmp_path / "out").measured == 2
    change_weights(weights.parent)
    with pytest.raises(OutputFolderError, match="'code-gpt'"):
        label(movable, prompts[:2], tmp_path / "out")


def test_a_fingerprint_covers_every_tensor_and_reads_little(tmp_path) -> None:
    from safetensors.numpy import save_file

    tensors = {name: np.zeros(1 << 18, np.float32) for name in "abc"}
    save_file(tensors, tmp_path / "model.safetensors")
    first = fingerprint(tmp_path)
    assert first == fingerprint(tmp_path)
    for name in "abc":
        changed = {**tensors, name: tensors[name] + np.float32(1)}
        save_file(changed, tmp_path / "model.safetensors")
        assert fingerprint(tmp_path) != first
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "README.md").write_text("a note")
    (tmp_path / "generation_config.json").write_text("{}")
    assert fingerprint(tmp_path) == first
    for damaged in (b"", b"\xff" * 20, (2).to_bytes(8, "little") + b"[]"):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        assert fingerprint(tmp_path) != first


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 10**5, '{"format": 3, "experts": {}, "settings": {}}'], ids=range(4)
)
def test_a_label_file_that_is_damaged_or_newer(library, prompts, tmp_path, text) -> None:
    (tmp_path / "label.json").write_text(text)
    with pytest.raises(OutputFolderError, match=r"label\.json"):
        label(library, prompts, tmp_path)


def test_a_model_is_in_memory_once_and_no_longer_than_needed(
    library, prompts, tmp_path, monkeypatch
) -> None:
    events: list[str] = []
    load, unload = Runtime.load, Runtime.unload
    monkeypatch.setattr(Runtime, "load", lambda s, n: (events.append(f"+{n}"), load(s, n))[1])
    monkeypatch.setattr(Runtime, "unload", lambda s, n: (events.append(f"-{n}"), unload(s, n))[1])
    label(library, prompts, tmp_path / "out", batch_tokens=128)
    assert events == [f"{sign}{name}" for name in library.names for sign in "+-"]


def test_half_a_shard_is_taken_for_none(library, prompts, tmp_path) -> None:
    """A process that dies while writing leaves a file that no reader takes for a shard."""
    out = tmp_path / "out"
    label(library, prompts[:2], out)
    whole = LabelStore(out).shards()[0]
    half = out / f".{whole.name}.x1y2"
    half.write_bytes(whole.read_bytes()[:100])
    assert label(library, prompts[:2], out).reused == 8
    assert len(ScoreTable.read(out)) == 4
