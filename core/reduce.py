"""The one reducer: how each event changes the state. Pure and total: it reads no clock and refuses no event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from core import conversation, places
from core.events import (
    AnyEvent,
    Autopilot,
    CancelRequested,
    Command,
    ConfirmRequested,
    DesignDeclared,
    DeviceLost,
    DeviceSeen,
    EpochStarted,
    ExecutorNotice,
    ExperimentProposed,
    Incumbent,
    LimitHit,
    Memory,
    ModelFailed,
    ModelMessage,
    ModelRequest,
    ModelStatus,
    Note,
    PhaseChanged,
    ResearchEnded,
    RevisionAdded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunSpared,
    RunStarted,
    RunWaiting,
    SessionEnded,
    SessionForked,
    SessionStarted,
    UnknownEvent,
    Verdict,
)
from core.executor import WORLD_OUTCOMES
from core.state import MAX_ATTEMPTS, AttemptRecord, Before, DeviceState, Owed, Phase, Run, SessionState

URGENT = frozenset({"baseline", "confirm", "replicate"})
"""Runs that go before screening: evidence that something already waits for."""

_FAULTS = frozenset({"device_lost", "infrastructure"})
"""Outcomes of an attempt that its own code may have brought about, however they look."""


def apply(state: SessionState, event: AnyEvent | UnknownEvent) -> None:
    """Fold one event into the state, in place. Events that are not news (by n) change nothing."""
    if event.n <= state.now.n:
        return
    state.now.n = event.n
    state.now.sampled = ""
    if event.t > state.now.t_s:
        state.idle.advance(state, event.t)
        state.now.t_s = event.t
    handler = _HANDLERS.get(type(event))
    if handler is None:
        state.now.unknown_events += 1
    else:
        handler(state, event)


def fold(events: Iterable[AnyEvent | UnknownEvent], state: SessionState | None = None) -> SessionState:
    """Fold many events, into a new state unless one is given."""
    state = SessionState() if state is None else state
    for event in events:
        apply(state, event)
    return state


def _session_started(state: SessionState, event: SessionStarted) -> None:
    state.now.started = event


def _session_forked(state: SessionState, event: SessionForked) -> None:
    """Runs in flight are settled by events of their own, which follow; the time that they had is spent already."""
    now = state.now
    now.ended = now.research_ended = None
    now.paused, now.stop = False, ""
    now.limits_hit.clear()
    now.counts.consecutive_failures = 0
    now.before = Before(
        t_s=event.t,
        runs=now.counts.started - state.again,
        allocated_s=now.allocated_s + sum(run.allocated_s(event.t) for run in state.in_flight),
        usd=now.model.usd if now.model is not None else 0.0,
        held_usd=now.model.most_usd - now.model.usd if now.model is not None else 0.0,
        epochs=len(state.ledger.epochs),
    )
    if now.model is not None:
        conversation.forked(now.model)
    state.ledger.talk.append(event)


def _session_ended(state: SessionState, event: SessionEnded) -> None:
    state.now.ended = event
    state.ledger.talk.append(event)


def _device_seen(state: SessionState, event: DeviceSeen) -> None:
    known = state.now.devices.get(event.device)
    if known is not None and event.seq <= known.seq:
        return
    if known is None:
        state.now.devices[event.device] = DeviceState(
            device=event.device,
            cls=event.cls,
            node=event.node,
            memory_mb=event.memory_mb,
            seq=event.seq,
            since_t_s=event.t,
            seen_t_s=event.t,
        )
    else:
        known.cls, known.node, known.memory_mb, known.seq = event.cls, event.node, event.memory_mb, event.seq
        if not known.up:
            known.up, known.since_t_s, known.lost_reason = True, event.t, ""
    places.offer(state, event.device)
    state.idle.take_device(state, event.device)


def _device_lost(state: SessionState, event: DeviceLost) -> None:
    device = state.now.devices.get(event.device)
    if device is None or event.seq <= device.seq:
        return
    device.up, device.seq, device.since_t_s, device.lost_reason = False, event.seq, event.t, event.reason
    state.now.free.pop(event.device, None)
    state.idle.take_device(state, event.device)


def _revision_added(state: SessionState, event: RevisionAdded) -> None:
    state.ledger.add_revision(event)


def _experiment_proposed(state: SessionState, event: ExperimentProposed) -> None:
    if event.exp in state.ledger.experiment_index:
        return
    state.ledger.add_experiment(event)
    state.ledger.talk.append(event)
    _owe(state, event)


def _confirm_requested(state: SessionState, event: ConfirmRequested) -> None:
    if event.exp not in state.ledger.experiment_index:
        return
    state.ledger.add_confirm(event)
    state.now.wanted.pop(event.exp, None)
    state.now.judge.pop(event.exp, None)
    _owe(state, event)


def _owe(state: SessionState, event: ExperimentProposed | ConfirmRequested) -> None:
    if event.seeds:
        state.now.owed.extend(Owed(event.exp, seed, event.reason, event.cls) for seed in event.seeds)
        state.now.pending[event.exp] = state.now.pending.get(event.exp, 0) + len(event.seeds)


def _run_queued(state: SessionState, event: RunQueued) -> None:
    if state.run(event.run) is not None:
        return
    owed = Owed(event.exp, event.seed, event.reason, event.cls)
    if owed in state.now.owed:
        state.now.owed.remove(owed)
    state.now.runs[event.run] = Run(
        run=event.run,
        exp=event.exp,
        seed=event.seed,
        reason=event.reason,
        cls=event.cls,
        queued_t_s=event.t,
    )
    state.now.counts.submitted += 1
    state.count(state.now.runs[event.run], 1)
    _enqueue(state, event.run, urgent=event.reason in URGENT)


def _enqueue(state: SessionState, run: str, *, urgent: bool) -> None:
    (state.now.queue_first if urgent else state.now.queue)[run] = None


def _run_intent(state: SessionState, event: RunIntent) -> None:
    run = state.now.runs.get(event.run)
    if run is None or run.status != "queued":
        return
    state.now.queue.pop(event.run, None)
    state.now.queue_first.pop(event.run, None)
    state.count(run, -1)
    run.status, run.attempt, run.intent_t_s = "starting", event.attempt, event.t
    state.count(run, 1)
    run.device, run.device_class = event.device, event.cls
    run.seq, run.step, run.frac, run.loss, run.util, run.curve = 0, 0, 0.0, None, None, []
    run.waited_s = None
    state.now.counts.attempts += 1
    state.now.counts.started += not run.attempts
    device = state.now.devices.get(event.device)
    if device is not None:
        device.run, device.since_t_s = event.run, event.t
        state.now.free.pop(event.device, None)
    state.idle.take_device(state, event.device)


def _current(state: SessionState, run: str, attempt: str, seq: int) -> Run | None:
    """The open run that an executor's event belongs to, or None where the event is stale."""
    record = state.now.runs.get(run)
    if record is None or record.attempt != attempt or seq <= record.seq or record.status == "queued":
        return None
    record.seq = seq
    return record


