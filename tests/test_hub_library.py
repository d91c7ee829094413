"""Libraries from a listing of the Hub: pages, interruptions, refusals, and hostile answers."""

import datetime
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library
from tryage.cli import app

TOKEN = "hf_secretsecretsecret"


def entry(number, **changes):
    """What the Hub says about a model."""
    return {
        "id": f"org{number % 3}/model-{number}",
        "sha": f"{number:040x}",
        "createdAt": "2024-05-06T07:08:09.000Z",
        "gated": "auto",
        "tags": ["license:mit"],
        "pipeline_tag": "text-generation",
        "config": {"architectures": ["BigForCausalLM"]},
        "cardData": {"language": ["en", False]},
        "safetensors": {"total": 1000 + number},
        "siblings": [{"rfilename": "model.safetensors"}],
    } | changes


@pytest.fixture
def waits(monkeypatch):
    """Seconds of every wait before a page was asked for again; none of them passes."""
    seconds = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=seconds.append))
    return seconds


@pytest.fixture
def listing(hub, waits, monkeypatch):
    """A Hub of 45 models, ten on a page."""
    hub.listing, hub.page = [entry(number) for number in range(45)], 10
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def call(*args, code=0):
    done = CliRunner().invoke(app, ["library", "from-hub", *map(str, args)])
    assert done.exit_code == code, done.output
    assert TOKEN not in done.output
    return done


def names(path):
    return list(Library.read(path).names)


def every_name(server):
    return [model["id"] for model in server.listing]


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("ending", ["yaml", "jsonl", "parquet"])
def test_every_page_of_a_search_becomes_a_library(listing, tmp_path, ending):
    out = tmp_path / f"l.{ending}"
    done = call("--search", "model", "--task", "text-generation", "--out", out)
    assert done.stdout == f"45 experts of 5 pages written to {out}\n"
    assert names(out) == every_name(listing)
    assert Library.read(out)["org1/model-7"] == Expert(
        name="org1/model-7",
        model="org1/model-7",
        parameters=1007,
        released=datetime.date(2024, 5, 6),
        license="mit",
        languages=("en", "no"),
        gated=True,
        revision=f"{7:040x}",
        security={
            "safetensors": True,
            "pickle": False,
            "remote_code": False,
            "location": "local",
            "vendor": "org1",
        },
    )
    assert left(tmp_path) == [out.name]
    assert {token for _, _, token, _ in listing.requests} == {TOKEN}


def test_a_search_is_narrowed_and_cut(listing, tmp_path):
    for number in range(0, 45, 2):
        listing.listing[number]["tags"] = ["fine"]
    options = ("--author", "org0", "--tag", "fine", "--sort", "downloads", "--limit", 4)
    done = call(*options, "--out", tmp_path / "l.jsonl", "--json")
    assert json.loads(done.stdout) == {
        "experts": 4,
        "pages": 1,
        "skipped": {},
        "without_task": 0,
        "out": str(tmp_path / "l.jsonl"),
    }
    assert names(tmp_path / "l.jsonl") == [f"org0/model-{number}" for number in (0, 6, 12, 18)]
    assert "sort=downloads" in listing.paths()[0]
    assert "limit=4&" in listing.paths()[0]


HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/b/c",
    "org/model\n",
    "org/mod\u200bel",
    "org/m\u043edel",
    "org/\ud800",
    "https://evil.example/x",
    "o/" + "m" * 100,
    "~root",
    "o/a..b",
    None,
    ["org/model"],
]


def test_entries_that_are_no_expert_are_skipped_and_counted(listing, tmp_path):
    listing.listing[20:20] = [entry(900, id=id_) for id_ in [*HOSTILE, "org1/model-1"]]
    listing.listing[5:5] = ["a text", None, [1], 7]
    listing.page = 100
    done = call("--search", "", "--task", "text-generation", "--out", tmp_path / "l.jsonl")
    assert done.stdout.splitlines()[1:] == [
        "skipped 4: not an object",
        "skipped 13: no id of a model",
        "skipped 1: listed before",
    ]
    assert names(tmp_path / "l.jsonl") == [f"org{i % 3}/model-{i}" for i in range(45)]


