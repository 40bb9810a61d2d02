"""The server's routes: chat completions as OpenAI's clients ask for them, models, health, the chat page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ..errors import GemmaError
from ..machine.resident_memory import resident
from ..session.session import Session
from . import refusal as serve_errors
from .answer import ChatResponse
from .guard import Allowed, Guard
from .queue import ServeQueue
from .refusal import Refusal, refusal_of
from .request import chat_request

PAGE = Path(__file__).with_name("chat_page.html")
BODY_SECONDS = 30.0  # for a body to come in


@dataclass(frozen=True)
class Limits:
    """tokens, seconds: of one answer, in seconds with its waiting; body: bytes of a request.

    silence: seconds of a stream after which a comment says that it lives
    """

    waiting: int
    tokens: int
    seconds: float
    body: int
    silence: float = 10.0


class Server:
    """What the routes share: one session behind its queue."""

    def __init__(self, session: Session, model: str, limits: Limits) -> None:
        self.session, self.model, self.limits = session, model, limits
        self.queue = ServeQueue(session, limits.waiting)

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self.described()]})

    async def one_model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self.model:
            raise Refusal(
                404,
                f"there is no model {name!r:.80}",
                f"this server has the model {self.model!r}",
                code="model_not_found",
            )
        return JSONResponse(self.described())

    def described(self) -> dict[str, Any]:
        return {"id": self.model, "object": "model", "created": 0, "owned_by": "gemma-edge"}

    async def health(self, request: Request) -> Response:
        control = self.session.control
        return JSONResponse(
            {
                "status": "ok",
                "model": self.model,
                "context": self.session.context,
                "max_tokens": self.limits.tokens,
                "thinking": control.can_think,
                "tools": control.can_call,
                "waiting": self.queue.waiting,
                "resident_bytes": resident(),
            }
        )

    async def chat(self, request: Request) -> Response:
        """Raises GemmaError for a request that is refused before its answer begins."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(415, f"the body has the type {kind!r:.80}", "send application/json")
        raw = await body(request, self.limits.body)
        wanted = chat_request(raw, self.model, min(self.limits.tokens, self.session.context))
        return ChatResponse(self.queue, self.model, self.limits.seconds, self.limits.silence, wanted)


async def body(request: Request, most: int) -> bytes:
    """Raises Refusal for a body of too many bytes, which are read all the same, or one that takes too long."""
    kept, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                kept += piece if size <= most else b""
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive within {BODY_SECONDS:g} seconds", "send it at once") from error
    if size > most:
        raise Refusal(
            413, f"the body has {size:,} bytes, and this server reads at most {most:,}", "shorten the conversation"
        )
    return bytes(kept)


def page() -> HTMLResponse:
    """The chat page; the browser runs its own script and style, by their hashes, and nothing else."""
    text = PAGE.read_text(encoding="utf-8")
    hashes = {tag: hash_of(text, tag) for tag in ("script", "style")}
    policy = (
        f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy, "Cross-Origin-Opener-Policy": "same-origin"})


def hash_of(text: str, tag: str) -> str:
    contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
    digests = (hashlib.sha256(content.encode()).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


async def refused(request: Request, error: Exception) -> Response:
    """Whatever a route raises, in OpenAI's shape."""
    if isinstance(error, HTTPException):
        where = f"{request.method} {request.url.path}"
        refusal = Refusal(error.status_code, f"{where:.80}: {error.detail}", "use POST /v1/chat/completions")
        return serve_errors.response(refusal)
    return serve_errors.response(refusal_of(error))


async def gone(request: Request, error: Exception) -> Response:
    """A client that hung up in the middle of its request hears nothing of it."""
    return Response(status_code=400)


def cross_origin(allowed: Allowed) -> list[Middleware]:
    """What lets a browser show pages of the allowed origins our answers (CORS)."""
    if not allowed.origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=sorted(allowed.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["Retry-After"],
        )
    ]


def make_app(server: Server, allowed: Allowed) -> Starlette:
    shown = page()

    async def front(request: Request) -> Response:
        return shown

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.queue.close)

    routes = [
        Route("/", front),
        Route("/health", server.health),
        Route("/v1/models", server.models),
        Route("/v1/models/{name:path}", server.one_model),
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, allowed=allowed), *cross_origin(allowed)],
        exception_handlers={GemmaError: refused, HTTPException: refused, ClientDisconnect: gone, Exception: refused},
        lifespan=lifespan,
    )