def _run_waiting(state: SessionState, event: RunWaiting) -> None:
    run = _current(state, event.run, event.attempt, event.seq)
    if run is None:
        return
    run.waiting, run.held = event.reason, event.held
    if run.waiting_t_s is None:
        run.waiting_t_s = event.t
    if run.status == "running":  # its place was taken back: what it did so far is gone
        run.status, run.started_t_s = "starting", None
        run.step, run.frac, run.loss, run.util, run.curve = 0, 0.0, None, None, []
        state.idle.begin_again(state, run)


def _waits_no_longer(run: Run, t_s: float) -> None:
    if run.waiting_t_s is not None:
        run.waited_s = (run.waited_s or 0.0) + t_s - run.waiting_t_s
    run.waiting, run.held, run.waiting_t_s = "", False, None


def _executor_notice(state: SessionState, event: ExecutorNotice) -> None:
    state.now.notice = event if event.text else None
    state.ledger.talk.append(event)


def _run_started(state: SessionState, event: RunStarted) -> None:
    run = _current(state, event.run, event.attempt, event.seq)
    if run is None:
        return
    run.status, run.started_t_s = "running", event.t
    _waits_no_longer(run, event.t)
    places.move(state, run, event.device)
    state.idle.take_report(state, run.device, event)


def _run_progress(state: SessionState, event: RunProgress) -> None:
    run = _current(state, event.run, event.attempt, event.seq)
    if run is None:
        return
    state.idle.take_report(state, run.device, event)
    run.step, run.frac, run.loss, run.util = event.step, event.frac, event.loss, event.util
    run.mem_mb = event.mem_mb if event.mem_mb is not None else run.mem_mb
    if event.loss is not None:
        run.curve.append((event.frac, event.loss))
        if run.reason == "screen" and run.cancel is None and run.forecast is None:
            proposal = state.experiment(run.exp)
            state.now.sampled = run.run if proposal is not None and proposal.stoppable else ""


