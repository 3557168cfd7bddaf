"""One function per table: the row that an event or a piece of state makes, in the order of schema.sql's columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from core.events import (
    AnyEvent,
    Command,
    DesignDeclared,
    ExecutorNotice,
    ExperimentProposed,
    Forecast,
    Incumbent,
    LimitHit,
    ModelFailed,
    ModelMessage,
    ModelRequest,
    Note,
    PhaseChanged,
    ResearchEnded,
    RevisionAdded,
    RunFinished,
    RunProgress,
    RunStarted,
    RunWaiting,
    SessionEnded,
    SessionForked,
    SessionStarted,
    UnknownEvent,
    Usage,
    Verdict,
)
from core.idle import Spell
from core.state import DeviceState, Run, SessionState

Value = str | int | float | bool | datetime | list[int] | list[str] | None
Row = tuple[Value, ...]


Spoken = (
    Command
    | DesignDeclared
    | ExperimentProposed
    | Incumbent
    | ExecutorNotice
    | LimitHit
    | Note
    | PhaseChanged
    | ResearchEnded
    | SessionEnded
    | SessionForked
    | Verdict
)
"""Events that make a message."""


class Context(NamedTuple):
    """What all rows of a session share. `epoch_s` is the wall time of session second 0, `origin` the session that rows
    are copied from, up to the event where this one was forked; None for its own.
    """

    session_id: str = ""
    simulated: bool = False
    epoch_s: float = 0.0
    origin: str | None = None

    def wall_time(self, event: AnyEvent | UnknownEvent) -> datetime | None:
        """UTC without a zone, from the event's wall time, else from session seconds; None outside the calendar."""
        time_s = event.w if event.w is not None else self.epoch_s + event.t
        try:
            return datetime.fromtimestamp(time_s, UTC).replace(tzinfo=None)
        except (OverflowError, ValueError, OSError):
            return None


class SessionTimes(msgspec.Struct):
    """Wall times of a session, which the reducer's state does not keep."""

    started_at: datetime | None = None
    forked_at: datetime | None = None
    forked_t_s: float | None = None
    ended_at: datetime | None = None
    last_at: datetime | None = None


class RunTimes(msgspec.Struct):
    """Wall times of an open run; `started_at` is that of its present attempt."""

    queued_at: datetime | None
    started_at: datetime | None = None


class OpenAttempt(NamedTuple):
    """An attempt that has a device and no end yet."""

    attempt: str
    run: str
    exp: str
    device: str
    device_class: str
    intent_at: datetime | None
    intent_t_s: float
    origin: str | None
    started_at: datetime | None = None
    started_t_s: float | None = None
    waiting: str | None = None
    waited_s: float = 0.0

    @classmethod
    def of(cls, run: Run, at: datetime | None, t_s: float, origin: str | None) -> OpenAttempt:
        """The attempt that a run was just given a device for, in which session if not in this one."""
        return cls(run.attempt, run.run, run.exp, run.device, run.device_class, at, t_s, origin)

    def started(self, event: RunStarted, at: datetime | None) -> OpenAttempt:
        """The same attempt, executing."""
        return self._replace(started_at=at, started_t_s=event.t)

    def waits(self, event: RunWaiting) -> OpenAttempt:
        """The same attempt, not executing, or no longer."""
        return self._replace(started_at=None, started_t_s=None, waiting=event.reason)

    def as_of(self, run: Run, t_s: float) -> OpenAttempt:
        """The same attempt where its run is booked, with what it has waited up to a session second."""
        waits_s = 0.0 if run.waiting_t_s is None else t_s - run.waiting_t_s
        waited_s = waits_s + (run.waited_s or 0.0)
        return self._replace(device=run.device, device_class=run.device_class, waited_s=waited_s)


def session(session: str, state: SessionState, started: SessionStarted, times: SessionTimes) -> Row:
    """The session as it is now."""
    now, target, fork = state.now, started.target, started.fork
    return (
        session,
        started.name,
        state.status,
        times.started_at,
        times.ended_at,
        None if now.ended is None else now.ended.reason,
        started.seed,
        started.simulated,
        started.executor,
        started.researcher,
        target.budget_s,
        target.budget_kind,
        target.profile,
        target.seq_len,
        target.eval_tokens,
        target.corpus,
        target.harness,
        _json(started.limits),
        started.version,
        state.reference_class(),
        now.incumbent,
        now.n,
        times.last_at,
        now.t_s,
        now.unknown_events,
        None if fork is None else fork.origin.session,
        None if fork is None else fork.n,
        times.forked_t_s,
        times.forked_at,
    )


