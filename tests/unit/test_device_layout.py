"""Where devices stand, whatever there is of them: exact lines, a cursor in sight, and each place its own device."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.raster.braille import Span
from tui.view.device_groups import groups_of
from tui.view.device_layout import LEVELS, Layout, layout_for
from tui.view.device_lines import SIGNS, cell_of, device_line, fields_for, node_cell, tile_lines
from tui.view.device_picture import Picture, shape_of
from tui.view.devices import DeviceRow

STATUSES = tuple(SIGNS)
NAMES = st.text(st.sampled_from("gpu01-日本é·x"), min_size=1, max_size=20)


def device(index: int, cls: str = "H100", node: str = "node0", **fields) -> DeviceRow:
    return DeviceRow(f"gpu{index}", cls, node, "free", words="free: paused", why="paused")._replace(**fields)


def cluster(nodes: int, per_node: int = 8, classes: int = 1) -> tuple[DeviceRow, ...]:
    """Classes of as many nodes each."""
    return tuple(
        device((cls * nodes + node) * per_node + at, f"H{cls + 1}00", f"h{cls + 1}00-{node:02d}")
        for cls in range(classes)
        for node in range(nodes)
        for at in range(per_node)
    )


@st.composite
def clusters(draw) -> tuple[DeviceRow, ...]:
    rows: list[DeviceRow] = []
    for cls in draw(st.lists(NAMES, min_size=1, max_size=3)):
        for node in draw(st.lists(st.one_of(NAMES, st.just("")), min_size=1, max_size=6)):
            for status in draw(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=40)):
                busy = status in ("running", "starting", "scoring", "draining")
                rows.append(
                    DeviceRow(
                        *(draw(NAMES), cls, node, status),
                        run=f"r{len(rows)}" if busy else "",
                        exp=f"e{len(rows)}" if busy else "",
                        frac=len(rows) % 7 / 6,
                        util=0.5 if len(rows) % 3 else None,
                        loss=2.5 if len(rows) % 2 else None,
                        curve=(3.0, 2.5),
                        words=draw(NAMES),
                        mem_mb=61_000.0,
                        memory_mb=81_559,
                    )
                )
    return tuple(rows)


def layout_of(rows, width, height, wanted="auto") -> Layout:
    return layout_for(shape_of(groups_of(rows)), width, height, wanted)


def picture_of(rows, width, height, wanted="auto", cursor=0, top=0, *, plain=False) -> Picture:
    layout = layout_of(rows, width, height, wanted)
    top = layout.top_for(layout.unit_of(cursor), min(top, len(layout.lines) - 1), max(1, height - layout.detail))
    return Picture(rows, groups_of(rows), layout, cursor, top, width, height, plain, True)


def text_of(spans: list[Span]) -> str:
    return "".join(text for text, _ in spans)


@settings(max_examples=150, deadline=None)
@given(
    rows=clusters(),
    width=st.integers(1, 250),
    height=st.integers(1, 70),
    wanted=st.sampled_from(LEVELS),
    plain=st.booleans(),
    data=st.data(),
)
def test_every_line_fits_and_the_cursor_is_drawn_in_sight(rows, width, height, wanted, plain, data):
    cursor = data.draw(st.integers(0, len(rows) - 1))
    top = data.draw(st.integers(0, 50))
    lines = picture_of(rows, width, height, wanted, cursor, top, plain=plain).lines()
    assert 0 < len(lines) <= height
    assert max(cell_len(text_of(line)) for line in lines) <= width
    assert ("@" if plain else "◉") in "".join(text_of(line) for line in lines)


@settings(max_examples=100, deadline=None)
@given(rows=clusters(), width=st.integers(1, 120), height=st.integers(1, 40), wanted=st.sampled_from(LEVELS))
def test_each_unit_stands_once_at_a_place_that_leads_back_to_it(rows, width, height, wanted):
    layout = layout_of(rows, width, height, wanted)
    units = [cells.first + at for line in layout.lines for cells in line.cells for at in range(cells.units)]
    assert units == list(range(layout.units))
    for unit in units:
        line, x = layout.line_of(unit), layout.x_of(unit)
        assert 0 <= x < width
        assert layout.unit_at(line, x) == unit
    for line in layout.lines:
        assert all(cells.x + (cells.units - 1) * cells.step + cells.width <= width for cells in line.cells)
        assert all(label.x + label.width <= width for label in line.labels)


@settings(max_examples=60, deadline=None)
@given(rows=clusters(), width=st.integers(1, 120), height=st.integers(1, 40), wanted=st.sampled_from(LEVELS))
def test_a_click_finds_what_is_drawn_and_moves_reach_every_line(rows, width, height, wanted):
    picture = picture_of(rows, width, height, wanted)
    layout = picture.layout
    found = {device for y in range(height) for x in range(width) if (device := picture.device_at(x, y)) is not None}
    assert found <= set(range(len(rows)))
    assert 0 in found
    unit, lines = 0, [0]
    while (below := layout.below(unit, 1, 0)) != unit:
        assert layout.below(below, -1, layout.x_of(below)) <= below
        unit = below
        lines.append(layout.line_of(unit))
    assert lines[1:] == [number for number, line in enumerate(layout.lines) if line.cells][1:]


@settings(max_examples=60, deadline=None)
@given(rows=clusters(), width=st.integers(1, 60), height=st.integers(1, 20), wanted=st.sampled_from(LEVELS))
def test_left_and_right_and_steps_inside_nodes_reach_every_device(rows, width, height, wanted):
    layout = layout_of(rows, width, height, wanted)
    assert [layout.device_in(layout.unit_of(device), device) for device in range(len(rows))] == list(range(len(rows)))
    assert sorted({layout.unit_of(device) for device in range(len(rows))}) == list(range(layout.units))


@pytest.mark.parametrize(
    ("rows", "size", "level"),
    [
        (cluster(1, 1), (70, 10), "tiles"),
        (cluster(2), (118, 18), "tiles"),
        (cluster(2), (78, 18), "rows"),
        (cluster(2), (70, 10), "rows"),
        (cluster(8), (70, 10), "map"),
        (cluster(128), (78, 18), "map"),
        (cluster(512), (118, 34), "nodes"),
        (cluster(512), (78, 18), "nodes"),
        (cluster(1024, 1), (70, 8), "map"),
    ],
)
def test_the_level_follows_from_the_room(rows, size, level):
    assert layout_of(rows, *size).level == level


def test_what_fits_is_all_in_sight():
    for rows, (width, height) in ((cluster(128), (78, 18)), (cluster(512), (78, 18)), (cluster(512), (118, 34))):
        layout = layout_of(rows, width, height)
        assert layout.tops[-1] + layout.detail <= height


def test_a_map_names_nodes_while_there_is_room_and_parts_them_while_there_is_less():
    rows = cluster(8)
    assert text_of(picture_of(rows, 78, 18, "map").lines()[1]).startswith("h100-00 ◉ · · · · · · ·  h100-01 · ")
    assert text_of(picture_of(rows, 78, 4, "map").lines()[1]).startswith("h100-00 ◉·······  h100-01 ········")
    assert text_of(picture_of(cluster(64), 78, 10, "map").lines()[1]).startswith("◉······· ········ ")
    assert text_of(picture_of(cluster(64), 78, 8, "map").lines()[0]).startswith("H100 0/512   ◉········")


def test_a_lost_node_and_a_class_without_work_say_so():
    rows = tuple(
        row._replace(status="lost", words="lost: Xid 79", why="") if row.node == "h100-01" else row
        for row in cluster(4, classes=2)
    )
    lines = [text_of(line) for line in picture_of(rows, 78, 8, "map").lines()]
    assert lines[0].rstrip() == "H100 0/32 busy · 8 lost (h100-01) · 24 free: paused"
    assert "h100-01 × × ×" in lines[1]
    assert any(line.startswith("H200 0/32 busy · 32 free: paused") for line in lines)


def test_a_class_says_how_busy_it_is():
    rows = tuple(
        row._replace(status="running", run="r1", exp="e1", util=0.9 + 0.01 * (i % 2))
        for i, row in enumerate(cluster(1))
    )
    head = text_of(picture_of(rows, 70, 13).lines()[0]).rstrip()
    assert head == "H100 8/8 busy · util 90%" or head == "H100 8/8 busy · util 91%"


def test_every_status_has_a_sign_of_its_own():
    for plain in (False, True):
        cells = [cell_of(device(0, status=status, frac=0.5), plain=plain)[0] for status in STATUSES]
        assert len(set(cells)) == len(STATUSES)
        assert all(cell.isascii() for cell in cells) or not plain
    glyphs = {cell_of(device(0, status="running", frac=frac), plain=False)[0] for frac in (0.0, 0.5, 0.99)}
    assert len(glyphs) == 3


def test_a_node_cell_shows_the_share_at_work_and_marks_losses():
    def node(*statuses):
        rows = [device(i, status=status, run="r1" if status == "running" else "") for i, status in enumerate(statuses)]
        return node_cell(groups_of(rows).nodes[0], plain=False)[0]

    assert node("lost", "lost") == "×"
    assert node("lost", "running") == "!"
    assert node("free", "free") == "·"
    assert node("free", "running") != node("running", "running") == "█"
    assert node("drained", "drained") == "□"


def test_a_device_line_drops_fields_by_their_worth():
    row = device(7, status="running", run="r34", exp="e12", frac=0.74, util=0.93, loss=2.6214, words="a title")
    row = row._replace(curve=(3.0, 2.8, 2.7, 2.6))
    for width in range(1, 130):
        line = device_line(row, fields_for((row,), width), width, plain=False, marked=False)
        assert cell_len(text_of(line)) == width
    narrow = text_of(device_line(row, fields_for((row,), 24), 24, plain=True, marked=False))
    assert narrow.split() == [">", "gpu7", "H100", "e12", "r34", "74%"]
    wide = text_of(device_line(row, fields_for((row,), 90), 90, plain=True, marked=False))
    for words in ("gpu7", "H100", "e12 r34", "###", "74%", "93%", "2.621", "a title"):
        assert words in wide


def test_a_tile_tells_all_of_a_device_and_why_a_free_one_is():
    row = device(7, status="running", run="r34", exp="e12", frac=0.74, util=0.93, loss=2.6214, words="a title")
    row = row._replace(curve=(3.0, 2.8, 2.7, 2.6), mem_mb=61_000.0, memory_mb=81_559)
    head, title, progress, figures = (text_of(line) for line in tile_lines(row, 29, 4, plain=True, marked=False))
    assert head.split() == [">", "gpu7", "H100", "e12", "r34"]
    assert title.split() == ["|", "a", "title"]
    assert progress.rstrip().endswith("74%")
    assert figures.split()[:4] == ["|", "93%", "60/80G", "2.621"]
    short = [text_of(line) for line in tile_lines(device(7), 12, 3, plain=True, marked=False)]
    assert "paused" in " ".join(short)


@given(rows=clusters(), width=st.integers(1, 60), height=st.sampled_from((3, 4)), plain=st.booleans())
@settings(max_examples=60, deadline=None)
def test_tiles_are_exactly_as_wide_as_asked(rows, width, height, plain):
    assume(rows)
    for row in rows[:3]:
        lines = tile_lines(row, width, height, plain=plain, marked=False)
        assert [cell_len(text_of(line)) for line in lines] == [width] * height
