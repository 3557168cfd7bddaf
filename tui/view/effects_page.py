"""From what the effects pane knows to a page of exactly so many cells: list, forest plot, corners, ranks, words."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from rich.cells import cell_len

from core.analysis.words import gain
from tui.palette import Role
from tui.raster.braille import Raster, blank
from tui.raster.chart import put
from tui.raster.effects import put_bar, put_interval, two_lines
from tui.terminal import CharsetName
from tui.text import cut, wrap
from tui.view.effects import EffectLine, EffectsView, PairLine, reach_of

WIDE: Final = 100
"""From so many cells on the designs are listed; below, the chosen one stands on a line."""

_LIST: Final = 34
_VALUE: Final = 19
_BETTER: Final = 14
_NAME: Final = 24
_FEWEST_LOWER: Final = 6
_MOST_LOWER: Final = 26
_LINES_PER_DESIGN: Final = 3
_ASCII: Final = str.maketrans(
    {"±": "+-", "×": "x", "·": "-", "│": "|", "─": "-", "−": "-", "→": ">", "“": '"', "”": '"', "…": ".", "▸": ">",
     "◂": "<", "●": "*", "○": "o", "┊": ":"}
)  # fmt: skip


class Look(NamedTuple):
    """What the reader chose to see: a pair, and from which main effect on; in which characters."""

    pair: int = 0
    top: int = 0
    charset: CharsetName = "braille"

    @property
    def plain(self) -> bool:
        """Whether only ASCII may be shown."""
        return self.charset == "ascii"


class Box(NamedTuple):
    """A part of the page, in cells."""

    left: int
    top: int
    width: int
    height: int


class Boxes(NamedTuple):
    """Where the parts of a page are; parts without room have no height."""

    designs: Box
    mains: Box
    corners: Box
    pairs: Box
    notes: Box


def boxes_of(view: EffectsView, width: int, height: int) -> Boxes:
    """Divide the page: main effects come first, then the pairs, then the words about them."""
    wide = width >= WIDE
    left = _LIST + 1 if wide else 0
    top = 0 if wide or not view.designs else min(1, height)
    designs = Box(0, 0, _LIST if wide else width, height if wide else top)
    inner, room = width - left, height - top
    if not view.mains:
        return Boxes(designs, Box(left, top, inner, 0), _none(left), _none(left), Box(left, top, inner, room))
    words = sum(len(wrap(note, inner)) for note in view.notes)
    notes = min(words, max(room // 5, min(3, room - 6))) if room >= 9 else 0
    room -= notes
    need = len(view.mains) + 1
    lower = max(room * 2 // 5, room - need) if view.pairs and room >= 2 * _FEWEST_LOWER else 0
    mains = Box(left, top, inner, min(need, room - lower))
    rest = Box(left, top + mains.height, inner, min(room - mains.height, _MOST_LOWER if lower else room))
    lower_top = rest.top
    if not lower:
        return Boxes(designs, mains, _none(left), _none(left), Box(left, rest.top, inner, height - rest.top))
    both = inner >= 60
    split = inner * 11 // 20 if both else inner
    corners = Box(left, lower_top, split, rest.height)
    pairs = Box(left + split + 1, lower_top, inner - split - 1, rest.height) if both else _none(left)
    return Boxes(
        designs, mains, corners, pairs, Box(left, lower_top + rest.height, inner, height - lower_top - rest.height)
    )


def _none(left: int) -> Box:
    return Box(left, 0, 0, 0)


def page_of(view: EffectsView, look: Look, width: int, height: int) -> Raster:
    """The page in exactly `height` lines of `width` cells."""
    whole = blank(max(0, width), max(0, height))
    if width < 1 or height < 1:
        return whole
    boxes = boxes_of(view, width, height)
    _put_designs(whole, view, boxes.designs, look)
    _put_mains(whole, view, boxes.mains, look)
    if view.pairs and boxes.corners.height:
        pair = view.pairs[min(look.pair, len(view.pairs) - 1)]
        _put_corners(whole, pair, boxes.corners, look)
        _put_pairs(whole, view, boxes.pairs, look)
    _put_notes(whole, view, boxes.notes, look)
    return whole


def design_at(view: EffectsView, width: int, height: int, x: int, y: int) -> int | None:
    """The design whose lines hold a cell."""
    box = boxes_of(view, width, height).designs
    if width < WIDE or x >= box.width or not view.designs:
        return None
    index = _first_design(view, box) + y // _LINES_PER_DESIGN
    return index if index < len(view.designs) else None


def pair_at(view: EffectsView, look: Look, width: int, height: int, x: int, y: int) -> int | None:
    """The pair whose line holds a cell."""
    box = boxes_of(view, width, height).pairs
    if not box.left <= x < box.left + box.width or not box.top < y < box.top + box.height:
        return None
    index = _first_pair(view, look, box) + y - box.top - 1
    return index if index < len(view.pairs) else None


def _first_design(view: EffectsView, box: Box) -> int:
    fits = max(1, box.height // _LINES_PER_DESIGN)
    return max(0, min(view.chosen - fits // 2, len(view.designs) - fits))


def _first_pair(view: EffectsView, look: Look, box: Box) -> int:
    shown = box.height - 1
    return max(0, min(min(look.pair, len(view.pairs) - 1) - shown // 2, len(view.pairs) - shown))


def _say(whole: Raster, row: int, column: int, text: str, width: int, role: Role, look: Look) -> None:
    """Words in at most so many cells."""
    put(whole, row, column, cut(_plain(text, look), width, "." if look.plain else "…"), role)


def _put_designs(whole: Raster, view: EffectsView, box: Box, look: Look) -> None:
    if not view.designs or not box.height:
        return
    if box.width == whole.chars.shape[1]:
        line = view.designs[view.chosen]
        which = f"◂ {view.chosen + 1}/{len(view.designs)} ▸ "
        _say(whole, 0, 0, which, box.width, Role.MUTED, look)
        said = f"{line.name} · {line.kind} · {line.progress}"
        _say(whole, 0, cell_len(which), said, box.width - cell_len(which), Role.CURSOR, look)
        return
    for row in range(box.height):
        _say(whole, row, box.width, "│", 1, Role.AXIS, look)
    first = _first_design(view, box)
    for place, line in enumerate(view.designs[first : first + max(1, box.height // _LINES_PER_DESIGN)]):
        chosen = first + place == view.chosen
        row = _LINES_PER_DESIGN * place
        mark = "▸ " if chosen else "  "
        _say(whole, row, 0, mark + line.name, box.width, Role.CURSOR if chosen else Role.TEXT, look)
        for below, words in enumerate((line.kind, line.progress), start=1):
            if row + below < box.height:
                _say(whole, row + below, 2, words, box.width - 2, Role.MUTED, look)


def _put_mains(whole: Raster, view: EffectsView, box: Box, look: Look) -> None:
    if box.height < 1 or not view.mains:
        return
    shown = box.height - 1
    top = max(0, min(look.top, len(view.mains) - shown))
    lines = view.mains[top : top + shown]
    name = min(_NAME, box.width // 3, max(cell_len(line.name) for line in view.mains) + 1)
    value = _VALUE if box.width - name >= 34 else 0
    better = _BETTER if box.width - name - value >= 30 else 0
    left = box.left + name + value + better
    cells = box.left + box.width - left
    steps = any(line.back is not None for line in view.mains)
    head = "one step of a knob" if steps else "main effects, low to high"
    head += f", {top + 1}-{top + len(lines)} of {len(view.mains)}" if len(lines) < len(view.mains) else ""
    head += ": bits per byte, ● shows ○ noise" + (" ◂ step back" if steps else "")
    _say(whole, box.top, box.left, head, box.width, Role.MUTED, look)
    pair = view.pairs[min(look.pair, len(view.pairs) - 1)] if view.pairs else None
    reach = reach_of(view.mains)
    for row, line in enumerate(lines, start=box.top + 1):
        marked = pair is not None and line.knob in (pair.first, pair.second)
        _say(whole, row, box.left, line.name, name - 1, Role.CURSOR if marked else Role.TEXT, look)
        if value:
            _say(whole, row, box.left + name, _value_words(line), value - 1, Role.TEXT, look)
        if better:
            _say(whole, row, box.left + name + value, _better_words(line), better - 1, Role.TEXT, look)
        back = line.back[0] if line.back is not None else None
        estimate = (line.value, line.low, line.high)
        put_interval(whole, row, left, cells, reach, estimate, shows=line.active, back=back, plain=look.plain)


def _value_words(line: EffectLine | PairLine) -> str:
    return gain(line.value, line.high / 2 - line.low / 2)


def _better_words(line: EffectLine) -> str:
    return line.better or "either"


def _put_corners(whole: Raster, pair: PairLine, box: Box, look: Look) -> None:
    words = wrap(pair.words, box.width)
    said = words[: 3 if box.height >= 10 else 2]
    if len(said) < len(words):
        said[-1] = f"{wrap(said[-1], box.width - 2)[0]} …"
    for row, line in enumerate(said):
        _say(whole, box.top + row, box.left, line, box.width, Role.TEXT if pair.active else Role.MUTED, look)
    height = box.height - len(said)
    if pair.plot is None or height < 3:
        return
    plot = pair.plot
    knobs = _plain(plot.first, look), _plain(plot.second, look)
    bottom = _plain(plot.first_levels[0], look), _plain(plot.first_levels[1], look)
    ends = _plain(plot.second_levels[0], look), _plain(plot.second_levels[1], look)
    drawn = two_lines(plot.lines, knobs, bottom, ends, box.width, height, look.charset)
    top = box.top + len(said)
    whole.chars[top : top + height, box.left : box.left + box.width] = drawn.chars
    whole.roles[top : top + height, box.left : box.left + box.width] = drawn.roles


def _plain(text: str, look: Look) -> str:
    return text.translate(_ASCII) if look.plain else text


def _put_pairs(whole: Raster, view: EffectsView, box: Box, look: Look) -> None:
    if box.height < 2 or box.width < 20:
        return
    shown = box.height - 1
    chosen = min(look.pair, len(view.pairs) - 1)
    first = _first_pair(view, look, box)
    head = f"pairs {chosen + 1} of {len(view.pairs)}, ┊ is the noise" + (
        ", ~ mixed with others" if any(pair.mixed for pair in view.pairs) else ""
    )
    _say(whole, box.top, box.left, head, box.width, Role.MUTED, look)
    sizes = [size for pair in view.pairs for size in (abs(pair.value), pair.high / 2 - pair.low / 2)]
    most = max((size for size in sizes if size < math.inf), default=0.0) or 1e-4
    name = max(12, box.width - 26) if box.width >= 38 else box.width - 10
    value = 9 if box.width >= 38 else 0
    left = box.left + 2 + name + value
    for row, pair in enumerate(view.pairs[first : first + shown], start=box.top + 1):
        marked = row - box.top - 1 + first == chosen
        role = Role.CURSOR if marked else Role.TEXT
        _say(whole, row, box.left, "▸" if marked else " ", 1, role, look)
        _say(whole, row, box.left + 2, _pair_name(pair, name - 1), name - 1, role, look)
        if value and pair.plot is not None:
            _say(whole, row, box.left + 2 + name, f"{pair.value:+.4f}", value - 1, Role.TEXT, look)
        estimate = (pair.value, pair.low, pair.high)
        cells = box.left + box.width - left
        put_bar(whole, row, left, cells, most, estimate, shows=pair.active, plain=look.plain)


def _pair_name(pair: PairLine, width: int) -> str:
    """Both knobs, each with its share of the room; `~` where others are mixed in."""
    mark = "~" if pair.mixed else ""
    half = (width - 3 - len(mark)) // 2
    return f"{mark}{cut(pair.first, half)} × {cut(pair.second, width - 3 - len(mark) - min(half, len(pair.first)))}"


def _put_notes(whole: Raster, view: EffectsView, box: Box, look: Look) -> None:
    lines = [line for note in view.notes for line in wrap(note[:1].upper() + note[1:], box.width)]
    for row, line in enumerate(lines[: box.height]):
        last = row == box.height - 1 and len(lines) > box.height
        said = f"{wrap(line, box.width - 2)[0]} …" if last else line
        _say(whole, box.top + row, box.left, said, box.width, Role.MUTED if view.mains else Role.TEXT, look)
