"""The one error of the package, and how lines of a file are quoted in it."""

from __future__ import annotations

from collections.abc import Iterable

QUOTED_WIDTH = 160


class PatchError(ValueError):
    """A change to `train.py` that cannot be made as asked.

    The message says what is wrong, where, and what to do, for a person and for a model alike; it may quote
    numbered lines of the file below its first line.
    """


def printable(text: str) -> str:
    """Return text that a terminal shows as it is: a control character other than a tab becomes U+FFFD."""
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def quote_lines(numbered: Iterable[tuple[int, str]]) -> str:
    """Return lines of a file under their numbers (from 1), one a row, made printable and cut to a sane width."""
    rows = []
    for number, line in numbered:
        line = line.rstrip("\r\n")
        cut = line if len(line) <= QUOTED_WIDTH else line[:QUOTED_WIDTH] + "…"
        rows.append(f"{number:5d} | {printable(cut)}")
    return "\n".join(rows)


def quote_text(text: str, width: int = 60) -> str:
    """Return a short, printable, one-line rendering of any text, for use inside a sentence."""
    flat = printable(" ".join(text.split()))
    return flat if len(flat) <= width else flat[: width - 1] + "…"
