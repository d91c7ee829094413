"""A Hugging Face Hub on loopback, as far as routers need it: repositories, commits, refusals.

It answers huggingface_hub's own requests. `faults` makes it misbehave; `requests` holds what it was
creation, with the token of each request.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

WRITER = "hf_writerwriterwriter"
READER = "hf_readerreaderreader"


@dataclass
class Repository:
    """Commits, oldest first: hash → name → content. The last one is that of the main branch."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    private: bool = False
    gated: bool = False

    @property
    def head(self):
        return list(self.commits)[-1]

    def add(self, files):
        """Add a commit with these files alone; returns its hash."""
        commit = hashlib.sha1(repr((self.head, sorted(files.items()))).encode()).hexdigest()
        self.commits[commit] = files
        return commit


class HubServer(http.server.ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: id → repository.
        requests: (method, path, token or None, Range header or None) of every request.
        faults: part of a path → status, or a function of the handler that answers instead and
            returns True, or returns False to let the request pass.
        sizes: file's name → bytes that the listing claims.
        changed: file's name → function of its content that is sent instead.
        listing: entries of all models that a search is made among.
        page: models on a page of it at most.
        link: function of the address of the next page that returns what is sent instead.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.requests, self.uploads = {}, [], {}
        self.faults, self.sizes, self.changed = {}, {}, {}
        self.listing, self.page, self.link = [], 100, str

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self, method="GET"):
        return [path for kind, path, *_ in self.requests if kind == method]

    def handle_error(self, request, client_address):
        """Say nothing of clients that went away."""


