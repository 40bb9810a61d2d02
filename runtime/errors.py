"""What a user did can not be done: one sentence, and the next step."""

from __future__ import annotations


class GemmaError(Exception):
    """`message` names the thing and shows the value; `hint` offers the next step."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ContextExceeded(GemmaError):
    """A prompt of more tokens than the context holds: the conversation has to be made shorter."""


class GateMissed(GemmaError):
    """An export lost more than its recipe allows; whoever accepts the loss needs the same work again."""
