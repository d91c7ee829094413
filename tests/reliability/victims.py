"""Jobs that change files, run in processes that are killed, or refused the disk, at any moment.

`Victims` starts this file as a process of its own, which imports once and forks for every job, so
that a case takes milliseconds. Every call that changes a file is an event: in the child the event
of a given number is its last, or fails as on a full disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import kit

CHANGES = frozenset(
    {
        "ctypes.dlsym",  # the exchange of two names goes through ctypes
        "open",
        "os.chmod",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.truncate",
        "shutil.rmtree",
    }
)
"""Audit events of calls that change files; those of reading are told apart by their flags."""


class Victims:
    """Runs jobs in forks of a process that has imported what they need."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, job: str, *args: Any, **event: Any) -> dict[str, Any]:
        """Run a job, and wait for its end.

        Args:
            job: the name of a function of this file.
            *args: its arguments, as JSON.
            **event: `kill`, number of the event before which it is killed; `full`, that from
                which on the disk is full; `size`, bytes at which a file can grow no more; `torn`,
                whether that kills it.

        Returns:
            `status`: as of `os.waitpid`; `events`: how many there were; `done`: what the job told
            as it went; `error`: what it raised.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"job": job, "args": [str(a) if isinstance(a, Path) else a for a in args]}
        kit.TRIED[0] += bool(event)
        self._process.stdin.write(json.dumps(request | event) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def start(self, job: str, *args: Any) -> subprocess.Popen[str]:
        """Start a job in a process of its own, which runs beside this one."""
        request = {"job": job, "args": [str(arg) for arg in args]}
        return subprocess.Popen(
            [sys.executable, __file__, json.dumps(request)], stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


def save(source: str, target: str, times: str = "1", way: str = "exchange") -> None:
    """Save a router that lies elsewhere; without an exchange of names as some systems do it."""
    import tryage.files

    router = _router(source)
    if way == "step aside":
        tryage.files._exchange = tryage.files._step_aside
    for _ in range(int(times)):
        router.save_pretrained(target)


def command(*words: str) -> None:
    """Run a command of the command line; its exit code is that of the process."""
    from tryage.cli import app

    app(list(words))


def feedback(path: str, *prompts: str) -> None:
    """Append lines of feedback, and tell of each that it is kept."""
    from tryage.scores.feedback import FeedbackFile

    file = FeedbackFile(path)
    for prompt in prompts:
        file.append(prompt, "text-generation", "a", 0.5)
        tell(prompt)


def label(out: str, count: str) -> None:
    """Measure answers to `count` prompts of two made-up experts."""
    from tryage.labeling import label_answers

    rows = [{"prompt": f"question {n}", "reference": "yes"} for n in range(int(count))]
    experts = {"a": lambda _: "yes", "b": lambda text: "no" if "7" in text else "yes"}
    summary = label_answers(experts, rows, "exact", out)
    tell(summary.to_dict())


def cotrain(router: str, models: str, prompts: str, out: str) -> None:
    """Train a router and its experts for two rounds."""
    import torch

    from tryage.cotraining import CotrainingOptions
    from tryage.cotraining import cotrain as train

    torch.set_num_threads(1)
    options = CotrainingOptions(
        rounds=2, task="text-generation", labelled=0.3, batch=4, learning_rate=3e-3
    )
    run = train(router, prompts, out, options, folders=models, progress=False)
    tell([one.held_out_loss for one in run.rounds])


JOBS = {"save": save, "cotrain": cotrain, "command": command, "feedback": feedback, "label": label}

_output = sys.stdout


def tell(value: Any) -> None:
    """Tell the other process of something that is finished."""
    _output.write(json.dumps({"done": value}) + "\n")
    _output.flush()


def _router(source: str, loaded: dict[str, Any] = {}) -> Any:  # noqa: B006 - kept for every fork
    from tryage import Router

    if source not in loaded:
        loaded[source] = Router.from_pretrained(source)
    return loaded[source]


class Events:
    """Counts events, and ends or fails the process at one of them."""

    def __init__(self, *, kill: int | None = None, full: int | None = None) -> None:
        self.count = 0
        self._kill, self._full = kill, full

    def watch(self) -> None:
        """Count from now on, in this process, for ever."""
        sys.addaudithook(self._audit)
        os.fsync = self._counted(os.fsync, fails=True)
        os.ftruncate = self._counted(os.ftruncate, fails=False)  # a full disk can be made smaller
        write = os.write

        def torn(handle: int, data: bytes) -> int:
            self.count += 1
            if self.count == self._kill:
                write(handle, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            if self._full is not None and self.count >= self._full:
                return write(handle, data[: len(data) // 2])
            return write(handle, data)

        os.write = torn

    def _counted(self, call: Any, *, fails: bool) -> Any:
        def counted(*args: Any) -> Any:
            self._event(fails=fails)
            return call(*args)

        return counted

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in CHANGES:
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & _WRITING):
            return
        if event == "ctypes.dlsym" and args[1] != "renameat2":
            return
        # Removing is what one does about a full disk.
        self._event(fails=event in ("open", "os.mkdir", "os.rename"))

    def _event(self, *, fails: bool = True) -> None:
        self.count += 1
        if self.count == self._kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if fails and self._full is not None and self.count >= self._full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _serve() -> None:
    """Fork for every request; answer with how the child ended."""
    sys.dont_write_bytecode = True
    import tryage.cli
    import tryage.labeling
    import tryage.scores.files

    with contextlib.suppress(ImportError):
        import pyarrow.parquet  # noqa: F401
    for line in sys.stdin:
        request = json.loads(line)
        if request["job"] == "save":
            _router(request["args"][0])
        if request["job"] == "cotrain":
            import tryage.cotraining  # noqa: F401 - once, and not in every fork
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _be(request, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = [json.loads(part) for part in pipe if part.endswith("\n")]
        _, status = os.waitpid(child, 0)
        answer: dict[str, Any] = {"status": status, "done": [], "error": None, "events": None}
        for entry in lines:
            if "done" in entry:
                answer["done"].append(entry["done"])
            answer |= {key: value for key, value in entry.items() if key != "done"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _be(request: dict[str, Any], writing: int) -> None:
    """Do a job in the child, and end."""
    global _output
    _output = os.fdopen(writing, "w")
    quiet = os.open(os.devnull, os.O_RDWR)
    errors, errors_in = os.pipe()
    os.dup2(quiet, 1)
    os.dup2(errors_in, 2)
    signal.alarm(60)
    size = request.get("size")
    if size is not None:
        # The kernel ends a process that lets a file grow beyond; Python asks for an error instead.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if request.get("torn") else signal.SIG_IGN)
    events = Events(kill=request.get("kill"), full=request.get("full"))
    events.watch()
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    code, error = 0, None
    try:
        JOBS[request["job"]](*request["args"])
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as failure:  # noqa: BLE001 - told to the other process
        code, error = 1, f"{type(failure).__name__}: {failure}"
    sys.stderr.flush()
    os.close(errors_in)
    os.dup2(quiet, 2)
    printed = b""
    while part := os.read(errors, 2**16):
        printed += part
    if error is None and printed:
        error = printed.decode()
    _output.write(json.dumps({"events": events.count, "error": error}) + "\n")
    _output.flush()
    os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        order = json.loads(sys.argv[1])
        JOBS[order["job"]](*order["args"])
    else:
        _serve()
