"""Gated models, against a small server that stands in for the Hub."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

PROGRAM = """
from tryage import Expert, Library
from tryage.errors import GatedModelError
from tryage.runtime import Runtime
runtime = Runtime(Library([Expert(name="x", model="me/gated")]), download=True)
try:
    runtime.check("x")
except GatedModelError as error:
    print(error)
"""


class Gate(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model me/gated is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass


def test_a_gated_model_says_what_to_do(socket_enabled, tmp_path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=True,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.stdout.startswith("expert 'x': model 'me/gated' is gated: its weights are given")
    assert "Accept them at https://huggingface.co/me/gated and set HF_TOKEN" in done.stdout
