"""Whole runs over answers, data sets, several workers; and what each way refuses."""

import json
import math
import os
import threading

import numpy as np
import pytest

from tryage import Expert, Library, ScoreTable
from tryage.errors import OptionError, OutputFolderError, PromptError, TaskError
from tryage.experts import Endpoint, Price
from tryage.labeling import label, likelihood, local_engine, measure
from tryage.labeling.likelihood import measure_rows
from tryage.labeling.local_engine import blocks_of
from tryage.labeling.store import LabelStore
from tryage.runtime import Runtime

pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def library(tiny_library) -> Library:
    experts = [
        expert.model_copy(update={"price": Price(input=1.0, output=2.0)})
        for expert in Library.read(tiny_library)
    ]
    return Library(experts, root=tiny_library.parent)


@pytest.fixture(scope="module")
def writers(library) -> Library:
    return library.of_task("text-generation")


@pytest.fixture(scope="module")
def questions(tiny_texts) -> list[dict[str, str]]:
    """The beginning of each function, and the rest of it as the reference."""
    return [
        {"prompt": text[:20], "reference": text[20:], "id": str(i), "group": "code"}
        for i, text in enumerate(tiny_texts["code"][:8])
    ]


def cells(folder):
    import pyarrow.parquet as parquet

    shards = LabelStore(folder).shards()
    return [cell for shard in shards for cell in parquet.read_table(shard).to_pylist()]


def test_answers_are_scored_and_measured(writers, questions, tmp_path) -> None:
    summary = label(writers, questions, tmp_path, metric="f1", max_new_tokens=24, keep_answers=True)
    assert (summary.cells, summary.measured, summary.failed) == (16, 16, 0)
    assert summary.conditions["cut_off"] > 0
    table = ScoreTable.read(tmp_path)
    assert table.kind == "scores"
    assert set(table.targets) == {"cost", "latency", "readability", "response_chars"}
    column = table.experts.index("code-gpt")
    assert table.losses[:, column].mean() < table.losses[:, 1 - column].mean()
    pipeline = Runtime(writers).load("code-gpt")
    for i, question in enumerate(questions):
        answer = pipeline.generate(question["prompt"], max_new_tokens=24)
        cost = (answer.prompt_tokens + 2 * answer.completion_tokens) / 1e6
        assert table.targets["response_chars"][i, column] == len(answer.text)
        assert table.targets["cost"][i, column] == pytest.approx(cost)
        assert table.targets["latency"][i, column] > 0
    answers = {(c["expert"], c["prompt_id"]): c["answer"] for c in cells(tmp_path)}
    assert answers["code-gpt", "7"] == answer.text
    assert label(writers, questions, tmp_path, metric="f1", max_new_tokens=24).reused == 16


def test_another_metric_or_likelihoods_need_another_folder(writers, questions, tmp_path) -> None:
    label(writers, questions[:1], tmp_path, metric="f1", max_new_tokens=4)
    with pytest.raises(OutputFolderError, match='metric = "f1", now it is "exact"'):
        label(writers, questions[:1], tmp_path, metric="exact", max_new_tokens=4)
    with pytest.raises(OutputFolderError, match="holds scores, now losses"):
        label(writers, questions[:1], tmp_path)


def test_a_metric_of_ones_own_sees_every_answer_and_fails_its_cells_alone(
    writers, questions, tmp_path
) -> None:
    def metric(answer, reference):
        if reference == questions[3]["reference"]:
            return None
        if reference == questions[5]["reference"]:
            raise RuntimeError("the judge is ill")
        return len(answer) / 1000

    summary = label(writers, questions, tmp_path, metric=metric, max_new_tokens=4)
    assert (summary.measured, summary.failed) == (12, 4)
    reasons = {
        "the metric could not read the answer": 1,
        "the metric failed: RuntimeError: the judge is ill": 1,
    }
    assert summary.failures == {"code-gpt": reasons, "prose-gpt": reasons}
    assert summary.conditions["parse_failure"] == 2
    failed = [cell for cell in cells(tmp_path) if cell["error"]]
    assert all(cell["response_chars"] > 0 and cell["score"] is None for cell in failed)


def test_masked_experts_are_scored_on_what_they_fill_in(library, tiny_texts, tmp_path) -> None:
    fillers = library.of_task("fill-mask")
    label(fillers, tiny_texts["prose"][:4], tmp_path, metric="f1")
    table = ScoreTable.read(tmp_path)
    assert all("[MASK]" in prompt for prompt in table.prompts)
    column = table.experts.index("prose-bert")
    assert table.losses[:, column].mean() <= table.losses[:, 1 - column].mean()


