"""What a screen puts into the clipboard of the person's own machine: a sequence that the terminal obeys (OSC 52)."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from typing import Final

MOST_ENCODED: Final = 100_000
"""Bytes of base64 that are sent: what the tightest terminals take in one sequence (hterm: osc52.sh)."""

_CONTROL: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Pasted into a shell, these would do something. Line feeds and tabs stay."""


class TooMuch(ValueError):
    """More than a terminal takes; the text says so."""


def sequence(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The bytes that put a text into the clipboard. Raises TooMuch.

    Within tmux it is sent twice: tmux takes the first where `set-clipboard` is on, and hands the second through to its
    own terminal where `allow-passthrough` is on.
    """
    encoded = base64.b64encode(harmless(text).encode("utf-8", "replace")).decode("ascii")
    if len(encoded) > MOST_ENCODED:
        raise TooMuch(f"{len(text):,} characters are more than a terminal's clipboard takes at once")
    plain = f"\x1b]52;c;{encoded}\x07"
    return plain + f"\x1bPtmux;\x1b{plain}\x1b\\" if "TMUX" in environ else plain


def harmless(text: str) -> str:
    """A text without what would do something where it is pasted."""
    return _CONTROL.sub("", text.replace("\r\n", "\n"))
