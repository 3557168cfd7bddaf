"""How it stands with the model that does the research: what its events change in the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from core.events import Autopilot, EpochStarted, ModelFailed, ModelMessage, ModelRequest, ModelStatus, Usage

if TYPE_CHECKING:
    from core.state import SessionState

LATENCIES: Final = 20
"""So many of the last answers say how long the next may take."""


class Mark(msgspec.Struct, frozen=True, omit_defaults=True):
    """How much had happened at a session second: what lies beyond is news.

    `runs`, `verdicts` and `commands` count the ledger's entries, `settled` runs that ended in any way.
    """

    t_s: float = 0.0
    runs: int = 0
    verdicts: int = 0
    commands: int = 0
    settled: int = 0
    incumbent: str | None = None


class ModelNow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How it stands with the model, and what it has cost.

    `first_message` is where the epoch's messages begin in the ledger. `in_flight` is the attempt without an answer yet;
    one that an engine took with it when it died stays there until the next is recorded. `held_usd` may have been spent
    beyond `usd`. `context_tokens` is the size of the conversation at the last answer, `told` what the model was told
    of so far, `heard` the same for what persons said, `answered` what had happened when it answered last,
    `latencies_s` how long its last answers took, `failing_since_s` since when attempts have failed. `asked` is the last
    attempt at a request that is not answered yet, `declined` the models that refused to answer in a row, `summarised`
    says that the model has had its last word, because the money is spent.
    """

    epoch: int = 0
    model: str = ""
    first_message: int = 0
    roll_tokens: int = 0
    context_tokens: int = 0
    in_flight: ModelRequest | None = None
    status: ModelStatus | None = None
    requests: int = 0
    attempts: int = 0
    answers: int = 0
    failures: int = 0
    failures_in_row: int = 0
    failing_since_s: float | None = None
    asked: str = ""
    last_failure: ModelFailed | None = None
    declined: list[str] = []
    summarised: bool = False
    usage: Usage = Usage()
    usd: float = 0.0
    held_usd: float = 0.0
    told: Mark = Mark()
    heard: int = 0
    answered: Mark = Mark()
    latencies_s: list[float] = []
    autopilot: Autopilot | None = None

    @property
    def most_usd(self) -> float:
        """The most that can have been spent, with what is in flight."""
        return self.usd + self.held_usd + (self.in_flight.reserve_usd if self.in_flight is not None else 0.0)

    @property
    def cache_share(self) -> float | None:
        """Share of all tokens sent that a cache had."""
        return self.usage.cache_read / self.usage.prompt if self.usage.prompt else None


def model_of(state: SessionState) -> ModelNow:
    """The state's model, made where there was none."""
    if state.now.model is None:
        state.now.model = ModelNow()
    return state.now.model


def mark(state: SessionState) -> Mark:
    """How much has happened."""
    ledger, now = state.ledger, state.now
    return Mark(now.t_s, len(ledger.runs), len(ledger.verdicts), len(ledger.commands), state.settled, now.incumbent)


def forked(model: ModelNow) -> None:
    """A conversation does not go on in a fork: the next request begins another, as if nothing had failed before.

    What may have been paid for an attempt that was under way stays held; it was the parent's.
    """
    if model.in_flight is not None:
        model.held_usd += model.in_flight.reserve_usd
    model.in_flight = model.status = model.last_failure = model.failing_since_s = model.autopilot = None
    model.asked, model.failures_in_row, model.declined, model.summarised = "", 0, [], False


def epoch_started(state: SessionState, event: EpochStarted) -> None:
    """A new conversation: its context is empty."""
    model = model_of(state)
    model.epoch, model.model, model.roll_tokens = event.epoch, event.model, event.roll_tokens
    model.first_message, model.context_tokens, model.asked = len(state.ledger.messages), 0, ""
    model.last_failure = None
    state.ledger.epochs.append(event)
    state.ledger.talk.append(event)


def model_request(state: SessionState, event: ModelRequest) -> None:
    """An attempt is under way; what became of one that its engine took along is not known, so it may have been paid."""
    model = model_of(state)
    if model.in_flight is not None:
        model.held_usd += model.in_flight.reserve_usd
    model.in_flight, model.asked = event, event.req
    model.attempts += 1
    model.requests += event.req.endswith(".1")


def model_message(state: SessionState, event: ModelMessage) -> None:
    """The conversation grows."""
    model = model_of(state)
    state.ledger.messages.append(event)
    state.ledger.talk.append(event)
    if event.role == "user":
        model.told = mark(state)
    elif event.role == "system":
        model.heard = len(state.ledger.commands)
    else:
        _answered(state, model, event)


def _answered(state: SessionState, model: ModelNow, event: ModelMessage) -> None:
    asked = model.in_flight
    if asked is not None and asked.req == event.req:
        model.latencies_s = [*model.latencies_s, round(event.t - asked.t, 3)][-LATENCIES:]
        model.summarised = asked.purpose == "summary"
        model.in_flight = None
    model.answers += 1
    model.asked, model.failures_in_row, model.failing_since_s, model.last_failure = "", 0, None, None
    model.declined = []
    model.usd += event.usd
    model.answered = mark(state)
    if event.usage is not None:
        model.usage = model.usage + event.usage
        model.context_tokens = event.usage.prompt + event.usage.output


def model_failed(state: SessionState, event: ModelFailed) -> None:
    """An attempt brought nothing, and may have cost something."""
    model = model_of(state)
    if model.in_flight is not None and model.in_flight.req == event.req:
        model.in_flight = None
    model.failures += 1
    model.failures_in_row += 1
    model.failing_since_s = event.t if model.failing_since_s is None else model.failing_since_s
    model.last_failure = event
    if event.kind == "refusal":
        model.declined = [*model.declined, model.model]
    model.usd += event.usd
    model.held_usd += event.held_usd
    if event.usage is not None:
        model.usage = model.usage + event.usage
    state.ledger.talk.append(event)


def model_status(state: SessionState, event: ModelStatus) -> None:
    """What the model does, or waits for; told where it is another thing than before."""
    model = model_of(state)
    before, model.status = model.status, event
    if event.status not in ("working", "waiting") and (before is None or before.status != event.status):
        state.ledger.talk.append(event)


def autopilot(state: SessionState, event: Autopilot) -> None:
    """The builtin researcher takes over, or hands back."""
    model_of(state).autopilot = event
    state.ledger.talk.append(event)
