"""A bundle served in a thread, for tests that ask over the network."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runtime.cli.cmd_serve import bound, model_name, web_server
from runtime.serve.app import Limits, Server
from runtime.serve.guard import Allowed
from runtime.session.model import Model
from runtime.session.session import Session

LIMITS = Limits(waiting=16, tokens=512, seconds=60, body=64 * 1024)
LOOPBACK = Allowed(loopback=True)
QUESTION = [{"role": "user", "content": "What is the capital of Norway?"}]


@dataclass(frozen=True)
class Served:
    url: str
    model: str
    session: Session
    server: Server


@contextmanager
def serving(
    folder: Path, limits: Limits = LIMITS, allowed: Allowed = LOOPBACK, session: Session | None = None
) -> Iterator[Served]:
    """On a free port of 127.0.0.1, until the context is left.  `session`: of the bundle, if it is no usual one."""
    with bound("127.0.0.1", 0) as listener:
        session = session or Model.open(folder, threads=1).session()
        server = Server(session, model_name(folder), limits)
        web = web_server(server, allowed)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until(lambda: web.started)
            yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", server.model, session, server)
        finally:
            web.should_exit = True
            thread.join()


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Waits for a condition; an assertion that it comes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def ask(served, body, headers=None, method="POST", path="/v1/chat/completions"):
    """Status, headers and body of a request by hand."""
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=60)
    raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
    connection.request(method, path, raw, {"Content-Type": "application/json"} | (headers or {}))
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found