def device(context: Context, state: DeviceState, lost_t_s: float | None, down_s: float) -> Row:
    """A device as it is now; `down_s` sums its ended absences, `lost_t_s` begins the present one."""
    return (
        context.session_id,
        state.device,
        state.cls,
        state.node,
        state.memory_mb,
        state.up,
        state.lost_reason or None,
        state.seen_t_s,
        lost_t_s,
        down_s,
    )


def revision(context: Context, event: RevisionAdded, at: datetime | None) -> Row:
    """A revision."""
    return (context.session_id, event.revision, event.parent, event.n, at, event.patch)


def experiment(context: Context, event: ExperimentProposed, at: datetime | None) -> Row:
    """An experiment before its first verdict."""
    return (
        context.session_id,
        event.exp,
        event.n,
        at,
        event.t,
        event.parent,
        event.revision,
        event.title,
        event.hypothesis,
        event.rationale,
        event.design,
        event.reason,
        event.cls,
        _json(event.knobs),
        event.seeds,
        None,
        None,
        None,
        None,
        context.origin,
    )


def run(
    context: Context,
    run: Run,
    experiment: ExperimentProposed | None,
    times: RunTimes,
    ended_at: datetime | None,
    origin: str | None,
) -> Row:
    """A run as it is now; its numbers are those of its last attempt. `origin` is the session that it ran in, if not
    this one.
    """
    wall_s = None
    if run.ended_t_s is not None and run.started_t_s is not None:
        wall_s = run.ended_t_s - run.started_t_s
    return (
        context.session_id,
        run.run,
        run.exp,
        None if experiment is None else experiment.revision,
        None if experiment is None else experiment.title,
        None if experiment is None else experiment.design,
        run.seed,
        run.reason,
        run.device or None,
        run.device_class or run.cls,
        run.outcome or run.status,
        run.failure or None,
        run.val_bpb,
        run.tier,
        run.scored,
        run.confinement,
        run.note or None,
        run.steps,
        run.tokens,
        run.params,
        run.train_s,
        run.startup_s,
        run.score_s,
        wall_s,
        run.mem_mb,
        len(run.attempts) + (run.intent_t_s is not None),
        times.queued_at,
        times.started_at,
        ended_at,
        run.queued_t_s,
        run.started_t_s,
        run.ended_t_s,
        context.simulated,
        run.spared,
        *_forecast(run.forecast),
        origin,
    )


def _forecast(forecast: Forecast | None) -> Row:
    return (None,) * 3 if forecast is None else (forecast.val_bpb, forecast.low_bpb, forecast.frac)


def attempt(context: Context, attempt: OpenAttempt, end: RunFinished | None, ended_at: datetime | None) -> Row:
    """An attempt, with its end where it has one."""
    row: Row = (context.session_id, attempt.attempt, attempt.run, attempt.exp, attempt.device, attempt.device_class)
    if end is None:
        row += (None,) * 13
    else:
        row += (
            end.outcome,
            end.reason or None,
            end.val_bpb,
            end.tier,
            end.steps,
            end.tokens,
            end.train_s,
            end.startup_s,
            end.score_s,
            end.mem_mb,
            end.probes,
            end.eval_tokens,
            end.corpus,
        )
    return (
        *row,
        attempt.intent_at,
        attempt.started_at,
        ended_at,
        attempt.intent_t_s,
        attempt.started_t_s,
        None if end is None else end.t,
        context.simulated,
        attempt.origin,
        attempt.waiting,
        attempt.waited_s,
    )


def metric(context: Context, run: Run, event: RunProgress, at: datetime | None) -> Row:
    """A sample of a running attempt."""
    return (
        context.session_id,
        event.run,
        event.attempt,
        run.exp,
        event.n,
        at,
        event.t,
        event.step,
        event.frac,
        event.loss,
        event.util,
        event.mem_mb,
    )


def verdict(context: Context, event: Verdict, at: datetime | None) -> Row:
    """A verdict with its evidence."""
    low, high = event.interval or (None, None)
    evidence: Row = (None,) * 10
    if (given := event.evidence) is not None:
        evidence = (
            given.cls,
            given.n,
            given.mean,
            given.ref,
            given.n_ref,
            given.mean_ref,
            given.sd,
            given.df,
            given.look,
            given.alpha,
        )
    head: Row = (context.session_id, event.n, at, event.t, event.exp, event.verdict, event.reason)
    return (*head, event.delta, low, high, *evidence, event.want)


def design(context: Context, event: DesignDeclared, at: datetime | None) -> Row:
    """A design as it was declared."""
    head: Row = (context.session_id, event.design, event.n, at, event.t, event.kind)
    return (*head, _json(event.factors), event.rows, event.resolution, event.why)


def phase(context: Context, event: PhaseChanged, at: datetime | None) -> Row:
    """The beginning of a phase."""
    return (context.session_id, event.n, at, event.t, event.phase, event.why)


