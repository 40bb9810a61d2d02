"""Requests one after the other through one session: a bounded queue, and one thread that answers.

Another thread understands them as they come: what is refused is refused at once, not after the answers before.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from ..errors import GemmaError
from ..language.events import Event
from ..session.session import Prepared, Session
from .refusal import Refusal
from .request import ChatRequest

LONGEST_RETRY = 60  # seconds


@dataclass(frozen=True)
class Accepted:
    """The request is in order, and waits for its turn."""


Update = Accepted | Event | Exception


@dataclass(eq=False)
class Job:
    """A request on its way; `tell` is called from our threads, last with an End or an error."""

    request: ChatRequest
    tell: Callable[[Update], None]
    prepared: Prepared | None = field(default=None)
    cancelled: bool = field(default=False)


class ServeQueue:
    """`submit` and `cancel` are for any thread."""

    def __init__(self, session: Session, waiting: int) -> None:
        self._session, self._most = session, waiting
        self._new: deque[Job] = deque()
        self._reading: Job | None = None  # while it is prepared
        self._ready: deque[Job] = deque()
        self._running: Job | None = None  # while the session answers it
        self._unfinished = 0  # waiting and running
        self._closed = False
        self._seconds = 1.0  # of an answer, lately
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._read, "requests"), (self._work, "answers"))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return len(self._new) + len(self._ready) + (self._reading is not None)

    def submit(self, request: ChatRequest, tell: Callable[[Update], None]) -> Job:
        """Raises Refusal where as many wait as may."""
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is closing", "ask again later", retry_after=1)
            if self._unfinished > self._most:
                raise Refusal(
                    429,
                    f"the queue is full: {self._unfinished} requests are being answered or waiting",
                    "ask again later",
                    code="queue_full",
                    retry_after=self.retry_after(),
                )
            job = Job(request, tell)
            self._new.append(job)
            self._unfinished += 1
            self._changed.notify_all()
        return job

    def cancel(self, job: Job, why: Exception | None = None) -> None:
        """End a request: at once while it waits, where it is told `why`, else within one token."""
        with self._changed:
            if job.cancelled:
                return
            job.cancelled = True
            if job is self._running:
                self._session.cancel()
            elif self._waits(job):
                job.tell(why or Refusal(503, "the request was cancelled", "send it again"))

    def _waits(self, job: Job) -> bool:
        """Whether a request has no answer yet; it is taken out of its line."""
        for line in (self._new, self._ready):
            if job in line:
                line.remove(job)
                self._unfinished -= 1
                return True
        return job is self._reading  # whose thread takes it out

    def close(self) -> None:
        """End what runs, answer what waits with a refusal, and wait for the threads."""
        with self._changed:
            self._closed = True
            for job in [*self._new, self._reading, *self._ready, self._running]:
                if job:
                    self.cancel(job)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def retry_after(self) -> int:
        """Seconds until there may be room."""
        return int(min(max(1.0, self._seconds * (self.waiting + 1)), LONGEST_RETRY))

    def _read(self) -> None:
        """Prepare requests as they come."""
        while job := self._next(self._new):
            update: Update = Accepted()
            try:
                job.prepared = self._session.prepare(job.request.messages, job.request.options)
            except Exception as error:  # of one request; the next may be in order
                update = error
                report(error)
            with self._changed:
                self._reading = None
                if not job.cancelled:
                    job.tell(update)
                if job.cancelled or not isinstance(update, Accepted):
                    self._unfinished -= 1
                else:
                    self._ready.append(job)
                    self._changed.notify_all()

    def _next(self, line: deque[Job]) -> Job | None:
        with self._changed:
            while not line and not self._closed:
                self._changed.wait()
            job = line.popleft() if line else None
            if line is self._new:
                self._reading = job
            return job

    def _work(self) -> None:
        """Answer what is prepared."""
        while job := self._next(self._ready):
            begun = monotonic()
            try:
                for event in self._answer(job):
                    job.tell(event)
            except Exception as error:  # of one request; the next may be in order
                report(error)
                if not isinstance(error, GemmaError):
                    self._session.reset()
                job.tell(error)
            finally:
                with self._changed:
                    self._running = None
                    self._unfinished -= 1
                self._seconds += (monotonic() - begun - self._seconds) / 4

    def _answer(self, job: Job) -> Iterator[Event]:
        assert job.prepared is not None
        events = self._session.answer(job.prepared)
        with self._changed:
            self._running = job
            if job.cancelled:
                self._session.cancel()
        yield from events


def report(error: Exception) -> None:
    """Report a mistake of ours on standard error."""
    if not isinstance(error, GemmaError):
        traceback.print_exception(error, file=sys.stderr)
