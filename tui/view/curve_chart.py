"""From a curve's view model, a window and a cursor to the chart that is drawn."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np

from tui.palette import Role
from tui.raster.braille import Band, Layer, Points, Steps, Window
from tui.raster.chart import Chart, Crosshair, XAxis
from tui.raster.ticks import FloatArray, finite, robust_range
from tui.view.curve import Course, CurveView, describe
from tui.view.words import MINUS

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


Focus = Literal["most", "best", "all"]
"""Which scores the y range shows: all but wild ones, the better half, or all."""

FOCUSES: Final[tuple[Focus, ...]] = ("most", "best", "all")
AXES: Final[tuple[XAxis, ...]] = ("run", "time", "device")
AXIS_NAMES: Final[dict[XAxis, str]] = {"run": "runs", "time": "time", "device": "device-hours", "share": ""}


class Sight(NamedTuple):
    """How the reader looks at a curve: along which axis, at which scores, with other device classes or without."""

    axis: XAxis = "run"
    focus: Focus = "most"
    others: bool = True


def xs_of(view: CurveView, axis: XAxis) -> FloatArray:
    """Where the finished runs stand: their number in order of finishing, when they ended, or what was spent by then."""
    if axis == "time":
        return view.facts.t_s
    if axis == "device":
        return view.facts.device_h
    return np.arange(1.0, len(view.facts.runs) + 1.0)


def full_window(view: CurveView, sight: Sight) -> Window:
    """The window that shows all runs (and nearly all scores)."""
    xs = xs_of(view, sight.axis)
    if sight.axis == "run":
        x0, x1 = 0.5, max(1, len(xs)) + 0.5
    else:
        x0, x1 = 0.0, float(xs.max(initial=0.0)) or 1.0
    return fitted(view, sight, Window(x0, x1, 0.0, 1.0))


def fitted(view: CurveView, sight: Sight, window: Window) -> Window:
    """The window with the y range that suits what is inside its x range."""
    xs = xs_of(view, sight.axis)
    inside = (xs >= window.x0) & (xs <= window.x1)
    if not sight.others:
        inside &= view.roles != Role.DIM
    ys = view.facts.val_bpb[inside]
    lines = [_seen(course, sight.axis, window) for course in (view.observed, view.confirmed)]
    if sight.focus == "most":
        y0, y1 = robust_range(ys, must=np.concatenate(lines))
    elif sight.focus == "all":
        y0, y1 = robust_range((), must=np.concatenate([ys, *lines]))
    else:
        there = finite(ys)
        better = there[there <= np.quantile(there, 0.5)] if there.size else there
        y0, y1 = robust_range((), must=np.concatenate([better, *(line[-1:] for line in lines)]))
    return window._replace(y0=y0, y1=y1)


def _seen(course: Course, axis: XAxis, window: Window) -> FloatArray:
    """The values of a step line inside the x range, with the one that holds where it begins."""
    xs = _course_x(course, axis)
    first = max(0, int(np.searchsorted(xs, window.x0, side="right")) - 1)
    last = int(np.searchsorted(xs, window.x1, side="right"))
    return course.value[first:last]


def _course_x(course: Course, axis: XAxis) -> FloatArray:
    return {"time": course.t_s, "device": course.device_h}.get(axis, course.x)


def chart_of(
    view: CurveView,
    sight: Sight,
    window: Window,
    cursor: int | None,
    width: int,
    *,
    plain: bool,
    whole: Window | None = None,
    edges: tuple[float, ...] = (),
) -> Chart:
    """Everything to draw in `width` cells.

    Args:
        cursor: the index of the marked run; edges: the ends of a stretch that is being chosen.
        whole: the window on everything, where the present one shows a part of it.
    """
    xs, ys = xs_of(view, sight.axis), view.facts.val_bpb
    inside = (xs >= window.x0) & (xs <= window.x1)
    shown = inside if sight.others else inside & (view.roles != Role.DIM)
    glyphs = int(np.count_nonzero(shown & np.isfinite(ys))) <= GLYPHS_PER_CELL * width
    readout = _standing(view, "+-" if plain else "±") if cursor is None else describe(view, cursor)
    return Chart(
        layers=_layers(view, sight, xs, glyphs=glyphs),
        window=window,
        x_axis=sight.axis,
        failed_x=xs[inside & (view.roles == Role.FAILED)],
        crosshair=None if cursor is None else _crosshair(view, xs, cursor),
        notice=_beyond(ys[shown], window, plain=plain) if xs.size else "no finished run yet",
        readout=readout.replace(MINUS, "-") if plain else readout,
        x_name=AXIS_NAMES[sight.axis],
        overview=None if whole is None else _share_of(window, whole),
        edges=edges,
    )


def _beyond(ys: FloatArray, window: Window, *, plain: bool) -> str:
    """How many scores lie out of sight above and below."""
    above, below = int(np.count_nonzero(ys > window.y1)), int(np.count_nonzero(ys < window.y0))
    said = [f"{'^' if plain else '▲'} {above} above"] if above else []
    said += [f"{'v' if plain else '▼'} {below} below"] if below else []
    return " ".join(said)


def _share_of(window: Window, whole: Window) -> tuple[float, float]:
    span = whole.x1 - whole.x0
    return (window.x0 - whole.x0) / span, (window.x1 - whole.x0) / span


def _layers(view: CurveView, sight: Sight, xs: FloatArray, *, glyphs: bool) -> list[Layer]:
    ys, roles = view.facts.val_bpb, view.roles
    confirmed, observed = view.confirmed, view.observed
    until = float(xs[-1]) if xs.size else 0.0
    confirmed_x, observed_x = _course_x(confirmed, sight.axis), _course_x(observed, sight.axis)
    layers: list[Layer] = [Band(confirmed_x, confirmed.low, confirmed.high, Role.BAND, until)]
    layers += [
        Points(xs[roles == role], ys[roles == role], role, glyphs)
        for role in POINT_ROLES
        if sight.others or role != Role.DIM
    ]
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


def legend(view: CurveView, sight: Sight) -> list[tuple[Role, str]]:
    """Roles and their meanings, only of what is to be seen; the lines come first."""
    there = set(np.unique(view.roles).tolist()) - (set() if sight.others else {int(Role.DIM)})
    entries = [(role, words) for role, words in _LEGEND if role in there]
    if view.observed.x.size:
        entries.insert(0, (Role.OBSERVED, "observed"))
    if view.confirmed.x.size:
        entries.insert(0, (Role.CONFIRMED, "confirmed"))
    return entries
