"""How it stands with a session's model in figures: what it does just now, its tokens, what it has cost."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from core.events import BASELINE, ModelStanding, ModelStatus
from core.limits import totals
from core.state import SessionState

ModelWord = ModelStanding | Literal["new", "thinking", "ended"]
"""`new`: it was not asked yet; `thinking`: an answer is on its way; `ended`: it is asked no more."""

TROUBLE: Final = frozenset({"backoff", "refused", "blocked", "capped"})
"""States that a person should see whatever else has to go."""

ENDPOINTS: Final = {"": "Claude API", "sim": "simulated"}


class ModelTokens(msgspec.Struct, frozen=True):
    """Tokens so far. What was sent is the sum of the first three; thinking is part of `output`."""

    uncached: int
    cache_read: int
    cache_write: int
    output: int
    thinking: int


class ModelSummary(msgspec.Struct, frozen=True):
    """The model's part of the figures.

    `endpoint` says who serves it: `Claude API`, `simulated`, or a host. `until_s` is how many session seconds are left
    of the status where that is known, `for_s` how long it has thought. `held_usd` may have been spent beyond `usd`: on
    answers that were lost on their way. `usd_per_kept` is None before anything beside the baseline is kept. The
    context holds `context_tokens`; at `roll_tokens` a new conversation begins.
    """

    id: str
    endpoint: str
    simulated: bool
    status: ModelWord
    why: str
    until_s: float | None
    for_s: float | None
    epoch: int
    requests: int
    attempts: int
    answers: int
    failures: int
    failures_in_row: int
    tokens: ModelTokens
    cache_share: float | None
    context_tokens: int
    roll_tokens: int
    usd: float
    held_usd: float
    cap_usd: float | None
    usd_per_kept: float | None
    autopilot: bool
    autopilot_why: str


def model_summary(state: SessionState, t_s: float, *, engine_alive: bool = True) -> ModelSummary | None:
    """The figures at session second `t_s`, or None in a session without a model."""
    model = state.now.model
    if model is None:
        return None
    before = state.now.before
    left = before is not None and len(state.ledger.epochs) == before.epochs  # it was the parent's; here nobody asks it
    works = engine_alive and state.now.ended is None and state.now.research_ended is None and not left
    asked, status, usage = model.in_flight, model.status, model.usage
    word: ModelWord = "new" if status is None else status.status
    if asked is not None or not works:
        word = "thinking" if works else "ended"
    until_s = status.until_s if status is not None and word == status.status else None
    endpoint = state.ledger.epochs[-1].endpoint if state.ledger.epochs else ""
    kept = sum(exp != BASELINE for _, exp in state.ledger.incumbents)
    autopilot = model.autopilot if model.autopilot is not None and model.autopilot.on else None
    return ModelSummary(
        id=model.model,
        endpoint=ENDPOINTS.get(endpoint, endpoint),
        simulated=endpoint == "sim",
        status=word,
        why=_why(status, word),
        until_s=None if until_s is None else max(0.0, until_s - t_s),
        for_s=max(0.0, t_s - asked.t) if asked is not None and works else None,
        epoch=model.epoch,
        requests=model.requests,
        attempts=model.attempts,
        answers=model.answers,
        failures=model.failures,
        failures_in_row=model.failures_in_row,
        tokens=ModelTokens(
            uncached=usage.input,
            cache_read=usage.cache_read,
            cache_write=usage.cache_write_5m + usage.cache_write_1h,
            output=usage.output,
            thinking=usage.thinking,
        ),
        cache_share=model.cache_share,
        context_tokens=model.context_tokens,
        roll_tokens=model.roll_tokens,
        usd=model.usd,
        # An attempt that no engine waits for any more may have been answered, and paid for.
        held_usd=model.held_usd + (asked.reserve_usd if asked is not None and not works else 0.0),
        cap_usd=totals(state).usd,
        usd_per_kept=model.usd / kept if kept else None,
        autopilot=autopilot is not None,
        autopilot_why=autopilot.why if autopilot is not None else "",
    )


def _why(status: ModelStatus | None, word: ModelWord) -> str:
    """Why it is so; of what is over only what had gone wrong."""
    if status is None or (word == "ended" and status.status not in TROUBLE):
        return ""
    return status.why if word in (status.status, "ended") else ""
