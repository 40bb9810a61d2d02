"""What a person should know of a bundle before it answers."""

from __future__ import annotations

import sys

from ..bundle.bundle import Bundle


def print_notices(bundle: Bundle) -> None:
    """One line each on standard error."""
    if bundle.manifest.lost_ranges:
        print(
            f"note: {bundle.folder}: made without the activation ranges of its release, it answers worse than that; "
            "export it again",
            file=sys.stderr,
        )
