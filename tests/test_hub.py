import datetime
import http.server
import json
import os
import shutil
import struct
import threading
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from tryage import Expert, Library, Router
from tryage.cli import app
from tryage.errors import LibraryError, OutputFolderError

CARD = """---
license: Apache-2.0
language: [en, de, code]
pipeline_tag: text-generation
---
# A model
"""


def write_safetensors(path, shapes):
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)


@pytest.fixture
def folder(tmp_path):
    model = tmp_path / "models" / "small"
    model.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}
    (model / "config.json").write_text(json.dumps(config))
    (model / "README.md").write_text(CARD)
    write_safetensors(model / "a.safetensors", {"x": [10, 20], "y": [3]})
    write_safetensors(model / "b.safetensors", {"z": [100]})
    return model


def test_a_folder_tells_what_it_is(folder, tmp_path):
    (expert,) = Library.from_models(["models/small"], root=tmp_path)
    assert expert.name == "small"
    assert expert.model == "models/small"
    assert expert.parameters == 303
    assert expert.task == "text-generation"
    assert expert.context_length == 4096
    assert expert.license == "apache-2.0"
    assert expert.languages == ("en", "de")
    security = expert.security
    assert (security.safetensors, security.pickle, security.remote_code) == (True, False, False)
    assert security.location == "local"


