"""A terminal's cells as an SVG picture; braille, blocks and lines are drawn, so that no font has to know them."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import groupby
from xml.sax.saxutils import escape

import pyte
from pyte.screens import Char

CELL_W, CELL_H = 8, 16
_BACKGROUND, _FOREGROUND = "#121212", "#e0e0e0"
_NAMED = {
    "black": "#000000", "red": "#cc4444", "green": "#44aa44", "brown": "#c4a000", "blue": "#4477cc",
    "magenta": "#aa55aa", "cyan": "#44aaaa", "white": "#d3d7cf",
}  # fmt: skip
_DOTS = ((0, 0, 0x01), (0, 1, 0x02), (0, 2, 0x04), (1, 0, 0x08), (1, 1, 0x10), (1, 2, 0x20), (0, 3, 0x40), (1, 3, 0x80))
_LINES = {  # which sides of a cell a box-drawing character reaches: left, right, up, down
    "─": "lr", "━": "lr", "│": "ud", "┃": "ud", "╭": "rd", "╮": "ld", "╰": "ru", "╯": "lu", "┌": "rd", "┐": "ld",
    "└": "ru", "┘": "lu", "├": "udr", "┤": "udl", "┬": "lrd", "┴": "lru", "┼": "lrud", "╸": "l", "╺": "r", "╴": "l",
    "╶": "r",
}  # fmt: skip
_HEAVY = frozenset("━┃╸╺")
_SHADES = {"░": 0.25, "▒": 0.5, "▓": 0.75}


def svg_of(screen: pyte.Screen, title: str) -> str:
    """The picture. The same cells make the same bytes.

    Args:
        screen: the terminal's cells.
        title: what it shows, for those who cannot see it.
    """
    width, height = screen.columns * CELL_W, screen.lines * CELL_H
    painted: dict[str, list[str]] = defaultdict(list)
    strokes: dict[tuple[str, float], list[str]] = defaultdict(list)
    words: list[str] = []
    for y in range(screen.lines):
        row = [screen.buffer[y][x] for x in range(screen.columns)]
        _paint_backgrounds(row, y, painted)
        _write_words(row, y, words)
        for x, cell in enumerate(row):
            _draw_cell(cell, x, y, painted, strokes)
    body = [f'<path fill="{colour}" d="{"".join(parts)}"/>' for colour, parts in painted.items()]
    body += [
        f'<path fill="none" stroke="{colour}" stroke-width="{weight:g}" d="{"".join(parts)}"/>'
        for (colour, weight), parts in strokes.items()
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
            f'font-family="Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="13">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="{_BACKGROUND}"/>',
            *body,
            *words,
            "</svg>\n",
        ]
    )


def _colours(cell: Char) -> tuple[str, str]:
    """Foreground and background of a cell."""
    front, back = _colour(cell.fg, _FOREGROUND), _colour(cell.bg, _BACKGROUND)
    return (back, front) if cell.reverse else (front, back)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return _NAMED.get(name.removeprefix("bright"), f"#{name}" if len(name) == 6 else default)


def _paint_backgrounds(row: list[Char], y: int, painted: dict[str, list[str]]) -> None:
    x = 0
    for back, cells in groupby(row, key=lambda cell: _colours(cell)[1]):
        count = len(list(cells))
        if back != _BACKGROUND:
            painted[back].append(_box(x * CELL_W, y * CELL_H, count * CELL_W, CELL_H))
        x += count


def _write_words(row: list[Char], y: int, words: list[str]) -> None:
    """Text word by word, each stretched to its cells: no font has to have ours."""
    x = 0
    for (front, bold, text_cell), group in groupby(
        row, key=lambda cell: (_colours(cell)[0], cell.bold, _is_text(cell))
    ):
        cells = list(group)
        if text_cell:
            text = "".join(cell.data for cell in cells)
            spans = [_word(found[0], x + found.start()) for found in re.finditer(r"\S+", text)]
            if spans:
                weight = ' font-weight="bold"' if bold else ""
                words.append(f'<text y="{y * CELL_H + 12}" fill="{front}"{weight}>{"".join(spans)}</text>')
        x += len(cells)


def _word(word: str, x: int) -> str:
    return f'<tspan x="{x * CELL_W}" textLength="{len(word) * CELL_W}">{escape(word)}</tspan>'


def _is_text(cell: Char) -> bool:
    return not _is_drawn(cell.data)


def _is_drawn(character: str) -> bool:
    if len(character) != 1:
        return False
    return 0x2800 <= ord(character) <= 0x28FF or 0x2580 <= ord(character) <= 0x259F or character in _LINES


def _draw_cell(
    cell: Char, x: int, y: int, painted: dict[str, list[str]], strokes: dict[tuple[str, float], list[str]]
) -> None:
    character, left, top = cell.data, x * CELL_W, y * CELL_H
    if not _is_drawn(character):
        return
    front = _colours(cell)[0]
    code = ord(character)
    if character in _LINES:
        strokes[front, 2.0 if character in _HEAVY else 1.0].append(_line(_LINES[character], left, top))
    elif code >= 0x2800:
        for column, row, bit in _DOTS:
            if (code - 0x2800) & bit:
                painted[front].append(_box(left + 1 + column * 4, top + 1 + row * 4, 2, 2))
    else:
        painted[front].extend(_block(character, code, left, top))


def _line(sides: str, left: int, top: int) -> str:
    middle_x, middle_y = left + CELL_W / 2, top + CELL_H / 2
    ends = {"l": (left, middle_y), "r": (left + CELL_W, middle_y), "u": (middle_x, top), "d": (middle_x, top + CELL_H)}
    return "".join(f"M{middle_x:g} {middle_y:g}L{ends[side][0]:g} {ends[side][1]:g}" for side in sides)


def _block(character: str, code: int, left: int, top: int) -> list[str]:
    """Block elements: eighths from below or from the left, halves, shades as dots."""
    if character == "▀":
        return [_box(left, top, CELL_W, CELL_H / 2)]
    if 0x2581 <= code <= 0x2588:
        height = CELL_H * (code - 0x2580) / 8
        return [_box(left, top + CELL_H - height, CELL_W, height)]
    if 0x2589 <= code <= 0x258F:
        return [_box(left, top, CELL_W * (0x2590 - code) / 8, CELL_H)]
    if character in _SHADES:
        step = {"░": 4, "▒": 3, "▓": 2}[character]
        return [
            _box(left + i, top + j, 1, 1) for j in range(0, CELL_H, step) for i in range(j // step % 2, CELL_W, step)
        ]
    if character == "▐":
        return [_box(left + CELL_W / 2, top, CELL_W / 2, CELL_H)]
    if character == "▔":
        return [_box(left, top, CELL_W, CELL_H / 8)]
    return [_box(left, top, CELL_W, CELL_H)]


def _box(left: float, top: float, width: float, height: float) -> str:
    return f"M{left:g} {top:g}h{width:g}v{height:g}h{-width:g}z"