def test_a_mirror_that_heeds_no_filter(listing, tmp_path):
    entries = [entry(1), entry(2, pipeline_tag="fill-mask"), entry(3, pipeline_tag=None)]
    listing.faults["/api/models"] = raw(json.dumps(entries).encode())
    done = call("--task", "text-generation", "--out", tmp_path / "l.jsonl")
    assert done.stdout.endswith("\nskipped 1: another task\n")
    assert names(tmp_path / "l.jsonl") == ["org1/model-1", "org0/model-3"]


@pytest.mark.parametrize(
    "changes",
    [
        {"safetensors": None},
        {"safetensors": {"total": "7B"}, "createdAt": "yesterday", "gated": 3},
        {"safetensors": {"total": True}, "createdAt": 5, "gated": ["auto"]},
        {"safetensors": {"total": 10**30}, "createdAt": None, "gated": None},
        {"safetensors": [], "config": [], "cardData": "x", "tags": {"a": 1}, "siblings": "abc"},
        {
            "sha": "../x",
            "cardData": {"license": {"a": 1}, "language": {"en": 1}},
            "tags": [1, None],
        },
        {"cardData": {"license": "m\x1b[2Jit", "language": ["\ud800", 3]}, "tags": ["license:\n"]},
        {"cardData": {"license": "https://a:b@c.example/?key=1"}, "config": {"architectures": 3}},
        {"siblings": [{"rfilename": 3}, 4, None], "tags": ["license:" + "x" * 10_000]},
    ],
)
def test_what_is_missing_or_malformed_is_left_out_of_an_expert(listing, tmp_path, changes):
    listing.listing = [entry(1) | changes]
    call("--search", "model", "--out", tmp_path / "l.jsonl")
    (expert,) = Library.read(tmp_path / "l.jsonl")
    assert expert.name == "org1/model-1"
    stated = expert.model_dump(exclude_none=True)
    lost = {
        name
        for key, names in {
            "safetensors": ["parameters"],
            "createdAt": ["released"],
            "gated": ["gated"],
            "sha": ["revision"],
        }.items()
        for name in names
        if key in changes
    }
    assert not lost & stated.keys()
    if "cardData" in changes:
        assert "license" not in stated or stated["license"] == "mit"


def test_an_unknown_task_is_counted(listing, tmp_path):
    listing.listing = [
        entry(1, config=None, pipeline_tag="x" * 99),
        entry(2, config=None, pipeline_tag="fill-mask"),
    ]
    done = call("--search", "model", "--out", tmp_path / "l.jsonl")
    assert done.stdout.endswith("\n1 state no task and are taken for text-generation\n")
    assert [expert.task for expert in Library.read(tmp_path / "l.jsonl")] == [
        "text-generation",
        "fill-mask",
    ]


def busy(times, headers, status=429):
    left = [None] * times

    def fault(handler):
        if left:
            left.pop()
            handler.answer(status, {"error": "busy"}, headers)
            return True
        return False

    return fault


@pytest.mark.parametrize(
    ("headers", "status", "least"),
    [
        ({"Retry-After": "7"}, 429, 7),
        ({"RateLimit": '"api";r=0;t=55'}, 429, 55),
        ({}, 503, 0),
    ],
)
def test_a_busy_hub_is_asked_again_when_it_says(listing, waits, tmp_path, headers, status, least):
    listing.faults["cursor=20"] = busy(2, headers, status)
    done = call("--search", "model", "--out", tmp_path / "l.jsonl")
    assert names(tmp_path / "l.jsonl") == every_name(listing)
    assert len(waits) == 2
    assert min(waits) >= least
    assert done.stderr.count(f"status {status}") == 2
    assert "asking again in" in done.stderr


def test_a_hub_that_stays_busy_keeps_what_was_listed(listing, waits, tmp_path):
    listing.faults["cursor=20"] = busy(99, {"Retry-After": "3600"})
    args = ("--search", "model", "--out", tmp_path / "l.jsonl")
    message = call(*args, code=2).stderr
    assert "stopped after 20 experts: the Hub has had too many requests (status 429)" in message
    assert "asks to wait 3600 s" in message
    assert waits == []
    assert left(tmp_path) == ["l.jsonl.listed", "l.jsonl.listed.unfinished"]
    listing.faults.clear()
    del listing.requests[:]
    assert "going on after 20 experts" in call(*args).stderr
    assert names(tmp_path / "l.jsonl") == every_name(listing)
    assert len(listing.paths()) == 3
    assert left(tmp_path) == ["l.jsonl"]