def test_masked_models_remote_code_and_pickles_are_seen(folder):
    config = {"architectures": ["BertForMaskedLM"], "auto_map": {"AutoModel": "m.py"}}
    (folder / "config.json").write_text(json.dumps(config))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "README.md").unlink()
    (expert,) = Library.from_models([str(folder)])
    assert expert.task == "fill-mask"
    assert expert.parameters is None
    security = expert.security
    assert (security.safetensors, security.pickle, security.remote_code) == (False, True, True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "cannot be read"),
        ("config.json", b"[]", "expected an object"),
        ("config.json", b"[" * 100_000, "cannot be read"),
        ("a.safetensors", b"abc", "not a safetensors file"),
        ("a.safetensors", b"\xff" * 64, "not a safetensors file"),
        ("a.safetensors", struct.pack("<Q", 4) + b'{"x"', "not a safetensors file"),
        ("a.safetensors", struct.pack("<Q", 90_000) + b"[" * 90_000, "not a safetensors file"),
        ("README.md", b"---\na: [\n---\n", "front matter is not YAML"),
    ],
)
def test_damaged_files_are_named(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(LibraryError, match=message) as caught:
        Library.from_models([str(folder)])
    assert name in str(caught.value)


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(LibraryError, match="does not exist"):
        Library.from_models(["./nothing"], root=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match=r"holds no config\.json"):
        Library.from_models(["empty"], root=tmp_path)


MODEL = {
    "id": "org/big",
    "sha": "0123abc",
    "createdAt": "2024-05-06T07:08:09.000Z",
    "gated": "auto",
    "tags": ["custom_code", "license:mit"],
    "pipeline_tag": "text-generation",
    "config": {"architectures": ["BigForCausalLM"]},
    "cardData": {"language": "en"},
    "safetensors": {"parameters": {"BF16": 7000}, "total": 7000},
    "siblings": [{"rfilename": "model.safetensors"}, {"rfilename": "pytorch_model.bin"}],
    "securityRepoStatus": {"scansDone": True, "filesWithIssues": []},
}


class FakeHub(http.server.BaseHTTPRequestHandler):
    """Answers for a few models as the Hub does, and misbehaves for others."""

    def do_GET(self):
        name = self.path.partition("?")[0].removeprefix("/api/models/")
        self.server.paths.append(self.path)
        if name == "org/slow":
            time.sleep(1.5)
        if name == "org/busy":
            return self.answer(429, b"{}", {"Retry-After": "30"})
        if name == "org/dated":
            return self.answer(429, b"{}", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
        if name == "org/broken":
            return self.answer(200, b'{"id": "org/bro')
        if name == "org/odd":
            return self.answer(200, b"[1, 2]")
        if name == "org/secret":
            return self.answer(401, b'{"error": "Invalid username or password."}')
        if name == "org/down":
            return self.answer(503, b"")
        if name.startswith("org/big"):
            return self.answer(200, json.dumps(MODEL).encode())
        return self.answer(404, b'{"error": "Repository not found"}')

    def answer(self, status, body, headers=()):
        try:
            self.send_response(status)
            for key, value in dict(headers).items():
                self.send_header(key, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hf")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.daemon_threads = True
    server.paths = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.enable_socket
def test_the_hub_tells_what_a_model_is(hub):
    (expert,) = Library.from_models(["org/big"])
    assert expert == Expert.model_validate(
        {
            "name": "org/big",
            "model": "org/big",
            "task": "text-generation",
            "parameters": 7000,
            "released": datetime.date(2024, 5, 6),
            "license": "mit",
            "languages": ("en",),
            "gated": True,
            "revision": "0123abc",
            "security": {
                "safetensors": True,
                "pickle": True,
                "remote_code": True,
                "location": "local",
                "vendor": "org",
                "scan": "clean",
            },
        }
    )
    Library.from_models(["org/big@v2"])
    assert "/revision/v2" in hub.paths[-1]


@pytest.mark.enable_socket
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/slow", "did not answer within 0.2 s"),
        ("org/busy", "too many requests .status 429.; try again in 30 s"),
        ("org/dated", "too many requests .status 429.; try again later"),
        ("org/broken", "answer cannot be read"),
        ("org/odd", "answer cannot be read"),
        ("org/secret", "private, gated or not there"),
        ("org/missing", "no such model or revision|private, gated or not there"),
        ("org/down", "status 503"),
        ("not a name", "neither a folder nor a Hub id"),
    ],
)
def test_a_hub_that_refuses_or_fails(hub, name, message):
    with pytest.raises(LibraryError, match=message) as caught:
        Library.from_models([name], timeout=0.2)
    assert name in str(caught.value)


@pytest.mark.enable_socket
def test_a_hub_that_is_not_there(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(LibraryError, match="cannot be reached"):
        Library.from_models(["org/big"])


def test_offline_mode_is_named(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hf")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LibraryError, match="HF_HUB_OFFLINE"):
        Library.from_models(["org/big"])


@pytest.mark.enable_socket
def test_the_command_writes_a_library(hub, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    args = ["library", "from-hub", "org/big", "models/small", "--out", "out/library.yaml", "--json"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    assert [e["name"] for e in json.loads(done.stdout)["experts"]] == ["org/big", "small"]
    written = Library.read("out/library.yaml")
    assert written["small"].model == "../models/small"
    assert written.model_path(written["small"]).is_dir()
    again = CliRunner().invoke(app, args)
    assert again.exit_code == 2
    assert "exists" in again.stderr
    assert issubclass(OutputFolderError, FileExistsError)


@pytest.mark.enable_socket
def test_a_revision_may_hold_slashes(hub):
    (expert,) = Library.from_models(["org/big@refs/pr/1"])
    assert expert.name == "org/big"
    assert any("refs%2Fpr%2F1" in path for path in hub.paths), hub.paths


@pytest.fixture
def checkpoints(folder, tmp_path, monkeypatch):
    for run in ("a", "b"):
        shutil.copytree(folder, tmp_path / run / "checkpoint-5")
    monkeypatch.chdir(tmp_path)


def written(out, *models, code=0):
    done = CliRunner().invoke(app, ["library", "from-hub", *models, "--out", out])
    assert done.exit_code == code, done.output
    return Library.read(out) if code == 0 else done.stderr


def test_folders_of_one_name_are_told_apart(checkpoints):
    library = written("l.yaml", "a/checkpoint-5", "b/checkpoint-5", "models/small")
    assert library.names == ("a/checkpoint-5", "b/checkpoint-5", "small")
    assert written("m.yaml", "old=a/checkpoint-5", "b/checkpoint-5").names == (
        "old",
        "checkpoint-5",
    )
    message = written("n.yaml", "a/checkpoint-5", "./a/checkpoint-5", code=2)
    assert "are one model folder; name it once" in message


@pytest.mark.parametrize("out", ["new/sub/l.yaml", "link/l.yaml"])
def test_a_library_may_go_into_a_folder_that_is_new_or_a_link(checkpoints, tmp_path, out):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    library = written(out, "a/checkpoint-5")
    assert os.path.samefile(library.model_path(library["checkpoint-5"]), "a/checkpoint-5")


def test_a_library_may_go_to_standard_output(checkpoints, tmp_path):
    done = CliRunner().invoke(app, ["library", "from-hub", "a/checkpoint-5", "--out", "-"])
    (tmp_path / "l.yaml").write_text(done.stdout)
    assert Library.read(tmp_path / "l.yaml").names == ("checkpoint-5",)
    assert done.stderr == "1 experts written\n"


def test_a_library_that_changed_is_named_expert_by_expert(table_library, router, tmp_path):
    rows = table_library.to_dict()["experts"]
    rows[0]["revision"] = "v2"
    rows[1] = {"name": "poet", "model": "org/poet"}
    changed = Library.from_dict({"experts": rows})
    assert changed.changes_from(router.library) == {
        "coder": "its revision is v2, the router was fitted on None",
        "poet": "added: the router was fitted without it",
        "writer": "removed: the router was fitted with it",
    }
    assert table_library.changes_from(router.library) == {}
    router.save_pretrained(tmp_path / "r")
    changed.write(tmp_path / "library.yaml")
    args = ["library", "check", str(tmp_path / "library.yaml"), "--router", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*args, "--json"])
    assert done.exit_code == 2
    assert set(json.loads(done.stdout)["changes"]) == {"coder", "poet", "writer"}
    assert Router.from_pretrained(tmp_path / "r").library == table_library