def test_what_cannot_be_measured_is_told_before_anything_is_written(
    library, writers, questions, tmp_path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(PromptError, match="'x': reference: missing; the metric 'exact'"):
        label(writers, [*questions, {"prompt": "def", "id": "x"}], out, metric="exact")
    with pytest.raises(OptionError, match="unknown metric 'exat'"):
        label(writers, questions, out, metric="exat")
    with pytest.raises(OptionError, match="engine is 'spark'; it is 'local' or 'ray'"):
        label(writers, questions, out, engine="spark")
    with pytest.raises(OptionError, match="workers is 0"):
        label(writers, questions, out, workers=0)
    served = Expert(name="far", model="m", endpoint=Endpoint(url="http://127.0.0.1:9/v1"))
    with pytest.raises(TaskError, match=r"'far' is served at an endpoint.*give a metric"):
        label(Library([*library.experts, served], root=library.root), questions, out)
    assert not out.exists()


@pytest.mark.parametrize("expert", ["code-gpt", "prose-bert"])
def test_workers_change_nothing(library, tiny_texts, tmp_path, expert) -> None:
    one = Library([library[expert]], root=library.root)
    texts = [f"{text} {i}" for i in range(4) for part in tiny_texts.values() for text in part]
    for workers in (1, 3):
        summary = label(one, texts, tmp_path / str(workers), workers=workers, batch_tokens=600)
        assert summary.measured == len(texts)
    alone, beside = (ScoreTable.read(tmp_path / str(workers)) for workers in (1, 3))
    assert alone.ids == beside.ids
    np.testing.assert_allclose(alone.losses, beside.losses, atol=1e-4)


@pytest.mark.parametrize("chosen", [3, None])
def test_workers_read_a_model_at_once_and_share_the_memory(
    library, tiny_texts, tmp_path, monkeypatch, chosen
) -> None:
    together, sizes = threading.Barrier(3), []

    def waits(*arguments, batch_tokens, **options):
        sizes.append(batch_tokens)
        together.wait(60)  # breaks unless three threads come
        yield from measure_rows(*arguments, batch_tokens=batch_tokens, **options)

    monkeypatch.setattr(likelihood, "measure_rows", waits)
    monkeypatch.setattr(local_engine, "default_workers", lambda device: 3)
    one = Library([library["code-gpt"]], root=library.root)
    summary = label(one, tiny_texts["code"][:6], tmp_path, workers=chosen, batch_tokens=600)
    assert (summary.measured, sizes) == (6, [200] * 3)


def test_there_are_as_many_workers_as_torch_leaves_cores(monkeypatch) -> None:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert (local_engine.default_workers("cpu"), local_engine.default_workers("cuda:0")) == (
        cores,
        1,
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2 * cores)
    assert local_engine.default_workers("cpu") == 1


def test_a_fault_in_a_worker_ends_the_run_and_its_threads(library, tmp_path, monkeypatch) -> None:
    def broken(*_, **__):
        raise TypeError("a mistake")

    before = threading.active_count()
    monkeypatch.setattr(likelihood, "encode_row", broken)
    with pytest.raises(TypeError, match="a mistake"):
        label(library, ["the old river", "a garden"] * 20, tmp_path, workers=2)
    assert threading.active_count() == before


def test_blocks_leave_no_worker_idle() -> None:
    assert [len(part) for part in blocks_of(1200, 2)] == [512, 512, 176]
    assert [len(part) for part in blocks_of(100, 4)] == [25] * 4
    assert [len(part) for part in blocks_of(3, 8)] == [1, 1, 1]
    assert blocks_of(0, 2) == []


def test_a_twin_shares_the_weights_and_nothing_that_changes(library) -> None:
    pipeline = Runtime(library).load("prose-bert")
    twin = pipeline.twin()
    mine, its = (dict(one.model.named_parameters()) for one in (pipeline, twin))
    assert all(its[name] is weight for name, weight in mine.items())
    assert twin.model is not pipeline.model
    assert twin.tokenizer is not pipeline.tokenizer
    with pipeline.turn():
        (cell,) = measure(twin, ["the old river"])
    assert math.isfinite(cell.loss)
    assert measure(pipeline, ["the old river"])[0].loss == pytest.approx(cell.loss)


def test_data_sets_give_what_mappings_give(library, tiny_texts, tmp_path) -> None:
    one = Library([library["code-gpt"]], root=library.root)
    rows = [
        {"prompt": text, "id": i, "group": kind, "reference": None}
        for kind in ("code", "prose")
        for i, text in enumerate(tiny_texts[kind][:3], 10 if kind == "code" else 20)
    ]
    data = datasets.Dataset.from_list(rows)
    data.save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "prompts.parquet")
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ways = {
        "set": data,
        "stream": data.to_iterable_dataset(),
        "folder": tmp_path / "saved",
        "parquet": tmp_path / "prompts.parquet",
        "lines": tmp_path / "prompts.jsonl",
    }
    hashes = set()
    for name, source in ways.items():
        label(one, source, tmp_path / "out" / name)
        hashes.add(ScoreTable.read(tmp_path / "out" / name).hash)
    assert len(hashes) == 1


def test_wrong_data_sets_are_told(library, tmp_path) -> None:
    data = datasets.Dataset.from_list([{"question": "who?"}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_text("PAR0")
    for source, reason in (
        (data, "prompt 1: prompt: is missing"),
        (datasets.DatasetDict(train=data), "found a mapping with 'train'; choose one split"),
        (tmp_path / "empty", "holds no saved data set"),
        (tmp_path / "broken.parquet", "not a Parquet file"),
        (tmp_path / "gone.parquet", "does not exist"),
    ):
        with pytest.raises(PromptError, match=reason):
            label(library, source, tmp_path / "out")
