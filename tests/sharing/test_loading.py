"""Routers from the Hub: found by id, fetched only where that is asked, as little trusted as any."""

import contextlib
import hashlib
import json
import logging
import traceback

import pytest

from tryage import Library, Router
from tryage.errors import (
    ConsentError,
    DamagedFileError,
    HubAccessError,
    OptionError,
    RouterNotFoundError,
    TryageWarning,
)
from tryage.persistence import INDEX

# huggingface_hub's own upload uses an older way of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PROMPTS = ("def alpha(total): return total", "The quiet river follows the garden.")
FILES = {INDEX, "README.md", "encoder.safetensors", "predictor-0.safetensors", "tokenizer.json"}


def fetched(hub):
    """Names of the files whose contents were asked for."""
    return {path.rpartition("/")[2] for path in hub.paths() if "/resolve/" in path}


def repository(hub):
    return hub.repositories["me/router"]


def test_a_router_comes_back_as_it_was_and_then_from_the_cache(hub, published, router):
    loaded = Router.from_pretrained(published, download=True)
    assert fetched(hub) == FILES
    for before, after in zip(router.route_batch(PROMPTS), loaded.route_batch(PROMPTS), strict=True):
        assert after.to_dict() == before.to_dict()
    hub.requests.clear()
    again = Router.from_pretrained(published)
    assert hub.requests == []
    assert again.library == router.library


def test_nothing_is_fetched_unless_it_is_asked_for(hub, published):
    with pytest.raises(RouterNotFoundError) as caught:
        Router.from_pretrained(published)
    message = str(caught.value)
    assert "router 'me/router' is neither a folder nor a bundled router" in message
    size = sum(map(len, repository(hub).commits[repository(hub).head].values()))
    assert f"fetch its {size / 1e6:.1f} MB with download=True (--download)" in message
    assert fetched(hub) == set()


def test_a_folder_and_a_bundled_name_go_first(hub, published, tmp_path, monkeypatch, open7):
    monkeypatch.chdir(tmp_path)
    open7.save_pretrained("me/router")
    assert Router.from_pretrained("me/router", download=True).library == open7.library
    Router.from_pretrained("open7", download=True)
    (tmp_path / "me/other").mkdir()
    with pytest.raises(RouterNotFoundError, match=r"holds no router\.json"):
        Router.from_pretrained("me/other", download=True)
    with pytest.raises(OptionError, match="only a router on the Hub has revisions"):
        Router.from_pretrained("open7", revision="main")
    assert hub.requests == []


@pytest.mark.parametrize(
    "name", ["a/b/c", "./me/router", "../me/router", "~me/router", "/me/router", "me/", "a b/c", ""]
)
def test_other_texts_are_no_hub_ids(hub, name):
    with pytest.raises(RouterNotFoundError, match=r"neither a folder|holds no router"):
        Router.from_pretrained(name, download=True)
    assert hub.requests == []


def test_revisions(hub, published, router, open7):
    first = repository(hub).head
    open7.push_to_hub(published, token=hub.kit.WRITER)
    assert Router.from_pretrained(published, download=True).library == open7.library
    for old in ({"name": f"{published}@{first}"}, {"name": published, "revision": first}):
        assert Router.from_pretrained(**old, download=True).library == router.library
    assert Router.from_pretrained(published).library == open7.library
    hub.requests.clear()
    Router.from_pretrained(published, revision=first, download=True)
    assert hub.requests == [], "a commit that is cached needs no network"
    with pytest.raises(OptionError, match="differ; name one"):
        Router.from_pretrained(f"{published}@{first}", revision="main")
    with pytest.raises(RouterNotFoundError, match="no such model or revision"):
        Router.from_pretrained(published, revision="nothing", download=True)


def test_a_newer_version_is_looked_for_only_where_fetching_is_allowed(
    hub, published, router, open7
):
    Router.from_pretrained(published, download=True)
    open7.push_to_hub(published, token=hub.kit.WRITER)
    assert Router.from_pretrained(published).library == router.library
    assert Router.from_pretrained(published, download=True).library == open7.library
    assert Router.from_pretrained(published).library == open7.library


