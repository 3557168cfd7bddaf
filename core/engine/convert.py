"""The border between executors and the journal: payloads become events whose fields have the types they declare.

What an attempt reports is an outsider's word: a wrong type that got into the journal would make it unreadable.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from core.events import AnyEvent, ExecutorNotice, RunFinished, RunProgress, RunStarted, RunWaiting
from core.executor import Finished, Notice, Progress, Started, Waiting

_MAX_REASON_CHARS = 500
_MAX_SENTENCE_CHARS = 300
_MAX_INTEGER = 2**53  # what every reader of JSON can hold
_INTEGERS = frozenset({"step", "steps", "tokens", "params", "eval_tokens", "probes"})
_TEXTS = frozenset({"outcome", "tier", "confinement", "corpus", "reason", "note", "device"})


def event_of(
    run: str, attempt: str, seq: int, payload: Started | Waiting | Progress | Finished, *, stopped_early: bool = False
) -> AnyEvent:
    """The event that records what an executor saw of an attempt.

    What is no finite number where one should be becomes None: missing data is never a score. An executor only knows
    that it was asked to end an attempt; with `stopped_early` that was to stop a clear loser.
    """
    fields: dict[str, Any] = {name: _plain(name, value) for name, value in msgspec.structs.asdict(payload).items()}
    common: dict[str, Any] = {"run": run, "attempt": attempt, "seq": seq}
    match payload:
        case Started():
            return RunStarted(**common, **fields)
        case Waiting():
            return RunWaiting(
                **common, reason=_sentence(fields["reason"]) or "no reason given", held=bool(payload.held)
            )
        case Progress():
            return RunProgress(**common, **{**fields, "frac": fields["frac"] or 0.0, "step": fields["step"] or 0})
        case Finished():
            for text in ("reason", "note"):
                fields[text] = (fields[text] or "")[:_MAX_REASON_CHARS]
            fields["probes"] = fields["probes"] or 0
            if fields["outcome"] == "ok" and fields["val_bpb"] is None:
                fields |= {"outcome": "nan", "reason": fields["reason"] or "the score is not a finite number"}
            if fields["outcome"] == "cancelled" and stopped_early:
                fields["outcome"] = "pruned"
            return RunFinished(**common, **fields)


def notice_of(payload: Notice) -> ExecutorNotice:
    """The event that records what befalls the executor."""
    level = payload.level if payload.level in ("info", "warning", "error") else "info"
    return ExecutorNotice(text=_sentence(payload.text), level=level)


def _sentence(text: object) -> str:
    """One short line of what the world says of itself."""
    words = "".join(char if char.isprintable() else " " for char in _encodable(str(text or "")))
    return " ".join(words.split())[:_MAX_SENTENCE_CHARS]


def _encodable(text: str) -> str:
    """A text that the journal can hold: half a character, as broken output leaves it, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(name: str, value: object) -> str | int | float | None:
    """A field's value in the type that its event declares, or None."""
    if name in _TEXTS:
        return None if value is None else _encodable(str(value))
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    if name in _INTEGERS:
        return int(number) if abs(number) <= _MAX_INTEGER else None
    return number
