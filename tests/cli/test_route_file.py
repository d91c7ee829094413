"""`route --input`: decides block by block, goes on after an interruption, in several processes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tryage.cli import app, route_file, route_lines
from tryage.resumable import MARK, ResumableOutput

runner = CliRunner()
NAMES = ["quiet river", "winter garden", "def f(x): return x", "import os", "for i in range(3):"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(route_file, "BLOCK", 4)
    monkeypatch.setattr("tryage.resumable._EVERY", 0.0)


@pytest.fixture
def folder(tmp_path, router):
    router.save_pretrained(tmp_path / "r")
    write(tmp_path / "p.jsonl", 18)
    return tmp_path


def write(path, count, **changes):
    lines = [{"prompt": f"{NAMES[n % 5]} {n}"} for n in range(count)]
    for number, line in changes.items():
        lines[int(number.removeprefix("line"))] |= line
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(folder, out="d.jsonl", *more):
    paths = ("--input", folder / "p.jsonl", "--router", folder / "r", "--output", folder / out)
    return [str(word) for word in ("route", *paths, *more)]


def call(folder, out="d.jsonl", *more, code=0):
    done = runner.invoke(app, command(folder, out, *more))
    assert done.exit_code == code, done.output
    return done


def cut_after(monkeypatch, blocks, error):
    """Make a run end with an error before it writes a further block."""
    whole = ResumableOutput.append
    written = []

    def append(self, block, state):
        if len(written) == blocks:
            raise error
        written.append(block)
        whole(self, block, state)

    monkeypatch.setattr(ResumableOutput, "append", append)


@pytest.fixture
def interrupted(folder, monkeypatch):
    with monkeypatch.context() as patch:
        cut_after(patch, 2, KeyboardInterrupt())
        done = call(folder, code=130)
    assert "interrupted; finished work is kept" in done.stderr
    assert len((folder / "d.jsonl").read_text().splitlines()) == 8
    return folder


def test_an_interrupted_run_goes_on_and_ends_as_a_whole_one(interrupted, monkeypatch):
    whole = call(interrupted, "whole.jsonl")
    decided = []
    decisions = route_lines.Order.lines
    monkeypatch.setattr(
        route_lines.Order,
        "lines",
        lambda self, router, block: decided.append(len(block)) or decisions(self, router, block),
    )
    again = call(interrupted)
    assert decided == [4, 4, 2], "the first eight were not decided again"
    assert (interrupted / "d.jsonl").read_bytes() == (interrupted / "whole.jsonl").read_bytes()
    assert again.stderr.splitlines()[1:] == whole.stderr.splitlines(), "one summary of all prompts"
    assert "holds 8 decisions of an interrupted run; going on" in again.stderr
    assert not list(interrupted.glob(f"*{MARK}"))
    assert "going on" not in call(interrupted).stderr, "a finished output begins anew"


def test_what_a_killed_run_wrote_after_its_last_note_is_cut_off(interrupted):
    call(interrupted, "whole.jsonl")
    with (interrupted / "d.jsonl").open("a") as file:
        file.write('{"id": "half a li')
    call(interrupted)
    assert (interrupted / "d.jsonl").read_bytes() == (interrupted / "whole.jsonl").read_bytes()


def test_a_full_disk_loses_nothing_that_was_written(folder, monkeypatch):
    call(folder, "whole.jsonl")
    with monkeypatch.context() as patch:
        error = OSError(errno.ENOSPC, "No space left on device", str(folder / "d.jsonl"))
        cut_after(patch, 3, error)
        assert "d.jsonl: No space left on device" in call(folder, code=1).stderr
    call(folder)
    assert (folder / "d.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--top", "2"), ["--top 5", "is 2"]),
        (("--goal", "size=0.3"), ["--goal {}", "{'size': 0.3}"]),
        (("--limit", "size<=10B"), ["--limit []", "parameters <= 10"]),
        (("--exclude", "giant"), ["--router"]),
        (("--task", "fill-mask"), ["--task None", "'fill-mask'"]),
    ],
)
def test_other_options_are_refused_with_both_values(interrupted, more, words):
    before = (interrupted / "d.jsonl").read_bytes()
    error = call(interrupted, "d.jsonl", *more, code=2).stderr
    for word in [*words, "finish it with the same, or remove", MARK]:
        assert word in error
    assert (interrupted / "d.jsonl").read_bytes() == before


def test_other_prompts_are_refused_where_they_are_decided_already(interrupted):
    write(interrupted / "p.jsonl", 18, line7={"prompt": "other"})
    error = call(interrupted, code=2).stderr
    assert "holds decisions of 8 prompts, which are not those that" in error
    write(interrupted / "p.jsonl", 20, line9={"prompt": "other"})
    call(interrupted)
    assert len((interrupted / "d.jsonl").read_text().splitlines()) == 20


def test_notes_and_outputs_that_do_not_belong_together_are_named(interrupted):
    (interrupted / "d.jsonl").write_text("short\n")
    assert "has 6 bytes, and an unfinished run had written" in call(interrupted, code=2).stderr
    (interrupted / f"d.jsonl{MARK}").write_text("[]")
    assert "is no note of an unfinished run" in call(interrupted, code=2).stderr


def test_a_wrong_line_keeps_what_was_decided_before_it(folder):
    (folder / "d.jsonl").write_text("old\n")
    write(folder / "p.jsonl", 18, line2={"prompt": "x [Flag: fluffy]"})
    assert "p.jsonl, line 3" in call(folder, code=2).stderr
    assert (folder / "d.jsonl").read_text() == "old\n", "nothing was decided"
    write(folder / "p.jsonl", 18, line9={"prompt": "x [Flag: fluffy]"})
    assert "p.jsonl, line 10" in call(folder, code=2).stderr
    assert len((folder / "d.jsonl").read_text().splitlines()) == 8
    write(folder / "p.jsonl", 18)
    call(folder)
    assert len((folder / "d.jsonl").read_text().splitlines()) == 18


def test_five_experts_a_line_or_as_many_as_are_asked_for(folder):
    line = json.loads((call(folder), (folder / "d.jsonl").read_text())[1].splitlines()[0])
    assert len(line["ranking"]) == 3, "the library has three"
    assert route_lines.TOP == 5
    call(folder, "d.jsonl", "--top", "1")
    ranking = json.loads((folder / "d.jsonl").read_text().splitlines()[0])["ranking"]
    assert [row["expert"] for row in ranking] == [line["ranking"][0]["expert"]]


def test_the_output_is_not_the_input(folder):
    before = (folder / "p.jsonl").read_bytes()
    assert "are one file" in call(folder, "p.jsonl", code=2).stderr
    (folder / "link.jsonl").symlink_to("p.jsonl")
    assert "are one file" in call(folder, "link.jsonl", code=2).stderr
    assert (folder / "p.jsonl").read_bytes() == before


def program(words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "tryage", *words], **pipes)


def finished(words, code=0):
    run = program(words)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == code, errors
    return errors


def test_several_workers_write_what_one_writes(folder):
    write(folder / "p.jsonl", 5000)
    alone = finished(command(folder, "one.jsonl"))
    together = finished(command(folder, "two.jsonl", "--workers", "2"))
    assert (folder / "two.jsonl").read_bytes() == (folder / "one.jsonl").read_bytes()
    assert together == alone
    write(folder / "p.jsonl", 5000, line4500={"prompt": "x [Flag: fluffy]"})
    errors = finished(command(folder, "failed.jsonl", "--workers", "2"), code=2)
    assert "p.jsonl, line 4501" in errors
    assert len((folder / "failed.jsonl").read_text().splitlines()) == 4096


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent_and_the_run_goes_on(folder, end):
    psutil = pytest.importorskip("psutil")
    write(folder / "p.jsonl", 12_000)
    words = command(folder, "d.jsonl", "--workers", "2")
    run = program(words)
    deadline = time.monotonic() + 60
    while not (folder / f"d.jsonl{MARK}").exists():
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(end)
    _, errors = run.communicate(timeout=60)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
    assert run.returncode == (130 if end == signal.SIGINT else -signal.SIGKILL), errors
    assert "Traceback" not in errors
    assert "decisions of an interrupted run; going on" in finished(words)
    finished(command(folder, "whole.jsonl"))
    assert (folder / "d.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("engine", "out", "words"),
    [
        ("spark", "d.jsonl", "engine is 'spark'; it is 'local' or 'ray'"),
        ("ray", "d.jsonl", 'pip install "tryage[ray]"'),
        ("ray", "-", "needs a file for the decisions; name it with --output"),
    ],
)
def test_an_engine_that_cannot_run_is_said_at_once(folder, monkeypatch, engine, out, words):
    monkeypatch.chdir(folder)
    if out == "-":
        monkeypatch.setattr("tryage.ray_session.find_spec", lambda name: name)
    else:
        monkeypatch.setitem(sys.modules, "ray", None)
    paths = ("--input", "p.jsonl", "--router", "r", "--output", out)
    done = runner.invoke(app, ["route", *paths, "--engine", engine])
    assert done.exit_code == 2
    assert words in done.stderr
    assert not Path("d.jsonl").exists()


def test_engines_are_for_files(folder):
    for option in (("--engine", "ray"), ("--address", "auto")):
        done = runner.invoke(app, ["route", "a prompt", *option])
        assert done.exit_code == 2
        assert "are for an --input FILE" in done.stderr


def test_on_ray_a_worker_that_dies_costs_nothing(interrupted):
    pytest.importorskip("ray")
    write(interrupted / "p.jsonl", 400)
    call(interrupted, "whole.jsonl")
    script = Path(__file__).with_name("ray_route.py")
    run = subprocess.run(
        [sys.executable, script, interrupted],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert (interrupted / "dead").exists()
    assert "holds 8 decisions of an interrupted run; going on" in run.stderr
    assert (interrupted / "d.jsonl").read_bytes() == (interrupted / "whole.jsonl").read_bytes()
    assert run.stdout == ""
    assert not list(interrupted.glob(f"*{MARK}"))
