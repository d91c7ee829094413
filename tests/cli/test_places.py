"""Where commands read and write: links, pipes, devices, standard input and output, home folders."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

from tryage import Library, Router, ScoreTable
from tryage.cli import app
from tryage.files import replacing
from tryage.scores.feedback import FeedbackFile

runner = CliRunner()


def call(*args, code=0, stdin=None):
    done = runner.invoke(app, [str(arg) for arg in args], input=stdin)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def files(tmp_path, router, table, table_library):
    router.save_pretrained(tmp_path / "r")
    table.write(tmp_path / "train.jsonl")
    table_library.write(tmp_path / "library.yaml")
    lines = [json.dumps({"prompt": f"What is {n}?", "id": f"q{n}"}) for n in range(3)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    return tmp_path


def route_to(files, output, *more, **how):
    return call(
        "route", "--input", files / "prompts.jsonl", "--router", files / "r", "--output", output,
        *more, **how,
    )  # fmt: skip


def ids(text):
    return [json.loads(line)["id"] for line in text.splitlines()]


@pytest.mark.parametrize("target", ["there", "new"])
def test_a_link_stays_a_link_and_its_file_is_written(files, target):
    if target == "there":
        (files / "real.jsonl").write_text("old")
    (files / "link.jsonl").symlink_to("real.jsonl")
    route_to(files, files / "link.jsonl")
    assert (files / "link.jsonl").is_symlink()
    assert ids((files / "real.jsonl").read_text()) == ["q0", "q1", "q2"]


def test_other_names_of_a_file_keep_the_old_contents(files):
    """A hard link is a second file as soon as one of them is replaced, whole."""
    (files / "one.jsonl").write_text("old")
    (files / "other.jsonl").hardlink_to(files / "one.jsonl")
    route_to(files, files / "one.jsonl")
    assert ids((files / "one.jsonl").read_text()) == ["q0", "q1", "q2"]
    assert (files / "other.jsonl").read_text() == "old"


def test_a_pipe_gets_the_contents_and_stays_a_pipe(files):
    os.mkfifo(files / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((files / "pipe").read_text()))
    reader.start()
    route_to(files, files / "pipe")
    reader.join(10)
    assert ids(received[0]) == ["q0", "q1", "q2"]
    assert stat.S_ISFIFO((files / "pipe").stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs the null device")
def test_a_device_stays_a_device(files):
    route_to(files, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual(files):
    (files / "private.jsonl").write_text("old")
    (files / "private.jsonl").chmod(0o600)
    (files / "usual").write_text("")
    route_to(files, files / "private.jsonl")
    route_to(files, files / "new.jsonl")
    assert stat.S_IMODE((files / "private.jsonl").stat().st_mode) == 0o600
    assert (files / "new.jsonl").stat().st_mode == (files / "usual").stat().st_mode


def test_a_file_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old")
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != str(tmp_path / "f"))
    with pytest.raises(PermissionError, match="f'"), replacing(tmp_path / "f"):
        pass
    assert (tmp_path / "f").read_text() == "old"


def test_a_file_in_a_folder_that_may_not_be_written_to_is_written_in_place(tmp_path, monkeypatch):
    (tmp_path / "f").write_text("old and long")
    number = (tmp_path / "f").stat().st_ino
    monkeypatch.setattr("os.access", lambda path, mode: str(path) != str(tmp_path))
    with replacing(tmp_path / "f") as temporary:
        temporary.write_text("new")
    assert ((tmp_path / "f").read_text(), (tmp_path / "f").stat().st_ino) == ("new", number)


def test_a_link_in_a_circle_is_an_error_of_one_line(files):
    (files / "loop").symlink_to("loop")
    done = route_to(files, files / "loop", code=1)
    assert done.stderr.strip() == f"error: {files / 'loop'}: Too many levels of symbolic links"


def test_standard_output_is_a_file_that_is_written(files, monkeypatch):
    monkeypatch.chdir(files)
    assert ids(route_to(files, "-").stdout) == ["q0", "q1", "q2"]
    assert not (files / "-").exists()


@pytest.mark.parametrize("command", ["prompts", "prompt", "run", "flags", "calibrate", "library"])
def test_standard_input_is_a_file_that_is_read(files, command):
    stdin = (files / "prompts.jsonl").read_text()
    if command == "prompts":
        assert ids(call("route", "--input", "-", "--router", files / "r", stdin=stdin).stdout)
    elif command == "prompt":
        decision = call(
            "route", "-", "--router", files / "r", "--json", stdin="Sort. [Flag: small]\n"
        )
        assert json.loads(decision.stdout)["flags"] == ["small → size=0.3"]
    elif command == "run":
        done = call("run", "-", "--router", files / "r", stdin=" \n", code=2)
        assert "the prompt is empty" in done.stderr
    elif command == "flags":
        assert call("flags", "-", stdin="é [Flag: small]\n").stdout.startswith("prompt: é\n")
    elif command == "calibrate":
        output = call("calibrate", files / "r", "-", "loss <= 500% of best", "--json", stdin=stdin)
        assert json.loads(output.stdout)["met"]
    else:
        output = call("library", "show", "-", stdin=(files / "library.yaml").read_text())
        assert all(name in output.stdout for name in Library.read(files / "library.yaml").names)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".csv"])
def test_a_table_from_standard_input_says_its_format_itself(files, held_out_table, ending):
    held_out_table.write(files / f"t{ending}")
    read = call("evaluate", files / "r", "-", "--json", stdin=(files / f"t{ending}").read_bytes())
    assert json.loads(read.stdout)["prompts"] == len(held_out_table)


def test_a_bad_line_of_standard_input_is_named(files):
    done = call("evaluate", files / "r", "-", stdin='{"prompt": "a"}\n', code=2)
    assert done.stderr.startswith("error: standard input, line 1: scores: missing")
    done = call("route", "--input", "-", "--router", files / "r", stdin="[\n", code=2)
    assert done.stderr.startswith("error: standard input, line 1: not JSON")


def test_two_arguments_cannot_share_standard_input_or_output(files):
    done = call("fit", "-", "--library", "-", "--out", files / "new", code=2)
    assert done.stderr == ("error: scores and library are both '-', which can be read only once\n")
    done = route_to(files, "-", "--json", code=2)
    assert done.stderr == "error: --json and '-' both take standard output; name a file\n"


def test_text_beside_a_file_on_standard_output_goes_to_standard_error(files, held_out_table):
    held_out_table.write(files / "t.jsonl")
    args = ["pareto", files / "r", files / "t.jsonl", "--goal", "size", "--plot"]
    done = call(*args, files / "front.svg")
    assert "hypervolume" in done.stdout
    done = call(*args, "-")
    assert done.stdout_bytes == b"" or b"hypervolume" not in done.stdout_bytes
    assert "hypervolume" in done.stderr


def test_a_folder_is_not_written_to_standard_output(files, monkeypatch):
    monkeypatch.chdir(files)
    done = call("fit", "train.jsonl", "--library", "library.yaml", "--out", "-", code=2)
    assert done.stderr.startswith("error: '-' is standard output, which holds no folder")
    assert not (files / "-").exists()


def test_outputs_are_checked_before_the_work(files, monkeypatch):
    def work(*_, **__):
        raise AssertionError("the work was begun")

    for name in ("fit", "route_batch", "pareto", "measure_check"):
        monkeypatch.setattr(f"tryage.router.Router.{name}", work)
    (files / "plain").write_text("")
    train, router, below = files / "train.jsonl", files / "r", files / "plain" / "out"
    fit = ["fit", train, "--library", files / "library.yaml", "--out", below]
    check = ["check", router, files, "--check", "os:getcwd", "--out", below]
    for args in (fit, check):
        assert "cannot be made" in call(*args, code=2).stderr
    convert = ["table", "convert", files / "nowhere.csv", "--out", files / "plain" / "t.csv"]
    assert call(*convert, code=2).stderr == f"error: {files / 'plain'}: Not a directory\n"
    pareto = ["pareto", router, train, "--goal", "size", "--png", below]
    route = ["route", "--input", files / "prompts.jsonl", "--router", router, "--output", below]
    for args in (pareto, route):
        assert call(*args, code=2).stderr == f"error: {files / 'plain'}: Not a directory\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_the_home_folder_is_meant_by_its_sign(home, router, table, held_out_table, table_library):
    router.save_pretrained("~/r")
    table.write("~/t.jsonl")
    table_library.write("~/l.yaml")
    FeedbackFile("~/kept/f.jsonl").append("p", "text-generation", "a", 1)
    assert {path.name for path in home.iterdir()} == {"r", "t.jsonl", "l.yaml", "kept"}
    assert Router.from_pretrained("~/r").library == table_library
    assert ScoreTable.read("~/t.jsonl").hash == table.hash
    assert Library.read("~/l.yaml") == table_library
    call("fit", "~/t.jsonl", "--library=~/l.yaml", "--predictor", "best-single", "--out=~/other")
    held_out_table.write("~/test.jsonl")
    call("evaluate", "~/other", "~/test.jsonl", "--train=~/t.jsonl")
    assert (home / "other" / "router.json").is_file()
    assert not (home.parent / "~").exists()


def program(*args, stdout=subprocess.PIPE, **environment):
    return subprocess.run(
        [sys.executable, "-m", "tryage", *map(str, args)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("coding", ["ascii", "cp1252"])
def test_an_output_that_lacks_characters_gets_escapes(files, coding):
    prompt = "日本語 😀 é [Flag: small]"
    shown = program("flags", prompt, PYTHONIOENCODING=coding)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert shown.stdout.decode(coding).startswith(r"prompt: \u65e5\u672c\u8a9e \U0001f600")
    read = program("flags", prompt, "--json", PYTHONIOENCODING=coding)
    assert json.loads(read.stdout)["prompt"] == "日本語 😀 é"


def test_a_reader_that_goes_away_is_no_error(files):
    reading, writing = os.pipe()
    os.close(reading)
    prompts = files / "prompts.jsonl"
    with os.fdopen(writing, "wb") as gone:
        done = program("route", "--input", prompts, "--router", files / "r", stdout=gone)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_early_interrupt_ends_in_one_line():
    """The signal comes with the first import of the command line."""
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'tryage.cli':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from tryage.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"error: interrupted\n")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_inside_a_callback_is_not_lost(times):
    """Python drops what is raised in a destructor; other exceptions there are still reported."""
    code = (
        "import os, signal, sys, time\n"
        "import tryage.cli\n"
        "from tryage.__main__ import main\n"
        "class Interrupted:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0)\n"
        "class Failing:\n"
        "    def __del__(self):\n"
        "        raise ValueError('reported')\n"
        "def command():\n"
        "    Failing()\n"
        f"    for _ in range({times}):\n"
        "        Interrupted()\n"
        "    print('the callback is over', flush=True)\n"
        "    time.sleep(60)\n"
        "    print('the interrupt was lost')\n"
        "tryage.cli.main = command\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=45
    )
    assert done.stdout == "the callback is over\n"
    assert "ValueError: reported" in done.stderr
    assert done.stderr.count("KeyboardInterrupt") == 1, "the one that ended the program"
    assert done.returncode == -signal.SIGINT
