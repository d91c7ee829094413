"""Callables are asked, their answers scored and kept, whatever goes wrong."""

import asyncio
import importlib.util
import math
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from tryage import Expert, Library, Price, Router, ScoreTable, TryageWarning
from tryage.errors import LibraryError, OptionError, OutputFolderError, PromptError
from tryage.labeling import (
    PairwiseJudge,
    PointwiseJudge,
    alabel_answers,
    label_answers,
)
from tryage.labeling.store import LabelStore
from tryage.runtime import Answer

# By its path: the suite's modules are in no package.
_spec = importlib.util.spec_from_file_location(
    "answers_run", Path(__file__).with_name("answers_run.py")
)
answers_run = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(answers_run)

parquet = pytest.importorskip("pyarrow.parquet")

LIBRARY = Library(
    [
        Expert(name="small", model="a", price=Price(input=1, output=2)),
        Expert(name="large", model="b"),
        Expert(name="absent", model="c"),
    ]
)
SUMS = [{"prompt": f"{i} + {i}", "id": str(i), "reference": str(2 * i)} for i in range(12)]


def adds(prompt):
    one, other = prompt.split(" + ")
    return f"It is {int(one) + int(other)}."


def doubles(prompt):
    return "It is 8."


async def adds_later(prompt):
    await asyncio.sleep(0)
    return adds(prompt)


def scores(folder):
    table = ScoreTable.read(folder)
    return {
        name: dict(zip(table.ids, 1 - table.losses[:, i], strict=True))
        for i, name in enumerate(table.experts)
    }


def cells(folder):
    shards = LabelStore(folder, "scores").shards()
    rows = [cell for shard in shards for cell in parquet.read_table(shard).to_pylist()]
    return {(cell["expert"], cell["prompt_id"]): cell for cell in rows}


def test_every_expert_answers_and_everything_is_measured(tmp_path):
    reports = []

    def small(prompt):
        return Answer(adds(prompt), 1000, 500, 0.0, finish_reason="length")

    summary = label_answers(
        {"small": small, "large": doubles},
        SUMS,
        "number",
        tmp_path,
        library=LIBRARY,
        progress=lambda *args: reports.append(args),
    )
    assert (summary.cells, summary.measured, summary.failed) == (24, 24, 0)
    assert summary.conditions == {"cut_off": 12}
    assert reports[:2] == [("small", 0, 12), ("large", 0, 12)]
    assert {("small", 12, 12), ("large", 12, 12)} <= set(reports)
    table = ScoreTable.read(tmp_path).reorder(["small", "large"])
    assert table.losses.tolist() == [[0, 0 if i == 4 else 1] for i in range(12)]
    assert table.targets["cost"][:, 0].tolist() == pytest.approx([0.002] * 12)
    assert np.isnan(table.targets["cost"][:, 1]).all()
    assert table.targets["response_chars"][:, 1].tolist() == [8] * 12
    assert np.isfinite(table.targets["latency"]).all()
    assert np.isfinite(table.targets["readability"]).all()
    # The experts without a callable are another call's.
    assert label_answers({"absent": adds}, SUMS, "number", tmp_path, library=LIBRARY).measured == 12
    router = Router.fit(ScoreTable.read(tmp_path), library=LIBRARY, predictor="best-single")
    assert router.route("3 + 4").expert in ("small", "absent")


def test_a_later_call_fills_what_is_missing_and_no_more(tmp_path):
    prompts_sent = []

    def small(prompt):
        prompts_sent.append(prompt)
        return adds(prompt)

    experts = {"small": small, "large": doubles}
    assert label_answers(experts, SUMS[:5], "number", tmp_path).measured == 10
    del prompts_sent[:]
    summary = label_answers(experts, SUMS, "number", tmp_path)
    assert (summary.reused, summary.measured) == (10, 14)
    assert sorted(prompts_sent) == sorted(one["prompt"] for one in SUMS[5:])