def test_retries_end(listing, waits, tmp_path):
    listing.faults["/api/models"] = 500
    message = call("--search", "x", "--retries", 3, "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "models could not be listed: the Hub fails (status 500)" in message
    assert len(waits) == 3
    assert left(tmp_path) == []


FOREIGN = [
    "{foreign}/api/models?cursor=10&limit=10",
    "//localhost:{port}/api/models?cursor=10&limit=10",
    "https://127.0.0.1:{own_port}/api/models?cursor=10&limit=10",
    "http://127.0.0.1:{own_port}@localhost:{port}/api/models?cursor=10&limit=10",
    "http://127.0.0.1:{own_port}/api/whoami-v2?cursor=10&limit=10",
    "http://[::1/api/models?cursor=10",
    "file:///etc/passwd",
    "{own}/api/models?cursor=10&limit=10&x=" + "y" * 9000,
]


@pytest.mark.parametrize("link", FOREIGN)
def test_a_link_to_another_host_gets_neither_the_token_nor_a_request(listing, tmp_path, link):
    ports = {"port": 0, "own_port": listing.server_address[1], "own": listing.url}
    with listing.kit.running() as foreign:
        foreign.listing = [entry(number) for number in range(45)]
        ports |= {"port": foreign.server_address[1], "foreign": foreign.url}
        listing.link = lambda _: link.format(**ports)
        args = ("--search", "model", "--out", tmp_path / "l.jsonl")
        message = call(*args, code=2).stderr
        assert "stopped after 10 experts: its next page is said to be at" in message
        assert "so it is not asked for" in message
        assert "--limit 10 writes what was listed before" in message
        again = call(*args, code=2).stderr
        assert "its next page is said to be at" in again
        assert foreign.requests == []
        assert len(listing.requests) == 1
    call(*args, "--limit", 10)
    assert names(tmp_path / "l.jsonl") == every_name(listing)[:10]


def test_a_redirect_is_not_followed(listing, tmp_path):
    with listing.kit.running() as foreign:
        listing.faults["/api/models"] = busy(1, {"Location": f"{foreign.url}/api/models"}, 302)
        message = call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
        assert "sends its listing elsewhere (status 302)" in message
        assert foreign.requests == []


def test_a_note_of_another_address_changes_no_host(listing, tmp_path):
    listing.faults["cursor=20"] = busy(1, {"Retry-After": "3600"})
    args = ("--search", "model", "--out", tmp_path / "l.jsonl")
    call(*args, code=2)
    note = tmp_path / "l.jsonl.listed.unfinished"
    with listing.kit.running() as foreign:
        data = json.loads(note.read_text())
        data["state"]["following"] = f"@{foreign.url}/?cursor=20&limit=10"
        note.write_text(json.dumps(data))
        call(*args)
        assert foreign.requests == []
    call("--search", "other", "--out", tmp_path / "m.jsonl", code=2)


def test_an_unfinished_run_goes_on_with_the_same_search_alone(listing, tmp_path):
    listing.faults["cursor=20"] = busy(1, {"Retry-After": "3600"})
    call("--search", "model", "--out", tmp_path / "l.jsonl", code=2)
    message = call("--search", "mode", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "was begun with --search 'model', and now it is 'mode'" in message


def raw(data, headers=()):
    def fault(handler):
        handler.answer(200, data, headers)
        return True

    return fault


@pytest.mark.parametrize(
    ("data", "headers", "message"),
    [
        (b'{"error": 1}', {}, "a JSON dict, not a list"),
        (b"[" * 100_000, {}, "not JSON"),
        (b"[{]", {}, "not JSON"),
        (b"\xff\xfe", {}, "not JSON"),
        (gzip.compress(b" " * (65 * 2**20)), {"Content-Encoding": "gzip"}, "more than 67,108,864"),
        (b"x", {"Content-Encoding": "br"}, "packs its answer as 'br'"),
        (b"[]", {}, "the Hub lists no model for this search"),
    ],
)
def test_an_answer_that_is_no_page(listing, tmp_path, data, headers, message):
    listing.faults["/api/models"] = raw(data, headers)
    assert message in call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert left(tmp_path) == []


def test_a_fault_of_the_hubs_own_library_is_one_clear_line(listing, tmp_path, monkeypatch):
    def fail():
        raise AttributeError("'list' object has no attribute 'get'")

    # It asks the Hub for more than the listing, and does not expect every answer.
    monkeypatch.setattr("huggingface_hub.utils.build_hf_headers", fail)
    message = call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "models could not be listed: the Hub's answer cannot be read" in message


def test_a_listing_that_leads_in_a_circle_ends(listing, tmp_path):
    listing.link = lambda link: link.replace("cursor=20", "cursor=0")
    message = call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "stopped after 20 experts: its listing leads back to models" in message
    assert len(listing.requests) < 20


def test_a_slow_hub_is_given_up_in_time(listing, tmp_path):
    listing.faults["/api/models"] = listing.kit.silent(5)
    args = ("--timeout", 0.2, "--retries", 0, "--out", tmp_path / "l.jsonl")
    assert "did not answer within 0.2 s" in call("--search", "model", *args, code=2).stderr


def test_the_hub_may_be_switched_off(listing, waits, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "HF_HUB_OFFLINE is set" in message
    assert (waits, listing.requests, left(tmp_path)) == ([], [], [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "neither was given"),
        (("org/a", "--search", "b"), "both were given"),
        (("--search", "b", "--name", "n"), "is called after the file, 'l'"),
        (("--search", "b", "--sort", "download"), "Did you mean 'downloads'?"),
    ],
)
def test_options_that_do_not_fit(tmp_path, args, message):
    assert message in call(*args, "--out", tmp_path / "l.jsonl", code=2).stderr


def test_a_listing_needs_a_file_that_is_new(listing, tmp_path):
    assert "taken up again" in call("--search", "b", "--out", "-", code=2).stderr
    (tmp_path / "l.jsonl").write_text("mine")
    message = call("--search", "model", "--out", tmp_path / "l.jsonl", code=2).stderr
    assert "exists; name a new file" in message
    assert (tmp_path / "l.jsonl").read_text() == "mine"
    assert listing.requests == []


def environment(server, folder):
    return os.environ | {
        "HF_ENDPOINT": server.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": TOKEN,
    }


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_loses_and_doubles_nothing(listing, tmp_path, end):
    reached = threading.Event()
    go_on = threading.Event()

    def fault(handler):
        if go_on.is_set():
            return False
        reached.set()
        go_on.wait(60)
        return True

    listing.faults["cursor=30"] = fault
    out = tmp_path / "l.parquet"
    command = [sys.executable, "-m", "tryage", "library", "from-hub", "--search", "model"]
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=environment(listing, tmp_path), stderr=subprocess.PIPE
    )
    assert reached.wait(60)
    other = call("--search", "model", "--out", out, code=2).stderr
    assert "another process lists models into" in other
    process.send_signal(end)
    _, printed = process.communicate(timeout=30)
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert b"interrupted; finished work is kept" in printed
    go_on.set()
    assert not out.exists()
    listed = tmp_path / "l.parquet.listed"
    assert len(listed.read_bytes().splitlines()) == 30
    with listed.open("ab") as file:
        file.write(b'{"name": "half a li')
    listing.listing[40] = entry(5)  # the order of a listing changes while it is read
    done = call("--search", "model", "--out", out)
    assert "of an interrupted run" in done.stderr
    assert "skipped 1: listed before" in done.stdout
    assert names(out) == every_name(listing)[:40] + every_name(listing)[41:]
    assert left(tmp_path) == ["l.parquet"]


def test_a_run_that_was_killed_behind_its_last_step_is_done(listing, tmp_path, monkeypatch):
    out = tmp_path / "l.jsonl"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tryage.resumable.ResumableOutput.finish", stop)
    call("--search", "model", "--out", out, code=130)
    monkeypatch.undo()
    assert left(tmp_path) == ["l.jsonl", "l.jsonl.listed", "l.jsonl.listed.unfinished"]
    before = out.read_bytes()
    monkeypatch.setenv("HF_ENDPOINT", listing.url)
    call("--search", "model", "--out", out)
    assert (out.read_bytes(), left(tmp_path)) == (before, ["l.jsonl"])
    assert names(out) == every_name(listing)


def test_a_listing_too_long_for_yaml_is_kept_as_lines(listing, tmp_path, monkeypatch):
    monkeypatch.setattr("tryage.yaml_text.MOST_CHARACTERS", 5000)
    message = call("--search", "model", "--out", tmp_path / "l.yaml", code=2).stderr
    assert "45 experts take more than the 5,000 characters of YAML that are read" in message
    listed = tmp_path / "l.yaml.listed"
    assert f"What was listed is in {listed}" in message
    assert names(listed.rename(tmp_path / "l.jsonl")) == every_name(listing)