def command(context: Context, event: Command, at: datetime | None) -> Row:
    """What a person asked for."""
    return (context.session_id, event.n, at, event.t, event.client, event.verb, event.arg)


def idle(context: Context, spell: Spell, *, settled: bool) -> Row:
    """A stretch of time in which a device neither trained nor scored."""
    times: Row = (spell.from_ms / 1000, spell.to_ms / 1000, settled)
    return (context.session_id, spell.device, spell.device_class, spell.use, *times)


def message(
    context: Context,
    event: Spoken,
    at: datetime | None,
) -> Row:
    """What was said, by whom, as one text."""
    exp: str | None = None
    author = "engine"
    match event:
        case ExperimentProposed():
            author, exp = "researcher", event.exp
            content = "\n".join(part for part in (event.title, event.hypothesis, event.rationale) if part)
        case Note():
            author, content = "researcher", event.text
        case DesignDeclared():
            author, content = "researcher", f"{event.design}: {event.why}"
        case PhaseChanged():
            author, content = "researcher", f"{event.phase}: {event.why}"
        case ResearchEnded() | SessionEnded():
            author, content = ("researcher" if isinstance(event, ResearchEnded) else author), event.reason
        case Command():
            author, content = "person", f"{event.verb} {event.arg}".rstrip()
        case Verdict():
            exp, content = event.exp, f"{event.verdict}: {event.reason}"
        case Incumbent():
            exp, content = event.exp, f"{event.exp} is the incumbent"
        case ExecutorNotice():
            author, content = "executor", event.text or "over"
        case LimitHit():
            content = f"{event.limit} {'cleared' if event.cleared else 'hit'}: {event.detail}"
        case SessionForked():
            content = f"forked from {event.parent}: {event.runs} runs copied, {event.in_flight} in flight cancelled"
    kind = str(event.__struct_config__.tag)
    return (context.session_id, event.n, at, event.t, author, kind, exp, content)


class OpenRequest(NamedTuple):
    """An attempt to have a model answer, and when it was made."""

    event: ModelRequest
    at: datetime | None


def model_message(context: Context, event: ModelMessage, at: datetime | None) -> Row:
    """A message of the conversation with a model; whatever is in its parts was written by a model or a server."""
    usage = event.usage
    results = [part for part in event.content if part.get("type") == "tool_result"]
    head: Row = (context.session_id, event.n, at, event.t, event.epoch, event.role, event.model or None)
    said: Row = (event.stop or None, event.req or None, _texts(event, "text"), _texts(event, "thinking"))
    tools = [str(part.get("name")) for part in event.content if part.get("type") == "tool_use"]
    failed = sum(part.get("is_error") is True for part in results)
    tokens: Row = (None,) * 3 if usage is None else (usage.prompt, usage.output, usage.thinking)
    return (*head, *said, tools, len(results), failed, *tokens, event.usd)


def _texts(event: ModelMessage, kind: str) -> str | None:
    texts = [part.get(kind) for part in event.content if part.get("type") == kind]
    return "\n\n".join(text for text in texts if isinstance(text, str)) or None


def model_request(
    context: Context,
    asked: OpenRequest | None,
    epoch: int,
    end: ModelMessage | ModelFailed | None,
    at: datetime | None,
    *,
    lost: bool = False,
) -> Row:
    """An attempt to have a model answer. `asked` is None where only its end is known, `end` where none is.

    Args:
        epoch: the conversation, where `asked` does not say.
        at: the wall time of the end.
        lost: whether there can be no end any more: then it may have cost all that was reserved.
    """
    event = asked.event if asked is not None else None
    req, _, attempt = (event.req if event is not None else end.req if end is not None else "").partition(".")
    head: Row = (context.session_id, req or None, int(attempt) if attempt.isdecimal() else None)
    sent: Row = (epoch, None, None, None, None)
    if event is not None:
        sent = (event.epoch, event.purpose, event.upto, event.max_tokens, event.reserve_usd)
    usage, usd, held_usd = Usage(), 0.0, event.reserve_usd if lost and event is not None else 0.0
    how: Row = ("lost" if lost else "open", *(None,) * 6)
    if isinstance(end, ModelMessage):
        usage, usd = end.usage or usage, end.usd
        how = ("answered", None, None, None, None, end.model or None, end.stop or None)
    elif end is not None:
        usage, usd, held_usd = end.usage or usage, end.usd, end.held_usd
        how = ("failed", end.kind, end.reason, end.category or None, end.request_id or None, None, None)
    written = usage.cache_write_5m + usage.cache_write_1h
    tokens: Row = (usage.input, usage.cache_read, written, usage.output, usage.thinking)
    times: Row = (None if event is None else event.t, None if end is None else end.t, asked and asked.at, at)
    return (*head, *sent, *how, usd, held_usd, *tokens, *times)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
