import asyncio
import concurrent.futures
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tryage import Expert, Library
from tryage.errors import (
    ExpertError,
    LibraryError,
    MissingExtraError,
    ModelNotFoundError,
    TaskError,
)
from tryage.runtime import Runtime


def library_of(*experts: Expert, root: Path | None = None) -> Library:
    return Library(experts, root=root)


def test_a_pipeline_is_loaded_once_by_however_many_threads(tiny_library, monkeypatch) -> None:
    from tryage.runtime import runtime as module

    loads = []
    load = module.load_parts

    def counted(*args, **kwargs):
        loads.append(1)
        return load(*args, **kwargs)

    monkeypatch.setattr(module, "load_parts", counted)
    runtime = Runtime(Library.read(tiny_library))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        pipelines = set(pool.map(lambda _: runtime.load("code-gpt"), range(16)))
    assert len(pipelines) == 1
    assert len(loads) == 1
    assert "code-gpt" in repr(pipelines.pop())
    runtime.unload("code-gpt")
    runtime.load("code-gpt")
    assert len(loads) == 2


async def test_a_model_that_is_being_fetched_keeps_nobody_else_waiting(
    tiny_library, monkeypatch
) -> None:
    from tryage.runtime import runtime as module

    fetching, fetched = threading.Event(), threading.Event()
    locate = module.locate

    def slowly(library, expert, **options):
        if expert.name == "prose-gpt":
            fetching.set()
            assert fetched.wait(60)
        return locate(library, expert, **options)

    monkeypatch.setattr(module, "locate", slowly)
    runtime = Runtime(Library.read(tiny_library))

    async def read() -> str:
        pieces = runtime.astream("prose-gpt", "The river", max_new_tokens=4)
        return "".join([piece async for piece in pieces])

    streamed = asyncio.create_task(read())
    assert await asyncio.to_thread(fetching.wait, 60)
    assert (await runtime.arun("code-gpt", "def", max_new_tokens=2)).completion_tokens == 2
    assert runtime.run("code-gpt", "def", max_new_tokens=2).completion_tokens == 2
    assert runtime.health("prose-gpt").state == "not loaded"
    fetched.set()
    assert await streamed == runtime.run("prose-gpt", "The river", max_new_tokens=4).text


def test_models_really_come_through_a_pipeline_of_transformers(tiny_library) -> None:
    runtime = Runtime(Library.read(tiny_library), device="auto", dtype="float32")
    assert runtime.load("prose-bert").task == "fill-mask"
    assert not runtime.load("prose-bert").model.training
    assert [runtime.load(name).context for name in runtime.library.names] == [128] * 4


def test_an_unknown_expert_is_named(tiny_library) -> None:
    with pytest.raises(LibraryError, match="code-gpt"):
        Runtime(Library.read(tiny_library)).load("code-gtp")


def test_a_task_the_runtime_does_not_know(tiny_causal) -> None:
    runtime = Runtime(library_of(Expert(name="x", model=str(tiny_causal), task="summarization")))
    for call in (runtime.check, runtime.load):
        with pytest.raises(TaskError, match=r"'summarization'.*text-generation, fill-mask"):
            call("x")


def test_a_folder_that_does_not_exist(tmp_path) -> None:
    runtime = Runtime(library_of(Expert(name="x", model="./models/x"), root=tmp_path))
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        runtime.check("x")
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_holds_no_model(tmp_path, tiny_causal) -> None:
    runtime = Runtime(library_of(Expert(name="x", model=str(tmp_path))))
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        runtime.check("x")
    shutil.copy(tiny_causal / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelNotFoundError, match=r"no \.safetensors weights"):
        runtime.check("x")


