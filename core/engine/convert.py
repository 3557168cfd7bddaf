"""The border between executors and the journal: payloads become events, with plain finite numbers only."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from core.events import AnyEvent, RunFinished, RunProgress, RunStarted
from core.executor import Finished, Progress, Started

_MAX_REASON_CHARS = 500


def event_of(run: str, attempt: str, seq: int, payload: Started | Progress | Finished) -> AnyEvent:
    """The event that records what an executor saw of an attempt.

    Numbers that JSON cannot carry (nan, infinity) become None: missing data is never a score.
    """
    fields: dict[str, Any] = {name: _plain(value) for name, value in msgspec.structs.asdict(payload).items()}
    common: dict[str, Any] = {"run": run, "attempt": attempt, "seq": seq}
    match payload:
        case Started():
            return RunStarted(**common, **fields)
        case Progress():
            return RunProgress(**common, **{**fields, "frac": fields["frac"] or 0.0})
        case Finished():
            fields["reason"] = fields["reason"][:_MAX_REASON_CHARS]
            if fields["outcome"] == "ok" and fields["val_bpb"] is None:
                fields |= {"outcome": "nan", "reason": fields["reason"] or "the score is not a finite number"}
            return RunFinished(**common, **fields)


def _plain(value: object) -> object:
    """A value msgspec can encode: numpy scalars and other float subclasses become floats."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
