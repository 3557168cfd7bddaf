"""Who is drawn in what colour and by what sign: Okabe-Ito colours, and never colour alone.

Colours: Okabe & Ito, "Color Universal Design" (2008), https://jfly.uni-koeln.de/color/ ; darkened for light
backgrounds where the original falls below a contrast of 3:1 on white.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import Final, Literal, NamedTuple

from rich.style import Style

Look = Literal["dark", "light", "contrast", "ansi"]
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
    Role.AXIS: "#5C6773",
    Role.BAND: "#6B5220",
    Role.DIM: "#4A525E",
    Role.REJECTED: "#7A8699",
    Role.NOMINATED: "#CC79A7",
    Role.UNDECIDED: "#F0E442",
    Role.OBSERVED: "#009E73",
    Role.CONFIRMED: "#E69F00",
    Role.KEPT: "#56B4E9",
    Role.FAILED: "#D55E00",
    Role.CURSOR: "#FFFFFF",
    Role.INCUMBENT: "#E69F00",
    Role.SERIES_1: "#56B4E9",
    Role.SERIES_2: "#009E73",
    Role.SERIES_3: "#CC79A7",
    Role.SERIES_4: "#F0E442",
    Role.MUTED: "#7A8699",
    Role.BUSY: "#56B4E9",
    Role.WAITING: "#E69F00",
    Role.LOST: "#D55E00",
}
_LIGHT: Final[dict[int, str]] = _DARK | {
    Role.AXIS: "#8A94A0",
    Role.BAND: "#E8C98A",
    Role.DIM: "#B4BCC8",
    Role.REJECTED: "#6B7686",
    Role.NOMINATED: "#A8527F",
    Role.UNDECIDED: "#8A7F00",
    Role.OBSERVED: "#007A5A",
    Role.CONFIRMED: "#A87400",
    Role.KEPT: "#0072B2",
    Role.FAILED: "#C04F00",
    Role.CURSOR: "#000000",
    Role.INCUMBENT: "#A87400",
    Role.SERIES_1: "#0072B2",
    Role.SERIES_2: "#007A5A",
    Role.SERIES_3: "#A8527F",
    Role.SERIES_4: "#8A7F00",
    Role.MUTED: "#6B7686",
    Role.BUSY: "#0072B2",
    Role.WAITING: "#A87400",
    Role.LOST: "#C04F00",
}
_COLOURS: Final[dict[Look, dict[int, str]]] = {"dark": _DARK, "light": _LIGHT, "contrast": _DARK, "ansi": _DARK}
_BOLD: Final = frozenset({Role.CURSOR})


@functools.lru_cache(maxsize=128)
def style_of(role: int, look: Look) -> Style:
    """The foreground of a role in a look; BLANK and TEXT take the widget's own."""
    colour = _COLOURS[look].get(role)
    return Style(color=colour, bold=True if role in _BOLD else None) if colour else Style.null()


def sign(role: int, *, plain: bool = False) -> str:
    """The one-cell sign of a role, for legends and tables; `plain` is ASCII."""
    entry = SIGNS[role]
    return entry.ascii if plain else entry.glyph