def _run_finished(state: SessionState, event: RunFinished) -> None:
    run = _current(state, event.run, event.attempt, event.seq)
    if run is None:
        return
    _release(state, run, event)
    state.now.train_s += event.train_s or 0.0
    retry = event.outcome in WORLD_OUTCOMES and len(run.attempts) + 1 < MAX_ATTEMPTS and run.cancel is None
    _waits_no_longer(run, event.t)
    if retry and not state.now.stop:
        run.attempts.append(
            AttemptRecord(run.attempt, run.device, event.outcome, run.started_t_s, event.t, event.reason)
        )
        state.count(run, -1)
        run.status, run.started_t_s, run.intent_t_s = "queued", None, None
        state.count(run, 1)
        _enqueue(state, run.run, urgent=True)
        return
    # Asked to end and lost on the way: it ended as it was asked to.
    asked = run.cancel is not None and event.outcome in WORLD_OUTCOMES
    run.outcome, run.failure = event.outcome, _killer_of_nodes(state, run, event) + event.reason
    if asked:
        run.outcome = "pruned" if run.stopped_early else "cancelled"
    run.note = event.note
    run.val_bpb, run.tier, run.confinement = event.val_bpb, event.tier, event.confinement
    run.train_s, run.startup_s, run.score_s = event.train_s, event.startup_s, event.score_s
    run.steps, run.tokens, run.params = event.steps, event.tokens, event.params
    run.mem_mb = event.mem_mb if event.mem_mb is not None else run.mem_mb
    _settle(state, run, event.t)


def _killer_of_nodes(state: SessionState, run: Run, event: RunFinished) -> str:
    """What to say of a run that took as many nodes or GPUs down as it had attempts: it may be the run's own doing.

    Only attempts that executed say so, and only by faults: a preempted one was somebody else's doing.
    """
    ends = [(attempt.device, attempt.outcome, attempt.started_t_s) for attempt in run.attempts]
    ends.append((run.device, event.outcome, run.started_t_s))
    devices = [
        state.now.devices.get(name) for name, outcome, start_s in ends if outcome in _FAULTS and start_s is not None
    ]
    nodes = list(dict.fromkeys(device.node for device in devices if device is not None))
    if len(nodes) < MAX_ATTEMPTS or run.cancel is not None:
        return ""
    return f"kills its node or its GPU: failed on {', '.join(nodes)}; the last time: "


def _release(state: SessionState, run: Run, end: RunFinished) -> None:
    """Give the device back and book the time it was allocated."""
    device = state.now.devices.get(run.device)
    allocated_s = run.allocated_s(end.t)
    state.now.allocated_s += allocated_s
    if device is None or device.run != run.run:
        return
    device.run, device.since_t_s = None, end.t
    device.busy_s += allocated_s
    device.finished += 1
    places.offer(state, device.device)
    state.idle.take_device(state, device.device, end)


def _settle(state: SessionState, run: Run, t_s: float) -> None:
    """Move a run from the open part to the ledger, and have its experiment judged anew."""
    state.count(run, -1)
    run.status, run.ended_t_s = "finished", t_s
    state.now.runs.pop(run.run, None)
    state.now.to_cancel.pop(run.run, None)
    state.ledger.add_run(run)
    counts = state.now.counts
    if run.outcome == "ok":
        counts.finished += 1
        counts.consecutive_failures = 0
    elif run.outcome == "pruned":
        counts.stopped += 1
    elif run.outcome == "cancelled":
        counts.cancelled += 1
    else:
        counts.failed += 1
        counts.consecutive_failures += 1
    left = state.now.pending.get(run.exp, 1) - 1
    if left > 0:
        state.now.pending[run.exp] = left
    else:
        state.now.pending.pop(run.exp, None)
        state.now.judge[run.exp] = None


def _cancel_requested(state: SessionState, event: CancelRequested) -> None:
    run = state.now.runs.get(event.run)
    if run is None:
        return
    state.now.to_cancel.pop(event.run, None)
    if event.call:
        state.ledger.cancel_calls.setdefault(event.call, state.now.counts.submitted)
    run.cancel = event.reason
    if event.forecast is not None and not run.spared:
        run.forecast = event.forecast
    if run.status == "queued":
        state.now.queue.pop(run.run, None)
        state.now.queue_first.pop(run.run, None)
        run.outcome, run.failure = "cancelled", event.reason
        _settle(state, run, event.t)


