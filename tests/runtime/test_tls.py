"""A key goes only to a server whose certificate proves its name: tried over TLS on this machine."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from tryage import Expert, Library
from tryage.errors import ExpertError
from tryage.experts import Endpoint
from tryage.runtime import EndpointOptions, Runtime

pytest.importorskip("httpx")
pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

KEY = "sk-very-secret-0123456789"
BODY = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def certificate(folder, name):
    """Make a key and a certificate for a name that only itself has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with the program openssl")
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=test", "-addext", f"subjectAltName={name}"]
    run = subprocess.run([*command, "-keyout", key, "-out", made], capture_output=True, timeout=60)
    if run.returncode:
        pytest.skip("this openssl makes no certificate with a name")
    return made, key


class TlsServer:
    """Answers over TLS, and notes what it read beneath the encryption."""

    def __init__(self, made, key):
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(made, key)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"https://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _serve(self):
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            plain.settimeout(10)
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    request = b""
                    while b"hello" not in request and (data := connection.recv(2**16)):
                        request += data
                    if request:
                        self.requests.append(request)
                        connection.sendall(ANSWER)
            except OSError:
                pass  # the client did not trust the certificate
            finally:
                plain.close()


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Return a function that calls a server with a certificate for `name`, in both ways."""
    from tryage.runtime import connections

    servers = []
    monkeypatch.setenv("TLS_KEY", KEY)
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)

    def call(name, *, trusted):
        made, key = certificate(tmp_path, name)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(made))
        else:
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        # Certificates are read once for a process.
        connections._ssl_context.cache_clear()
        server = TlsServer(made, key)
        servers.append(server)
        endpoint = Endpoint(url=server.url, key_env="TLS_KEY")
        options = EndpointOptions(connect=10, read=10, retries=0)
        library = Library([Expert(name="far", model="m", endpoint=endpoint)])
        outcomes = []
        with Runtime(library, endpoints=options) as runtime:
            for attempt in (
                lambda: runtime.run("far", "hello"),
                lambda: asyncio.run(runtime.arun("far", "hello")),
            ):
                try:
                    outcomes.append(attempt().text)
                except ExpertError as error:
                    outcomes.append(error)
        return server, outcomes

    yield call
    for server in servers:
        server.close()
    connections._ssl_context.cache_clear()


@pytest.mark.usefixtures("socket_enabled")
def test_a_server_whose_certificate_is_trusted_gets_the_key(call):
    server, outcomes = call("IP:127.0.0.1", trusted=True)
    assert outcomes == ["yes", "yes"]
    assert len(server.requests) == 2
    for request in server.requests:
        assert f"Authorization: Bearer {KEY}".encode() in request


@pytest.mark.usefixtures("socket_enabled")
@pytest.mark.parametrize(
    ("name", "trusted"),
    [("IP:127.0.0.1", False), ("DNS:other.test", True), ("IP:127.0.0.2", True)],
    ids=["signed by nobody known", "of another host", "of another address"],
)
def test_a_server_whose_certificate_does_not_verify_gets_nothing(call, name, trusted):
    server, outcomes = call(name, trusted=trusted)
    for outcome in outcomes:
        assert isinstance(outcome, ExpertError)
        assert "no connection" in str(outcome)
        assert KEY not in str(outcome)
    assert server.requests == []
