"""The response to a chat completion: it waits for its turn, then comes whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..language.events import End, Event
from . import refusal as serve_errors
from .queue import Accepted, Job, ServeQueue, Update
from .refusal import Refusal, refusal_of
from .reply import Reply
from .request import ChatRequest


class ChatResponse(Response):
    """Waits for its turn, then streams; ends the answer when the client hangs up, or its time is over."""

    def __init__(self, queue: ServeQueue, model: str, seconds: float, silence: float, request: ChatRequest) -> None:
        """Raises Refusal where as many wait as may.

        `seconds` are for waiting and answer; a stream says that it lives after `silence` seconds.
        """
        self._queue, self._request, self._seconds, self._silence = queue, request, seconds, silence
        self._reply = Reply(model, request.include_usage)
        self._updates: asyncio.Queue[Update] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._job = queue.submit(request, self._tell)

    def _tell(self, update: Update) -> None:
        """Pass on what the threads of the queue say."""
        self._loop.call_soon_threadsafe(self._updates.put_nowait, update)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        queue, job, seconds = self._queue, self._job, self._seconds
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
        first = await self._updates.get()
        if isinstance(first, Exception):
            await serve_errors.response(refusal_of(first))(scope, receive, send)
        elif self._request.stream:
            await self._stream(scope, receive, send)
        else:
            await (await self._whole())(scope, receive, send)

    async def _whole(self) -> Response:
        events: list[Event] = []
        while not (events and isinstance(events[-1], End)):
            update = await self._updates.get()
            if isinstance(update, Exception):
                return serve_errors.response(refusal_of(update))
            if not isinstance(update, Accepted):
                events.append(update)
        log(events[-1])
        return JSONResponse(self._reply.whole(events))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The status waits for the first event, or for the first comment: what ends before has a status of its own."""
        first = await self._next()
        if isinstance(first, Exception):
            await serve_errors.response(refusal_of(first))(scope, receive, send)
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for text in self._pieces(first):
            await send({"type": "http.response.body", "body": f"{text}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> Update | None:
        """The next update, or None after a silence."""
        try:
            async with asyncio.timeout(self._silence):
                return await self._updates.get()
        except TimeoutError:
            return None

    async def _pieces(self, update: Update | None) -> AsyncIterator[str]:
        while update is None:
            yield ": waiting"
            update = await self._next()
        yield piece(self._reply.first())
        while not isinstance(update, End):
            if isinstance(update, Exception):  # too late for a status
                yield piece(serve_errors.body(refusal_of(update)))
                return
            yield ": waiting" if update is None or isinstance(update, Accepted) else piece(self._reply.chunk(update))
            update = await self._next()
        yield piece(self._reply.chunk(update))
        log(update)
        if self._request.include_usage:
            yield piece(self._reply.counts(update))
        yield "data: [DONE]"


def piece(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}"


async def hung_up(receive: Receive, queue: ServeQueue, job: Job) -> None:
    """Ends the job once the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    queue.cancel(job)


def log(event: Event) -> None:
    """A line on standard error for an answer."""
    if isinstance(event, End):
        said = f"{event.prompt_tokens} tokens read, {event.reused} of them known; {event.new_tokens} said"
        print(f"{said}, {event.decode_tok_s:.1f} tokens/s, ended: {event.stop}", file=sys.stderr)
