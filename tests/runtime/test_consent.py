"""A file may ask for a key or a model outside its folder; only the operator gives them."""

import copy
import json
import pickle
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from tryage import Expert, Library, Router
from tryage.cli import app
from tryage.consent import Consent
from tryage.encoders import load_encoder
from tryage.errors import ConsentError, OptionError
from tryage.experts import Endpoint
from tryage.folders import Origin
from tryage.labeling import label
from tryage.runtime import Runtime

httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

SECRET = "correct horse battery staple"
ANSWER = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers.get("Authorization"))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(socket_enabled, monkeypatch):
    monkeypatch.setenv("BANK_KEY", SECRET)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.keys = []
        server.place = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def rows(server, **more):
    endpoint = {"url": f"http://{server.place}/v1", "key_env": "BANK_KEY"}
    return {"experts": [{"name": "far", "model": "org/m", "endpoint": endpoint, **more}]}


@pytest.fixture
def library(server):
    return Library.from_dict(rows(server), source="theirs.yaml")


@pytest.fixture
def stranger(library, tmp_path):
    """A router folder that names an address and a variable of the operator's."""
    Router.from_library(library).save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def run(*args):
    return CliRunner().invoke(app, ["run", "Hello", *map(str, args)])


def test_a_router_from_elsewhere_gets_no_key(stranger, server):
    done = run("--router", stranger)
    assert done.exit_code == 2
    for part in ("router.json", "BANK_KEY", server.place, f"--allow-key {server.place}=BANK_KEY"):
        assert part in done.stderr
    router = Router.from_pretrained(stranger)
    for library in (
        router.library,
        router.library.of_task("text-generation"),
        Library([*router.library, Expert(name="own", model="org/own")]),
        Library([copy.deepcopy(router.library["far"])]),
        pickle.loads(pickle.dumps(router.library)),
    ):
        runtime = Runtime(library)
        for call, args in (
            (runtime.check, ["far"]),
            (runtime.run, ["far", "x"]),
            (runtime.load("far").generate, ["x"]),
            (list, [runtime.stream("far", "x")]),
        ):
            with pytest.raises(ConsentError, match="BANK_KEY"):
                call(*args)
    assert server.keys == []


@pytest.mark.parametrize("way", ["option", "environment"])
def test_the_operator_lets_the_key_go_on_the_command_line(way, stranger, server, monkeypatch):
    pair = f"{server.place}=BANK_KEY"
    if way == "environment":
        monkeypatch.setenv("TRYAGE_KEYS", f"api.example.com=OTHER_KEY,{pair}")
    options = ("--allow-key", pair) if way == "option" else ()
    done = run("--router", stranger, "--json", *options)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["answer"] == "yes"
    assert server.keys == [f"Bearer {SECRET}"]


def test_the_operator_lets_the_key_go_in_code(stranger, server):
    library = Router.from_pretrained(stranger).library
    for keys in ({server.place: "BANK_KEY"}, {server.place: ["A", "BANK_KEY"]}):
        assert Runtime(library, keys=keys).run("far", "x").text == "yes"
    assert Runtime(library, keys=[f"{server.place}=BANK_KEY"]).run("far", "x").text == "yes"
    assert server.keys == [f"Bearer {SECRET}"] * 3


def test_a_pair_allows_neither_another_host_nor_another_variable(library, server):
    port = server.place.rpartition(":")[2]
    for keys in (
        {server.place: "OTHER_KEY"},
        {"127.0.0.1": "BANK_KEY"},
        {f"localhost:{port}": "BANK_KEY"},
        {f"https://{server.place}": "BANK_KEY"},
        {f"127.0.0.1:{int(port) - 1}": "BANK_KEY"},
    ):
        with pytest.raises(ConsentError):
            Runtime(library, keys=keys).run("far", "x")
    assert server.keys == []


def test_a_key_that_is_not_asked_for_needs_no_consent(server):
    data = rows(server)
    del data["experts"][0]["endpoint"]["key_env"]
    assert Runtime(Library.from_dict(data)).run("far", "x").text == "yes"
    assert server.keys == [None]


def test_experts_of_ones_own_code_carry_their_consent(server):
    endpoint = Endpoint(url=f"http://{server.place}/v1", key_env="BANK_KEY")
    mine = Library([Expert(name="far", model="org/m", endpoint=endpoint)])
    assert Runtime(mine).run("far", "x").text == "yes"
    # Equal in every attribute; where they were read from does not count.
    assert mine == Library.from_dict(rows(server))
    assert hash(mine["far"]) == hash(Library.from_dict(rows(server))["far"])


def test_the_address_is_compared_where_the_request_goes(library, server, monkeypatch):
    """A client that reads an address otherwise than `urllib` does takes no key elsewhere."""
    consent = Consent.of({"allowed.example": "BANK_KEY"})
    odd = "https://allowed.example/v1"
    expert = library["far"].model_copy(update={"endpoint": Endpoint(url=odd, key_env="BANK_KEY")})
    pipeline = Runtime(Library([expert]), keys={"allowed.example": "BANK_KEY"}).load("far")
    monkeypatch.setattr(pipeline._http, "_url", lambda: f"http://{server.place}/v1")
    with pytest.raises(ConsentError, match=server.place):
        pipeline.generate("x")
    consent.check_key(expert)
    assert server.keys == []


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("https://API.Example.com:443", "api.example.com"),
        ("https://api.example.com:8443", "api.example.com:8443"),
        ("https://api.example.com:80", "api.example.com:80"),
        ("http://api.example.com", "http://api.example.com"),
        ("http://api.example.com:443", "http://api.example.com:443"),
        ("http://localhost", "http://localhost"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000/v1", "[::1]:8000"),
    ],
)
def test_the_error_names_what_allows_it(url, place):
    endpoint = {"url": url, "key_env": "K"}
    data = {"experts": [{"name": "far", "model": "m", "endpoint": endpoint}]}
    far = Library.from_dict(data)["far"]
    with pytest.raises(ConsentError) as caught:
        Consent.of().check_key(far)
    assert f"--allow-key {place}=K " in str(caught.value)
    Consent.of([f"{place}=K"]).check_key(far)


