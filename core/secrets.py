"""Keys on their way to the engine: by a pipe, never in its environment, where every child and the sandbox's neighbours
could read them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from typing import BinaryIO

import msgspec

PREFIXES = ("ANTHROPIC_",)
"""Names of environment variables that a model's client reads; any of them may hold a key."""

KEY_NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Those that hold one."""

_PR_SET_DUMPABLE = 4  # prctl(2)


def is_secret(name: str) -> bool:
    """Whether an environment variable belongs to a model's client, and is kept from every other process."""
    return name.startswith(PREFIXES)


def split_environment(environment: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The secrets of an environment, and the environment without them."""
    secrets = {name: value for name, value in environment.items() if is_secret(name)}
    return secrets, {name: value for name, value in environment.items() if name not in secrets}


def take_secrets(pipe: BinaryIO | None) -> dict[str, str]:
    """The secrets of this process, gone from its environment afterwards; its memory is closed to other processes.

    Args:
        pipe: brings a JSON object of names and values, and ends; None: they are taken from the environment alone.
    """
    secrets, _ = split_environment(os.environ)
    for name in secrets:
        del os.environ[name]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return secrets if pipe is None else msgspec.json.decode(pipe.read(), type=dict[str, str])
