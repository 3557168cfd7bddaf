"""The version of this installation."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version


@functools.cache
def installed_version() -> str:
    """The distribution's version, or "0" where it is not installed as a distribution."""
    try:
        return version("autoresearch-tui")
    except PackageNotFoundError:
        return "0"
