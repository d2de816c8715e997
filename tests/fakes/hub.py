"""A server that speaks the protocol of a model hub, so that the real client is what is tested."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Repositories by name; refusals by name, as (status, X-Error-Code, message); those whose files are gated.

    breaks_after: bytes of a large file after which the connection is cut once, and the hub is down. may_send: while it
    is not set, no large file is sent beyond its first third.
    """

    repositories: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    ranges: list[str] = field(default_factory=list)
    breaks_after: int = 0
    is_down: bool = False
    may_send: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_send.set()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0].strip("/")
        self.requests.append(f"{request.command} {path}")
        self.tokens.add(request.headers.get("authorization"))
        parts = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if self.is_down:
            self.send(request, 500, b"{}")
        elif repo in self.refusals or repo not in self.repositories:
            status, code, message = self.refusals.get(repo, (404, "RepoNotFound", "Repository not found"))
            self.send(request, status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})
        else:
            self.answer_known(request, repo, rest)

    def answer_known(self, request: BaseHTTPRequestHandler, repo: str, rest: list[str]) -> None:
        folder = self.repositories[repo]
        if rest[0] == "revision" and rest[1] not in ("main", COMMIT):
            self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[0] == "resolve" and repo in self.gated:
            self.send(request, 401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif rest[0] in ("revision", "tree"):
            names = sorted(path.name for path in folder.iterdir())
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            self.send(request, 200, json.dumps(info if rest[0] == "revision" else tree).encode())
        else:
            self.send_file(request, (folder / rest[2]).read_bytes())

    def send_file(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        is_large = len(content) > 100_000  # those are named by another hash
        blob = b"blob %d\0" % len(content)
        etag = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(blob + content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = request.headers.get("range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0] or 0) if wanted else 0
        if wanted:
            self.ranges.append(wanted)
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        if request.command == "HEAD" or not is_large:
            self.send(request, 206 if wanted else 200, rest, headers)
            return
        self.send(request, 206 if wanted else 200, rest, headers, with_body=False)
        first = self.breaks_after or len(rest) // 3
        request.wfile.write(rest[:first])
        request.wfile.flush()
        if self.breaks_after:
            self.breaks_after, self.is_down = 0, True
            request.close_connection = True
            return
        self.may_send.wait(60)
        request.wfile.write(rest[first:])

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        with_body: bool = True,
    ) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET" and with_body:
            request.wfile.write(body)


@contextmanager
def serve_hub() -> Iterator[tuple[FakeHub, str]]:
    """The hub, and its address for HF_ENDPOINT."""
    fake = FakeHub()

    class Answer(BaseHTTPRequestHandler):
        do_GET = do_HEAD = lambda self: fake.answer(self)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output to itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield fake, f"http://127.0.0.1:{server.server_port}"
    fake.may_send.set()
    server.shutdown()
    server.server_close()