@pytest.mark.parametrize("judged", [False, True])
def test_an_expert_that_fails_and_a_prompt_that_poisons(tmp_path, judged):
    def broken(prompt):
        raise ConnectionError("api_key=abcdef1234 was refused")

    def poisoned(prompt):
        if prompt == "3 + 3":
            raise ValueError("not this one")
        return {"4 + 4": "", "5 + 5": None}.get(prompt, adds(prompt))

    def hangs(prompt):
        if prompt == "1 + 1":
            time.sleep(0.5)
        return adds(prompt)

    async def hangs_too(prompt):
        if prompt == "2 + 2":
            await asyncio.sleep(30)
        return adds(prompt)

    experts = {"broken": broken, "poisoned": poisoned, "hangs": hangs, "hangs_too": hangs_too}
    metric = PairwiseJudge(lambda text: "Winner: tie") if judged else "contains"
    options = {"backoff": 0, "retries": 1, "timeout": 0.1, "give_up_after": 5, "concurrency": 2}
    summary = label_answers(experts, SUMS, metric, tmp_path, **options)
    assert summary.cells == 48 == summary.measured + summary.failed
    refused = "ConnectionError: api_key=*** was refused"
    failures = summary.failures
    assert failures["broken"].keys() == {
        refused,
        f"left alone after 5 failures in a row, at last with {refused}",
    }
    assert sum(failures["broken"].values()) == 12
    assert failures["poisoned"] == {
        "ValueError: not this one": 1,
        "TypeError: it returned NoneType, not text": 1,
    }
    late = "ExpertTimeoutError: {} did not answer within 0.1 s"
    assert failures["hangs"] == {late.format("hangs"): 1}
    assert failures["hangs_too"] == {late.format("hangs_too"): 1}
    assert cells(tmp_path)["poisoned", "4"]["empty"]
    by_expert = scores(tmp_path)
    assert "broken" not in by_expert
    assert math.isnan(by_expert["poisoned"]["3"])
    assert by_expert["hangs"]["3"] == (0.5 if judged else 1.0)

    mended = dict.fromkeys(experts, adds)
    again = label_answers(mended, SUMS, metric, tmp_path, **options)
    assert (again.measured, again.failed, again.reused) == (16, 0, 32)
    assert not np.isnan(ScoreTable.read(tmp_path).losses).any()


def test_half_a_character_and_an_endless_answer_can_be_kept(tmp_path):
    answers = {"small": lambda prompt: "\ud83d it is", "large": lambda prompt: "x" * 1_000_000}
    summary = label_answers(
        answers, ["hello"], lambda answer, reference: 0.5, tmp_path, keep_answers=True
    )
    assert summary.measured == 2
    stored = cells(tmp_path)
    name = next(name for expert, name in stored if expert == "small")
    assert stored["small", name]["answer"] == "? it is"


READ, WRITTEN = 1e-6, 2e-6


@pytest.mark.parametrize(
    ("answer", "cost"),
    [
        (Answer("It is 2.", 3, 2, 0.0), 3 * READ + 2 * WRITTEN),
        (Answer("It is 2.", np.int64(3), 2.0, 0.0), 3 * READ + 2 * WRITTEN),
        (Answer("It is 2.", "3", "2", 0.0), 3 * READ + 2 * WRITTEN),
        (Answer("It is 2.", 3, 2, 0.0, truncated="yes"), 3 * READ + 2 * WRITTEN),
        (Answer("It is 2.", "3", None, 0.0), None),
        (Answer("It is 2.", -1, 2, 0.0), None),
        (Answer("It is 2.", float("nan"), 2, 0.0), None),
        (Answer("It is 2.", 10**400, 2, 0.0), None),
        (Answer("It is 2.", "many", 2, 0.0), None),
        (Answer("It is 2.", True, 2, 0.0), None),
        (Answer("It is 2.", None, None, 0.0, counted=False), None),
    ],
)
def test_odd_token_counts_end_no_run_and_make_no_cost(tmp_path, answer, cost):
    library = Library([Expert(name="odd", model="odd", price=Price(input=1, output=2))])
    experts = {"odd": lambda prompt: answer}
    summary = label_answers(experts, SUMS[1:2], "number", tmp_path, library=library)
    assert (summary.measured, summary.failed) == (1, 0)
    table = ScoreTable.read(tmp_path)
    assert table.losses.tolist() == [[0.0]]
    costs = table.targets["cost"].tolist() if "cost" in table.targets else [[None]]
    assert costs == [[cost if cost is None else pytest.approx(cost)]]


