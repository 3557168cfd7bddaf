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
from tui.raster.braille import Window
from tui.raster.chart import Chart, draw_chart, frame_of
from tui.raster.ticks import FloatArray, robust_range
from tui.raster.window import holding, panned, shifted, spanning, zoomed
from tui.terminal import CharsetName
from tui.view.curve import CurveView
from tui.view.curve_chart import AXES, FOCUSES, Sight, chart_of, fitted, full_window, legend, xs_of
from tui.widgets.lines import LineWidget, strip_of

ZOOM_STEP = 0.6
PAN_STEP = 0.25


class Curve(LineWidget):
    """`show(CurveView)` draws the runs; a zoomed view does not move when data arrives.

    Posts `RunHighlighted` when the crosshair moves to a run and `RunSelected` when it is to be opened.
    """

    ALLOW_SELECT = False  # dragging chooses a stretch to zoom to
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
        self.sight = Sight()
        self._view = CurveView()
        self._zoom: Window | None = None
        self._cursor: int | None = None
        self._drag: tuple[float, float] | None = None
        self._dragged = False

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
        return self._zoom if self._zoom is not None else self._whole()

    @property
    def cursor_run(self) -> str | None:
        """The run under the crosshair."""
        cursor = self._marked()
        return None if cursor is None else self._view.facts.runs[cursor]

    def draw(self, width: int, height: int) -> list[Strip]:
        self.set_legend(legend(self._view, self.sight))
        raster = draw_chart(self._chart(width), width, height, self.charset)
        look = self.look
        return [strip_of(raster.spans(y), look=look) for y in range(height)]

    def _chart(self, width: int) -> Chart:
        whole = self._whole() if self._zoom is not None else None
        edges = self._drag if self._drag is not None and self._drag[0] != self._drag[1] else ()
        return chart_of(
            self._view, self.sight, self.window, self._marked(), width, plain=self.plain, whole=whole, edges=edges
        )

    def _whole(self) -> Window:
        return full_window(self._view, self.sight)

    def _marked(self) -> int | None:
        """The crosshair's run, unless a replay went back to before it."""
        return self._cursor if self._cursor is not None and self._cursor < len(self._view.facts.runs) else None

    def _drawn(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        there = self._view.roles != Role.BLANK
        return np.flatnonzero(there if self.sight.others else there & (self._view.roles != Role.DIM))

    def _mark(self, index: int) -> None:
        if index == self._cursor:
            return
        self._cursor = index
        if self._zoom is not None:
            x = float(xs_of(self._view, self.sight.axis)[index])
            moved = holding(self._zoom, x, self._whole())
            if moved != self._zoom:
                self._zoom = fitted(self._view, self.sight, moved)
        self.redraw()
        self.post_message(self.RunHighlighted(self._view.facts.runs[index]))

    def action_step(self, by: int) -> None:
        """Move the crosshair to a neighbouring run; without one it starts at the latest run in sight."""
        drawn, cursor = self._drawn(), self._marked()
        if not drawn.size:
            return
        if cursor is None:
            xs = self._xs()[drawn]
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
        cursor = self._marked()
        self._zoom_at(closer, self.window.x1 if cursor is None else float(self._xs()[cursor]))

    def action_pan(self, direction: int) -> None:
        """Move a zoomed view by a quarter of its width."""
        if self._zoom is not None:
            whole = self._whole()
            self._look(panned(self._zoom, direction * PAN_STEP, whole), whole)

    def action_shift(self, direction: int) -> None:
        """Move a zoomed view up or down by a quarter of its height, as long as there is something to see."""
        if self._zoom is not None:
            ys = self._view.facts.val_bpb
            self._zoom = shifted(self._zoom, direction * PAN_STEP, *robust_range((), must=ys))
            self.redraw()

    def action_fit(self) -> None:
        """Show all data, without a crosshair, and follow it again."""
        self._zoom, self._cursor = None, None
        self.redraw()

    def action_axis(self) -> None:
        """Change between run numbers, session time and device-hours; the same runs stay in sight."""
        xs, before = self._xs(), self.window
        inside = np.flatnonzero((xs >= before.x0) & (xs <= before.x1)) if self._zoom is not None else np.empty(0)
        axis = AXES[(AXES.index(self.sight.axis) + 1) % len(AXES)]
        self.sight = self.sight._replace(axis=axis)
        self._zoom = None
        if inside.size:
            xs, whole = self._xs(), self._whole()
            self._look(spanning(float(xs[inside[0]]), float(xs[inside[-1]]), whole), whole)
        self.redraw()

    def action_focus(self) -> None:
        """Show all scores but wild ones, the better half of them, or all."""
        self._see(self.sight._replace(focus=FOCUSES[(FOCUSES.index(self.sight.focus) + 1) % len(FOCUSES)]))

    def action_others(self) -> None:
        """Show or hide the runs on other device classes."""
        self._see(self.sight._replace(others=not self.sight.others))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A drag begins, perhaps."""
        self._dragged = False
        x = self._x_at(event)
        if x is not None and event.button == 1:
            self._drag = (x, x)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """While dragged, the stretch is marked."""
        x = self._x_at(event) if self._drag is not None else None
        if self._drag is not None and x is not None and x != self._drag[1]:
            self._drag = (self._drag[0], x)
            self._dragged = True
            self.redraw()

    def on_mouse_up(self, event: events.MouseUp) -> None:  # noqa: ARG002
        """Zoom to what was dragged over."""
        if self._drag is None:
            return
        (x0, x1), self._drag = sorted(self._drag), None
        self.release_mouse()
        if x1 > x0:
            whole = self._whole()
            self._look(spanning(x0, x1, whole), whole)

    def on_click(self, event: events.Click) -> None:
        """Mark the nearest run; a click on the marked one opens it."""
        offset = event.get_content_offset(self)
        index = None if offset is None or self._dragged else self._nearest(offset.x, offset.y)
        if index is None:
            return
        if index == self._marked():
            self.action_select()
        else:
            self._mark(index)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel zooms around the pointer."""
        event.stop()
        x = self._x_at(event)
        self._zoom_at(True, self.window.x1 if x is None else x)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel zooms around the pointer."""
        event.stop()
        x = self._x_at(event)
        self._zoom_at(False, self.window.x1 if x is None else x)

    def _xs(self) -> FloatArray:
        return xs_of(self._view, self.sight.axis)

    def _zoom_at(self, closer: bool, centre_x: float) -> None:
        whole = self._whole()
        self._look(zoomed(self.window, ZOOM_STEP if closer else 1 / ZOOM_STEP, centre_x, whole), whole)

    def _look(self, window: Window, whole: Window) -> None:
        is_all = window.x0 <= whole.x0 and window.x1 >= whole.x1
        self._zoom = None if is_all else fitted(self._view, self.sight, window)
        self.redraw()

    def _see(self, sight: Sight) -> None:
        self.sight = sight
        if self._zoom is not None:
            self._zoom = fitted(self._view, sight, self._zoom)
        self.redraw()

    def _x_at(self, event: events.MouseEvent) -> float | None:
        """Where in the data the pointer is; beside the data area it counts as at its edge."""
        offset = event.get_content_offset_capture(self)
        if self.size.width < 1 or self.size.height < 1:
            return None
        frame = frame_of(self._chart(self.size.width), *self.size)
        column = min(max(offset.x, frame.left), frame.left + frame.columns - 1)
        return frame.x_of(column, self.window)

    def _nearest(self, column: int, row: int) -> int | None:
        """The run whose sign is nearest to a cell; failures stand in the crash row."""
        window, drawn = self.window, self._drawn()
        xs, ys = self._xs()[drawn], self._view.facts.val_bpb[drawn]
        inside = (xs >= window.x0) & (xs <= window.x1) & ~(ys > window.y1) & ~(ys < window.y0)
        if not inside.any():
            return None
        frame = frame_of(self._chart(self.size.width), *self.size)
        across = (xs[inside] - window.x0) / (window.x1 - window.x0) * frame.columns + frame.left - (column + 0.5)
        rows = (window.y1 - ys[inside]) / (window.y1 - window.y0) * frame.rows
        down = np.where(np.isnan(rows), frame.rows + 0.5, rows) - (row + 0.5)
        # A cell is about twice as high as wide.
        return int(drawn[inside][np.argmin(across**2 + (2 * down) ** 2)])
