"""What a person should know of a bundle before it answers."""

from __future__ import annotations

import sys

from ..bundle.bundle import Bundle
from ..session.model import Model


def print_notices(bundle: Bundle) -> None:
    """One line each on standard error."""
    if bundle.manifest.lost_ranges:
        print(
            f"note: {bundle.folder}: made without the activation ranges of its release, it answers worse than that; "
            "export it again",
            file=sys.stderr,
        )


def print_shortened(model: Model, context: int) -> None:
    """A line on standard error if memory holds less than the model could read, and `context` asked for nothing."""
    most = model.weights.model.context
    if not context and model.context < most:
        print(f"memory for {model.context} of {most} tokens of context", file=sys.stderr)
