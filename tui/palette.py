"""Who is drawn in what colour and by what sign: Okabe-Ito colours, and never colour alone.

Hues: Okabe & Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/ ; each made so light or so dark
that it has a contrast of 4.5:1 with every background of its look, 7:1 with those of "contrast" (WCAG 2.2, success
criteria 1.4.3 and 1.4.6; tests/tui/test_themes.py computes it).
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import Final, NamedTuple

from rich.style import Style

from tui.terminal import ThemeName

Look = ThemeName
"""Which colours there are: true ones on dark or light, the strongest ones on black, or the terminal's own sixteen."""


class Role(IntEnum):
    """What a cell shows. The numbers stand in rasters."""

    BLANK = 0
    AXIS = 1
    BAND = 2
    DIM = 3
    REJECTED = 4
    NOMINATED = 5
    UNDECIDED = 6
    OBSERVED = 7
    CONFIRMED = 8
    KEPT = 9
    FAILED = 10
    CURSOR = 11
    INCUMBENT = 12
    SERIES_1 = 13
    SERIES_2 = 14
    SERIES_3 = 15
    SERIES_4 = 16
    TEXT = 17
    MUTED = 18
    BUSY = 19
    WAITING = 20
    LOST = 21


SERIES: Final = (Role.SERIES_1, Role.SERIES_2, Role.SERIES_3, Role.SERIES_4)


class Sign(NamedTuple):
    """How a role is drawn: a whole cell in Unicode, in ASCII, and as dots (column, row) inside a braille cell."""

    glyph: str
    ascii: str
    dots: tuple[tuple[int, int], ...]


_ONE = ((0, 0),)
SIGNS: Final[dict[int, Sign]] = {
    Role.BAND: Sign("░", ":", _ONE),
    Role.DIM: Sign("▵", ",", ((1, 0), (0, 1))),
    Role.REJECTED: Sign("·", ".", _ONE),
    Role.NOMINATED: Sign("◦", "c", ((0, 0), (0, 1))),
    Role.UNDECIDED: Sign("○", "o", ((0, 0), (1, 0))),
    Role.KEPT: Sign("●", "*", ((0, 0), (1, 0), (0, 1), (1, 1))),
    Role.FAILED: Sign("×", "x", _ONE),
    Role.OBSERVED: Sign("─", "-", _ONE),
    Role.CONFIRMED: Sign("━", "=", _ONE),
    Role.INCUMBENT: Sign("━", "=", _ONE),
    Role.SERIES_1: Sign("1", "1", _ONE),
    Role.SERIES_2: Sign("2", "2", _ONE),
    Role.SERIES_3: Sign("3", "3", _ONE),
    Role.SERIES_4: Sign("4", "4", _ONE),
    Role.CURSOR: Sign("│", "|", _ONE),
}

_DARK: Final[dict[int, str]] = {
    Role.AXIS: "#8E98A4",
    Role.BAND: "#BD923B",
    Role.DIM: "#8E97A3",
    Role.REJECTED: "#97A2B3",
    Role.NOMINATED: "#DC90BA",
    Role.UNDECIDED: "#F0E442",
    Role.OBSERVED: "#1FB489",
    Role.CONFIRMED: "#E69F00",
    Role.KEPT: "#56B4E9",
    Role.FAILED: "#F07A2E",
    Role.CURSOR: "#FFFFFF",
    Role.INCUMBENT: "#E69F00",
    Role.SERIES_1: "#56B4E9",
    Role.SERIES_2: "#1FB489",
    Role.SERIES_3: "#DC90BA",
    Role.SERIES_4: "#F0E442",
    Role.MUTED: "#97A2B3",
    Role.BUSY: "#56B4E9",
    Role.WAITING: "#E69F00",
    Role.LOST: "#F07A2E",
}
_LIGHT: Final[dict[int, str]] = _DARK | {
    Role.AXIS: "#5C6773",
    Role.BAND: "#7D5A10",
    Role.DIM: "#5F6772",
    Role.REJECTED: "#56606D",
    Role.NOMINATED: "#8F3F6B",
    Role.UNDECIDED: "#665E00",
    Role.OBSERVED: "#00664B",
    Role.CONFIRMED: "#7A5200",
    Role.KEPT: "#005A8C",
    Role.FAILED: "#A33F00",
    Role.CURSOR: "#000000",
    Role.INCUMBENT: "#7A5200",
    Role.SERIES_1: "#005A8C",
    Role.SERIES_2: "#00664B",
    Role.SERIES_3: "#8F3F6B",
    Role.SERIES_4: "#665E00",
    Role.MUTED: "#56606D",
    Role.BUSY: "#005A8C",
    Role.WAITING: "#7A5200",
    Role.LOST: "#A33F00",
}
_CONTRAST: Final[dict[int, str]] = _DARK | {
    Role.AXIS: "#C8C8C8",
    Role.BAND: "#C09A40",
    Role.DIM: "#B0B0B0",
    Role.REJECTED: "#C8C8C8",
    Role.NOMINATED: "#FFB0DC",
    Role.UNDECIDED: "#FFF45C",
    Role.OBSERVED: "#33E0B0",
    Role.CONFIRMED: "#FFC033",
    Role.KEPT: "#7DCBFF",
    Role.FAILED: "#FF9A57",
    Role.INCUMBENT: "#FFC033",
    Role.SERIES_1: "#7DCBFF",
    Role.SERIES_2: "#33E0B0",
    Role.SERIES_3: "#FFB0DC",
    Role.SERIES_4: "#FFF45C",
    Role.MUTED: "#D8D8D8",
    Role.BUSY: "#7DCBFF",
    Role.WAITING: "#FFC033",
    Role.LOST: "#FF9A57",
}
# Faint rather than "bright black": that one is the background itself in some people's sixteen colours (Solarized).
_ANSI: Final[dict[int, str]] = {
    Role.NOMINATED: "magenta",
    Role.UNDECIDED: "yellow",
    Role.OBSERVED: "green",
    Role.CONFIRMED: "yellow",
    Role.KEPT: "cyan",
    Role.FAILED: "red",
    Role.INCUMBENT: "yellow",
    Role.SERIES_1: "cyan",
    Role.SERIES_2: "green",
    Role.SERIES_3: "magenta",
    Role.SERIES_4: "yellow",
    Role.BUSY: "cyan",
    Role.WAITING: "yellow",
    Role.LOST: "red",
}
_FAINT: Final = frozenset({Role.AXIS, Role.BAND, Role.DIM, Role.REJECTED, Role.MUTED})
_COLOURS: Final[dict[Look, dict[int, str]]] = {"dark": _DARK, "light": _LIGHT, "contrast": _CONTRAST, "ansi": _ANSI}
_BOLD: Final = frozenset({Role.CURSOR})


@functools.lru_cache(maxsize=128)
def style_of(role: int, look: Look) -> Style:
    """The foreground of a role in a look; BLANK and TEXT take the widget's own."""
    if look == "ansi" and role in _FAINT:
        return Style(dim=True)
    colour, bold = _COLOURS[look].get(role), True if role in _BOLD else None
    return Style(color=colour, bold=bold) if colour or bold else Style.null()


def sign(role: int, *, plain: bool = False) -> str:
    """The one-cell sign of a role, for legends and tables; `plain` is ASCII."""
    entry = SIGNS[role]
    return entry.ascii if plain else entry.glyph
