"""What the loss curves of one experiment show: its runs, and the incumbent's beneath them."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final, NamedTuple

import numpy as np

from core.state import Run, SessionState
from tui.palette import SERIES, Role
from tui.raster.braille import Layer, Line, Points, Window
from tui.raster.chart import Chart
from tui.raster.ticks import robust_range
from tui.text import clean

MOST_RUNS: Final = 4
"""The latest runs of the experiment that are drawn; there are as many colours."""

FIRST_SHARE: Final = 0.25
"""The fall in this first share of the budget may leave the picture: beside it no difference could be seen."""


class LossSeries(NamedTuple):
    """One run's training loss, as (share of the budget, loss); `incumbent` marks what it is held against."""

    label: str
    incumbent: bool
    points: tuple[tuple[float, float], ...]


class LossView(NamedTuple):
    """Input of the `LossCurve` widget."""

    exp: str = ""
    series: tuple[LossSeries, ...] = ()
    missing: str = ""
    """What these runs are held against but cannot be laid over: it has no curve on their device class."""


def loss_view(state: SessionState, exp: str) -> LossView:
    """Curves of an experiment's latest runs over one curve of what it was measured against.

    That is what its verdict names, else the incumbent of the time when it was proposed, else its parent. Of several
    such runs the latest one on the device class of the experiment's runs is taken.
    """
    runs = _with_curve(state, exp)[-MOST_RUNS:]
    series = [LossSeries(run.run, incumbent=False, points=tuple(run.curve)) for run in runs]
    classes = {run.device_class for run in runs}
    rival = rival_of(state, exp)
    others = [run for run in _with_curve(state, rival) if run.device_class in classes] if rival else []
    name = f"{_rank(state, rival)}{clean(rival)}" if rival else ""
    if others:
        series.insert(0, LossSeries(f"{name} {others[-1].run}", incumbent=True, points=tuple(others[-1].curve)))
    missing = f"none of {name} on {', '.join(sorted(map(clean, classes)))}" if name and classes and not others else ""
    return LossView(exp, tuple(series), missing)


def rival_of(state: SessionState, exp: str) -> str | None:
    """The experiment that this one is held against; None where there is none."""
    proposal, verdict = state.experiment(exp), state.verdict(exp)
    if proposal is None:
        return None
    named = [] if verdict is None else [verdict.evidence.ref if verdict.evidence is not None else "", verdict.ref]
    ruled = bisect_right(state.ledger.incumbents, proposal.t, key=lambda reign: reign[0])
    before = [reign[1] for reign in state.ledger.incumbents[max(0, ruled - 1) : ruled]]
    return next((ref for ref in (*named, *before, proposal.parent) if ref and ref != exp), None)


def _rank(state: SessionState, exp: str) -> str:
    """Whether an experiment is or was the incumbent, before its name."""
    if state.now.incumbent == exp:
        return "incumbent "
    return "then incumbent " if exp in state.ledger.crowned else ""


def _with_curve(state: SessionState, exp: str) -> list[Run]:
    runs = [*state.ledger.runs_of.get(exp, []), *state.open_runs_of(exp)]
    return [run for run in runs if run.curve]


def loss_chart(view: LossView) -> Chart:
    """The curves over the share of the budget; each of the experiment's ends in its number, as in the legend."""
    layers: list[Layer] = []
    losses: list[float] = []
    for role, series in zip(_roles(view), view.series, strict=True):
        x, y = np.array(series.points, dtype=np.float64).reshape(-1, 2).T
        layers.append(Line(x, y, role))
        if not series.incumbent:
            layers.append(Points(x[-1:], y[-1:], role, glyphs=True))
        settled = y[x >= FIRST_SHARE]
        losses += (settled if settled.size else y[-1:]).tolist()
    low, high = robust_range(losses)
    notice = "" if view.series else "no loss reported yet"
    return Chart(layers, Window(0.0, 1.0, low, high), "share", notice=notice)


def loss_legend(view: LossView) -> list[tuple[Role, str]]:
    """Which sign is whose curve."""
    entries = [(role, series.label) for role, series in zip(_roles(view), view.series, strict=True)]
    return [*entries, (Role.DIM, view.missing)] if view.missing else entries


def _roles(view: LossView) -> list[Role]:
    own = iter(SERIES)
    return [Role.INCUMBENT if series.incumbent else next(own) for series in view.series]
