"""The val_bpb curve: every run as a point, best observed and best confirmed as steps, a crosshair, zoom and pan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.palette import Role
from tui.raster.braille import CharsetName, Window
from tui.raster.chart import XAxis, draw_chart, frame_of
from tui.raster.window import holding, panned, zoomed
from tui.view.curve import CurveView
from tui.view.curve_chart import chart_of, fitted, full_window, legend, xs_of
from tui.widgets.lines import LineWidget, strip_of

ZOOM_STEP = 0.6
PAN_STEP = 0.25


class Curve(LineWidget):
    """`show(CurveView)` draws the runs; a zoomed view does not move when data arrives.

    Posts `RunHighlighted` when the crosshair moves to a run and `RunSelected` when it is to be opened.
    """

    PLACE: ClassVar[Where] = "curve"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    @dataclass
    class RunHighlighted(Message):
        """The crosshair stands on a run."""

        run: str

    @dataclass
    class RunSelected(Message):
        """A run is to be opened."""

        run: str

    def __init__(
        self,
        *,
        title: str = "val_bpb",
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(charset=charset, id=id, classes=classes, title=title)
        self.axis: XAxis = "run"
        self._view = CurveView()
        self._zoom: Window | None = None
        self._cursor: int | None = None

    def show(self, view: CurveView) -> None:
        """Show a projection of the session; equal keys show the same and cost nothing."""
        if view.key == self._view.key:
            return
        if view.key[:1] != self._view.key[:1]:
            self._zoom, self._cursor = None, None
        self._view = view
        self.redraw()

    @property
    def window(self) -> Window:
        """What part of the data is in sight."""
        return self._zoom if self._zoom is not None else full_window(self._view, self.axis)

    @property
    def cursor_run(self) -> str | None:
        """The run under the crosshair."""
        cursor = self._marked()
        return None if cursor is None else self._view.facts.runs[cursor]

    def draw(self, width: int, height: int) -> list[Strip]:
        self.set_legend(legend(self._view))
        chart = chart_of(self._view, self.axis, self.window, self._marked(), width, plain=self.plain)
        raster = draw_chart(chart, width, height, self.charset)
        look = self.look
        return [strip_of(raster.spans(y), look=look) for y in range(height)]

    def _marked(self) -> int | None:
        """The crosshair's run, unless a replay went back to before it."""
        return self._cursor if self._cursor is not None and self._cursor < len(self._view.facts.runs) else None

    def _drawn(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.flatnonzero(self._view.roles != Role.BLANK)

    def _mark(self, index: int) -> None:
        if index == self._cursor:
            return
        self._cursor = index
        if self._zoom is not None:
            x = float(xs_of(self._view, self.axis)[index])
            moved = holding(self._zoom, x, full_window(self._view, self.axis))
            if moved != self._zoom:
                self._zoom = fitted(self._view, self.axis, moved)
        self.redraw()
        self.post_message(self.RunHighlighted(self._view.facts.runs[index]))

    def action_step(self, by: int) -> None:
        """Move the crosshair to a neighbouring run; without one it starts at the latest run in sight."""
        drawn, cursor = self._drawn(), self._marked()
        if not drawn.size:
            return
        if cursor is None:
            xs = xs_of(self._view, self.axis)[drawn]
            in_sight = drawn[(xs >= self.window.x0) & (xs <= self.window.x1)]
            self._mark(int(in_sight[-1] if in_sight.size else drawn[-1]))
            return
        at = int(np.searchsorted(drawn, cursor)) + by
        self._mark(int(drawn[min(max(at, 0), len(drawn) - 1)]))

    def action_best(self) -> None:
        """Put the crosshair on the best observed run."""
        if self._view.observed.x.size:
            self._mark(int(self._view.observed.x[-1]) - 1)

    def action_select(self) -> None:
        """Open the marked run."""
        run = self.cursor_run
        if run is not None:
            self.post_message(self.RunSelected(run))

    def action_zoom(self, closer: bool) -> None:
        """Zoom around the crosshair, or around the newest data in sight."""
        full, window, cursor = full_window(self._view, self.axis), self.window, self._marked()
        centre = window.x1 if cursor is None else float(xs_of(self._view, self.axis)[cursor])
        self._look(zoomed(window, ZOOM_STEP if closer else 1 / ZOOM_STEP, centre, full), full)

    def action_pan(self, direction: int) -> None:
        """Move a zoomed view by a quarter of its width."""
        if self._zoom is not None:
            full = full_window(self._view, self.axis)
            self._look(panned(self._zoom, direction * PAN_STEP, full), full)

    def _look(self, window: Window, full: Window) -> None:
        whole = window.x0 <= full.x0 and window.x1 >= full.x1
        self._zoom = None if whole else fitted(self._view, self.axis, window)
        self.redraw()

    def action_fit(self) -> None:
        """Show all data, without a crosshair, and follow it again."""
        self._zoom, self._cursor = None, None
        self.redraw()

    def action_axis(self) -> None:
        """Change between run numbers and session time."""
        self.axis = "time" if self.axis == "run" else "run"
        self._zoom = None
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        """Mark the nearest run; a click on the marked one opens it."""
        offset = event.get_content_offset(self)
        index = None if offset is None else self._nearest(offset.x, offset.y)
        if index is None:
            return
        if index == self._marked():
            self.action_select()
        else:
            self._mark(index)

    def _nearest(self, column: int, row: int) -> int | None:
        """The run whose sign is nearest to a cell; failures stand in the crash row."""
        window, drawn = self.window, self._drawn()
        xs, ys = xs_of(self._view, self.axis)[drawn], self._view.facts.val_bpb[drawn]
        inside = (xs >= window.x0) & (xs <= window.x1) & ~(ys > window.y1) & ~(ys < window.y0)
        if not inside.any():
            return None
        chart = chart_of(self._view, self.axis, window, None, self.size.width, plain=self.plain)
        frame = frame_of(chart, *self.size)
        across = (xs[inside] - window.x0) / (window.x1 - window.x0) * frame.columns + frame.left - (column + 0.5)
        rows = (window.y1 - ys[inside]) / (window.y1 - window.y0) * frame.rows
        down = np.where(np.isnan(rows), frame.rows + 0.5, rows) - (row + 0.5)
        # A cell is about twice as high as wide.
        return int(drawn[inside][np.argmin(across**2 + (2 * down) ** 2)])

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel zooms."""
        event.stop()
        self.action_zoom(True)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel zooms."""
        event.stop()
        self.action_zoom(False)
