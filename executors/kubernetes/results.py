"""The result that a pod's runner leaves in its termination message: accepted only whole, finite and of this attempt."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, get_args

import msgspec

from core.executor import Finished, Outcome
from executors.output import sentence

TIERS: Final = frozenset({"self_reported", "unconfined", "scored", "audited"})
_OUTCOMES: Final = frozenset(get_args(Outcome)) | {"terminated"}
_LARGEST: Final = 1e18


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's JSON object. Fields that a later runner adds are left alone."""

    ar: Literal[1]
    attempt: str
    outcome: str
    reason: str = ""
    val_bpb: float | None = None
    tier: str | None = None
    confinement: str | None = None
    probes: int = 0
    train_s: float | None = None
    startup_s: float | None = None
    score_s: float | None = None
    steps: int | None = None
    tokens: int | None = None
    mem_mb: float | None = None
    params: int | None = None
    eval_tokens: int | None = None
    corpus_sha256: str | None = None
    gpu: dict[str, Any] | None = None
    found: dict[str, Any] | None = None  # by a canary, which looks around and trains nothing


_DECODER: Final = msgspec.json.Decoder(Result, strict=True)


def parse(message: str, attempt: str) -> Result | None:
    """The result in a termination message, or None for anything else: a log's tail, another attempt's, a torn one.

    Args:
        message: `terminated.message` of the trainer's container, of at most 4 KiB.
        attempt: the attempt that the pod belongs to.
    """
    if not message.startswith("{"):
        return None
    try:
        result = _DECODER.decode(message)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    return result if result.attempt == attempt and _is_sound(result) else None


def is_score(result: Result | None) -> bool:
    """Whether a result is a score: an `ok` with all that makes a score one."""
    if result is None or result.outcome != "ok" or result.val_bpb is None:
        return False
    return 0 < result.val_bpb < 1e6 and result.tier is not None and result.confinement is not None


def finished(outcome: Outcome, reason: str, note: str, result: dict[str, Any] | None) -> Finished:
    """The end of an attempt for the engine: figures from an accepted result, a score only with `ok`."""
    fields = {key: value for key, value in (result or {}).items() if key in Finished.__struct_fields__}
    fields |= {"outcome": outcome, "reason": reason, "note": note, "corpus": (result or {}).get("corpus_sha256")}
    if outcome != "ok":
        fields |= {"val_bpb": None, "tier": None}
    return Finished(**fields)


def _is_sound(result: Result) -> bool:
    if result.outcome not in _OUTCOMES or (result.tier is not None and result.tier not in TIERS):
        return False
    numbers = [value for value in msgspec.structs.astuple(result) if isinstance(value, int | float)]
    return all(math.isfinite(number) and 0 <= number < _LARGEST for number in numbers)


def as_dict(result: Result) -> dict[str, Any]:
    """The result with its texts made harmless, without what only identifies it."""
    fields = msgspec.structs.asdict(result)
    del fields["ar"], fields["attempt"]
    return {key: sentence(value) if isinstance(value, str) else value for key, value in fields.items()}
