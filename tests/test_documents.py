"""What is documented is executed: blocks of README.md and docs/, and every example."""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml

from tryage import Library, ScoreTable
from tryage.labeling import label

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

NOT_RUN_HERE = {
    # They set up the environment that these tests run in.
    "make quickstart",
    "make test",
    'pip install ".[langchain]"',
    'pip install ".[llama-index]"',
    'pip install ".[hf]"',
    'pip install ".[endpoints]"',
    "python3 -m venv .venv && . .venv/bin/activate",
}

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def blocks(language):
    for page in PAGES:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        matches = list(BLOCK.finditer(text))
        for match, after in zip(matches, [*matches[1:], None], strict=False):
            if match.group(1) != language:
                continue
            line = text[: match.start()].count("\n") + 2
            expected = after.group(2) if after is not None and after.group(1) == "text" else None
            name = f"{page.relative_to(ROOT)}:{line}"
            yield pytest.param(match.group(2), expected, id=name)


def values(language):
    """Return the README's blocks of a language."""
    return [block.values for block in blocks(language) if block.id.startswith("README.md")]


def environment():
    bin_folder = str(Path(sys.executable).parent)
    return os.environ | {"PATH": bin_folder + os.pathsep + os.environ["PATH"], "COLUMNS": "100"}


def test_extras_that_the_readme_installs_exist():
    """The set-up commands are not run here, so their extras are compared with what is declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    installed = re.findall(r'pip install "\.\[([\w-]+)\]"', PAGES[0].read_text(encoding="utf-8"))
    assert {"langchain", "llama-index", "hf", "endpoints"} <= set(installed)
    assert set(installed) <= set(declared["optional-dependencies"])


LOOPBACK = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1"])]
SERVES = {"testing.md", "guides/sharing.md"}
"""Pages whose blocks run a server on loopback."""


def python_blocks():
    for block in blocks("python"):
        serves = any(block.id.startswith(f"docs/{name}:") for name in SERVES)
        yield pytest.param(*block.values, id=block.id, marks=LOOPBACK if serves else ())


@pytest.mark.parametrize("package", ["langchain_tryage", "llama_index_tryage"])
def test_the_api_reference_of_an_adapter_names_what_there_is(package):
    page = ROOT / "docs" / f"{package.removesuffix('_tryage').replace('_', '-')}.md"
    reference = page.read_text(encoding="utf-8").partition("## API reference")[2]
    rows = re.findall(r"^\| `([\w.]+)` \| (.+?) \|$", reference, re.MULTILINE)
    named = {module: re.findall(r"`(\w+)`", names) for module, names in rows}
    assert sorted(named[package]) == importlib.import_module(package).__all__
    for module, names in named.items():
        for name in names:
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize(("code", "expected"), list(python_blocks()))
def test_python_blocks_run_alone_and_print_what_stands_below_them(
    code, expected, tmp_path, monkeypatch, request
):
    """One can paste each block by itself: it has no names but its own."""
    if request.node.callspec.id.startswith("docs/guides/sharing.md"):
        hub = request.getfixturevalue("hub")
        monkeypatch.setenv("HF_TOKEN", hub.kit.WRITER)
        # huggingface_hub's own upload uses an older way of its HTTP client.
        warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "block", "exec"), {"__name__": "block"})
    if expected is not None:
        assert printed.getvalue().rstrip() == expected.rstrip()


def commands(block):
    """Yield each command of a console block with the output that stands below it."""
    command, expected = None, []
    for line in block.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command, "\n".join(expected)
            command, expected = line[2:], []
        else:
            expected.append(line)
    if command is not None:
        yield command, "\n".join(expected)


@pytest.mark.parametrize(("block", "_variables"), list(blocks("console")))
def test_console_blocks_print_what_stands_below_each_command(block, _variables, tmp_path):
    for command, expected in commands(block):
        plain = command.partition("  #")[0].strip()
        if plain in NOT_RUN_HERE or plain.startswith(".venv/bin/"):
            continue
        done = subprocess.run(
            shlex.split(plain),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=True,
        )
        assert done.stdout.rstrip() == expected.rstrip()


def results_of_the_readme():
    """Return the README's table of results as CSV, with rows enough to fit a router on."""
    page = PAGES[0].read_text(encoding="utf-8").partition("## You already have results")[2]
    rows = re.findall(r"^\| (.+) \|$", page, re.MULTILINE)[:3]
    header, *shown = [row.split(" | ") for row in rows]
    assert header == ["prompt", "small", "small_cost", "large", "large_cost"]
    cells = [[f"{row[0]} {n}", *row[1:]] for n in range(12) for row in shown]
    return "".join(",".join(row) + "\n" for row in [header, *cells])