@pytest.mark.parametrize(
    "pair",
    [
        "api.example.com",
        "=K",
        "h/path=K",
        "ftp://h=K",
        "h=sk-123456789",
        "h:port=K",
        "*.example.com=K",
        "a host=K",
    ],
)
def test_a_pair_that_is_none_is_refused_without_being_shown(pair):
    with pytest.raises(OptionError, match="HOST=VARIABLE") as caught:
        Consent.of([pair])
    assert "sk-123456789" not in str(caught.value)


def test_labelling_asks_for_consent_before_it_sends_anything(library, server, tmp_path):
    pytest.importorskip("pyarrow")
    prompts = [{"prompt": "Say yes.", "reference": "yes"}]
    with pytest.raises(ConsentError, match="BANK_KEY"):
        label(library, prompts, tmp_path / "out", metric="exact")
    assert not (tmp_path / "out").exists()
    keys = {server.place: "BANK_KEY"}
    summary = label(library, prompts, tmp_path / "out", metric="exact", keys=keys)
    assert summary.measured == 1
    assert server.keys == [f"Bearer {SECRET}"]


def test_library_check_tells_what_is_asked_for(server, tmp_path):
    path = tmp_path / "theirs.yaml"
    Library.from_dict(rows(server)).write(path)
    check = ["library", "check", str(path)]
    done = CliRunner().invoke(app, check)
    assert done.exit_code == 2
    assert "BANK_KEY" in done.stdout
    done = CliRunner().invoke(app, [*check, "--allow-key", f"{server.place}=BANK_KEY"])
    assert done.exit_code == 0, done.output


def models_of(*folders):
    rows = [{"name": f"m{i}", "model": str(folder)} for i, folder in enumerate(folders)]
    return {"experts": rows}


@pytest.fixture
def outside(tiny_causal):
    return tiny_causal


def test_a_model_outside_the_own_folder_needs_consent(outside, tmp_path, monkeypatch):
    library = Library.from_dict(models_of(outside), source="theirs.yaml", root=tmp_path)
    with pytest.raises(ConsentError) as caught:
        Runtime(library).load("m0")
    for part in ("theirs.yaml", str(outside), str(tmp_path), "folders=", "TRYAGE_MODELS"):
        assert part in str(caught.value)
    for folders in (outside, [outside.parent], [tmp_path, outside]):
        assert Runtime(library, folders=folders).check("m0") == outside
    with pytest.raises(ConsentError):
        Runtime(library, folders=[f"{outside}-other"]).check("m0")
    monkeypatch.setenv("TRYAGE_MODELS", f"/nowhere:{outside.parent}")
    assert Runtime(library).check("m0") == outside
    monkeypatch.delenv("TRYAGE_MODELS")
    assert Runtime(Library([Expert(name="m0", model=str(outside))])).check("m0") == outside


def test_links_and_steps_upwards_lead_nowhere(outside, tmp_path):
    own = tmp_path / "own"
    (own / "partly").mkdir(parents=True)
    (own / "link").symlink_to(outside)
    for file in outside.iterdir():
        (own / "partly" / file.name).symlink_to(file)
    steps = "../" * len(own.parts) + str(outside)[1:]
    library = Library.from_dict(models_of("./link", "./partly", steps), root=own)
    for name in library.names:
        with pytest.raises(ConsentError, match=str(outside)):
            Runtime(library).check(name)
        assert Runtime(library, folders=outside).check(name).is_dir()


def test_a_router_names_models_in_its_own_folder_alone(outside, tmp_path):
    library = Library.from_dict(models_of(outside), root=outside.parent)
    Router.from_library(library).save_pretrained(tmp_path / "r")
    with pytest.raises(ConsentError, match=r"router\.json"):
        Runtime(Router.from_pretrained(tmp_path / "r").library).check("m0")
    router = Router.from_pretrained(tmp_path / "r", folders=outside.parent)
    assert Runtime(router.library).check("m0") == outside
    assert Runtime(router.without().library).check("m0") == outside


def test_an_encoder_outside_the_own_folder_needs_consent(tmp_path):
    encoder, router = tmp_path / "encoder", tmp_path / "r"
    encoder.mkdir()
    config = {"kind": "sentence", "model": str(encoder)}
    with pytest.raises(ConsentError, match="encoder"):
        load_encoder(config, router, origin=Origin.of("router.json", router))
    for folders in ([encoder], [tmp_path]):
        origin = Origin.of("router.json", router, folders)
        assert load_encoder(config, router, origin=origin).model == str(encoder)


def test_no_key_goes_to_what_is_no_address():
    endpoint = {"url": "http://127.0.0.1:port/v1", "key_env": "K"}
    library = Library.from_dict({"experts": [{"name": "a", "model": "m", "endpoint": endpoint}]})
    with pytest.raises(ConsentError, match="not a web address"):
        Runtime(library, keys={"127.0.0.1": "K"}).check("a")