def test_offline_mode(hub, published, router, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RouterNotFoundError, match="HF_HUB_OFFLINE is set"):
        Router.from_pretrained(published)
    with pytest.raises(HubAccessError, match="HF_HUB_OFFLINE is set"):
        Router.from_pretrained(published, download=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    Router.from_pretrained(published, download=True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert Router.from_pretrained(published).library == router.library
    with pytest.warns(TryageWarning, match="the version in the local cache is used"):
        Router.from_pretrained(published, download=True)
    assert hub.requests == []


def test_private_and_gated_routers(hub, published):
    repository(hub).private = True
    with pytest.raises(RouterNotFoundError, match="private, gated or not there"):
        Router.from_pretrained(published, download=True)
    Router.from_pretrained(published, download=True, token=hub.kit.READER)
    assert {token for _, path, token, _ in hub.requests[1:]} == {hub.kit.READER}


def test_the_token_of_the_environment_counts(hub, published, monkeypatch):
    repository(hub).private = True
    monkeypatch.setenv("HF_TOKEN", hub.kit.READER)
    Router.from_pretrained(published, download=True)
    assert {token for _, _, token, _ in hub.requests} == {hub.kit.READER}


def test_a_gated_router_says_what_to_do(hub, published):
    repository(hub).gated = True
    with pytest.raises(HubAccessError, match="gated: only accounts that accepted its terms"):
        Router.from_pretrained(published, download=True)
    Router.from_pretrained(published, download=True, token=hub.kit.READER)


STATUSES = [
    (401, RouterNotFoundError, "private, gated or not there"),
    (403, RouterNotFoundError, "private, gated or not there"),
    (404, RouterNotFoundError, "no such model or revision|private, gated or not there"),
    (429, HubAccessError, "too many requests .status 429."),
    (500, HubAccessError, "status 500"),
]


@pytest.mark.parametrize(("status", "kind", "message"), STATUSES)
@pytest.mark.parametrize("where", ["/api/models", "/resolve/"])
def test_a_hub_that_refuses(hub, published, status, kind, message, where):
    hub.faults[where] = status
    with pytest.raises(kind, match=message) as caught:
        Router.from_pretrained(published, download=True)
    assert str(caught.value).startswith("router 'me/router' could not be fetched: ")


@pytest.mark.parametrize("status", [429, 500])
def test_a_hub_in_trouble_leaves_what_is_cached(hub, published, router, status):
    Router.from_pretrained(published, download=True)
    hub.faults["/api/models"] = status
    with pytest.warns(TryageWarning, match=f"status {status}.*version in the local cache is used"):
        assert Router.from_pretrained(published, download=True).library == router.library
    hub.faults["/api/models"] = 404
    with pytest.raises(RouterNotFoundError):
        Router.from_pretrained(published, download=True)


def test_a_hub_that_does_not_answer(hub, published, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr("tryage.hub.TIMEOUT", 0.1)
    hub.faults = {"/api/models": hub.kit.silent(0.4)}
    with pytest.raises(HubAccessError, match=r"did not answer within 0\.1 s"):
        Router.from_pretrained(published, download=True)
    monkeypatch.setattr("tryage.hub.TIMEOUT", 10)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.faults = {"/resolve/": hub.kit.silent(0.4, "GET")}
    with pytest.raises(HubAccessError, match="did not answer in time"):
        Router.from_pretrained(published, download=True)


def test_a_hub_that_is_not_there(hub, published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(HubAccessError, match="cannot be reached"):
        Router.from_pretrained(published, download=True)
    with pytest.raises(RouterNotFoundError, match="Its size is unknown: the Hub cannot be reached"):
        Router.from_pretrained(published)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"id": "me/router"}', b'{"siblings": 3}'])
def test_a_hub_that_answers_nonsense(hub, published, body):
    hub.faults["/api/models"] = lambda handler: handler.answer(200, body) or True
    with pytest.raises((HubAccessError, RouterNotFoundError), match="me/router"):
        Router.from_pretrained(published, download=True)
    assert fetched(hub) == set()


def test_a_download_that_is_cut_goes_on_where_it_was(hub, published, router, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    hub.faults["encoder.safetensors"] = hub.kit.cut_once(1_000_000)
    # The oldest huggingface_hub goes on at the next call only.
    with contextlib.suppress(HubAccessError):
        Router.from_pretrained(published, download=True)
    assert Router.from_pretrained(published, download=True).library == router.library
    ranges = [byte_range for *_, byte_range in hub.requests if byte_range]
    assert len(ranges) == 1
    assert ranges == ["bytes=1000000-"]


@pytest.mark.parametrize("name", [INDEX, "predictor-0.safetensors", "tokenizer.json"])
def test_a_file_that_was_changed_on_its_way_is_refused_and_then_repaired(
    hub, published, router, name
):
    hub.changed[name] = lambda content: content[:-9] + b"wrongbyte"
    with pytest.raises(DamagedFileError) as caught:
        Router.from_pretrained(published, download=True)
    message = str(caught.value)
    assert message.startswith("router 'me/router' from the Hub: ")
    assert name in message
    assert "its maker has to push it again" in message
    head = repository(hub).head
    with pytest.raises(DamagedFileError, match="fetch it again with download=True"):
        Router.from_pretrained(published, revision=head)
    hub.changed.clear()
    assert Router.from_pretrained(published, revision=head, download=True).library
    assert Router.from_pretrained(published, download=True).library == router.library
    assert Router.from_pretrained(published).library == router.library


def test_a_file_that_always_ends_early_is_an_error(hub, published):
    hub.changed["tokenizer.json"] = lambda content: content[:-9]
    with pytest.raises(HubAccessError, match="file should be of size"):
        Router.from_pretrained(published, download=True)
    with pytest.raises(RouterNotFoundError, match="not whole in the local cache"):
        Router.from_pretrained(published)


def test_a_download_that_ended_halfway_is_not_taken_for_whole(hub, published, router):
    hub.faults["tokenizer.json"] = 500
    with pytest.raises(HubAccessError):
        Router.from_pretrained(published, download=True)
    hub.faults.clear()
    head = repository(hub).head
    with pytest.raises(RouterNotFoundError, match="not whole in the local cache"):
        Router.from_pretrained(published, revision=head)
    hub.requests.clear()
    Router.from_pretrained(published, download=True)
    assert "tokenizer.json" in fetched(hub)
    assert "encoder.safetensors" not in fetched(hub), "it was fetched before"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("encoder.safetensors", 5 * 2**30),
        ("extra.safetensors", 4 * 2**30),
        (INDEX, 2**30),
        ("README.md", 2**29),
        ("tokenizer.json", None),
    ],
)
def test_files_that_are_too_large_are_not_fetched(hub, published, name, size):
    files = repository(hub).commits[repository(hub).head]
    files.setdefault(name, b"x")
    hub.sizes[name] = size
    with pytest.raises(HubAccessError, match=f"{name} is .*Nothing was fetched"):
        Router.from_pretrained(published, download=True)
    assert fetched(hub) == set()


def test_only_a_router_s_own_files_are_fetched(hub, published):
    files = repository(hub).commits[repository(hub).head]
    strange = ("pytorch_model.bin", "setup.py", "config.json", "x.pkl", "sub/a.safetensors")
    files |= dict.fromkeys((*strange, "unused.safetensors"), b"x")
    Router.from_pretrained(published, download=True)
    assert fetched(hub) == FILES


def test_an_index_cannot_ask_for_other_files(hub, published):
    files = repository(hub).commits[repository(hub).head]
    index = json.loads(files[INDEX])
    for name in ("evil.py", "../../escape.safetensors"):
        files[name] = b"x"
        index["files"][name] = "0" * 64
    del index["sha256"]
    canonical = json.dumps(index, sort_keys=True, separators=(",", ":"))
    index["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    files[INDEX] = json.dumps(index).encode()
    with pytest.raises(DamagedFileError, match=r"evil\.py"):
        Router.from_pretrained(published, download=True)
    assert not {"evil.py", "escape.safetensors"} & fetched(hub)


def test_a_repository_without_a_router(hub, published):
    del repository(hub).commits[repository(hub).head][INDEX]
    with pytest.raises(RouterNotFoundError, match=r"holds no router\.json"):
        Router.from_pretrained(published, download=True)


@pytest.mark.parametrize("token", ["hf_secretsecretsecret", "plainwords"])
@pytest.mark.parametrize("where", ["/api/models", "/resolve/"])
@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_the_token_is_nowhere(hub, published, tmp_path, caplog, token, where, status):
    """The server repeats it in what it answers."""
    for logger in ("tryage", "huggingface_hub"):
        caplog.set_level(logging.DEBUG, logger)
    hub.faults[where] = lambda handler: handler.refuse(status, "Strange") or True
    with pytest.raises((HubAccessError, RouterNotFoundError)) as caught:
        Router.from_pretrained(published, download=True, token=token)
    with pytest.raises(RouterNotFoundError) as again:
        Router.from_pretrained(published, token=token)
    assert any(sent == token for _, _, sent, _ in hub.requests)
    shown = traceback.format_exception(caught.value) + traceback.format_exception(again.value)
    assert token not in "".join(shown)
    assert token not in caplog.text
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes()


def test_a_router_holds_no_token(hub, published):
    token = hub.kit.READER
    loaded = Router.from_pretrained(published, download=True, token=token)
    assert token not in repr(loaded) + repr(vars(loaded))


def test_a_router_from_the_hub_decides_not_where_a_key_goes(hub, monkeypatch):
    from tryage.runtime import Runtime

    monkeypatch.setenv("MY_KEY", "sk-not-for-strangers")
    endpoint = {"url": "https://evil.example/v1", "key_env": "MY_KEY"}
    stranger = Library.from_dict(
        {"experts": [{"name": "x", "model": "org/x", "endpoint": endpoint}]}
    )
    Router.from_library(stranger).push_to_hub("me/trap", token=hub.kit.WRITER)
    loaded = Router.from_pretrained("me/trap", download=True)
    with pytest.raises(ConsentError, match="asks to send the value of the environment variable"):
        Runtime(loaded.library).check("x")