@contextlib.contextmanager
def running():
    """Yield a server that runs."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def cut_once(after):
    """A fault that ends the first download after some bytes."""
    left = [1]

    def fault(handler):
        if handler.command != "GET" or not left or handler.headers.get("Range"):
            return False
        left.clear()
        handler.send_response(200)
        content = handler.content()
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:after])
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return fault


def silent(seconds, method=None):
    """A fault that answers late; only requests of this method if one is given."""

    def fault(handler):
        if method in (None, handler.command):
            time.sleep(seconds)
        return False

    return fault


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            super().handle_one_request()

    @property
    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def do_GET(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.unquote(self.path)
        self.server.requests.append((self.command, path, self.token, self.headers.get("Range")))
        for part, fault in list(self.server.faults.items()):
            if part in path:
                if callable(fault):
                    if fault(self):
                        return None
                else:
                    return self.answer(fault, {"error": f"no, not with {self.token}"})
        for pattern, act in self.ROUTES:
            if match := re.fullmatch(pattern, f"{self.command} {path}"):
                return act(self, **match.groupdict())
        return self.answer(404, {"error": "no such page"})

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self, status, body=None, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status, code):
        message = f"{code}: not with the token {self.token}"
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        return self.answer(status, {"error": message}, headers)

    def repository(self, id):
        """Return a repository that this token sees, or None after a refusal."""
        repository = self.server.repositories.get(id)
        hidden = repository is not None and repository.private
        if repository is None or (hidden and self.token not in (WRITER, READER)):
            return self.refuse(404 if self.token else 401, "RepoNotFound")
        return repository

    def commit_of(self, repository, revision):
        if revision in (None, "main"):
            return repository.head
        if revision in repository.commits:
            return revision
        return self.refuse(404, "RevisionNotFound")

    def info(self, id, revision=None):
        repository = self.repository(id)
        commit = repository and self.commit_of(repository, revision)
        if commit is None:
            return
        sizes = self.server.sizes
        siblings = [
            {"rfilename": name, "size": sizes.get(name, len(content))}
            for name, content in repository.commits[commit].items()
        ]
        shown = {"private": repository.private, "gated": "auto" if repository.gated else False}
        self.answer(200, {"id": id, "sha": commit, "siblings": siblings, **shown})

    @staticmethod
    def has_task(entry, task):
        """Tell whether an entry is of a task; the Hub would leave out those that state none."""
        return entry.get("pipeline_tag") in (None, task)

    def models(self):
        """Answer with a page of the models that a search finds."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        first = {name: values[0] for name, values in query.items()}
        entries = [
            entry
            for entry in self.server.listing
            if not isinstance(entry, dict)
            or (
                first.get("search", "") in str(entry.get("id"))
                and str(entry.get("id")).startswith(first.get("author", ""))
                and ("pipeline_tag" not in first or self.has_task(entry, first["pipeline_tag"]))
                and set(query.get("filter", [])) <= set(entry.get("tags") or [])
            )
        ]
        start = int(first.get("cursor", 0))
        end = start + min(self.server.page, int(first["limit"]))
        headers = {}
        if end < len(entries):
            following = urllib.parse.urlencode({**query, "cursor": [end]}, doseq=True)
            link = self.server.link(f"{self.server.url}/api/models?{following}")
            headers["Link"] = f'<{link}>; rel="next"'
        self.answer(200, entries[start:end], headers)

    def content(self):
        """Return the file that the path names."""
        path = urllib.parse.unquote(self.path)
        id, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        repository = self.server.repositories[id]
        content = repository.commits[self.commit_of(repository, revision)][name]
        return self.server.changed.get(name, bytes)(content)

    def file(self, id, revision, name):
        repository = self.repository(id)
        commit = repository and self.commit_of(repository, revision)
        if commit is None:
            return
        if repository.gated and self.token != READER:
            self.refuse(403 if self.token else 401, "GatedRepo")
        elif name not in repository.commits[commit]:
            self.refuse(404, "EntryNotFound")
        else:
            content = self.content()
            stored = repository.commits[commit][name]
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(stored).hexdigest()}"'}
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if self.command == "HEAD":
                self.answer(200, stored, headers)
            elif start is None:
                self.answer(200, content, headers)
            else:
                first = int(start[1])
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                self.answer(206, content[first:], headers)

    def create(self):
        if self.token != WRITER:
            return self.refuse(401 if self.token is None else 403, "Unauthorized")
        creation = json.loads(self.body)
        id = f"{creation['organization'] or 'me'}/{creation['name']}"
        url = {"url": f"{self.server.url}/{id}"}
        if id in self.server.repositories:
            return self.answer(409, {"error": "You already created this model repo", **url})
        private = creation.get("visibility") == "private" or creation.get("private") is True
        self.server.repositories[id] = Repository(private=private)
        return self.answer(200, url)

    def validate(self):
        self.answer(200, {"errors": [], "warnings": []})

    def preupload(self, id, revision):
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, id):
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.uploads[oid] = self.body
        self.answer(200, {})

    def commit(self, id, revision):
        repository = self.repository(id)
        if repository is None:
            return
        files = dict(repository.commits[repository.head])
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit") not in (
                None,
                repository.head,
            ):
                self.answer(412, {"error": "The branch has moved"})
                return
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repository.add(files)
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{id}/commit/{oid}"})

    ID = r"(?P<id>[\w.-]+/[\w.-]+)"
    REVISION = r"(?P<revision>[\w.-]+)"
    ROUTES = (
        (r"POST /api/repos/create", create),
        (r"POST /api/validate-yaml", validate),
        (r"GET /api/models\?.*", models),
        (rf"GET /api/models/{ID}(?:/revision/{REVISION})?(?:\?.*)?", info),
        (rf"(?:GET|HEAD) /{ID}/resolve/{REVISION}/(?P<name>.+)", file),
        (rf"POST /api/models/{ID}/preupload/{REVISION}(?:\?.*)?", preupload),
        (rf"POST /{ID}\.git/info/lfs/objects/batch", batch),
        (r"PUT /lfs/(?P<oid>\w+)", upload),
        (rf"POST /api/models/{ID}/commit/{REVISION}(?:\?.*)?", commit),
    )

    def log_message(self, *_):
        pass
