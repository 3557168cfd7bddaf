"""When the model is asked again: how full the queue is kept, and what news is worth an answer."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from core.conversation import ModelNow
from core.limits import expected_wall_s
from core.state import Before, SessionState

FIRST_LATENCY_S: Final = 60.0
"""How long an answer takes, before any has told."""
ANSWERS_A_TURN: Final = 2.0
"""A turn is about so many answers long: the model looks something up before it proposes."""
SPACING_S: Final = 45.0
"""Between turns, unless devices idle or a person has spoken: results come in groups."""
LONGEST_S: Final = 900.0
"""News does not wait longer than this, however little there is."""
CRASHES: Final = 3
"""So many failed runs that the model has not heard of are worth a turn."""
_NEWS: Final = 8
_SPENDABLE: Final = 0.9
"""Share of the cap that turns can use: the rest is kept for a last word."""
_EARLY: Final = 0.05
_MOST_PACE: Final = 3.0
_QUEUE_A_DEVICE: Final = 1.5
_TURN_ROOM: Final = 4


class Water(NamedTuple):
    """Runs that should wait in the queue: below `low` more are asked for, up to `high`."""

    low: int
    high: int


def water(state: SessionState) -> Water:
    """How full the queue must be for no device to idle while the model thinks.

    The devices take about one run in (mean wall time / devices); a slow turn takes `ANSWERS_A_TURN` slow answers. Where
    a session has measured none of these, plain assumptions stand in.
    """
    devices = max(1, state.serving)
    wall_s = expected_wall_s(state) or FIRST_LATENCY_S
    latencies_s = state.now.model.latencies_s if state.now.model is not None else []
    slow_s = max(latencies_s, default=FIRST_LATENCY_S)
    low = math.ceil(ANSWERS_A_TURN * slow_s * devices / wall_s) + 1
    low = min(low, 2 * devices + _TURN_ROOM)  # runs of seconds: no queue could bridge a turn
    room = max(_TURN_ROOM, devices // 2, math.ceil(_QUEUE_A_DEVICE * devices) - low)
    return Water(low, low + math.ceil(room * pace(state)))


def is_low(state: SessionState) -> bool:
    """Whether more runs should be proposed."""
    return state.backlog < water(state).low


def is_starved(state: SessionState) -> bool:
    """Whether a device has nothing to do, or will not have at once."""
    return not state.backlog and bool(state.now.free or not state.flying)


def may_ask(state: SessionState) -> bool:
    """Whether runs can still be started at all: where not, an answer would be wasted."""
    now = state.now
    return not now.paused and not now.stop and now.ended is None and not set(now.limits_hit) - {"disk"}


def news_wanted(state: SessionState) -> int:
    """How many new results are worth a turn."""
    devices = max(1, len(state.now.devices))
    return max(1, math.ceil(min(_NEWS, max(1.0, devices / 2)) * pace(state)))


def pace(state: SessionState) -> float:
    """How much faster the money goes than the session's time, from 1 on: turns are made rarer and larger by it."""
    model, started = state.now.model, state.now.started
    limits = started.limits if started is not None else None
    if model is None or limits is None or not limits.usd or not limits.hours:
        return 1.0
    before = state.now.before or Before()
    time_share = max(_EARLY, (state.now.t_s - before.t_s) / (limits.hours * 3600.0))
    return min(_MOST_PACE, max(1.0, (model.most_usd - before.most_usd) / (_SPENDABLE * limits.usd) / time_share))


def why_wake(state: SessionState, model: ModelNow, now_s: float, *, patient: bool) -> str:
    """Why the model should be asked now, in a few words; empty while it should not.

    Args:
        patient: it has had nothing to propose lately, so an empty queue is no reason to ask once more.
    """
    if not may_ask(state):
        return ""
    told, ledger = model.told, state.ledger
    if any(command.verb == "hint" for command in ledger.commands[model.heard :]):
        return "a person has spoken"
    low, rested = is_low(state), now_s - model.answered.t_s >= SPACING_S
    if low and not patient and (rested or is_starved(state)):
        return "the queue runs low"
    if not rested:
        return ""
    if state.now.incumbent != told.incumbent:
        return f"{state.now.incumbent} is the incumbent now"
    fresh = ledger.runs[told.runs :]
    if sum(run.outcome in ("crash", "oom", "nan", "timeout") for run in fresh) >= CRASHES:
        return f"{CRASHES} runs failed"
    fresh_count = state.settled - told.settled
    late = fresh_count > 0 and now_s - model.answered.t_s >= LONGEST_S
    if late or fresh_count >= news_wanted(state):
        return f"{fresh_count} runs have ended"
    return ""


def next_look_s(state: SessionState, model: ModelNow, now_s: float) -> float | None:
    """When time alone may bring a reason to ask, in session seconds; None where it cannot."""
    if not may_ask(state):
        return None
    rested_s, latest_s = model.answered.t_s + SPACING_S, model.answered.t_s + LONGEST_S
    if now_s < rested_s:
        return rested_s
    return latest_s if now_s < latest_s and state.settled != model.told.settled else None
