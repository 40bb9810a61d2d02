"""A package of an extra: imported, or the sentence that names the extra."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from .errors import NotInstalled


def needs(module: str, extra: str, what_for: str, otherwise: str = "") -> ModuleType:
    """Import a module that is installed with `extra`, for what the message calls `what_for`.

    `otherwise` goes on with the hint, for who can do without.  Raises NotInstalled if the module, or a
    package that it imports, is missing.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error.name or module, extra, what_for, otherwise) from error


def check_installed(packages: Iterable[str], extra: str, what_for: str) -> None:
    """Raises NotInstalled for the first package that is missing; imports none of them."""
    for package in packages:
        if not find_spec(package):
            raise missing(package, extra, what_for)


def missing(module: str, extra: str, what_for: str, otherwise: str = "") -> NotInstalled:
    package = module.partition(".")[0]
    return NotInstalled(
        f"{what_for} needs the package {package}, which is not installed",
        f"pip install 'gemma-edge[{extra}]'{otherwise}",
    )
