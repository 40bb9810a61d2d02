"""Who may ask a server on loopback."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse

from runtime.serve_guard import Guard, is_loopback, name_of


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
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("headers", "loopback", "found"),
    [
        ({"host": "127.0.0.1:1"}, True, 200),
        ({"host": "127.0.0.1:1", "origin": "http://127.0.0.1:1"}, True, 200),
        ({"host": "127.0.0.1:1", "origin": "http://evil.example"}, True, 403),
        ({"host": "127.0.0.1:1", "origin": "null"}, True, 403),
        ({"host": "evil.example"}, True, 403),
        ({"host": "box.example"}, False, 200),
        ({}, True, 403),
    ],
)
def test_requests_of_other_pages_and_names_are_refused(headers, loopback, found):
    assert status(Guard(PlainTextResponse("ok"), loopback), **headers) == found
