"""From a curve's view model, a window and a cursor to the chart that is drawn."""

from __future__ import annotations

from typing import Final

import numpy as np

from tui.palette import Role
from tui.raster.braille import Band, Layer, Points, Steps, Window
from tui.raster.chart import Chart, Crosshair, XAxis
from tui.raster.ticks import FloatArray, robust_range
from tui.view.curve import Course, CurveView, describe

GLYPHS_PER_CELL: Final = 0.75
"""Up to this many points per column of cells each point is a whole sign; more would hide the lines."""

POINT_ROLES: Final = (Role.DIM, Role.REJECTED, Role.NOMINATED, Role.UNDECIDED)
_LEGEND: Final = (
    (Role.KEPT, "kept"),
    (Role.REJECTED, "rejected"),
    (Role.UNDECIDED, "undecided"),
    (Role.NOMINATED, "nominated"),
    (Role.FAILED, "failed"),
    (Role.DIM, "other class"),
)


def xs_of(view: CurveView, axis: XAxis) -> FloatArray:
    """Where the finished runs stand: their number in order of finishing, or the second in which they ended."""
    if axis == "time":
        return view.facts.t_s
    return np.arange(1.0, len(view.facts.runs) + 1.0)


def full_window(view: CurveView, axis: XAxis) -> Window:
    """The window that shows all runs (and nearly all scores)."""
    xs = xs_of(view, axis)
    if axis == "time":
        x0, x1 = 0.0, float(xs.max(initial=0.0)) or 1.0
    else:
        x0, x1 = 0.5, max(1, len(xs)) + 0.5
    return fitted(view, axis, Window(x0, x1, 0.0, 1.0))


def fitted(view: CurveView, axis: XAxis, window: Window) -> Window:
    """The window with the y range that suits what is inside its x range."""
    xs = xs_of(view, axis)
    inside = (xs >= window.x0) & (xs <= window.x1)
    lines = [_seen(course, axis, window) for course in (view.observed, view.confirmed)]
    y0, y1 = robust_range(view.facts.val_bpb[inside], must=np.concatenate(lines))
    return window._replace(y0=y0, y1=y1)


def _seen(course: Course, axis: XAxis, window: Window) -> FloatArray:
    """The values of a step line inside the x range, with the one that holds where it begins."""
    xs = _course_x(course, axis)
    first = max(0, int(np.searchsorted(xs, window.x0, side="right")) - 1)
    last = int(np.searchsorted(xs, window.x1, side="right"))
    return course.value[first:last]


def _course_x(course: Course, axis: XAxis) -> FloatArray:
    return course.t_s if axis == "time" else course.x


def chart_of(view: CurveView, axis: XAxis, window: Window, cursor: int | None, width: int, *, plain: bool) -> Chart:
    """Everything to draw in `width` cells; `cursor` is the index of the marked run."""
    xs, ys = xs_of(view, axis), view.facts.val_bpb
    inside = (xs >= window.x0) & (xs <= window.x1)
    above = int(np.count_nonzero(inside & (ys > window.y1)))
    glyphs = int(np.count_nonzero(inside & np.isfinite(ys))) <= GLYPHS_PER_CELL * width
    readout = _standing(view, "+-" if plain else "±") if cursor is None else describe(view, cursor)
    notice = f"{'^' if plain else '▲'} {above} above" if above else ""
    return Chart(
        layers=_layers(view, axis, xs, glyphs=glyphs),
        window=window,
        x_axis=axis,
        failed_x=xs[view.roles == Role.FAILED],
        crosshair=None if cursor is None else _crosshair(view, xs, cursor),
        notice=notice if xs.size else "no finished run yet",
        readout=readout,
    )


def _layers(view: CurveView, axis: XAxis, xs: FloatArray, *, glyphs: bool) -> list[Layer]:
    ys, roles = view.facts.val_bpb, view.roles
    confirmed, observed = view.confirmed, view.observed
    until = float(xs[-1]) if xs.size else 0.0
    confirmed_x, observed_x = _course_x(confirmed, axis), _course_x(observed, axis)
    layers: list[Layer] = [Band(confirmed_x, confirmed.low, confirmed.high, Role.BAND, until)]
    layers += [Points(xs[roles == role], ys[roles == role], role, glyphs) for role in POINT_ROLES]
    layers += [
        Steps(observed_x, observed.value, Role.OBSERVED, until),
        Steps(confirmed_x, confirmed.value, Role.CONFIRMED, until),
        Points(xs[roles == Role.KEPT], ys[roles == Role.KEPT], Role.KEPT, glyphs),
    ]
    if observed.x.size:
        # The best score of all is always a whole sign, by its own verdict: it may well not be confirmed.
        best = int(observed.x[-1]) - 1
        layers.append(Points(xs[[best]], ys[[best]], Role(int(roles[best])), glyphs=True))
    return layers


def _crosshair(view: CurveView, xs: FloatArray, cursor: int) -> Crosshair:
    score = float(view.facts.val_bpb[cursor])
    role = Role(int(view.roles[cursor]))
    if np.isnan(score):
        return Crosshair(float(xs[cursor]), None, role if role is not Role.BLANK else Role.CURSOR)
    return Crosshair(float(xs[cursor]), score, role)


def _standing(view: CurveView, between: str) -> str:
    """The best values in words, for when no run is marked."""
    words = []
    confirmed, observed = view.confirmed, view.observed
    if confirmed.value.size:
        half = (confirmed.high[-1] - confirmed.low[-1]) / 2
        words.append(f"confirmed {confirmed.value[-1]:.4f}" + ("" if np.isnan(half) else f" {between}{half:.4f}"))
    if observed.value.size:
        words.append(f"observed {observed.value[-1]:.4f}")
    return " ".join(words)


def legend(view: CurveView) -> list[tuple[Role, str]]:
    """Roles and their meanings, only of what is there; the lines come first."""
    there = set(np.unique(view.roles).tolist())
    entries = [(role, words) for role, words in _LEGEND if role in there]
    if view.observed.x.size:
        entries.insert(0, (Role.OBSERVED, "observed"))
    if view.confirmed.x.size:
        entries.insert(0, (Role.CONFIRMED, "confirmed"))
    return entries
