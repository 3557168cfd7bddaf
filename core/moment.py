"""Moments of a session as a person names them: `3:25`, `-10m`, `50%`, `#1234`, `r34`, `e12`."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from core.state import SessionState

FORMS: Final = "3:25 or 3:25:10 (h:mm:ss), 90m, -10m, +1h, 50%, #1234 (an event), r34 (a run's end), e12 (proposed)"
"""What can be written, in words."""

_UNITS_S: Final = (3600.0, 60.0, 1.0)
_CLOCK: Final = re.compile(r"(\d{1,6}):([0-5]?\d)(?::([0-5]?\d))?")
_SPAN: Final = re.compile(r"(?:(\d{1,9}(?:\.\d+)?)h)?(?:(\d{1,9}(?:\.\d+)?)m)?(?:(\d{1,9}(?:\.\d+)?)s)?")


class MomentError(ValueError):
    """Not a moment of this session; the text is one sentence for the user."""


class Moment(NamedTuple):
    """A place in a session: right after an event, or a session second with all that happened up to it."""

    kind: Literal["event", "second"]
    value: float


def moment_of(text: str, head: SessionState, now_s: float) -> Moment:
    """Read a moment.

    Args:
        text: what a person wrote.
        head: all that is known of the session.
        now_s: the session second on show, which `-10m` and `+1h` count from.

    Raises:
        MomentError: it cannot be read, or there is no such run or experiment.
    """
    said = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"#\d{1,12}", said):
        return Moment("event", int(said[1:]))
    if re.fullmatch(r"\d{1,3}(\.\d+)?%", said):
        return Moment("second", min(100.0, float(said[:-1])) / 100.0 * head.now.t_s)
    if re.fullmatch(r"r\d+", said):
        return _of_run(said, head)
    if re.fullmatch(r"e\d+", said):
        return _of_experiment(said, head)
    sign = {"-": -1.0, "+": 1.0}.get(said[:1], 0.0)
    seconds = _seconds(said.lstrip("+-") if sign else said)
    if seconds is None:
        raise MomentError(f"{text.strip()[:40]!r} is no moment of a session: write {FORMS}")
    return Moment("second", max(0.0, now_s + sign * seconds) if sign else seconds)


def _seconds(said: str) -> float | None:
    """A clock reading or a length of time, in seconds; None for anything else."""
    if clock := _CLOCK.fullmatch(said):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return hours * 3600.0 + minutes * 60.0 + seconds
    if said and (span := _SPAN.fullmatch(said)):
        return sum(float(part or 0) * unit_s for part, unit_s in zip(span.groups(), _UNITS_S, strict=True))
    return None


def _of_run(name: str, head: SessionState) -> Moment:
    run = head.run(name)
    if run is None:
        raise MomentError(f"there is no run {name} in this session")
    last_s = run.ended_t_s if run.ended_t_s is not None else run.started_t_s
    return Moment("second", last_s if last_s is not None else run.queued_t_s)


def _of_experiment(name: str, head: SessionState) -> Moment:
    proposal = head.experiment(name)
    if proposal is None:
        raise MomentError(f"there is no experiment {name} in this session")
    return Moment("event", proposal.n)
