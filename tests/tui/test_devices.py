"""The device grid in a running app: every way of drawing it, keys, clicks, and a cursor that stays with its device."""

from __future__ import annotations

import pytest

from tests.support.runs import Session
from tests.tui.test_widgets import Repaints, session_of, shown, text_of
from tests.unit.test_device_layout import cluster, device
from tui.view.devices import DevicesView, devices_view
from tui.widgets.device_grid import DeviceGrid


def view_of(nodes=2, classes=1) -> DevicesView:
    return DevicesView(cluster(nodes, classes=classes))


def place_of(widget, sign="◉") -> tuple[int, int]:
    """(x, y) of the cursor inside the border."""
    return next((line.index(sign), y) for y, line in enumerate(text_of(widget)) if sign in line)


async def test_a_changed_device_repaints_its_own_line_once(monkeypatch):
    session = session_of()
    for name in ("gpu0", "gpu1", "gpu2"):
        session.start("e2", name, losses=(3.0,))
    before = devices_view(session.state, 0.0)
    row = before.rows[1]._replace(frac=0.3, loss=2.5)
    after = before._replace(rows=(before.rows[0], row, before.rows[2]))
    async with shown(DeviceGrid(), (90, 5)) as (pilot, host):
        host.widget.show(before)
        await pilot.pause()
        repaints = Repaints(host.widget, monkeypatch)
        host.widget.show(after)
        line = next(y for y, text in enumerate(text_of(host.widget)) if "gpu1" in text)
        assert repaints.lines == [line]


async def test_devices_have_a_line_each_with_the_reason_why_one_is_free():
    session = session_of()
    session.start("e2", "gpu1", losses=(3.0, 2.5))
    async with shown(DeviceGrid(title="Devices"), (90, 5)) as (pilot, host):
        assert "no devices yet" in text_of(host.widget)[0]
        host.widget.show(devices_view(session.state, session.t_s))
        lines = text_of(host.widget)
        assert "gpu0" in lines[0]
        assert "queue empty while other runs go on" in lines[0]
        assert "◆ gpu1" in lines[1]
        assert host.widget.border_title == "Devices 1/3"
        await pilot.press("j", "enter")
        assert host.heard == [("gpu1", "r8", "e2")]


async def test_few_devices_in_a_large_pane_are_tiles_below_their_class():
    session = session_of()
    session.start("e2", "gpu1", losses=(3.0, 2.5))
    async with shown(DeviceGrid(), (90, 18)) as (_, host):
        host.widget.show(devices_view(session.state, session.t_s))
        lines = text_of(host.widget)
        assert lines[0].startswith("H100-80GB 1/2 busy · util 90% · 1 free: queue empty while other runs go on")
        assert lines[1].split() == ["◉", "gpu0", "H100-80GB", "◆", "gpu1", "H100-80GB", "e2", "r8"]
        assert "scoring warm-down 0.4" in lines[2]
        assert "2.500" in lines[4]
        assert lines[5].startswith("H200-141GB 0/1 busy · 1 free")


async def test_more_devices_than_lines_become_a_heat_map_with_the_cursor_in_words():
    rows = [device(index, "H100" if index < 30 else "H200") for index in range(40)]
    rows[31] = rows[31]._replace(status="running", run="r1", exp="e1", frac=1.0, words="what it tries")
    async with shown(DeviceGrid(), (60, 6)) as (pilot, host):
        host.widget.show(DevicesView(tuple(rows)))
        lines = text_of(host.widget)
        assert lines[0].startswith("H100 0/30  ◉" + "·" * 29)
        assert lines[1].startswith("H200 1/10  ·█" + "·" * 8)
        assert "gpu0" in lines[2]
        await pilot.press("j", "l")
        lines = text_of(host.widget)
        assert "gpu31" in lines[2]
        assert "e1 r1" in lines[2]
        await pilot.press("k", "enter")
        assert host.heard == [("gpu1", "", "")]


