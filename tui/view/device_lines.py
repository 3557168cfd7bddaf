"""Devices as pieces of lines: a row, a tile or a cell each, and the labels of their groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len

from tui.palette import Role
from tui.raster.blocks import bar, heat, spark
from tui.raster.braille import Span
from tui.text import cut, fit, wrap
from tui.view.device_groups import Group
from tui.view.device_names import NAME_CELLS, fit_name, short_name
from tui.view.devices import DeviceRow, DeviceStatus

SIGNS: Final[dict[DeviceStatus, tuple[str, str, Role]]] = {
    "running": ("▶", ">", Role.BUSY),
    "starting": ("▷", "~", Role.WAITING),
    "waiting": ("…", "w", Role.WAITING),
    "held": ("!", "!", Role.FAILED),
    "scoring": ("◆", "#", Role.OBSERVED),
    "free": ("·", ".", Role.MUTED),
    "lost": ("×", "x", Role.LOST),
    "draining": ("▼", "v", Role.WAITING),
    "drained": ("□", "=", Role.WAITING),
}
"""Each status with its sign, the same in ASCII, and its colour."""

BAR_CELLS: Final = (8, 20)
TITLE_CELLS: Final = 12


class Fields(NamedTuple):
    """How many cells each field of a device's line gets; 0 leaves it out."""

    name: int
    cls: int
    ids: int
    bar: int
    percent: int
    util: int
    loss: int
    spark: int
    words: int


def sign_of(row: DeviceRow, *, plain: bool, marked: bool = False) -> Span:
    """One cell that says what a device does; `marked` is the cursor's."""
    if marked:
        return ("@" if plain else "◉"), Role.CURSOR
    glyph, ascii_glyph, role = SIGNS[row.status]
    return (ascii_glyph if plain else glyph), role


def cell_of(row: DeviceRow, *, plain: bool) -> Span:
    """A device as one cell of the heat map: how far its run is, else its sign."""
    if row.status == "running":
        return heat(row.frac, plain=plain), Role.BUSY
    return sign_of(row, plain=plain)


def node_cell(node: Group, *, plain: bool) -> Span:
    """A node as one cell: the share of its devices that work, else why none does; `!` where some are lost."""
    if node.lost == node.devices:
        return ("x" if plain else "×"), Role.LOST
    if node.lost:
        return "!", Role.LOST
    if node.busy:
        return heat(node.busy / node.devices, plain=plain), Role.BUSY
    kinds: tuple[tuple[int, DeviceStatus], ...] = (
        (node.held, "held"),
        (node.waiting, "waiting"),
        (node.drained, "drained"),
    )
    glyph, ascii_glyph, role = SIGNS[next((status for count, status in kinds if count), "free")]
    return (ascii_glyph if plain else glyph), role


def short_label(group: Group) -> str:
    """A class and how many of its devices have a run, for the left of its cells."""
    return f"{fit(group.name, min(NAME_CELLS, cell_len(group.name)))} {group.busy}/{group.devices}"


def short_label_cells(name: str, count: int) -> int:
    """How wide that label gets at most."""
    return min(NAME_CELLS, cell_len(name)) + 2 + 2 * len(str(count))


def node_label(node: Group, width: int, *, plain: bool) -> Span:
    """A node's name; where all of its devices are lost its cells say so too."""
    return fit_name(node.name, width, _ellipsis(plain)), Role.LOST if node.lost == node.devices else Role.MUTED


