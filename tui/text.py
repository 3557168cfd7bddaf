"""Text that is safe to show: foreign text made harmless, and lines cut and padded to exact numbers of cells."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Final, Literal

from rich.cells import cell_len

TAB_CELLS: Final = 4

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI ... final
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC up to their terminator
    r"|\x1b[ -/]*[0-~]?"  # any other escape
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI as one C1 byte
)
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me"})
_EMOJI_MODIFIERS = range(0x1F3FB, 0x1F400)


@functools.lru_cache(maxsize=4096)
def _safe_character(character: str) -> bool:
    """Whether a character stands for itself in one or two cells, whatever its neighbours are."""
    if unicodedata.category(character) in _DROPPED_CATEGORIES or ord(character) in _EMOJI_MODIFIERS:
        return False
    return cell_len(character) in (1, 2)


def clean(text: str) -> str:
    """One line of foreign text with nothing in it that could move the cursor, hide or join with its neighbours.

    Escape sequences go whole; control, format (bidirectional, zero-width), private, unassigned and combining
    characters go (after composing them, so that é stays); every run of white space becomes one blank.
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip(" ")
    return " ".join(_harmless(text.replace("\n", " ").replace("\r", " ").replace("\t", " ")).split())


def clean_lines(text: str) -> list[str]:
    """Foreign text as harmless lines, indentation kept: `\\n` and `\\r\\n` end a line, tabs become blanks."""
    return [_harmless(line) for line in _split_lines(text)]


def printable(line: str) -> str:
    """A line as it may be printed where there is no screen: harmless, its indentation and columns kept."""
    return " ".join(clean_lines(line))


def _split_lines(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").split("\n")
    # A lone carriage return overwrites its line in a terminal: what was last written is what is meant.
    return [line.rstrip("\r").rsplit("\r", 1)[-1].expandtabs(TAB_CELLS) for line in lines]


def _harmless(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = unicodedata.normalize("NFC", _ESCAPES.sub("", text))
    return "".join(" " if c == "\xa0" else c for c in text if _safe_character(c))


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The longest start of a clean text that fits into `width` cells, with an ellipsis where something was lost."""
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return text
    if width <= cell_len(ellipsis):
        return _take(text, width) if not ellipsis else ellipsis[:width]
    return _take(text, width - cell_len(ellipsis)) + ellipsis


def _take(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:index]
    return text


def fit(text: str, width: int, align: Literal["left", "right"] = "left", ellipsis: str = "…") -> str:
    """A clean text in exactly `width` cells: cut where it is longer, padded with blanks where it is shorter."""
    short = cut(text, width, ellipsis)
    padding = " " * (max(0, width) - cell_len(short))
    return padding + short if align == "right" else short + padding


def wrap(text: str, width: int) -> list[str]:
    """A clean line broken between words, at most `width` cells a line; longer words are broken inside.

    An indentation is kept on the first line only. At least one line comes back.
    """
    width = max(1, width)
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    line = ""
    for word in re.findall(r"\s*\S+", text):
        if cell_len(line) + cell_len(word) <= width:
            line += word
            continue
        if line:
            lines.append(line)
            word = word.lstrip()
        while cell_len(word) > width:
            head = _take(word, width) or word[0]
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line] if line or not lines else lines
