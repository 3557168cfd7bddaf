"""The session's vocabulary: every kind of event that a journal can hold, with its codec.

Every event carries `k` (kind), `n` (number, contiguous from 1), `t` (session seconds), `v` (version of the
kind, when not 1), `w` (wall time, only in sessions on real time) and, on the first line of a later segment,
`prev` (the checksum of the line before it). Fields are added with defaults; a change of meaning raises `v`.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

import msgspec

from core.executor import Outcome

BASELINE: Final = "e1"
"""The experiment that a session opens with: the unchanged file, replicated."""

RunReason = Literal["baseline", "screen", "confirm", "replicate"]
VerdictName = Literal["kept", "rejected", "undecided"]


def _kind_of(class_name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, tag_field="k", tag=_kind_of):
    """What all events share. `n` and `t` are stamped when the journal takes the event."""

    n: int = 0
    t: float = -1.0
    w: float | None = None
    v: int = 1
    prev: str | None = None


class Limits(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """When a session stops by itself; None means no limit. Hours count time with the engine up and not paused."""

    hours: float | None = None
    runs: int | None = None
    gpu_hours: float | None = None
    usd: float | None = None
    consecutive_failures: int | None = 20


class Target(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What every run of a session shares, so that scores can be compared.

    Args:
        budget_s: training seconds (gpu), process CPU seconds (cpu), or the number of steps (steps; tests only).
        seq_len: tokens of context; eval_tokens: tokens scored; corpus: SHA-256 of the prepared corpus.
        harness: SHA-256 of harness.py; profile: the named overrides of sizes that made the baseline.
    """

    budget_s: float
    budget_kind: Literal["cpu", "gpu", "steps"]
    seq_len: int
    eval_tokens: int
    profile: str
    corpus: str = ""
    harness: str = ""


class SessionStarted(Event):
    """The first event. `epoch` is the wall time of session second 0 (fixed in a simulation).

    `until_limits` asks the researcher to go on where its evidence says that nothing is left. `fork` says where a
    session comes from that begins with the evidence of another.
    """

    session: str
    name: str
    seed: int
    simulated: bool
    epoch: float
    executor: str
    researcher: str
    limits: Limits
    target: Target
    version: str
    until_limits: bool = False
    fork: Fork | None = None


