"""The widgets in a running app: exact lines, keys, messages, and no repainting of what did not change."""

from __future__ import annotations

import contextlib

import pytest
from rich.text import Text
from textual.app import App
from textual.widget import Widget

from core.events import Incumbent
from tests.support.runs import Session
from tui.view.curve import curve_view
from tui.view.devices import devices_view
from tui.view.loss import LossView, loss_view
from tui.widgets.curve import Curve
from tui.widgets.device_grid import DeviceGrid
from tui.widgets.loss_curve import LossCurve
from tui.widgets.virtual_table import Column, ListRows, TableView, VirtualTable


class Host(App[None]):
    """One widget on a screen; `heard` collects its messages."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.heard: list[object] = []

    def compose(self):
        yield self.widget

    def on_curve_run_highlighted(self, message):
        self.heard.append(("highlighted", message.run))

    def on_curve_run_selected(self, message):
        self.heard.append(("selected", message.run))

    def on_device_grid_device_selected(self, message):
        self.heard.append((message.device, message.run, message.exp))

    def on_virtual_table_row_highlighted(self, message):
        self.heard.append(("highlighted", message.key))

    def on_virtual_table_row_selected(self, message):
        self.heard.append(("selected", message.key))


@contextlib.asynccontextmanager
async def shown(widget, size=(60, 16)):
    """The widget, focused, in an app of that size; yields (pilot, host)."""
    host = Host(widget)
    async with host.run_test(size=size) as pilot:
        widget.focus()
        await pilot.pause()
        yield pilot, host


def text_of(widget) -> list[str]:
    """The lines inside the border; every one has exactly the width of the pane."""
    lines = [widget.render_line(y) for y in range(widget.size.height)]
    assert {line.cell_length for line in lines} <= {widget.size.width}
    return [line.text for line in lines]


class Repaints:
    """Counts what a widget asks Textual to paint again."""

    def __init__(self, widget, monkeypatch) -> None:
        self.regions: list[tuple[int, ...]] = []
        refresh = type(widget).refresh

        def counted(this, *regions, **options):
            if this is widget:
                self.regions.extend(tuple(region) for region in regions or [(-1,)])
            return refresh(this, *regions, **options)

        monkeypatch.setattr(type(widget), "refresh", counted)

    @property
    def lines(self) -> list[int]:
        return [region[1] for region in self.regions]


def session_of(scores=(0.99, 0.98, None, 0.995)) -> Session:
    session = Session()
    session.baseline()
    session.propose("e2", "warm-down 0.4")
    for score in scores:
        session.run("e2", score, outcome="ok" if score is not None else "crash", losses=(3.0, 2.0))
    session.judge("e2", "kept")
    session.add(Incumbent(exp="e2"))
    return session


async def test_the_curve_draws_points_failures_and_legend():
    async with shown(Curve()) as (pilot, _):
        curve = pilot.app.widget
        curve.show(curve_view(session_of().state))
        lines = text_of(curve)
        assert "".join(lines).count("●") >= 3
        assert lines[-2].count("×") == 1
        assert "confirmed 0.98" in lines[0]
        assert "failed" in curve.border_subtitle


@pytest.mark.parametrize("charset", ["braille", "blocks", "ascii"])
@pytest.mark.parametrize("size", [(3, 3), (12, 5), (80, 24)])
async def test_every_widget_fills_its_pane_exactly_whatever_the_size(size, charset):
    state = session_of().state
    async with shown(Curve(charset=charset), size) as (pilot, _):
        pilot.app.widget.show(curve_view(state))
        text_of(pilot.app.widget)
    async with shown(DeviceGrid(charset=charset), size) as (pilot, _):
        pilot.app.widget.show(devices_view(state, 0.0))
        text_of(pilot.app.widget)
    async with shown(LossCurve(charset=charset), size) as (pilot, _):
        pilot.app.widget.show(loss_view(state, "e2"))
        text_of(pilot.app.widget)


async def test_an_unchanged_show_repaints_nothing(monkeypatch):
    session = session_of()
    views = {
        Curve: lambda: curve_view(session.state),
        LossCurve: lambda: loss_view(session.state, "e2"),
        DeviceGrid: lambda: devices_view(session.state, 1.0),
        VirtualTable: lambda: table(["a", "b"], version=1),
    }
    for kind, view in views.items():
        async with shown(kind()) as (pilot, host):
            host.widget.show(view())
            await pilot.pause()
            repaints = Repaints(host.widget, monkeypatch)
            host.widget.show(view())
            assert repaints.regions == []


async def test_a_new_run_repaints_lines_at_most_once_each(monkeypatch):
    session = session_of()
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session.state))
        await pilot.pause()
        session.run("e2", 0.9951)
        repaints = Repaints(host.widget, monkeypatch)
        host.widget.show(curve_view(session.state))
        assert 0 < len(repaints.lines) == len(set(repaints.lines))


async def test_the_crosshair_moves_over_runs_and_opens_one():
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session_of().state))
        await pilot.press("l")
        assert host.widget.cursor_run == "r7"
        await pilot.press("h", "h", "enter")
        assert host.heard == [("highlighted", "r7"), ("highlighted", "r6"), ("highlighted", "r5"), ("selected", "r5")]
        assert "r5 e2 0.9800 kept \u22120.0200 vs e1 warm-down 0.4" in text_of(host.widget)[0]
        await pilot.press("h", "b")
        assert host.widget.cursor_run == "r5"
        await pilot.press("0")
        assert host.widget.cursor_run is None


async def test_a_click_marks_the_nearest_run_and_a_second_one_opens_it():
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session_of().state))
        column = text_of(host.widget)[-2].index("×")
        row = host.widget.size.height - 2
        for _ in range(2):
            await pilot.click(host.widget, offset=(column + 1, row + 1))
        assert host.heard == [("highlighted", "r6"), ("selected", "r6")]


async def test_a_zoomed_view_does_not_move_when_data_arrives():
    session = session_of()
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session.state))
        fit = host.widget.window
        await pilot.press("plus", "left_square_bracket")
        zoomed, lines = host.widget.window, text_of(host.widget)
        assert zoomed.x1 - zoomed.x0 < fit.x1 - fit.x0
        session.propose("e3")
        session.run("e3", 0.5, reason="screen")
        host.widget.show(curve_view(session.state))
        assert host.widget.window == zoomed
        # Only the words in the corner tell of the better run, and the track that there is more to the right.
        assert [line for line in text_of(host.widget)[1:] if "━" not in line] == [
            line for line in lines[1:] if "━" not in line
        ]
        assert "observed 0.5000" in text_of(host.widget)[0]
        await pilot.press("left_square_bracket")
        assert host.widget.window.x0 < zoomed.x0
        await pilot.press("minus", "minus", "minus")
        assert host.widget.window.x1 == 8.5


async def test_the_axis_changes_between_runs_and_time():
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session_of().state))
        assert "2" in text_of(host.widget)[-1].split()
        await pilot.press("x")
        assert "1m" in text_of(host.widget)[-1].split()


async def test_a_replay_that_goes_back_loses_no_ground():
    session = session_of()
    early = Session()
    early.baseline()
    async with shown(Curve()) as (pilot, host):
        host.widget.show(curve_view(session.state))
        await pilot.press("l", "plus")
        host.widget.show(curve_view(early.state))
        assert host.widget.cursor_run is None
        host.widget.show(curve_view(session.state))
        assert host.widget.cursor_run == "r7"
        host.widget.show(curve_view(Session(name="another").state))
        host.widget.show(curve_view(session.state))
        assert host.widget.cursor_run is None


async def test_the_theme_changes_the_colours():
    async with shown(LossCurve()) as (pilot, host):
        host.widget.show(loss_view(session_of().state, "e2"))

        def colours():
            height = host.widget.size.height
            segments = [segment for y in range(height) for segment in host.widget.render_line(y)]
            return {segment.style.color.name for segment in segments if segment.style and segment.style.color}

        dark = colours()
        host.theme = "textual-light"
        await pilot.pause()
        assert dark != colours()
        host.widget.show(LossView())
        assert "no loss reported yet" in text_of(host.widget)[0]


COLUMNS = (Column("#", 4, align="right"), Column("what", 6, flex=True))


def table(keys, version, empty=""):
    rows = [(key, f"row {key}") for key in keys]
    return TableView(COLUMNS, ListRows(rows, keys), version=version, empty=empty)


async def test_a_table_shows_its_rows_as_text_never_as_markup():
    view = TableView(
        COLUMNS,
        ListRows([("[b]", "esc\x1b[31m \u202e日本語日本語日本語日本語日本語日本語"), ("2", Text("styled", "bold"))]),
        version=1,
    )
    async with shown(VirtualTable(title="sql"), (24, 6)) as (_, host):
        host.widget.show(view)
        lines = text_of(host.widget)
        assert lines[0].split() == ["#", "what"]
        assert lines[1].startswith(" [b] esc 日本")
        assert "…" in lines[1]
        assert lines[2].startswith("   2 styled")


async def test_an_empty_table_says_so():
    async with shown(VirtualTable()) as (pilot, host):
        host.widget.show(table([], version=1, empty="no experiments yet"))
        assert text_of(host.widget)[1].startswith("no experiments yet")
        await pilot.press("j", "G", "enter", "ctrl+d")
        assert host.heard == []
        assert host.widget.cursor_key is None


async def test_keys_move_the_cursor_and_open_a_row():
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table([str(index) for index in range(100)], version=1))
        await pilot.press("j", "down", "k", "enter", "G", "ctrl+u", "g", "ctrl+d")
        keys = [key for _, key in host.heard]
        assert keys == ["1", "2", "1", "1", "99", "94", "0", "5"]
        assert host.heard[3] == ("selected", "1")


async def test_the_cursor_is_always_in_sight():
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table([str(index) for index in range(100)], version=1))
        for keys in (["G"], ["k"] * 15, ["g"], ["j"] * 15, ["pagedown"], ["pageup"]):
            await pilot.press(*keys)
            lines = text_of(host.widget)
            assert any(f"row {host.widget.cursor_key} " in line for line in lines), keys


async def test_the_cursor_stays_on_its_key_when_rows_come_and_are_sorted_anew():
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table(["c", "b", "a"], version=1))
        await pilot.press("j")
        assert host.widget.cursor_key == "b"
        host.widget.show(table(["e", "d", "c", "b", "a"], version=2))
        assert host.widget.cursor_key == "b"
        host.widget.show(table(["a", "b", "c"], version=3))
        assert host.widget.cursor_key == "b"
        host.widget.show(table(["a", "c"], version=4))
        assert host.widget.cursor_key == "c"


async def test_until_it_is_moved_the_cursor_follows_the_first_row():
    async with shown(VirtualTable(), (40, 13)) as (_, host):
        host.widget.show(table(["b", "a"], version=1))
        host.widget.show(table(["c", "b", "a"], version=2))
        assert host.widget.cursor_key == "c"


async def test_rows_in_sight_stay_where_they_are_when_others_come_above():
    keys = [str(index) for index in range(100)]
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table(keys, version=1))
        await pilot.press(*["ctrl+d"] * 6)
        before = text_of(host.widget)
        host.widget.show(table(["new 1", "new 2", *keys], version=2))
        await pilot.pause()
        assert text_of(host.widget) == before


async def test_a_click_moves_the_cursor_and_a_second_one_opens_the_row():
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table(["a", "b", "c"], version=1))
        for _ in range(2):
            await pilot.click(host.widget, offset=(5, 3))
        assert host.heard == [("highlighted", "b"), ("selected", "b")]


async def test_a_wide_result_scrolls_sideways():
    columns = tuple(Column(f"column{index}", 12) for index in range(8))
    rows = ListRows([[f"value{index}" for index in range(8)]])
    async with shown(VirtualTable(), (40, 8)) as (pilot, host):
        host.widget.show(TableView(columns, rows, version=1))
        await pilot.pause()
        assert "value7" not in text_of(host.widget)[1]
        await pilot.press(*["l"] * 12)
        lines = text_of(host.widget)
        assert "column7" in lines[0]
        assert "value7" in lines[1]


async def test_only_rows_in_sight_are_asked_for():
    class Endless(ListRows):
        def __init__(self):
            super().__init__([])
            self.asked = set()

        def __len__(self):
            return 100_000

        def row(self, index):
            self.asked.add(index)
            return str(index), "x"

        def key(self, index):
            return str(index)

        def index(self, key):
            return int(key)

    rows = Endless()
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(TableView(COLUMNS, rows, version=1))
        await pilot.press("G", "k", "g")
        assert 20 <= len(rows.asked) <= 60
        assert 99_999 in rows.asked


async def test_one_changed_row_repaints_one_line(monkeypatch):
    async with shown(VirtualTable(), (40, 13)) as (pilot, host):
        host.widget.show(table(["a", "b", "c"], version=1))
        await pilot.pause()
        rows = [("a", "row a"), ("b", "changed"), ("c", "row c")]
        repaints = Repaints(host.widget, monkeypatch)
        host.widget.show(TableView(COLUMNS, ListRows(rows, ["a", "b", "c"]), version=2))
        assert repaints.lines == [2]
