"""What can not be done, as one sentence and the next step: GemmaError, and four kinds that a program tells apart."""

from __future__ import annotations


class GemmaError(Exception):
    """What was asked can not be done; all errors of this project that a user can meet are of this class.

    `message` names the thing and shows the value; `hint` offers the next step, and is empty where there is none.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class BundleError(GemmaError):
    """The bundle is damaged, of another version, without what is asked of it, or no bundle at all."""


class ContextFull(GemmaError):
    """There are more tokens than the context holds, or more context than memory: make the conversation shorter."""


class NotInstalled(GemmaError):
    """A package of an extra is missing; the hint says how to install it."""


class RequestError(GemmaError):
    """What was asked can not be done as it is: messages, tools, a schema, an option."""


class GateMissed(GemmaError):
    """An export lost more than its recipe allows; whoever accepts the loss needs the same work again."""