@pytest.mark.parametrize("level", ["tiles", "rows", "map", "nodes"])
@pytest.mark.parametrize("size", [(80, 24), (36, 9)])
async def test_the_cursor_goes_where_its_keys_point(level, size):
    async with shown(DeviceGrid(), size) as (pilot, host):
        host.widget.show(view_of(nodes=40, classes=2))
        while host.widget.level != level:
            await pilot.press("v")
        assert level in host.widget.border_title
        await pilot.press("j", "j")
        unit_x, unit_y = place_of(host.widget)
        below = host.widget.cursor_row.device
        assert below != "gpu0"
        await pilot.press("k", "j")
        assert place_of(host.widget) == (unit_x, unit_y)
        await pilot.press("l")
        right_x, right_y = place_of(host.widget)
        assert (right_y, right_x) >= (unit_y, unit_x)  # the same where only one fits into the pane
        assert host.widget.cursor_row.device != below
        await pilot.press("h")
        assert host.widget.cursor_row.device == below
        await pilot.press("G")
        assert host.widget.cursor_row.device == "gpu639"
        place_of(host.widget)
        await pilot.press("left_square_bracket")
        assert host.widget.cursor_row.device == "gpu638"
        await pilot.press("ctrl+u", "ctrl+d", "g")
        assert host.widget.cursor_row.device == "gpu0"
        await pilot.press("pagedown", "right_square_bracket")
        assert host.widget.cursor_row.device not in ("gpu0", "gpu1")
        place_of(host.widget)


async def test_moving_down_through_a_short_line_keeps_the_column():
    rows = tuple(
        device(index, cls)
        for cls, first, last in (("A", 0, 20), ("B", 20, 23), ("C", 23, 60))
        for index in range(first, last)
    )
    async with shown(DeviceGrid(), (60, 6)) as (pilot, host):
        host.widget.show(DevicesView(rows))
        await pilot.press(*"l" * 10, "j", "j")
        assert host.widget.cursor_row.device == "gpu33"


@pytest.mark.parametrize("level", ["tiles", "rows", "map", "nodes"])
async def test_a_click_marks_what_it_hits_and_a_second_one_opens_it(level):
    async with shown(DeviceGrid(), (80, 24)) as (pilot, host):
        host.widget.show(view_of(nodes=5))
        while host.widget.level != level:
            await pilot.press("v")
        await pilot.press("j", "l")
        x, y = place_of(host.widget)
        wanted = host.widget.cursor_row.device
        await pilot.press("g")
        for _ in range(2):
            await pilot.click(host.widget, offset=(x + 1, y + 1))
        assert host.widget.cursor_row.node == next(row.node for row in view_of(nodes=5).rows if row.device == wanted)
        assert [name for name, _, _ in host.heard] == [host.widget.cursor_row.device]
        await pilot.click(host.widget, offset=(79, 22))
        assert len(host.heard) == 1


async def test_the_cursor_keeps_its_device_whatever_comes_and_goes():
    async with shown(DeviceGrid(), (60, 20)) as (pilot, host):
        host.widget.show(view_of(nodes=4))
        await pilot.press("l", "j", "l")
        marked = host.widget.cursor_row.device
        host.widget.show(DevicesView((device(999, "A100"), *view_of(nodes=4).rows)))
        assert host.widget.cursor_row.device == marked
        await pilot.resize_terminal(30, 8)
        assert host.widget.cursor_row.device == marked
        place_of(host.widget)
        host.widget.show(DevicesView((device(999, "A100"),)))
        assert host.widget.cursor_row.device == "gpu999"
        host.widget.show(view_of(nodes=4))
        assert host.widget.cursor_row.device == marked


async def test_four_thousand_devices_are_a_cell_a_node_with_the_cursors_node_below():
    async with shown(DeviceGrid(), (80, 20)) as (pilot, host):
        host.widget.show(view_of(nodes=512))
        lines = text_of(host.widget)
        assert lines[0].startswith("H100 0/4096 busy")
        assert any(line.startswith("◉······· h100-00 0/8 busy · 8 free: paused") for line in lines)
        await pilot.press("l", "right_square_bracket")
        assert host.widget.cursor_row.device == "gpu9"
        lines = text_of(host.widget)
        assert any(line.startswith("·◉······ h100-01") for line in lines)
        assert any(line.startswith("◉ gpu9 ") for line in lines)
        strip = next(y for y, line in enumerate(lines) if line.startswith("·◉······ h100-01"))
        await pilot.click(host.widget, offset=(5 + 1, strip + 1))
        assert host.widget.cursor_row.device == "gpu13"


async def test_an_unfocused_pane_of_no_size_or_no_devices_takes_any_key():
    async with shown(DeviceGrid(), (2, 2)) as (pilot, host):
        host.widget.show(DevicesView())
        await pilot.press("j", "l", "G", "v", "ctrl+d", "enter", "right_square_bracket")
        assert host.heard == []
        host.widget.show(devices_view(Session().state, 0.0))
        await pilot.press("j", "l", "G", "v", "ctrl+d")