def _run_spared(state: SessionState, event: RunSpared) -> None:
    run = state.now.runs.get(event.run)
    if run is not None and run.attempt == event.attempt and run.forecast is None:
        run.forecast, run.spared = event.forecast, True


def _verdict(state: SessionState, event: Verdict) -> None:
    state.now.judge.pop(event.exp, None)
    state.now.wanted.pop(event.exp, None)
    if event.want:
        state.now.wanted[event.exp] = event.want
    state.ledger.add_verdict(event)
    state.ledger.talk.append(event)


def _incumbent(state: SessionState, event: Incumbent) -> None:
    state.now.incumbent = event.exp
    state.ledger.add_incumbent(event.t, event.exp)


def _note(state: SessionState, event: Note) -> None:
    state.ledger.talk.append(event)
    if event.call:
        state.ledger.calls.setdefault(event.call, [])


def _design_declared(state: SessionState, event: DesignDeclared) -> None:
    if state.design(event.design) is None:
        state.ledger.add_design(event)
        state.ledger.talk.append(event)


def _phase_changed(state: SessionState, event: PhaseChanged) -> None:
    state.now.phase = Phase(event.phase, event.why, event.t)
    state.ledger.talk.append(event)
    state.ledger.calls.setdefault(event.call, [])


def _research_ended(state: SessionState, event: ResearchEnded) -> None:
    state.now.research_ended = event
    state.ledger.talk.append(event)


def _command(state: SessionState, event: Command) -> None:
    state.ledger.commands.append(event)
    state.ledger.talk.append(event)
    match event.verb:
        case "pause":
            state.now.paused = True
        case "resume":
            state.now.paused = False
        case "stop":
            state.now.stop = "finish" if event.arg == "finish" and state.now.stop != "now" else "now"
        case "cancel":
            for run in state.open_runs_named(event.arg):
                if run.cancel is None:
                    state.now.to_cancel[run.run] = "cancelled by command"
        case "drain":
            for device in state.devices_named(event.arg):
                state.now.drained[device.device] = None
                state.now.free.pop(device.device, None)
                state.idle.take_device(state, device.device)
        case "undrain":
            for device in state.devices_named(event.arg):
                state.now.drained.pop(device.device, None)
                places.offer(state, device.device)
                state.idle.take_device(state, device.device)
        case _:
            pass


def _limit_hit(state: SessionState, event: LimitHit) -> None:
    state.ledger.talk.append(event)
    if event.cleared:
        state.now.limits_hit.pop(event.limit, None)
    else:
        state.now.limits_hit[event.limit] = event


def _memory(state: SessionState, event: Memory) -> None:
    state.now.memory[event.section] = event.text
    if not event.text:
        del state.now.memory[event.section]
    state.ledger.calls.setdefault(event.call, [])


_HANDLERS: dict[type, Callable[[SessionState, Any], None]] = {
    SessionStarted: _session_started,
    SessionForked: _session_forked,
    SessionEnded: _session_ended,
    DeviceSeen: _device_seen,
    DeviceLost: _device_lost,
    RevisionAdded: _revision_added,
    ExperimentProposed: _experiment_proposed,
    ConfirmRequested: _confirm_requested,
    RunQueued: _run_queued,
    RunIntent: _run_intent,
    RunWaiting: _run_waiting,
    ExecutorNotice: _executor_notice,
    RunStarted: _run_started,
    RunProgress: _run_progress,
    RunFinished: _run_finished,
    CancelRequested: _cancel_requested,
    RunSpared: _run_spared,
    Verdict: _verdict,
    Incumbent: _incumbent,
    Note: _note,
    DesignDeclared: _design_declared,
    PhaseChanged: _phase_changed,
    ResearchEnded: _research_ended,
    Command: _command,
    LimitHit: _limit_hit,
    EpochStarted: conversation.epoch_started,
    ModelRequest: conversation.model_request,
    ModelMessage: conversation.model_message,
    ModelFailed: conversation.model_failed,
    ModelStatus: conversation.model_status,
    Autopilot: conversation.autopilot,
    Memory: _memory,
}
