"""The server's routes: chat completions as OpenAI's clients ask for them, models, health, the chat page."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import serve_errors
from .errors import GemmaError
from .events import End, Event
from .resident_memory import resident
from .serve_errors import Refusal, refusal_of
from .serve_guard import Guard
from .serve_queue import Job, ServeQueue, Started, Told
from .serve_reply import Reply
from .serve_request import Asked, asked
from .session import Session

PAGE = Path(__file__).with_name("chat_page.html")
BODY_SECONDS = 30.0  # for a body to come in


@dataclass(frozen=True)
class Limits:
    """tokens, seconds: of one answer, in seconds with its waiting; body: bytes of a request."""

    waiting: int
    tokens: int
    seconds: float
    body: int


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
            raise Refusal(404, f"there is no model {name!r:.80}", f"it is {self.model!r}", code="model_not_found")
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
            raise Refusal(415, f"a body of the type {kind!r:.80}", "send application/json")
        raw = await body(request, self.limits.body)
        wanted = asked(raw, self.model, self.session.defaults(), min(self.limits.tokens, self.session.context))
        return ChatResponse(self, wanted)


class ChatResponse(Response):
    """Waits for its turn, then streams; ends the answer when the client hangs up, or its time is over."""

    def __init__(self, server: Server, wanted: Asked) -> None:
        self._server, self._asked = server, wanted
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._job = server.queue.submit(wanted, self._tell)

    def _tell(self, told: Told) -> None:
        """From the thread that answers."""
        self._loop.call_soon_threadsafe(self._told.put_nowait, told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue, job, seconds = self._server.queue, self._job, self._server.limits.seconds
        late = Refusal(503, f"no answer within {seconds:g} seconds", "ask again later", retry_after=queue.retry_after())
        expiry = self._loop.call_later(seconds, queue.cancel, job, late)
        watch = asyncio.create_task(hung_up(receive, queue, job))
        try:
            await self._begin(scope, receive, send)
        finally:
            expiry.cancel()
            watch.cancel()
            queue.cancel(job)

    async def _begin(self, scope: Scope, receive: Receive, send: Send) -> None:
        first = await self._told.get()
        if isinstance(first, Exception):
            await serve_errors.response(refusal_of(first))(scope, receive, send)
        elif self._asked.stream:
            await self._stream(send)
        else:
            await (await self._whole())(scope, receive, send)

    async def _whole(self) -> Response:
        events: list[Event] = []
        while not (events and isinstance(events[-1], End)):
            told = await self._told.get()
            if isinstance(told, Exception):
                return serve_errors.response(refusal_of(told))
            if not isinstance(told, Started):
                events.append(told)
        log(events[-1])
        return JSONResponse(Reply(self._server.model).whole(events))

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._pieces():
            data = json.dumps(piece, ensure_ascii=False, separators=(",", ":")) if isinstance(piece, dict) else piece
            await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _pieces(self) -> AsyncIterator[dict[str, Any] | str]:
        reply = Reply(self._server.model, self._asked.include_usage)
        yield reply.first()
        told: Told = Started()
        while not isinstance(told, End):
            told = await self._told.get()
            if isinstance(told, Exception):  # too late for a status
                yield serve_errors.body(refusal_of(told))
                return
            if not isinstance(told, Started):
                yield reply.chunk(told)
        log(told)
        if self._asked.include_usage:
            yield reply.counts(told)
        yield "[DONE]"


async def hung_up(receive: Receive, queue: ServeQueue, job: Job) -> None:
    """Ends the job once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    queue.cancel(job)


async def body(request: Request, most: int) -> bytes:
    """Raises Refusal for a body of too many bytes, which are read all the same, or one that takes too long."""
    kept, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                size += len(piece)
                kept += piece if size <= most else b""
    except TimeoutError as error:
        raise Refusal(408, f"the body did not come within {BODY_SECONDS:g} seconds", "send it at once") from error
    if size > most:
        raise Refusal(413, f"a body of {size:,} bytes, this server reads {most:,}", "shorten the conversation")
    return bytes(kept)


def log(event: Event) -> None:
    """A line on standard error for an answer."""
    if isinstance(event, End):
        said = f"{event.prompt_tokens} tokens read, {event.reused} of them known; {event.new_tokens} said"
        print(f"{said}, {event.decode_tok_s:.1f} tokens/s, ended: {event.stop}", file=sys.stderr)


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
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in found)


async def refused(request: Request, error: Exception) -> Response:
    """Whatever a route raises, in OpenAI's shape."""
    if isinstance(error, HTTPException):
        where = f"{request.method} {request.url.path}"
        made = Refusal(error.status_code, f"{where:.80}: {error.detail}", "there is POST /v1/chat/completions")
        return serve_errors.response(made)
    return serve_errors.response(refusal_of(error))


async def gone(request: Request, error: Exception) -> Response:
    """A client that hung up in the middle of its request hears nothing of it."""
    return Response(status_code=400)


def make_app(server: Server, loopback: bool) -> Starlette:
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
        middleware=[Middleware(Guard, loopback=loopback)],
        exception_handlers={GemmaError: refused, HTTPException: refused, ClientDisconnect: gone, Exception: refused},
        lifespan=lifespan,
    )