def test_half_a_character_in_a_reason_can_be_kept(tmp_path):
    def broken(prompt):
        raise ValueError("bad \ud83d")

    def metric(answer, reference):
        raise ValueError("worse \ud83d")

    summary = label_answers({"small": broken, "large": adds}, SUMS[:1], metric, tmp_path)
    reasons = {"small": "ValueError: bad ?", "large": "the metric failed: ValueError: worse ?"}
    assert summary.failures == {name: {why: 1} for name, why in reasons.items()}
    assert {name: cell["error"] for (name, _), cell in cells(tmp_path).items()} == reasons


def test_a_metric_of_ones_own_may_fail_or_decline(tmp_path):
    def metric(answer, reference):
        if answer.endswith("6."):
            raise ZeroDivisionError("by six")
        return None if answer.endswith("2.") else True

    summary = label_answers({"small": adds}, SUMS[:4], metric, tmp_path)
    assert summary.failures["small"] == {
        "the metric failed: ZeroDivisionError: by six": 1,
        "the metric could not read the answer": 1,
    }
    assert summary.conditions == {"parse_failure": 1}


def test_the_same_in_the_callers_event_loop(tmp_path):
    threads = set()

    async def here(prompt):
        threads.add(threading.current_thread())
        return await adds_later(prompt)

    def there(prompt):
        threads.add(threading.current_thread())
        return doubles(prompt)

    async def both():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        pulse = asyncio.create_task(beat())
        summary = await alabel_answers({"here": here, "there": there}, SUMS, "number", tmp_path)
        pulse.cancel()
        return summary, beats

    summary, beats = asyncio.run(both())
    assert summary.measured == 24
    assert beats > 12
    assert threading.current_thread() in threads
    assert len(threads) > 1


def test_it_runs_where_a_loop_runs_already_as_in_a_notebook(tmp_path):
    async def cell():
        return label_answers({"small": adds_later, "large": doubles}, SUMS, "number", tmp_path)

    assert asyncio.run(cell()).measured == 24


async def test_cancelling_keeps_what_was_measured(tmp_path):
    enough = asyncio.Event()

    async def stops(prompt):
        if prompt == "6 + 6":
            enough.set()
            await asyncio.sleep(30)
        return adds(prompt)

    work = asyncio.create_task(
        alabel_answers({"small": stops}, SUMS, "number", tmp_path, concurrency=1)
    )
    await enough.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert list(scores(tmp_path)["small"]) == [str(i) for i in range(6)]
    assert (await alabel_answers({"small": adds}, SUMS, "number", tmp_path)).measured == 6


