"""A hub of one repository on this machine: as much of its protocol as huggingface_hub needs to download."""

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
from urllib.parse import unquote, urlsplit

REPOSITORY = "someone/tiny"


@dataclass
class Hub:
    """Files of a repository, what was asked for, and how it fails."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    served: list[str] = field(default_factory=list)  # paths whose bytes were asked for
    ranges: list[str] = field(default_factory=list)
    breaks_once: set[str] = field(default_factory=set)  # the connection ends in the middle of these, once
    refuses: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # status and error code, by path; "" is the repository
    address: str = ""

    @classmethod
    def of(cls, folder: Path) -> Hub:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return cls({path.relative_to(folder).as_posix(): path.read_bytes() for path in paths})

    @contextmanager
    def running(self) -> Iterator[Hub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def answer(self, head: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        api, resolve = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/"
        if "" in self.hub.refuses:
            self.refuse(*self.hub.refuses[""])
        elif path == api or path.startswith(f"{api}/revision/"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            self.say({"id": REPOSITORY, "sha": self.hub.commit, "siblings": siblings})
        elif path.startswith(f"{api}/tree/"):
            self.say([described(name, raw) for name, raw in self.hub.files.items()])
        elif path.startswith(resolve):
            self.resolve(path.removeprefix(resolve).partition("/")[2], head)
        else:
            self.refuse(404, "RepoNotFound")

    def resolve(self, name: str, head: bool) -> None:
        if name in self.hub.refuses:
            self.refuse(*self.hub.refuses[name])
        elif name not in self.hub.files:
            self.refuse(404, "EntryNotFound")
        else:
            self.give(name, self.hub.files[name], head)

    def give(self, name: str, raw: bytes, head: bool) -> None:
        first, asked = 0, self.headers.get("Range", "")
        if asked:
            first = int(asked.removeprefix("bytes=").partition("-")[0])
            self.hub.ranges.append(f"{name} {asked}")
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{hashlib.sha256(raw).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.hub.commit)
        self.send_header("Content-Length", str(len(raw) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(raw) - 1}/{len(raw)}")
        self.end_headers()
        if head:
            return
        self.hub.served.append(name)
        breaks = name in self.hub.breaks_once
        self.hub.breaks_once.discard(name)
        self.wfile.write(raw[first : len(raw) // 2] if breaks else raw[first:])
        self.close_connection = breaks

    def say(self, answer: Any) -> None:
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", f"{code} of {REPOSITORY}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def described(name: str, raw: bytes) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}
