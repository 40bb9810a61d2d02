"""Who may ask: browsers only from our own page or an origin that is allowed, and only by a name of this machine.

A page of another site can make a browser send requests here, and by DNS rebinding its name can
lead here.  The Host header and the Origin header tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import RequestError
from . import refusal as serve_errors
from .refusal import Refusal

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?"
HOST = re.compile(rf"(?:({NAME})|\[([0-9A-Fa-f:.]{{2,45}})\])(?::[0-9]{{1,5}})?")  # of RFC 9110, without user names
ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://(?:{NAME}|\[[0-9a-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?")


@dataclass(frozen=True)
class Allowed:
    """`loopback`: only names of this machine are answered, and `hosts`.  `origins` are of pages that may ask.

    Beyond loopback every name is answered, or with `hosts` these and addresses.
    """

    loopback: bool
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, loopback: bool, hosts: Iterable[str], origins: Iterable[str]) -> Allowed:
        """Raises GemmaError for what no browser sends."""
        for host in hosts:
            if not re.fullmatch(NAME, host):
                raise RequestError(
                    f"{host} is not the name of a host", "give a name alone, for example host.docker.internal"
                )
        for origin in origins:
            if not ORIGIN.fullmatch(origin):
                raise RequestError(
                    f"{origin} is not the origin of a page", "give scheme and host, for example http://localhost:3000"
                )
        return cls(loopback, frozenset(host.lower() for host in hosts), frozenset(origins))

    def answers(self, name: str) -> bool:
        """Whether a request for a host of this name is answered."""
        if is_loopback(name) or name.lower() in self.hosts:
            return True
        return not self.loopback and (not self.hosts or is_address(name))

    def may_ask(self, origin: str, host: str) -> bool:
        return origin in {f"http://{host.lower()}", f"https://{host.lower()}"} | self.origins


class Guard:
    """Around an app: refuses, and adds headers."""

    def __init__(self, app: ASGIApp, allowed: Allowed) -> None:
        self._app, self._allowed = app, allowed

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
        name = name_of(host)
        if not name or not self._allowed.answers(name):
            return Refusal(
                403,
                f"the host {host!r:.80} is not this machine",
                "ask http://127.0.0.1 or localhost, or start the server with this host allowed",
            )
        if origin is not None and not self._allowed.may_ask(origin, host):
            return Refusal(
                403,
                f"pages of {origin!r:.80} may not use this server",
                "open the page that this server serves, or start it with this origin allowed",
            )
        return None


def name_of(host: str) -> str:
    """Cut the port off a host such as `[::1]:8080` or `localhost:8080`; "" stands for what is no host."""
    name_and_port = HOST.fullmatch(host)
    return (name_and_port[1] or name_and_port[2]) if name_and_port else ""


def is_loopback(name: str) -> bool:
    return name.lower() == "localhost" or (is_address(name) and ip_address(name).is_loopback)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
