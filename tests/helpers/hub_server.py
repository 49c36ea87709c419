"""A server that speaks the few endpoints of the Hugging Face Hub through which folders are uploaded and downloaded."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_tests"


class Hub(ThreadingHTTPServer):
    """The server and what it holds.

    Attributes:
      files: by repository, then by path.
      private: whether each repository is.
      asked: every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Hub]:
    """Runs a hub."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

    def do_POST(self) -> None:
        body = self._body()
        self.server.asked.append(f"POST {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            if name in self.server.files:
                return self._send(409, {"error": "exists", "url": f"{self.server.url}/{name}"})
            self.server.files[name] = {}
            self.server.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            return self._send(200, {"url": f"{self.server.url}/{name}", "name": name})
        if self.path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self._send(200, {"files": modes})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    assert entry["value"]["encoding"] == "base64"
                    path = entry["value"]["path"]
                    self.server.files[found[1]][path] = base64.b64decode(entry["value"]["content"])
                elif entry["key"] == "deletedFile":
                    del self.server.files[found[1]][entry["value"]["path"]]
            commit = self._commit(found[1])
            url = f"{self.server.url}/{found[1]}/commit/{commit}"
            return self._send(200, {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})
        return self._send(404, {"error": f"no such endpoint: {self.path}"})

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/([^/]+))?", path):
            files = self.server.files.get(found[1])
            if files is None:
                return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            if found[3] not in (None, "main", self._commit(found[1])):
                return self._send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name} for name in files]
            about = {"id": found[1], "sha": self._commit(found[1]), "siblings": siblings, "private": False, "tags": []}
            return self._send(200, about)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            files = self.server.files[found[1]]
            digests = {name: hashlib.sha1(data).hexdigest() for name, data in files.items()}
            entries = [{"type": "file", "path": n, "size": len(files[n]), "oid": oid} for n, oid in digests.items()]
            return self._send(200, entries)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            data = self.server.files[found[1]][found[2]]
            tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": self._commit(found[1])}
            return self._send(200, data, tag)
        return self._send(404, {"error": f"no such endpoint: {path}"})

    do_HEAD = do_GET

    def _commit(self, repository: str) -> str:
        return hashlib.sha1(repr(sorted(self.server.files[repository].items())).encode()).hexdigest()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
