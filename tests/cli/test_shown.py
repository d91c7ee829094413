"""What names hold is printed as it is, and whole."""

import io

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from tryage import Expert, Library, Router
from tryage.cli import app
from tryage.cli.output import note, print_table, waiting
from tryage.quickstart.show import Show

NAMES = ["[red]a[/red]", "b[/v2]", "c:cat:d", "meta-llama/" + "Llama-3.1-70B-Instruct-" * 5]


@pytest.fixture
def library(tmp_path):
    experts = [{"name": name, "model": f"org/{name}", "parameters": "2B"} for name in NAMES]
    path = tmp_path / "l.yaml"
    path.write_text(yaml.safe_dump({"experts": experts}))
    return path


def test_commands_print_names_as_they_are(library, tmp_path):
    router = Router.from_library(Library.read(library))
    router.save_pretrained(tmp_path / "r")
    for args in (
        ["library", "show", str(library)],
        ["library", "check", str(library)],
        ["route", "hello", "--router", str(tmp_path / "r")],
        ["route", "hello", "--router", str(tmp_path / "r"), "--limit", "parameters<=1B"],
    ):
        done = CliRunner().invoke(app, args)
        for name in NAMES:
            assert name in done.output, done.output


def narrow(monkeypatch):
    file = io.StringIO()

    def console(width=60, **_):
        return Console(file=file, width=width, force_terminal=True, color_system=None)

    monkeypatch.setattr("tryage.cli.output.Console", console)
    return file


def test_a_table_too_wide_for_a_terminal_is_a_list(monkeypatch, capsys):
    file = narrow(monkeypatch)
    print_table(["expert", "model", "license"], [["a", "m" * 70, ""], ["b", "n", "mit"]])
    shown = f"a\n  model: {'m' * 70}\nb\n  model: n\n  license: mit\n"
    assert capsys.readouterr().out == shown
    print_table(["expert", "model"], [["a", "m"]])
    assert "│ a      │ m     │" in file.getvalue()


def test_messages_and_bars_print_names_as_they_are(monkeypatch):
    file = narrow(monkeypatch)
    text = "[red]a[/v2] :cat:"
    note(text)
    with waiting(text):
        pass
    assert file.getvalue().count(text) >= 2
    Show(Console(file=file, width=60)).say(f"said {text}")
    assert f"said {text}" in file.getvalue()


def test_an_expert_is_excluded_by_name(library, tmp_path):
    experts = [Expert(name=name, model=name) for name in ("a", "b")]
    Router.from_library(Library(experts)).save_pretrained(tmp_path / "r")
    args = ["route", "hello", "--router", str(tmp_path / "r")]
    assert CliRunner().invoke(app, args).stdout.startswith("a ")
    done = CliRunner().invoke(app, [*args, "--exclude", "a"])
    assert done.stdout.startswith("b ")
    assert "left out by --exclude" in done.stdout
    done = CliRunner().invoke(app, [*args, "--exclude", "c"])
    assert (done.exit_code, "has no expert 'c'" in done.stderr) == (2, True)
