"""Requests one after the other through one session: a bounded queue, and one thread that answers."""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from .errors import GemmaError
from .events import Event
from .serve_errors import Refusal
from .serve_request import Asked
from .session import Session
from .stop_text import cut

LONGEST_RETRY = 60  # seconds


@dataclass(frozen=True)
class Started:
    """The request was understood, and its answer has begun."""


Told = Started | Event | Exception


@dataclass(eq=False)
class Job:
    """A request on its way; `tell` is called from the thread that answers, last with an End or an error."""

    asked: Asked
    tell: Callable[[Told], None]
    cancelled: bool = field(default=False)


class ServeQueue:
    """`submit` and `cancel` are for any thread."""

    def __init__(self, session: Session, waiting: int) -> None:
        self._session, self._most = session, waiting
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None  # while the session answers it
        self._unfinished = 0  # waiting and running
        self._closed = False
        self._seconds = 1.0  # of an answer, lately
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="answers", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    def submit(self, asked: Asked, tell: Callable[[Told], None]) -> Job:
        """Raises Refusal where as many wait as may."""
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is closing", "ask again later", retry_after=1)
            if self._unfinished > self._most:
                raise Refusal(
                    429,
                    f"{self._unfinished} requests are being answered or waiting already",
                    "ask again later",
                    code="queue_full",
                    retry_after=self.retry_after(),
                )
            job = Job(asked, tell)
            self._jobs.append(job)
            self._unfinished += 1
            self._changed.notify()
        return job

    def cancel(self, job: Job, why: Exception | None = None) -> None:
        """End a request: at once while it waits, where it is told `why`, else within one token."""
        with self._changed:
            job.cancelled = True
            if job in self._jobs:
                self._jobs.remove(job)
                self._unfinished -= 1
                job.tell(why or Refusal(503, "the request was cancelled", "ask again"))
            elif job is self._running:
                self._session.cancel()

    def close(self) -> None:
        """End what runs, answer what waits with a refusal, and wait for the thread."""
        with self._changed:
            self._closed = True
            for job in [*self._jobs, *([self._running] if self._running else [])]:
                self.cancel(job)
            self._changed.notify()
        self._thread.join()

    def retry_after(self) -> int:
        """Seconds until there may be room."""
        return int(min(max(1.0, self._seconds * (len(self._jobs) + 1)), LONGEST_RETRY))

    def _work(self) -> None:
        while job := self._next():
            begun = monotonic()
            try:
                for event in self._answer(job):
                    job.tell(event)
            except Exception as error:  # of one request; the next may be in order
                self._failed(job, error)
            finally:
                with self._changed:
                    self._running = None
                    self._unfinished -= 1
                self._seconds += (monotonic() - begun - self._seconds) / 4

    def _next(self) -> Job | None:
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return self._jobs.popleft() if self._jobs else None

    def _answer(self, job: Job) -> Iterator[Told]:
        asked = job.asked
        events = self._session.chat(
            asked.messages,
            asked.sampling,
            asked.limit,
            tools=asked.tools,
            tool_choice=asked.tool_choice,
            thinking=asked.thinking,
            thinking_budget=asked.budget,
            response_format=asked.response_format,
        )
        with self._changed:
            self._running = job
            if job.cancelled:
                self._session.cancel()
        yield Started()
        yield from cut(events, asked.stops, not asked.parallel, self._session.cancel)

    def _failed(self, job: Job, error: Exception) -> None:
        if not isinstance(error, GemmaError):
            traceback.print_exception(error, file=sys.stderr)
            self._session.reset()
        job.tell(error)