class Fork(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Where a session comes from: its events up to `n` are copies of its parent's, but for the first.

    `state` is the hash of the parent's state after event `n` (core.keyframe.state_hash), `origin` the parent's own
    first event, which names the parent; it has a `fork` where the parent was forked too.
    """

    n: int
    state: str
    origin: SessionStarted


class SessionForked(Event):
    """From here on a forked session goes its own way: what held its parent up, or ended it, holds no longer.

    `parent` is the parent's name; `runs` counts those that were copied settled, `in_flight` those that are cancelled in
    the copy and owed again. What was spent until now is not charged to the session's limits.
    """

    parent: str
    runs: int
    in_flight: int


class SessionEnded(Event):
    """The last event. `failed` marks an end that is nobody's wish."""

    reason: str
    failed: bool = False


class DeviceSeen(Event):
    """A device joined, or is back."""

    device: str
    seq: int
    cls: str
    node: str
    memory_mb: int = 0


class DeviceLost(Event):
    """A device left."""

    device: str
    seq: int
    reason: str = ""


class RevisionAdded(Event):
    """One content of train.py, as a unified diff against its parent (against nothing for the first).

    `effective` is the identity that ignores comments, layout and the spelling of numbers.
    """

    revision: str
    parent: str | None
    patch: str
    effective: str = ""


class ExperimentProposed(Event):
    """A hypothesis to test. `parent` is the experiment it is measured against; `seeds` are owed as runs.

    `knobs` holds the constants that differ from the parent's file, as their literals. `stoppable` allows the engine to
    end its nominating runs once their loss forecasts a clear loser.
    """

    exp: str
    call: str
    revision: str
    parent: str | None
    title: str
    hypothesis: str
    rationale: str
    design: str
    knobs: dict[str, str]
    seeds: list[int]
    reason: RunReason = "screen"
    cls: str | None = None
    stoppable: bool = False


class ConfirmRequested(Event):
    """More seeds of an experiment, for evidence of its own. `cls` pins the device class."""

    exp: str
    call: str
    seeds: list[int]
    cls: str | None = None
    reason: RunReason = "confirm"


class RunQueued(Event):
    """A run is owed a device."""

    run: str
    exp: str
    seed: int
    reason: RunReason
    cls: str | None = None


class RunIntent(Event):
    """An attempt is about to start. Durable before the side effect."""

    run: str
    attempt: str
    device: str
    cls: str


class RunWaiting(Event):
    """Why an attempt does not execute yet. One that did has lost its place, and begins anew when it has one again."""

    run: str
    attempt: str
    seq: int
    reason: str
    held: bool = False


class ExecutorNotice(Event):
    """What befalls the executor as a whole; an empty text says that it is over."""

    text: str
    level: str = "info"


class RunStarted(Event):
    """The executor saw the attempt execute; its device need not be the one that its intent named."""

    run: str
    attempt: str
    seq: int
    device: str


class RunProgress(Event):
    """A sample of a running attempt; at most 24 per run."""

    run: str
    attempt: str
    seq: int
    step: int
    frac: float
    loss: float | None = None
    util: float | None = None
    mem_mb: float | None = None


class RunFinished(Event):
    """The end of an attempt, with its score if there is one. `score_s` and `startup_s` are not in the budget.

    `reason` says why it did not end well, `note` what a reader of its score must know.
    """

    run: str
    attempt: str
    seq: int
    outcome: Outcome
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
    corpus: str | None = None
    reason: str = ""
    note: str = ""


class Forecast(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """What a run was expected to score after a share `frac` of its budget (see core.forecast), on its device class.

    `low_bpb` is the lower bound of that score, one-sided at `confidence`, `sd_bpb` the standard deviation of what a run
    then shows, `df` its degrees of freedom. It is held against `ref_bpb`, what experiment `ref` should score there.
    """

    frac: float
    val_bpb: float
    low_bpb: float
    sd_bpb: float
    df: int
    confidence: float
    ref: str
    ref_bpb: float


class CancelRequested(Event):
    """A run is to end; `attempt` is empty while it is still queued.

    With a `forecast` it is stopped early as a clear loser, and ends as `pruned`.
    """

    run: str
    attempt: str
    reason: str
    call: str = ""
    forecast: Forecast | None = None


class RunSpared(Event):
    """A run that would be stopped early goes on to its end all the same: what it then scores tests the rule."""

    run: str
    attempt: str
    forecast: Forecast


class Evidence(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """The numbers behind a verdict, all on one device class; the nominating runs are left out.

    `n`/`mean` are the candidate's, `n_ref`/`mean_ref` the reference's, `sd` the pooled standard deviation with
    `df` degrees of freedom, `look` the number of this look and `alpha` the share of error it may spend.
    """

    cls: str
    n: int
    mean: float | None
    n_ref: int
    mean_ref: float | None
    ref: str
    sd: float | None = None
    df: int = 0
    look: int = 0
    alpha: float = 0.0


class Verdict(Event):
    """What the evidence says of an experiment now; a later verdict supersedes.

    `delta` is candidate minus reference in bits per byte (negative is better), `interval` its two-sided 95 %
    confidence interval, `want` how many more seeds are asked for (0: none), `ref` the incumbent that a screened
    candidate was compared with.
    """

    exp: str
    verdict: VerdictName
    reason: str
    delta: float | None = None
    interval: tuple[float, float] | None = None
    evidence: Evidence | None = None
    want: int = 0
    ref: str = ""


class Incumbent(Event):
    """The best revision that evidence supports is now this experiment's."""

    exp: str


class Note(Event):
    """What the researcher thinks, in its own words."""

    text: str
    call: str = ""


class DesignDeclared(Event):
    """The runs of experiments that carry this `design` belong together: what they vary, and what for.

    `factors` are (knob, low literal, high literal); `rows` counts the runs that are planned; `resolution` says what
    they tell apart (see core.designs), None where that word does not apply.
    """

    design: str
    kind: str
    factors: list[tuple[str, str, str]]
    rows: int
    why: str
    call: str
    resolution: int | None = None


class PhaseChanged(Event):
    """The researcher goes about it in another way from here on, and says why."""

    phase: str
    why: str
    call: str


class ResearchEnded(Event):
    """The researcher has nothing left to try, and says why."""

    reason: str


class Command(Event):
    """What a person asked for, by a client's unique id; journalled, then obeyed."""

    client: str
    verb: str
    arg: str = ""


class LimitHit(Event):
    """A limit keeps new runs from starting; `cleared` says that it does no longer."""

    limit: str
    detail: str
    cleared: bool = False


class Usage(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Tokens of one answer, or of many. `input` are those that no cache had; thinking is part of `output`."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    thinking: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})

    @property
    def prompt(self) -> int:
        """All tokens that were sent."""
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


CacheTtl = Literal["", "5m", "1h"]


class EpochStarted(Event):
    """A new conversation with a model begins; what it needs of the one before stands in its first message.

    Within an epoch the conversation only grows, and what precedes it stays as it is. `prefix` is the SHA-256 of system
    text and tools, which are recorded where they differ from the epoch before. `roll_tokens` is the size of the context
    at which the next epoch begins, `endpoint` who serves it (empty: the Claude API, `sim`: a simulation, else a host),
    `cache_ttl` how long the API is asked to remember (empty: it has no cache).
    """

    epoch: int
    why: str
    model: str
    prefix: str
    roll_tokens: int
    endpoint: str = ""
    profile: Literal["full", "plain"] = "full"
    effort: str = ""
    cache_ttl: CacheTtl = ""
    system: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []


class ModelRequest(Event):
    """An attempt to have the model answer, recorded before the call with the most that it can cost.

    `req` is the request's number and the attempt's, as in `q12.1`; `upto` counts the epoch's messages that are sent.
    """

    req: str
    epoch: int
    upto: int
    reserve_usd: float
    max_tokens: int
    purpose: Literal["turn", "summary"] = "turn"


class ModelMessage(Event):
    """One message of the conversation, in the API's own form; a model's is recorded before any tool is executed.

    `req` is the attempt that brought a model's message, `model` who answered, `stop` why it ended there.
    """

    epoch: int
    role: Literal["user", "assistant", "system"]
    content: list[dict[str, Any]]
    req: str = ""
    stop: str = ""
    model: str = ""
    usage: Usage | None = None
    usd: float = 0.0


class ModelFailed(Event):
    """An attempt that brought no message. `usd` is what it cost as far as is known, `held_usd` what it may have cost
    beyond that: an answer that was lost on its way is paid for all the same.

    `kind` is one word for what happened; `category` is that of a refusal.
    """

    req: str
    kind: str
    reason: str
    usd: float = 0.0
    held_usd: float = 0.0
    usage: Usage | None = None
    category: str = ""
    request_id: str = ""
    retry_after_s: float | None = None


ModelStanding = Literal["working", "waiting", "backoff", "refused", "blocked", "capped"]


class ModelStatus(Event):
    """How it stands with the model from here on, and until when (session seconds) where that is known.

    `waiting` for results; `backoff`: the API fails and is asked again; `refused`: the model declined to go on;
    `blocked`: only a person can mend it (key, credit, model); `capped`: the money is spent.
    """

    status: ModelStanding
    why: str
    until_s: float | None = None


class Autopilot(Event):
    """The builtin researcher keeps the devices busy in the model's place, or does no longer."""

    on: bool
    why: str


class Memory(Event):
    """What a researcher wants to keep: one section of its notebook, replaced as a whole."""

    researcher: str
    section: str
    text: str
    call: str


class UnknownEvent(msgspec.Struct, kw_only=True):
    """An event of a kind or version that this release does not know: kept, shown, ignored by the reducer."""

    k: str
    n: int
    t: float
    v: int = 1
    w: float | None = None
    prev: str | None = None
    raw: bytes = b""


AnyEvent = (
    SessionStarted
    | SessionForked
    | SessionEnded
    | DeviceSeen
    | DeviceLost
    | RevisionAdded
    | ExperimentProposed
    | ConfirmRequested
    | RunQueued
    | RunIntent
    | RunWaiting
    | ExecutorNotice
    | RunStarted
    | RunProgress
    | RunFinished
    | CancelRequested
    | RunSpared
    | Verdict
    | Incumbent
    | Note
    | DesignDeclared
    | PhaseChanged
    | ResearchEnded
    | Command
    | LimitHit
    | EpochStarted
    | ModelRequest
    | ModelMessage
    | ModelFailed
    | ModelStatus
    | Autopilot
    | Memory
)

KINDS: Final[dict[str, type[Event]]] = {_kind_of(cls.__name__): cls for cls in get_args(AnyEvent)}
CURRENT_V: Final = 1
"""The highest version of any kind that this release writes and reads."""

_encoder = msgspec.json.Encoder(order=None)
_decoder = msgspec.json.Decoder(AnyEvent)
_envelope_decoder = msgspec.json.Decoder(UnknownEvent)


class EventError(ValueError):
    """Bytes that carry a right checksum but no event this release can read."""


def encode(event: Event) -> bytes:
    """One JSON object, without checksum and newline."""
    return _encoder.encode(event)


def decode(line: bytes) -> AnyEvent | UnknownEvent:
    """Read one event.

    Raises:
        EventError: the JSON is no event at all, or a known kind and version with wrong fields.
    """
    try:
        event = _decoder.decode(line)
    except msgspec.DecodeError as error:
        return _decode_unknown(line, error)
    return event if event.v <= CURRENT_V else _decode_unknown(line, EventError("a newer version"))


def _decode_unknown(line: bytes, error: Exception) -> UnknownEvent:
    try:
        envelope = _envelope_decoder.decode(line)
    except msgspec.DecodeError:
        raise EventError(f"not an event: {error}") from None
    if envelope.k in KINDS and envelope.v <= CURRENT_V:
        raise EventError(f"event {envelope.n} ({envelope.k}) has wrong fields: {error}")
    envelope.raw = line
    return envelope