def test_a_full_disk_ends_the_run_and_loses_no_shard(tmp_path, monkeypatch):
    label_answers({"small": adds}, SUMS[:4], "number", tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    with pytest.raises(OSError, match="8 measured cells could not be written: No space left"):
        label_answers({"small": adds}, SUMS, "number", tmp_path)
    monkeypatch.undo()
    assert label_answers({"small": adds}, SUMS, "number", tmp_path).reused == 4


def start(folder, n):
    command = [sys.executable, answers_run.__file__, str(folder), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on_later(tmp_path, end):
    run = start(tmp_path, 4000)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("cells-*.parquet")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    run.send_signal(end)
    _, errors = run.communicate(timeout=60)
    assert run.returncode in (-end, 1), errors
    if end == signal.SIGINT:
        assert errors.strip().endswith("KeyboardInterrupt")
    shards = LabelStore(tmp_path, "scores").shards()
    some = answers_run.prompts(300)
    experts = {"small": answers_run.small, "large": answers_run.large}
    summary = label_answers(experts, some, "exact", tmp_path)
    assert summary.reused > 0
    assert summary.measured + summary.reused == 600
    assert shards == LabelStore(tmp_path, "scores").shards()[: len(shards)]
    assert set(scores(tmp_path)["small"].values()) == {1.0}


def test_two_runs_may_fill_a_new_folder_at_once(tmp_path):
    runs = [start(tmp_path, 200) for _ in range(2)]
    for run in runs:
        output, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        assert output.startswith("400 cells")
    table = ScoreTable.read(tmp_path)
    assert table.losses.shape == (200, 2)
    assert (table.losses == 0).all()


def judging(text):
    """Prefers the right sum."""
    one, other = re.search(r"\[Prompt\]\n(\d+) \+ (\d+)", text).groups()
    right_answer = f"It is {int(one) + int(other)}."
    first, second = re.search(r"\[Answer A\]\n(.*)\n\[Answer B\]\n(.*)\n", text).groups()
    if (first == right_answer) == (second == right_answer):
        return "Winner: tie"
    return f"Winner: {'A' if first == right_answer else 'B'}"


def test_a_judge_compares_experts_with_each_other_without_references(tmp_path):
    prompts = [one["prompt"] for one in SUMS[:6]]
    judge = PairwiseJudge(judging)
    experts = {"small": adds, "large": doubles, "other": lambda prompt: "No idea."}
    summary = label_answers(experts, prompts, judge, tmp_path)
    assert (summary.measured, summary.failed) == (18, 0)
    table = ScoreTable.read(tmp_path).reorder(list(experts))
    rows = {prompt: row for prompt, row in zip(table.prompts, 1 - table.losses, strict=True)}
    assert rows["4 + 4"].tolist() == [0.75, 0.75, 0.0]
    assert rows["3 + 3"].tolist() == [1.0, 0.25, 0.25]
    assert judge.counts.flipped == 0

    # One more expert is compared with the answers that are kept; nobody else is asked again.
    silent = {name: lambda prompt: pytest.fail("asked again") for name in experts}
    more = label_answers(silent | {"new": adds}, prompts, PairwiseJudge(judging), tmp_path)
    assert (more.measured, more.reused) == (6, 18)
    assert scores(tmp_path)["new"].values() == pytest.approx([5 / 6] * 4 + [4 / 6, 5 / 6])


def test_a_judge_that_mumbles_is_counted(tmp_path):
    judge = PointwiseJudge(lambda text: "Score: 10" if "It is 8." in text else "Well...")
    summary = label_answers({"small": adds, "large": doubles}, SUMS, judge, tmp_path)
    assert summary.conditions == {"parse_failure": 11}
    assert summary.failures["small"] == {"the judge's reply could not be read": 11}
    assert judge.counts.parse_failures == 11
    assert set(scores(tmp_path)["large"].values()) == {1.0}


async def test_a_judge_is_called_as_carefully_as_experts(tmp_path):
    calls = []

    async def judge(text):
        calls.append(text)
        if len(calls) % 3:
            raise ConnectionError("reset")
        return "Score: 10"

    summary = await alabel_answers(
        {"small": adds}, SUMS, PointwiseJudge(judge), tmp_path, backoff=0, retries=2, concurrency=1
    )
    assert (summary.measured, len(calls)) == (12, 36)


def test_nobody_is_asked_for_answers_that_no_judge_will_score(tmp_path):
    """Answers cost money; the rest is for a run with a judge that answers."""
    prompts_sent = []

    def expert(prompt):
        prompts_sent.append(prompt)
        return adds(prompt)

    def judge(text):
        raise PermissionError("wrong key")

    options = {"give_up_after": 3, "concurrency": 1, "sample": 12}
    summary = label_answers({"small": expert}, SUMS, PointwiseJudge(judge), tmp_path, **options)
    assert (summary.failed, len(prompts_sent)) == (12, 3)
    why = "the judge failed: PermissionError: wrong key"
    alone = "left alone after 3 failures in a row, at last with PermissionError: wrong key"
    assert summary.failures["small"] == {f"the judge failed: {alone}": 9, why: 3}
    judge = PointwiseJudge(judging_well, name=f"{judge.__module__}.{judge.__qualname__}")
    assert label_answers({"small": expert}, SUMS, judge, tmp_path).measured == 12


def judging_well(text):
    return "Score: 10"


def test_a_judge_among_the_experts_is_warned_of(tmp_path):
    with pytest.warns(TryageWarning, match="the judge is expert 'small' itself"):
        label_answers({"small": adds}, SUMS, PointwiseJudge(adds), tmp_path / "one", retries=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label_answers({"small": adds}, SUMS, PointwiseJudge(doubles), tmp_path / "two")


def test_folders_of_other_measurements_are_refused(tmp_path):
    label_answers({"small": adds}, SUMS, "number", tmp_path)
    for other in ("exact", PointwiseJudge(doubles)):
        with pytest.raises(OutputFolderError, match="losses would not be comparable"):
            label_answers({"small": adds}, SUMS, other, tmp_path)


@pytest.mark.parametrize(
    ("experts", "metric", "options", "error", "message"),
    [
        ({}, "number", {}, LibraryError, "experts is empty"),
        ({"smal": adds}, "number", {}, LibraryError, "has no expert 'smal'. Did you mean 'small'?"),
        ({"small": adds}, "numbr", {}, OptionError, "unknown metric 'numbr'"),
        ({"small": adds}, adds, {}, OptionError, "adds takes other arguments: too many positional"),
        ({"small": adds}, adds_later, {}, OptionError, "adds_later is a coroutine function"),
        ({"small": adds}, None, {}, OptionError, "a metric is the name of one, or a function"),
        ({"small": adds}, PairwiseJudge, {}, OptionError, "PairwiseJudge takes other arguments"),
        ({"small": "gpt"}, "number", {}, TypeError, "expert 'small' is a str; it is to be a func"),
        (
            {"small": adds},
            PointwiseJudge("gpt"),
            {},
            TypeError,
            "the judge's model is a str; it is",
        ),
        (
            {"small": adds},
            "number",
            {"per_minute": {"smal": 9}},
            OptionError,
            "per_minute names 'smal', which is neither an expert nor the judge. Did you mean",
        ),
        (
            {"judge": adds},
            PointwiseJudge(adds),
            {"per_minute": {"judge": 9}, "library": Library([Expert(name="judge", model="m")])},
            OptionError,
            "per_minute names 'judge', which is both an expert and the judge",
        ),
        ({"small": adds}, "number", {"speed": 3}, OptionError, "unknown option 'speed'"),
        ({"small": adds}, "number", {"stratify": "group"}, OptionError, "no sample is taken"),
        ({"small": adds}, PairwiseJudge(adds, against="reference"), {}, PromptError, "reference"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    tmp_path, experts, metric, options, error, message
):
    prompts = ["1 + 1"] if error is PromptError else SUMS
    with pytest.raises(error, match=re.escape(message)):
        label_answers(experts, prompts, metric, tmp_path / "out", **{"library": LIBRARY, **options})
    assert not (tmp_path / "out").exists()


def test_a_sample_of_the_prompts(tmp_path):
    assert label_answers({"small": adds}, SUMS, "number", tmp_path, sample=5).cells == 5
    assert label_answers({"small": adds}, SUMS, "number", tmp_path, sample=8).reused == 5


def test_local_models_are_callables_too(tiny_library, tiny_texts, tmp_path):
    from tryage.runtime import Runtime

    library = Library.read(tiny_library).of_task("text-generation")
    runtime = Runtime(library)
    experts = {
        name: lambda prompt, name=name: runtime.run(name, prompt, max_new_tokens=8)
        for name in library.names
    }
    prompts = [{"prompt": text[:20], "reference": text[20:]} for text in tiny_texts["code"][:6]]
    summary = label_answers(experts, prompts, "f1", tmp_path, library=library)
    assert summary.measured == 12
    table = ScoreTable.read(tmp_path).reorder(["code-gpt", "prose-gpt"])
    assert table.losses[:, 0].mean() < table.losses[:, 1].mean()
    assert Path(tmp_path / "label.json").is_file()


def test_a_missing_extra_is_named_before_anybody_is_asked(tmp_path):
    code = """
import sys
sys.modules["pyarrow"] = None
from tryage.labeling import label_answers
try:
    label_answers({"small": lambda prompt: sys.exit("asked")}, ["hello"], "exact", "out")
except ImportError as error:
    print(error)
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert 'pip install "tryage[parquet]"' in done.stdout
    assert list(tmp_path.iterdir()) == []