def test_cut_weights_are_a_named_error(tmp_path, tiny_causal) -> None:
    shutil.copytree(tiny_causal, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    runtime = Runtime(library_of(Expert(name="x", model=str(tmp_path / "m"))))
    with pytest.raises(ExpertError, match="could not be loaded"):
        runtime.load("x")


def test_weights_that_lack_a_layer_are_refused_not_made_up(tmp_path, tiny_masked) -> None:
    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_masked, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    tensors = {k: v for k, v in load_file(weights).items() if "transform" not in k}
    save_file(tensors, weights, metadata={"format": "pt"})
    runtime = Runtime(library_of(Expert(name="x", model=str(tmp_path / "m"), task="fill-mask")))
    with pytest.raises(ExpertError, match=r"lack 4 tensors that fill-mask needs"):
        runtime.load("x")


def test_code_in_a_model_folder_is_not_run(tmp_path, tiny_causal) -> None:
    shutil.copytree(tiny_causal, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    (tmp_path / "m" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    runtime = Runtime(library_of(Expert(name="x", model=str(tmp_path / "m"))))
    with pytest.raises(ExpertError, match="could not be loaded"):
        runtime.load("x")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hub_cache(tmp_path, tiny_causal, monkeypatch) -> Path:
    """A Hub cache with one model, me/tiny, at one commit."""
    commit = "1" * 40
    repository = tmp_path / "hub" / "models--me--tiny"
    shutil.copytree(tiny_causal, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_cached_hub_model_is_run_at_its_revision(hub_cache) -> None:
    pinned = Expert(name="x", model="me/tiny", revision="1" * 40)
    for expert in (pinned, Expert(name="x", model="me/tiny")):
        answer = Runtime(library_of(expert)).run("x", "def alpha", max_new_tokens=5)
        assert answer.text


def test_another_revision_is_not_taken_for_it(hub_cache) -> None:
    expert = Expert(name="x", model="me/tiny", revision="2" * 40)
    with pytest.raises(ModelNotFoundError, match="at revision 2222"):
        Runtime(library_of(expert)).check("x")


def test_a_hub_model_that_is_not_there_names_its_size_and_the_switch(hub_cache) -> None:
    expert = Expert(name="x", model="me/other", parameters=1_500_000_000)
    with pytest.raises(ModelNotFoundError, match=r"'me/other' \(about 3 GB.*--download") as caught:
        Runtime(library_of(expert)).check("x")
    assert isinstance(caught.value, FileNotFoundError)


def test_a_fetch_that_was_cut_short_is_not_taken_for_the_model(hub_cache) -> None:
    [weights] = hub_cache.glob("*/snapshots/*/model.safetensors")
    weights.rename(weights.with_name("model-00001-of-00002.safetensors"))
    expert = Expert(name="x", model="me/tiny")
    with pytest.raises(ModelNotFoundError, match="neither a folder nor whole in the local cache"):
        Runtime(library_of(expert)).check("x")
    with pytest.raises(ModelNotFoundError, match="holds 1 of 2 files of its weights"):
        Runtime(library_of(expert), download=True).check("x")


def test_a_fetch_that_fails_is_a_named_error(hub_cache) -> None:
    runtime = Runtime(library_of(Expert(name="x", model="me/other")), download=True)
    with pytest.raises(ModelNotFoundError, match="could not be fetched"):
        runtime.check("x")


def test_a_name_that_no_model_can_have(hub_cache) -> None:
    with pytest.raises(ModelNotFoundError, match="neither a folder nor a Hub id"):
        Runtime(library_of(Expert(name="x", model="not a model"))).check("x")


def test_normal_use_writes_nothing_to_the_terminal(tiny_library) -> None:
    program = """
import sys
from tryage import Library
from tryage.runtime import Runtime
runtime = Runtime(Library.read(sys.argv[1]))
for name in ("code-gpt", "prose-gpt"):
    runtime.run(name, "The old " * 200, max_new_tokens=5, temperature=0.5, seed=1, stop=["x"])
    list(runtime.load(name).stream("The", max_new_tokens=5))
for name in ("code-bert", "prose-bert"):
    runtime.run(name, "The [MASK] river. " * 100)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tiny_library)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_loading_gives_the_settings_of_transformers_back(tiny_library) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.enable_progress_bar()
        Runtime(Library.read(tiny_library)).load("code-gpt")
        assert logging.get_verbosity() == before[0]
        assert logging.is_progress_bar_enabled()
    finally:
        if not before[1]:
            logging.disable_progress_bar()


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_a_missing_extra_names_the_pip_line(tiny_library, monkeypatch, package) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r'pip install "tryage\[hf\]"'):
        Runtime(Library.read(tiny_library)).load("code-gpt")


def test_importing_and_checking_load_no_framework(tiny_library) -> None:
    program = """
import sys
import tryage.labeling
from tryage import Library
from tryage.runtime import Runtime
runtime = Runtime(Library.read(sys.argv[1]))
runtime.check("code-gpt")
print([name for name in ("torch", "transformers", "pyarrow") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(tiny_library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
