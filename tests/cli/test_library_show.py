"""`library show`: pages and filters, and whole names, one a line, where output is piped."""

import json
import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library
from tryage.cli import app

TASKS = ("text-generation", "fill-mask")


@pytest.fixture
def path(tmp_path):
    """A library of 120 experts; each third states no size, and each second has another task."""
    experts = [
        Expert(
            name=f"org{i % 3}/Model-{i:03}-{'x' * 90}",
            model=f"hub/model-{i}",
            task=TASKS[i % 2],
            parameters=None if i % 3 == 0 else i * 10**8,
            license="mit" if i < 60 else "apache-2.0",
        )
        for i in range(120)
    ]
    Library(experts, name="many").write(tmp_path / "many.jsonl")
    return tmp_path / "many.jsonl"


def show(path, *args, code=0):
    done = CliRunner().invoke(app, ["library", "show", str(path), *map(str, args)])
    assert done.exit_code == code, done.output
    return done


def numbers(done):
    return [int(line.split("-")[1]) for line in done.stdout.splitlines()]


def test_a_pipe_gets_every_whole_name_alone_on_its_line(path):
    done = show(path)
    assert done.stdout.splitlines() == list(Library.read(path).names)
    assert done.stderr == ""


def test_names_go_through_xargs(path):
    names = f"{sys.executable} -m tryage library show {path}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{names} --limit 2 | xargs -n1 echo id"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "".join(f"id {name}\n" for name in Library.read(path).names[:2])
    assert "experts 1 to 2 of 120; --page 2 shows the next, --limit 120 shows all" in done.stderr


def test_a_name_with_a_line_break_stays_on_one_line(tmp_path):
    Library([Expert(name="a\nb\x1b[2J\u202e", model="m")]).write(tmp_path / "l.jsonl")
    assert show(tmp_path / "l.jsonl").stdout == "a\\nb\\u001b[2J\\u202e\n"
    assert "\x1b" not in show(tmp_path / "l.jsonl", "--table").stdout


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--where", "size<1e9"], [1, 2, 4, 5, 7, 8]),
        (["--where", "size >= 1B", "--where", "parameters<=1.4e9"], [10, 11, 13, 14]),
        (["--where", "license in [mit]", "--task", "fill-mask", "--search", "MODEL-05"], 5),
        (["--search", "hub/model-11", "--where", "license != apache-2.0"], [11]),
        (["--where", "size<1e9", "--limit", "4", "--page", "2"], [7, 8]),
        (["--page", "3"], list(range(100, 120))),
    ],
)
def test_filters_and_pages(path, args, expected):
    expected = [51, 53, 55, 57, 59] if expected == 5 else expected
    assert numbers(show(path, *args)) == expected
    rows = json.loads(show(path, *args, "--json").stdout)
    assert [int(row["name"].split("-")[1]) for row in rows["experts"]] == expected
    assert rows["name"] == "many"


def test_what_is_left_out_for_want_of_an_attribute_is_counted(path):
    done = show(path, "--where", "size<1e9", "--where", "license=mit")
    assert done.stderr == "40 of 120 experts state no parameters and are left out\n"


def test_json_of_a_filter_is_a_library(path, tmp_path):
    done = show(path, "--search", "model-00", "--json")
    (tmp_path / "few.yaml").write_text(done.stdout)
    assert Library.read(tmp_path / "few.yaml").names == Library.read(path).names[:10]
    none = show(path, "--search", "nothing of the kind", "--json")
    assert json.loads(none.stdout) == {"name": "many", "experts": []}
    assert none.stderr == "none of 120 experts matches\n"
    assert show(path, "--search", "nothing of the kind").stdout == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--where", "size"], "'size' is not a limit"),
        (["--where", "cost<1"], "the cost differs from prompt to prompt, so no library states it"),
        (["--where", "paramters<1"], "Did you mean 'parameters'"),
        (["--page", "4"], "--page 4: the last page is 3, with 50 of 120 experts on each"),
        (["--limit", "0"], "--limit"),
        (["--json", "--table"], "--json and --table exclude each other"),
    ],
)
def test_a_wrong_filter_or_page_is_named(path, args, message):
    assert message in show(path, *args, code=2).stderr


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_a_terminal_shows_a_page_of_the_table(path, kind):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tryage", "library", "show", str(path)],
        stdout=follower,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "400", "TERM": kind},
    )
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 2**16):
            shown += piece
    except OSError:  # Linux tells so that the other side was closed
        pass
    os.close(leader)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    text = shown.decode()
    assert text.count("hub/model-") == 50
    assert all(name in text for name in Library.read(path).names[:50])
    assert "parameters" in text
    assert b"experts 1 to 50 of 120; --page 2 shows the next, --limit 120 shows all" in errors
