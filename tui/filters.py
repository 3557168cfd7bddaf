"""The last door to the terminal: nothing passes that would do something there, nor what this one cannot show."""

from __future__ import annotations

import functools
import unicodedata
from typing import Final

from rich.cells import cell_len, split_graphemes
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_SIGNS: Final = {
    **dict.fromkeys("─╴╶╸╺╼╾┄┈╌▔", "-"),
    **dict.fromkeys("━═┅┉╍", "="),
    **dict.fromkeys("│╎┆┊╵╷▏▎▕", "|"),
    **dict.fromkeys("┃║┇┋╏╹╻▌▍▐", "#"),
    **dict.fromkeys("▁▂_", "_"),
    **dict.fromkeys("▃▄", "."),
    **dict.fromkeys("▅▆", "="),
    **dict.fromkeys("▇█▀▉▊▋▓", "#"),
    **dict.fromkeys("░▒", ":"),
    **dict.fromkeys("●◆■★◉", "*"),
    **dict.fromkeys("○◦◇□☆", "o"),
    **dict.fromkeys("·•∙⋅", "."),
    **dict.fromkeys("×✗✕✘", "x"),
    **dict.fromkeys("✓✔", "v"),
    **dict.fromkeys("▶▷▸▹›»→⏵", ">"),
    **dict.fromkeys("◀◁◂◃‹«←", "<"),
    **dict.fromkeys("▲△▴▵↑", "^"),
    **dict.fromkeys("▼▽▾▿↓", "v"),
    **dict.fromkeys("‘’‚′", "'"),
    **dict.fromkeys("“”„″", '"'),
    **dict.fromkeys("–—‐‑−", "-"),
    **dict.fromkeys("…", "."),
    **dict.fromkeys("‖", "|"),
    **dict.fromkeys("\u00a0\u2800", " "),
    "⏎": "/",
    "⌫": "<",
    "±": "~",
    "≤": "<",
    "≥": ">",
    "≈": "~",
    "Δ": "D",
    "σ": "s",
    "µ": "u",
    "μ": "u",
    "²": "2",
    "³": "3",
    "¹": "1",
    "°": "o",
}
_BRAILLE_BY_DOTS: Final = " ..::ooo#"
_DEFAULT: Final = Style.from_color(RichColor.parse("default"), RichColor.parse("default"))


def to_ascii(text: str) -> str:
    """A text in ASCII that takes exactly as many cells; what has no likeness becomes `?` in each of its cells."""
    if text.isascii() and text.isprintable():
        return text
    drawn = "".join(map(_cells, text))
    if len(drawn) == cell_len(text):
        return drawn
    # Characters that join with their neighbours take other room than each alone.
    return "".join(
        _cells(text[start:end]) if end - start == 1 and len(_cells(text[start:end])) == cells else "?" * cells
        for start, end, cells in split_graphemes(text)[0]
    )


@functools.lru_cache(maxsize=4096)
def _cells(character: str) -> str:
    """One character as ASCII of the same width."""
    cells = cell_len(character)
    if character.isascii() and (character.isprintable() or not cells):
        return character if character.isprintable() else ""
    if cells != 1:
        return "?" * cells
    if character in _SIGNS:
        return _SIGNS[character]
    code = ord(character)
    if 0x2800 <= code < 0x2900:
        return _BRAILLE_BY_DOTS[(code - 0x2800).bit_count()]
    if 0x2500 <= code < 0x2580:
        # What is left of box drawing are corners and crossings: heavy ones tell the pane with the focus.
        return "#" if "HEAVY" in unicodedata.name(character) else "+"
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base.isascii() and base.isprintable() else "?"


def harmless(text: str) -> str:
    """A text without control, format and private characters, that takes exactly as many cells."""
    if text.isprintable():
        return text
    kept = "".join(c if c.isprintable() else " " * cell_len(c) for c in text)
    return kept if cell_len(kept) == cell_len(text) else to_ascii(text)


class Harmless(LineFilter):
    """Lets no character through that is not simply shown, whatever a pane forgot to clean."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Take out what would do something in a terminal."""
        return [
            segment if segment.text.isprintable() else Segment(harmless(segment.text), segment.style, segment.control)
            for segment in segments
        ]


class Ascii(LineFilter):
    """Lets only ASCII through, each line as wide as it was."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Replace what is not ASCII."""
        return [
            segment if segment.text.isascii() else Segment(to_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


class NoColors(LineFilter):
    """Takes all colours away: what stood out by its background stands out in reverse video."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Keep bold, faint, underline and reverse."""
        return [
            segment if segment.style is None else Segment(segment.text, _uncoloured(segment.style), segment.control)
            for segment in segments
        ]


@functools.lru_cache(maxsize=1024)
def _uncoloured(style: Style) -> Style:
    marked = style.bgcolor is not None and not style.bgcolor.is_default
    return style + _DEFAULT + Style(reverse=True) if marked else style + _DEFAULT
