"""Who may ask a server on loopback."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse

from runtime.errors import GemmaError
from runtime.serve.guard import Allowed, Guard, is_loopback, name_of


@pytest.mark.parametrize(
    ("host", "name", "local"),
    [
        ("127.0.0.1:8080", "127.0.0.1", True),
        ("127.1.2.3", "127.1.2.3", True),
        ("LOCALHOST:1", "LOCALHOST", True),
        ("[::1]:8080", "::1", True),
        ("localhost.evil.example", "localhost.evil.example", False),
        ("10.0.0.1:80", "10.0.0.1", False),
        ("", "", False),
        ("host.docker.internal:8080", "host.docker.internal", False),
        ("127.0.0.1:80@evil.example", "", False),
        ("user@127.0.0.1", "", False),
        ("[127.0.0.1]evil.example", "", False),
        ("localhost:evil.example/", "", False),
        ("localhost:", "", False),
        ("localhost:123456", "", False),
        ("[::1]", "::1", True),
        ("[::1", "", False),
        ("::1", "", False),
        ("localhost\n", "", False),
        ("localhost evil.example", "", False),
        ("x" * 300, "", False),
    ],
)
def test_names_of_this_machine(host, name, local):
    assert name_of(host) == name
    assert is_loopback(name) == local


def status(guard: Guard, **headers: str) -> int:
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw}
    asyncio.run(guard(scope, receive, send))
    assert (b"x-content-type-options", b"nosniff") in sent[0]["headers"]
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("headers", "loopback", "found"),
    [
        ({"host": "127.0.0.1:1"}, True, 200),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"}, True, 200),
        ({"host": "127.0.0.1:1", "origin": "http://evil.example"}, True, 403),
        ({"host": "127.0.0.1:1", "origin": "null"}, True, 403),
        ({"host": "127.0.0.1:1", "origin": "https://127.0.0.1:1"}, True, 200),
        ({"host": "127.0.0.1:1", "origin": "evil://127.0.0.1:1"}, True, 403),
        ({"host": "127.0.0.1:1", "origin": "://127.0.0.1:1"}, True, 403),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:2"}, True, 403),
        ({"host": "box.example:1@evil.example"}, False, 403),
        ({"host": "evil.example"}, True, 403),
        ({"host": "box.example"}, False, 200),
        ({}, True, 403),
    ],
)
def test_requests_of_other_pages_and_names_are_refused(headers, loopback, found):
    assert status(Guard(PlainTextResponse("ok"), Allowed(loopback)), **headers) == found


@pytest.mark.parametrize(
    ("headers", "loopback", "found"),
    [
        ({"host": "host.docker.internal:8080"}, True, 200),
        ({"host": "HOST.docker.internal"}, True, 200),
        ({"host": "docker.internal"}, True, 403),
        ({"host": "localhost:1"}, True, 200),
        ({"host": "10.0.0.1:1"}, True, 403),
        ({"host": "10.0.0.1:1"}, False, 200),
        ({"host": "[fe80::1]:1"}, False, 200),
        ({"host": "host.docker.internal"}, False, 200),
        ({"host": "evil.example"}, False, 403),
        ({"host": "localhost:1", "origin": "http://localhost:3000"}, True, 200),
        ({"host": "localhost:1", "origin": "app://obsidian.md"}, True, 200),
        ({"host": "localhost:1", "origin": "http://localhost:3001"}, True, 403),
        ({"host": "localhost:1", "origin": "http://localhost:3000.evil.example"}, True, 403),
        ({"host": "evil.example", "origin": "http://localhost:3000"}, True, 403),
    ],
)
def test_names_and_origins_that_are_allowed(headers, loopback, found):
    allowed = Allowed.of(loopback, ["host.docker.internal"], ["http://localhost:3000", "app://obsidian.md"])
    assert status(Guard(PlainTextResponse("ok"), allowed), **headers) == found


@pytest.mark.parametrize("host", ["", "a:80", "http://a", "a/b", "a b", "[::1]", "*", "-"])
def test_a_host_is_allowed_by_its_name_alone(host):
    with pytest.raises(GemmaError, match="is not the name of a host"):
        Allowed.of(True, [host], [])


@pytest.mark.parametrize(
    "origin", ["", "*", "null", "localhost:3000", "http://a/", "http://a:b", "HTTP://a", "http://a b"]
)
def test_an_origin_is_a_scheme_and_a_host(origin):
    with pytest.raises(GemmaError, match="is not the origin of a page"):
        Allowed.of(True, [], [origin])
