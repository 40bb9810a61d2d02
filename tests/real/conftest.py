"""Keeps the real model's tests out of every run but `-m real`."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    # `-m "not slow"` on the command line replaces the `-m "not real"` of pyproject.toml.
    return None if config.getoption("markexpr") == "real" else True
