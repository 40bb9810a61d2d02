"""Who may ask: browsers only from our own page, and only by a name of this machine.

A page of another site can make a browser send requests here, and by DNS rebinding its name can
lead here.  The Host header and the Origin header tell.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import serve_errors
from .serve_errors import Refusal

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Around an app.  `loopback`: only names of this machine are answered."""

    def __init__(self, app: ASGIApp, loopback: bool) -> None:
        self._app, self._loopback = app, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refusal(Headers(scope=scope))
        app = serve_errors.response(refused) if refused else self._app
        await app(scope, receive, with_headers)

    def _refusal(self, headers: Headers) -> Refusal | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._loopback and not is_loopback(name_of(host)):
            return Refusal(403, f"the host {host!r:.80} is not this machine", "ask http://127.0.0.1 or localhost")
        if origin is not None and origin.partition("://")[2] != host:
            return Refusal(403, f"a page of {origin!r:.80} may not ask", "open the page that this server serves")
        return None


def name_of(host: str) -> str:
    """Without the port: `[::1]:8080`, `localhost:8080`, `127.0.0.1`."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
