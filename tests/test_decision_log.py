"""A log of decisions: whole lines, no prompts unless asked, and no answer that fails for it."""

import copy
import errno
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from tryage import Router
from tryage.errors import OptionError

PROMPTS = [f"Write a function that adds {number} to a list." for number in range(4)]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_holds_the_decision_its_time_and_no_prompt(open7, tmp_path):
    before = datetime.now(UTC)
    router = open7.with_log(tmp_path / "new" / "decisions.jsonl")
    decision = router.route(PROMPTS[0])
    batch = router.route_batch(PROMPTS)
    assert open7.decision_log is None  # the router itself is unchanged
    entries = lines(tmp_path / "new" / "decisions.jsonl")
    assert len(entries) == 1 + len(PROMPTS)
    for entry, one in zip(entries, [decision, *batch], strict=True):
        time = datetime.fromisoformat(entry.pop("time"))
        assert time.tzinfo is not None
        assert (time - before).total_seconds() > -1
        assert entry == one.to_dict(top=5)
    assert "function" not in (tmp_path / "new" / "decisions.jsonl").read_text()


def test_prompts_are_written_where_they_are_asked_for(open7, tmp_path):
    path = tmp_path / "decisions.jsonl"
    router = open7.with_log(path, prompts=True)
    router.route("Ünïcode 🙂 [Flag: small]")
    router.route("a lone surrogate \ud800 here")
    first, second = lines(path)
    assert first["prompt"] == "Ünïcode 🙂"
    assert second["prompt"].startswith("a lone surrogate")


def test_routers_made_of_it_log_as_well(open7, tmp_path):
    path = tmp_path / "decisions.jsonl"
    router = open7.with_log(path)
    others = [
        router.excluding({open7.library.names[0]: "closed"}),
        router.with_policy(open7.policy),
        pickle.loads(pickle.dumps(router)),
        copy.deepcopy(router),
    ]
    for other in others:
        other.route(PROMPTS[0])
    assert len(lines(path)) == len(others)
    router.save_pretrained(tmp_path / "r")
    Router.from_pretrained(tmp_path / "r").route(PROMPTS[0])
    assert len(lines(path)) == len(others)
    assert str(path) not in (tmp_path / "r" / "router.json").read_text()


def test_many_threads_and_processes_write_whole_lines(open7, tmp_path):
    path = tmp_path / "decisions.jsonl"
    code = (
        "import sys; from tryage import Router\n"
        "router = Router.from_pretrained('open7').with_log(sys.argv[1])\n"
        "for n in range(40): router.route(f'Add {n} numbers.')\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(2)]
    router = open7.with_log(path)
    threads = [
        threading.Thread(target=lambda: [router.route_batch(PROMPTS) for _ in range(10)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(60) for child in children] == [0, 0]
    assert len(lines(path)) == 2 * 40 + 4 * 10 * len(PROMPTS)


def test_a_full_disk_breaks_no_answer_and_warns_once(open7, tmp_path, monkeypatch, caplog):
    path = tmp_path / "decisions.jsonl"
    router = open7.with_log(path)
    router.route(PROMPTS[0])
    write = os.write

    def full(handle, data):
        write(handle, data[:10])
        return 10

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        decisions = [router.route(prompt) for prompt in PROMPTS]
    assert [one.expert for one in decisions] == [open7.route(p).expert for p in PROMPTS]
    warned = [record for record in caplog.records if record.name == "tryage.decisions"]
    assert len(warned) == 1
    assert os.strerror(errno.ENOSPC) in warned[0].getMessage()
    assert str(path) in warned[0].getMessage()
    router.route(PROMPTS[0])  # space again: the file goes on with whole lines
    assert len(lines(path)) == 2


def test_a_torn_line_of_another_program_stays_a_line_of_its_own(open7, tmp_path):
    path = tmp_path / "decisions.jsonl"
    path.write_text('{"time": "2026-')
    open7.with_log(path).route(PROMPTS[0])
    torn, whole = path.read_text().splitlines()
    assert torn == '{"time": "2026-'
    assert json.loads(whole)["expert"]


def test_a_place_that_cannot_be_written_is_refused_at_once(open7, tmp_path):
    with pytest.raises(OptionError, match="decisions cannot be logged"):
        open7.with_log(tmp_path)


def test_the_logger_is_off_until_its_level_is_set(open7, caplog):
    with caplog.at_level(logging.DEBUG):  # of the root logger
        open7.route(PROMPTS[0])
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="tryage.decisions"):
        decision = open7.route(PROMPTS[0])
        open7.route_batch(PROMPTS)
    assert len(caplog.records) == 1 + len(PROMPTS)
    entry = json.loads(caplog.records[0].getMessage())
    entry.pop("time")
    assert entry == decision.to_dict(top=5)
    assert "prompt" not in entry
