"""The limits of a session: how far each is used up, when it will bind at the present rate, and which one does first."""

from __future__ import annotations

from typing import Final, NamedTuple

from core.limits import expected_wall_s
from core.state import Before, Run, SessionState
from core.summary import allocated_s
from tui.text import clean
from tui.view.model import usd_words
from tui.view.words import clock_words

RATE_OVER_S: Final = 3600.0
"""The present rate is that of so many last session seconds."""

_LEAST_S: Final = 60.0
"""Before so much of a session has passed its rate says nothing."""


class LimitRow(NamedTuple):
    """One limit: its name, `3.2 of 8 h`, the share that is used, and when or why it binds. All text is clean."""

    name: str
    used: str
    share: float
    binds: str


class LimitsView(NamedTuple):
    """All limits that there are, and a sentence about the one that binds first."""

    rows: tuple[LimitRow, ...]
    first: str


class _Rates(NamedTuple):
    """What the session uses per second of its time."""

    runs: float
    device_s: float
    usd: float


class _Use(NamedTuple):
    """`left_s` is how long it takes to bind; None where that cannot be told."""

    limit: str
    name: str
    words: str
    share: float
    left_s: float | None


def limits_view(state: SessionState, now_s: float) -> LimitsView:
    """The limits at a session second."""
    started = state.now.started
    if started is None:
        return LimitsView((), "")
    uses = _uses(state, now_s)
    over = state.now.ended is not None
    rows = [LimitRow(use.name, use.words, use.share, _binds_words(state, use, over=over)) for use in uses]
    return LimitsView((*rows, *_failures(state, over=over)), _first_words(state, uses, over=over))


def _uses(state: SessionState, now_s: float) -> list[_Use]:
    """The limits that are used up as time goes on. They count what is in flight, and in a fork what is its own, as
    core.limits does.
    """
    assert state.now.started is not None
    limits, counts, rates = state.now.started.limits, state.now.counts, _rates(state, now_s)
    wall_s, before = expected_wall_s(state), state.now.before or Before()
    uses = []
    if limits.hours is not None:
        whole_s, used_s = limits.hours * 3600.0, now_s - before.t_s
        words = f"{clock_words(used_s)} of {limits.hours:.4g} h"
        uses.append(_Use("hours", "session time", words, _share(used_s, whole_s), whole_s - wall_s - used_s))
    if limits.runs is not None:
        used = counts.started - state.again - before.runs
        words = f"{used:,} of {limits.runs:,}"
        uses.append(_Use("runs", "runs", words, _share(used, limits.runs), _left(limits.runs - used, rates.runs)))
    if limits.gpu_hours is not None:
        used_s, whole_s = allocated_s(state, now_s) - before.allocated_s, limits.gpu_hours * 3600.0
        free_s = whole_s - (state.now.allocated_s - before.allocated_s) - (state.flying + 1) * wall_s
        words = f"{used_s / 3600.0:,.2f} of {limits.gpu_hours:.4g}"
        uses.append(_Use("gpu_hours", "device-hours", words, _share(used_s, whole_s), _left(free_s, rates.device_s)))
    if limits.usd is not None:
        spent = state.now.model.most_usd - before.most_usd if state.now.model is not None else 0.0
        words = f"{usd_words(spent)} of ${limits.usd:,.2f}"
        uses.append(_Use("usd", "dollars", words, _share(spent, limits.usd), _left(limits.usd - spent, rates.usd)))
    return uses


def _failures(state: SessionState, *, over: bool) -> list[LimitRow]:
    """Failures in a row have no rate: the next run that trains begins them anew."""
    assert state.now.started is not None
    limit = state.now.started.limits.consecutive_failures
    if limit is None:
        return []
    # With many devices a whole round of runs may fail before one that trains can end: see core.limits.
    most, used = max(limit, len(state.now.devices)), state.now.counts.consecutive_failures
    binds = _reached(state, "consecutive_failures", over=over) or f"after {max(0, most - used):,} more"
    return [LimitRow("failures in a row", f"{used:,} of {most:,}", _share(used, most), binds)]


def _binds_words(state: SessionState, use: _Use, *, over: bool) -> str:
    if known := _reached(state, use.limit, over=over):
        return known
    if use.left_s is None:
        return "not at this rate"
    return f"in {clock_words(use.left_s)}" if use.left_s > 0 else "now"


def _reached(state: SessionState, limit: str, *, over: bool) -> str:
    """Whether a limit was reached, as far as that is known already."""
    hit = state.now.limits_hit.get(limit)
    if hit is not None:
        return f"reached: {clean(hit.detail)}"
    return "not reached" if over else ""


def _first_words(state: SessionState, uses: list[_Use], *, over: bool) -> str:
    if over:
        return ""
    if state.now.limits_hit:
        return "No new run starts: a limit is reached."
    coming = [use for use in uses if use.left_s is not None]
    if not coming:
        return ""
    first = min(coming, key=lambda use: use.left_s or 0.0)
    return f"At the rate of the last hour {first.name} will bind first, in {clock_words(first.left_s or 0.0)}."


def _rates(state: SessionState, now_s: float) -> _Rates:
    since_s = max(0.0, now_s - RATE_OVER_S)
    span_s = now_s - since_s
    if span_s < _LEAST_S:
        return _Rates(0.0, 0.0, 0.0)
    runs, device_s = 0, 0.0
    for run in _recent(state, since_s):
        assert run.intent_t_s is not None
        runs += run.intent_t_s >= since_s and not run.attempts
        end_s = run.ended_t_s if run.ended_t_s is not None else now_s
        device_s += min(run.allocated_s(end_s), end_s - max(since_s, run.intent_t_s))
    usd = 0.0
    for message in reversed(state.ledger.messages):
        if message.t < since_s:
            break
        usd += message.usd
    return _Rates(runs / span_s, device_s / span_s, usd / span_s)


def _recent(state: SessionState, since_s: float) -> list[Run]:
    """Runs that held a device after a session second, with their last attempt."""
    found = [run for run in state.now.runs.values() if run.status != "queued" and run.intent_t_s is not None]
    for run in reversed(state.ledger.runs):
        if run.ended_t_s is not None and run.ended_t_s < since_s:
            break
        if run.intent_t_s is not None:
            found.append(run)
    return found


def _left(amount: float, rate: float) -> float | None:
    return max(0.0, amount) / rate if rate > 0 else None


def _share(used: float, whole: float) -> float:
    return min(1.0, used / whole) if whole > 0 else 1.0
