"""The same Hub id in every class of both adapters, and in every command."""

import json

import pytest
from typer.testing import CliRunner

from langchain_tryage import ChatTryage, TryageLLM, TryageMiddleware, TryageRouter
from langchain_tryage import TryageSelector as LangChainSelector
from llama_index_tryage import TryageFunctionCallingLLM
from llama_index_tryage import TryageLLM as LlamaIndexLLM
from llama_index_tryage import TryageSelector as LlamaIndexSelector
from tryage import Router
from tryage.cli import app
from tryage.errors import RouterNotFoundError

# huggingface_hub's own upload uses an older way of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CLASSES = [
    ChatTryage,
    TryageLLM,
    TryageMiddleware,
    TryageRouter,
    LangChainSelector,
    LlamaIndexLLM,
    TryageFunctionCallingLLM,
    LlamaIndexSelector,
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_a_hub_id_in_every_class_of_the_adapters(hub, published, router, kind):
    model = kind(router=published)
    assert hub.requests == [], "it is not looked up before first use"
    with pytest.raises(RouterNotFoundError, match=r"fetch its .* MB with download=True"):
        model.load()
    assert not [path for path in hub.paths() if "/resolve/" in path]
    allowed = kind(router=f"{published}@main", download=True)
    assert allowed.load().library == router.library
    hub.requests.clear()
    assert model.load().library == router.library
    assert hub.requests == []
    with pytest.raises(ValueError, match="download is 'yes'; it is True or False"):
        kind(router=published, download="yes")


def test_models_of_the_library_may_be_fetched_with_the_router(hub, published):
    from tryage.binding import Binding

    runtimes = []
    made = Binding(published, None, factory=lambda runtime, expert: runtimes.append(runtime))
    with pytest.raises(RouterNotFoundError):
        made.load()
    Binding(
        published, None, factory=lambda runtime, expert: runtimes.append(runtime), download=True
    ).load()
    assert {runtime.download for runtime in runtimes} == {True}


def invoke(*arguments, **options):
    return CliRunner().invoke(app, [*map(str, arguments)], **options)


@pytest.fixture
def table_file(held_out_table, tmp_path):
    path = tmp_path / "test.jsonl"
    held_out_table.write(path)
    return path


def test_a_hub_id_in_every_command(hub, published, router, table_file, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "The quiet river"}\n')
    library = tmp_path / "library.yaml"
    router.library.write(library)
    commands = [
        ("route", "The quiet river", "--router", published),
        ("show", published),
        ("evaluate", published, table_file),
        ("pareto", published, table_file, "--goal", "size"),
        ("calibrate", published, prompts, "mean size <= 10B"),
        ("library", "check", library, "--router", published),
    ]
    for command in commands:
        refused = invoke(*command)
        assert refused.exit_code == 2, command
        assert "MB with download=True (--download)" in " ".join(refused.stderr.split()), command
    assert not [path for path in hub.paths() if "/resolve/" in path]
    done = invoke(*commands[0], "--download", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["expert"] == router.route("The quiet river").expert
    for command in commands:
        assert (
            "--download" in invoke(*command[: 2 if command[0] == "library" else 1], "--help").stdout
        )
    for command in commands[1:5]:
        done = invoke(*command, "--json")
        assert done.exit_code == 0, done.output


def test_the_command_push(hub, router, table_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.kit.WRITER)
    folder = tmp_path / "r"
    router.save_pretrained(folder)
    card = folder / "README.md"
    text = card.read_text().replace("Not stated. The folder holds no prompt", "Mine alone. None")
    card.write_text(f"{text}\n## Measured\n\nMore.\n")
    report = invoke("evaluate", folder, table_file, "--json").stdout
    options = ("--license", "mit", "--dataset", "me/a", "--dataset", "me/b", "--private")
    more = ("--message", "Mine", "--evaluation", "-", "--evaluated-on", "my test", "--json")
    done = invoke("push", folder, "me/new", *options, *more, input=report)
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    repository = hub.repositories["me/new"]
    assert printed.keys() == {"id", "commit", "url", "private", "files", "bytes"}
    assert (printed["commit"], printed["private"]) == (repository.head, True)
    published_card = repository.commits[repository.head]["README.md"].decode()
    assert published_card.rstrip().endswith("Mine alone. None of the training data.")
    for part in ("license: mit", "- me/b", "name: my test"):
        assert part in published_card
    again = invoke("push", folder, "me/new", "--card", card)
    assert again.exit_code == 0, again.output
    assert 'Router.from_pretrained("me/new", download=True) loads it' in again.stdout
    assert repository.commits[repository.head]["README.md"].decode() == card.read_text()
    assert Router.from_pretrained("me/new", download=True).library == router.library


@pytest.mark.parametrize("report", ["{", "[]", "{}", '{"router": 1}', '{"tasks": {"a": {}}}'])
def test_what_is_no_evaluation_is_refused(hub, router, tmp_path, report):
    router.save_pretrained(tmp_path / "r")
    done = invoke("push", tmp_path / "r", "me/new", "--evaluation", "-", input=report)
    assert done.exit_code == 2
    assert "is not what evaluate --json prints" in done.stderr
    assert hub.requests == []


def test_errors_of_push_are_one_line(hub, router, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_notthewritersatall")
    router.save_pretrained(tmp_path / "r")
    done = invoke("push", tmp_path / "r", "me/new")
    assert done.exit_code == 2
    assert "me/new: nothing was published: the Hub refused (status 403)" in done.stderr
    assert "hf_notthewritersatall" not in done.output + done.stderr
