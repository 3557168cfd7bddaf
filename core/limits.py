"""When a session must not start another run: checked before each intent, counting what is in flight."""

from __future__ import annotations

import msgspec

from core.events import Limits
from core.state import Before, SessionState

_OVERHEAD = 1.25
"""Wall time of a run over its budget before any run of the session has told better (start-up and scoring)."""


def expected_wall_s(state: SessionState) -> float:
    """How long the next run will hold its device: the mean of ended attempts, else the budget and a margin.

    Those that were stopped early are left out: the next one may be as long as a whole run.
    """
    counts, stopped = state.now.counts, state.ledger.stops.stopped
    ended = counts.attempts - state.flying - stopped.n
    if ended > 0 and state.now.allocated_s > stopped.total_s:
        return (state.now.allocated_s - stopped.total_s) / ended
    target = state.now.started.target if state.now.started is not None else None
    return target.budget_s * _OVERHEAD if target is not None and target.budget_kind != "steps" else 0.0


def totals(state: SessionState) -> Limits:
    """The session's limits as totals of what its state counts: in a fork, with what was spent before it."""
    limits = state.now.started.limits if state.now.started is not None else Limits(consecutive_failures=None)
    before = state.now.before
    if before is None:
        return limits
    return msgspec.structs.replace(
        limits,
        hours=None if limits.hours is None else limits.hours + before.t_s / 3600.0,
        runs=None if limits.runs is None else limits.runs + before.runs,
        gpu_hours=None if limits.gpu_hours is None else limits.gpu_hours + before.allocated_s / 3600.0,
        usd=total_usd(state, limits.usd),
    )


def total_usd(state: SessionState, cap_usd: float | None) -> float | None:
    """A cap on what a model may cost, with what it had cost before the session was forked."""
    return None if cap_usd is None else cap_usd + (state.now.before or Before()).most_usd


def remaining(state: SessionState) -> Limits:
    """What is left of a session's limits; nothing of one that was overspent."""
    most, counts, model = totals(state), state.now.counts, state.now.model
    allocated_s = state.now.allocated_s + sum(run.allocated_s(state.now.t_s) for run in state.in_flight)
    usd = model.most_usd if model is not None else 0.0
    return msgspec.structs.replace(
        most,
        hours=None if most.hours is None else max(0.0, most.hours - state.now.t_s / 3600.0),
        runs=None if most.runs is None else max(0, most.runs - counts.started),
        gpu_hours=None if most.gpu_hours is None else max(0.0, most.gpu_hours - allocated_s / 3600.0),
        usd=None if most.usd is None else max(0.0, most.usd - usd),
    )


def since_fork(state: SessionState) -> str:
    """Words that follow an amount which a limit allows: from when on it counts, where that is not the beginning."""
    before = state.now.before
    return "" if before is None else " since the fork"


def binding_limit(state: SessionState) -> tuple[str, str] | None:
    """The limit that forbids one more run now, as (name, sentence), or None.

    Wall time reserves the expected length of the next run, GPU-hours that of every run in flight too, so that
    neither is overspent by more than that expectation errs. A run that the world failed counts once, and may go on
    (see `only_again`).
    """
    started = state.now.started
    if started is None:
        return None
    limits, most, counts = started.limits, totals(state), state.now.counts
    expected_s = expected_wall_s(state)
    own = since_fork(state)
    if most.hours is not None and state.now.t_s + expected_s > most.hours * 3600.0:
        return "hours", f"the next run would not end within {limits.hours:.4g} h{own}"
    if most.runs is not None and counts.started >= most.runs:
        done = "1 run is" if limits.runs == 1 else f"{limits.runs} runs are"
        return "runs", f"{done} done or under way{own}"
    if most.gpu_hours is not None:
        reserved_s = state.now.allocated_s + (state.flying + 1) * expected_s
        if reserved_s > most.gpu_hours * 3600.0:
            return "gpu_hours", f"the next run would pass {limits.gpu_hours:.4g} device-hours{own}"
    return _failures(limits, counts.consecutive_failures, len(state.now.devices))


def only_again(state: SessionState) -> bool:
    """Whether no new run may start, but one that has begun and that the world failed may go on."""
    return state.now.limits_hit.keys() == {"runs"} and state.again > 0


def _failures(limits: Limits, consecutive: int, devices: int) -> tuple[str, str] | None:
    """Failures end sooner than runs that train: with many devices a whole round of them may come first."""
    if limits.consecutive_failures is not None and consecutive >= max(limits.consecutive_failures, devices):
        return "consecutive_failures", f"{consecutive} runs in a row failed"
    return None