def fields_for(rows: Sequence[DeviceRow], width: int) -> Fields:
    """Share a line's width out: what matters most first, what is left to the bar and then the words."""
    name = min(NAME_CELLS, max(cell_len(row.device) for row in rows))
    cls = min(NAME_CELLS, max(cell_len(row.cls) for row in rows))
    ids = max((cell_len(row.exp) + 1 + cell_len(row.run) for row in rows if row.run), default=0)
    # What is left after the sign and its blank, then each field with the blank before it.
    free = width - 2 - name
    wishes = {"ids": ids, "percent": 4, "bar": BAR_CELLS[0], "loss": 6, "cls": cls, "util": 4, "spark": 6}
    given = dict.fromkeys(wishes, 0)
    for field, cells in wishes.items():
        if cells and cells + 1 <= free:
            given[field] = cells
            free -= cells + 1
    words = free - 1 if free - 1 >= TITLE_CELLS else 0
    if given["bar"]:
        spare = words - TITLE_CELLS if words else free
        wider = min(BAR_CELLS[1] - BAR_CELLS[0], max(0, spare))
        given["bar"] += wider
        words -= wider if words else 0
    return Fields(name=name, words=words, **given)


def device_line(row: DeviceRow, fields: Fields, width: int, *, plain: bool, marked: bool) -> list[Span]:
    """One device in exactly `width` cells."""
    sign, role = sign_of(row, plain=plain, marked=marked)
    ellipsis = _ellipsis(plain)
    spans: list[Span] = [
        (f"{sign} ", role),
        (fit_name(row.device, fields.name, ellipsis), Role.CURSOR if marked else Role.TEXT),
    ]
    if fields.cls:
        spans.append((" " + fit(row.cls, fields.cls, ellipsis=ellipsis), Role.MUTED))
    used = 2 + fields.name + (fields.cls + 1 if fields.cls else 0)
    if not row.busy:
        spans.append((fit(f" {_not_busy_words(row)}", width - used, ellipsis=ellipsis), _words_role(row)))
    else:
        spans += _run_spans(row, fields, plain=plain)
    return exactly(spans, width)


def _run_spans(row: DeviceRow, fields: Fields, *, plain: bool) -> list[Span]:
    spans: list[Span] = []
    if fields.ids:
        spans.append((" " + fit(f"{row.exp} {row.run}", fields.ids), Role.TEXT))
    if fields.bar:
        full, rest = bar(row.frac, fields.bar, plain=plain)
        spans += [(" " + full, Role.BUSY), (rest, Role.AXIS)]
    if fields.percent:
        spans.append((f" {min(1.0, max(0.0, row.frac)):4.0%}", Role.TEXT))
    if fields.util:
        spans.append((" " + fit("" if row.util is None else f"{row.util:.0%}", fields.util, "right"), Role.OBSERVED))
    if fields.loss:
        spans.append((" " + fit("" if row.loss is None else f"{row.loss:.3f}", fields.loss, "right"), Role.TEXT))
    if fields.spark:
        spans.append((" " + spark(row.curve, fields.spark, plain=plain), Role.CONFIRMED))
    if fields.words:
        spans.append((" " + fit(_status_words(row), fields.words, ellipsis=_ellipsis(plain)), Role.MUTED))
    return spans


def tile_lines(row: DeviceRow, width: int, height: int, *, plain: bool, marked: bool) -> list[list[Span]]:
    """One device as `height` (3 or 4) lines of exactly `width` cells, with an edge that holds them together."""
    inner = max(0, width - 2)
    role = Role.CURSOR if marked else Role.AXIS
    edge: Span = ("| " if plain else "┃ " if marked else "│ ", role)
    sign, sign_role = sign_of(row, plain=plain, marked=marked)
    lines = [[(f"{sign} ", sign_role), *_tile_head(row, inner, plain=plain, marked=marked)]]
    if not row.busy:
        lines += [[edge, (words, _words_role(row))] for words in _paragraph(row.words, inner, height - 1, plain=plain)]
    else:
        if height > 3:
            lines.append([edge, (cut(_status_words(row), inner, _ellipsis(plain)), Role.MUTED)])
        percent = f" {min(1.0, max(0.0, row.frac)):4.0%}"
        full, rest = bar(row.frac, inner - len(percent), plain=plain)
        lines.append([edge, (full, Role.BUSY), (rest, Role.AXIS), (percent, Role.TEXT)])
        lines.append([edge, *_figures(row, inner, plain=plain)])
    lines += [[edge]] * (height - len(lines))
    return [exactly(line, width) for line in lines]


