"""Co-training that is killed at any event, or refused the disk, ends as if nothing had happened."""

import hashlib
import json
import os
import random
import shutil
import signal

import pytest
from kit import cases

pytest.importorskip("transformers", reason="needs the extra hf")

SEED = 25


@pytest.fixture(scope="module")
def start(tiny_router, tiny_library, tmp_path_factory):
    """A job on a saved router, the folder of its models and a stream of prompts."""
    root = tmp_path_factory.mktemp("cotraining")
    tiny_router.save_pretrained(root / "router")
    draw = random.Random(SEED)
    lines = []
    for _ in range(70):
        a, b = draw.randint(0, 99), draw.randint(0, 99)
        lines += [f"[{a:02d}:{b:02d}] WARN node-{b}: fan failed", f"Peel {a} onions and stir {b}."]
    rows = [{"prompt": line, "group": line[0]} for line in dict.fromkeys(lines)]
    (root / "stream.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "cotrain", root / "router", tiny_library.parent, root / "stream.jsonl"


@pytest.fixture(scope="module")
def whole(victims, start, tmp_path_factory):
    """A run that nothing interrupted: how many events it had, and what it left."""
    out = tmp_path_factory.mktemp("whole") / "out"
    end = victims.run(*start, out)
    assert end["status"] == 0, end["error"]
    return end["events"], result(out)


def result(folder):
    """Return every file of a folder by its hash; times and places do not count."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.name in ("round.json", "library_root.json"):
            content = json.loads(path.read_text())
            own = ("seconds", "full")
            files[path.relative_to(folder)] = {k: v for k, v in content.items() if k not in own}
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            files[path.relative_to(folder)] = content
    return files


def moments(count, usual):
    return sorted(random.Random(SEED).sample(range(1, count + 1), cases(usual, counted=False)))


def test_a_killed_run_is_continued_to_the_same_result(victims, start, whole, tmp_path):
    events, expected = whole
    out = tmp_path / "out"
    for number in moments(events, 2):
        shutil.rmtree(out, ignore_errors=True)
        job = (*start, out)
        end = victims.run(*job, kill=number)
        assert os.WTERMSIG(end["status"]) == signal.SIGKILL
        end = victims.run(*job)
        assert end["status"] == 0, end["error"]
        assert result(out) == expected


def test_a_run_that_is_killed_again_and_again_gets_on(victims, start, whole, tmp_path):
    """Each attempt keeps what the one before it finished."""
    events, expected = whole
    out = tmp_path / "out"
    attempts = 0
    while attempts < 20:
        attempts += 1
        job = (*start, out)
        end = victims.run(*job, kill=events // 3)
        if end["status"] == 0:
            break
    assert 2 <= attempts <= 8
    assert result(out) == expected


def test_a_full_disk_loses_nothing_that_was_finished(victims, start, whole, tmp_path):
    events, expected = whole
    out = tmp_path / "out"
    for number in (*moments(events, 1), events):
        job = (*start, out)
        end = victims.run(*job, full=number)
        if end["status"] == 0:  # what was kept before left fewer events than that
            break
        assert "No space left on device" in end["error"]
        assert str(out) in end["error"]
    end = victims.run(*start, out)
    assert end["status"] == 0, end["error"]
    assert result(out) == expected
