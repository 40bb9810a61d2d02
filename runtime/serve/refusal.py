"""Errors in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from ..errors import ContextFull, GemmaError

KINDS = {401: "authentication_error", 429: "rate_limit_error"}  # other 4xx: invalid_request_error, 5xx: server_error


class Refusal(GemmaError):
    """A request that is not answered: `status` for HTTP, `code` and `param` for the client's program."""

    def __init__(
        self, status: int, message: str, hint: str, *, code: str = "", param: str = "", retry_after: int = 0
    ) -> None:
        super().__init__(message, hint)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after


def refusal_of(error: Exception) -> Refusal:
    """What went wrong, for the client; of a mistake of ours it learns only that there was one."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ContextFull):  # clients that know the code shorten the conversation
        return Refusal(400, error.message, error.hint, code="context_length_exceeded", param="messages")
    if isinstance(error, GemmaError):
        return Refusal(400, error.message, error.hint)
    return Refusal(500, "the server failed", "see the server's standard error", code="internal_error")


def body(refusal: Refusal) -> dict[str, Any]:
    kind = KINDS.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    said = f"{refusal.message}; {refusal.hint}" if refusal.hint else refusal.message
    return {"error": {"message": said, "type": kind, "param": refusal.param or None, "code": refusal.code or None}}


def response(refusal: Refusal) -> JSONResponse:
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
    return JSONResponse(body(refusal), refusal.status, headers)