def _tile_head(row: DeviceRow, width: int, *, plain: bool, marked: bool) -> list[Span]:
    """The device and its class; at the right what it works on."""
    name = short_name(row.device, min(NAME_CELLS, width), _ellipsis(plain))
    left = width - cell_len(name)
    ids = f" {row.exp} {row.run}" if row.run else ""
    ids = ids if cell_len(ids) <= left else ""
    left -= cell_len(ids)
    cls = fit(f" {row.cls}", left, ellipsis=_ellipsis(plain)) if left > 4 else " " * left
    return [(name, Role.CURSOR if marked else Role.TEXT), (cls, Role.MUTED), (ids, Role.TEXT)]


def _figures(row: DeviceRow, width: int, *, plain: bool) -> list[Span]:
    """Utilisation, memory, loss and its course, as far as they are known and there is room."""
    spans: list[Span] = []
    figures = (
        ("" if row.util is None else f"{row.util:.0%}", Role.OBSERVED),
        (memory_words(row), Role.MUTED),
        ("" if row.loss is None else f"{row.loss:.3f}", Role.TEXT),
    )
    for words, role in figures:
        if words and len(words) + 1 <= width:
            spans.append((words + " ", role))
            width -= len(words) + 1
    return [*spans, (spark(row.curve, min(width, BAR_CELLS[1]), plain=plain), Role.CONFIRMED)]


def memory_words(row: DeviceRow) -> str:
    """`61/80G`: memory that its run takes, of what the device has, in GiB; empty where it is not known."""
    if row.mem_mb is None:
        return ""
    total = f"/{row.memory_mb / 1024:.0f}" if row.memory_mb else ""
    return f"{row.mem_mb / 1024:.0f}{total}G"


def _status_words(row: DeviceRow) -> str:
    """What a run tries; before it what it does, where it does not just train."""
    return row.words if row.status == "running" else f"{row.status} {row.words}"


def _not_busy_words(row: DeviceRow) -> str:
    """Why a device does not work; before it the run that waits there."""
    return f"{row.run} {row.words}" if row.run and row.status != "lost" else row.words


def _words_role(row: DeviceRow) -> Role:
    return {"lost": Role.LOST, "held": Role.FAILED, "waiting": Role.WAITING}.get(row.status, Role.MUTED)


def _paragraph(words: str, width: int, lines: int, *, plain: bool) -> list[str]:
    if width <= 0:
        return []
    found = wrap(words, width)
    if len(found) > lines:
        found = [*found[: lines - 1], cut(" ".join(found[lines - 1 :]), width, _ellipsis(plain))]
    return found


def _ellipsis(plain: bool) -> str:
    return "..." if plain else "…"


def joined(cells: Iterable[Span]) -> list[Span]:
    """Neighbours of one colour as one piece: each piece is repainted with a code of its own."""
    spans: list[Span] = []
    texts: list[str] = []
    role = -1
    for text, own in cells:
        if own != role and texts:
            spans.append(("".join(texts), role))
            texts = []
        role = own
        texts.append(text)
    return [*spans, ("".join(texts), role)] if texts else spans


def shortened(spans: list[Span], width: int, *, plain: bool) -> list[Span]:
    """A line that ends in an ellipsis where it is longer than `width`."""
    line: list[Span] = []
    for text, role in spans:
        short = cut(text, width, _ellipsis(plain))
        line.append((short, role))
        if short != text:
            break
        width -= cell_len(short)
    return line


def exactly(spans: list[Span], width: int) -> list[Span]:
    """Cut a line of spans where it is longer than its width, pad it where it is shorter."""
    line: list[Span] = []
    for text, role in spans:
        short = cut(text, width, "")
        line.append((short, role))
        width -= cell_len(short)
    return [*line, (" " * width, Role.BLANK)]