def test_the_path_with_ones_own_models(tiny_library, tiny_texts, tmp_path):
    """The README's library and commands, on two small models in the place of its names."""
    [described] = [block for block, _ in values("yaml")]
    data = yaml.safe_load(described)
    assert Library.from_dict(data).names == ("small", "large")
    for expert, trained in zip(data["experts"], ("code-gpt", "prose-gpt"), strict=True):
        expert["model"] = f"./models/{expert['name']}"
        shutil.copytree(tiny_library.parent / "models" / trained, tmp_path / expert["model"])
    (tmp_path / "library.yaml").write_text(yaml.safe_dump(data))
    for name, part in (("prompts.jsonl", slice(0, 16)), ("test.jsonl", slice(16, 24))):
        texts = [text for kind in tiny_texts.values() for text in kind[part]]
        lines = [json.dumps({"prompt": text}) + "\n" for text in texts]
        (tmp_path / name).write_text("".join(lines))
    label(Library.read(tmp_path / "library.yaml"), tmp_path / "test.jsonl", tmp_path / "test")
    ScoreTable.read(tmp_path / "test").write(tmp_path / "test-scores.jsonl")

    (tmp_path / "results.csv").write_text(results_of_the_readme())
    lines = [line for block, _ in values("sh") for line in block.splitlines()]
    assert {line.split()[1] for line in lines} == {"fit", "label", "evaluate", "run"}
    for line in lines:
        done = subprocess.run(
            shlex.split(line, comments=True),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment(),
            check=True,
        )
        assert done.stdout.strip(), line


@pytest.mark.parametrize("example", [pytest.param(path, id=path.name) for path in EXAMPLES])
def test_examples_run(example, tmp_path):
    if example.name == "01_quickstart.py":
        pytest.skip("make quickstart runs it; it trains models for two minutes")
    if example.name == "13_cotraining.py":
        pytest.skip("tests/cotraining runs it, on smaller experts")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=True,
    )
    assert done.stdout.strip()
    assert len(example.read_text().splitlines()) < 60


@pytest.mark.parametrize(
    ("page", "results", "module"),
    [
        ("runtime.md", "runtime.json", "runtime_table"),
        ("speed.md", "speed.json", "speed_table"),
        ("speed.md", "scale.json", "scale_table"),
        ("speed.md", "streaming.json", "streaming"),
        ("llama-index.md", "adapters_llama_index.json", "adapters_llama_index_table"),
        ("security.md", "hostile_prefixes.json", "hostile_prefixes_table"),
        ("security.md", "reliability.json", "reliability_table"),
        ("plans.md", "plans.json", "plans_table"),
        ("chains.md", "chains.json", "chains_table"),
        ("conversations.md", "sticky.json", "sticky_table"),
    ],
)
def test_the_figures_of_a_page_are_those_of_its_results(page, results, module, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    table = importlib.import_module(module).table
    figures = json.loads((ROOT / "benchmarks/results" / results).read_text(encoding="utf-8"))
    assert table(figures) in (ROOT / "docs" / page).read_text(encoding="utf-8")
