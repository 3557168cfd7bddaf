"""The engine's next decision as a pure function of the state: one event, or None when all is settled."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable

from core.engine.stopping import stop_clear_loser
from core.events import (
    BASELINE,
    AnyEvent,
    CancelRequested,
    ConfirmRequested,
    Incumbent,
    LimitHit,
    RunIntent,
    RunQueued,
    SessionEnded,
)
from core.limits import binding_limit, only_again
from core.state import DeviceState, Owed, SessionState
from core.statistics import REFERENCE_SEEDS, judge

CONFIRMING_SHARE = 0.4
"""Share of the devices, or of all runs, that may test candidates while screening runs wait: see docs/decisions/04."""


def decide(state: SessionState) -> AnyEvent | None:
    """What is to be recorded next. Called after every recorded input until it returns None."""
    if state.now.started is None or state.now.ended is not None:
        return None
    for rule in _RULES:
        event = rule(state)
        if event is not None:
            return event
    return None


def fresh_seeds(state: SessionState, exp: str, count: int) -> list[int]:
    """Seeds that no run of this experiment has had, and no other experiment shares: a hash of who asks."""
    session_seed = state.now.started.seed if state.now.started is not None else 0
    given = state.ledger.seeds_given.get(exp, 0)
    return [_seed(session_seed, exp, given + i) for i in range(count)]


def _seed(session_seed: int, exp: str, index: int) -> int:
    digest = hashlib.sha256(f"{session_seed}/{exp}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _cancel(state: SessionState) -> AnyEvent | None:
    """Commands name runs to cancel; `stop now` cancels all, `stop finish` only what is not under way."""
    for name, reason in state.now.to_cancel.items():
        return CancelRequested(run=name, attempt=state.now.runs[name].attempt, reason=reason)
    if state.now.research_ended is not None and _baseline_failed(state):
        for run in state.now.runs.values():
            if run.cancel is None:
                attempt = "" if run.status == "queued" else run.attempt
                return CancelRequested(run=run.run, attempt=attempt, reason="there is no baseline to compare it with")
    if not state.now.stop:
        return None
    for run in state.now.runs.values():
        if run.cancel is None and (state.now.stop == "now" or run.status == "queued"):
            attempt = "" if run.status == "queued" else run.attempt
            return CancelRequested(run=run.run, attempt=attempt, reason="the session stops")
    return None


def _baseline_failed(state: SessionState) -> bool:
    verdict = state.verdict(BASELINE)
    return verdict is not None and verdict.verdict != "kept" and BASELINE not in state.now.pending


def _queue(state: SessionState) -> AnyEvent | None:
    """Turn what proposals and confirmations promised into queued runs."""
    if not state.now.owed or state.now.stop:
        return None
    owed: Owed = state.now.owed[0]
    number = state.now.counts.submitted + 1
    return RunQueued(run=f"r{number}", exp=owed.exp, seed=owed.seed, reason=owed.reason, cls=owed.cls)


def _judge(state: SessionState) -> AnyEvent | None:
    """Give every experiment whose runs are all in the verdict that its evidence supports."""
    if state.now.incumbent is None and BASELINE in state.now.pending:
        if state.now.owed or any(state.can_run(run) for run in state.open_runs_of(BASELINE)):
            return None  # there is nothing yet to judge against
        # What is left of the baseline waits for devices that are gone: what is in has to do.
        verdict = judge(state, BASELINE)
        return verdict if verdict is not None and verdict.verdict == "kept" else None
    for exp in state.now.judge:
        verdict = judge(state, exp)
        if verdict is not None:
            return verdict
    return None


def _crown(state: SessionState) -> AnyEvent | None:
    """The experiment that was kept last becomes the incumbent: it was tested against the one before."""
    if not state.ledger.verdicts:
        return None
    last = state.ledger.verdicts[-1]
    if last.verdict == "kept" and last.exp not in state.ledger.crowned:
        return Incumbent(exp=last.exp)
    return None


def _review(state: SessionState) -> AnyEvent | None:
    """A candidate that waits for its seeds is compared with the incumbent anew once that is another one."""
    for exp in state.now.wanted:
        standing = state.verdict(exp)
        if standing is not None and standing.evidence is None and standing.ref not in ("", state.now.incumbent):
            return judge(state, exp)
    return None


def _confirm(state: SessionState) -> AnyEvent | None:
    """Grant the seeds that verdicts ask for, on the reference class: what promises most first, a few at a time.

    While an incumbent lags behind, nearly everything beats it; testing all of that would leave few devices to search.
    """
    if state.now.stop or state.now.limits_hit or not state.now.wanted:
        return None
    exp = min(state.now.wanted, key=lambda exp: _promise(state, exp))
    count = state.now.wanted[exp]
    if not _may_confirm(state, count) and not _may_idle(state):
        return None
    call = f"engine:{exp}:{state.ledger.seeds_given.get(exp, 0)}"
    return ConfirmRequested(exp=exp, call=call, seeds=fresh_seeds(state, exp, count), cls=state.reference_class())


def _promise(state: SessionState, exp: str) -> tuple[bool, float]:
    """The order in which candidates are tested: what has begun is ended first, then the largest gain."""
    standing = state.verdict(exp)
    if standing is None or standing.delta is None:
        return True, 0.0
    return standing.evidence is None, standing.delta


def _may_confirm(state: SessionState, count: int) -> bool:
    """Whether so many more seeds leave enough devices to search: now, or with few devices in the long run."""
    under_way = state.confirming + len(state.now.owed)
    if under_way + count <= CONFIRMING_SHARE * len(state.now.devices):
        return True
    return not under_way and state.ledger.confirmed + count <= CONFIRMING_SHARE * (state.settled + count)


def _may_idle(state: SessionState) -> bool:
    """Whether a device is free and no screening run waits for it."""
    return bool(state.now.free) and not state.now.queue


def _sharpen(state: SessionState) -> AnyEvent | None:
    """Give a new incumbent the seeds that it is a reference by, once."""
    exp = state.now.incumbent
    if state.now.stop or exp is None or (call := f"engine:{exp}:reference") in state.ledger.calls:
        return None
    cls, proposal = state.reference_class(), state.experiment(exp)
    if cls is None or proposal is None or proposal.parent is None:
        return None
    seeds = fresh_seeds(state, exp, REFERENCE_SEEDS)
    return ConfirmRequested(exp=exp, call=call, seeds=seeds, cls=cls, reason="replicate")


def _limit(state: SessionState) -> AnyEvent | None:
    """Say once when a limit begins to bind, and once when it does no longer."""
    hit = binding_limit(state)
    name = hit[0] if hit is not None else None
    if hit is not None and name not in state.now.limits_hit:
        return LimitHit(limit=hit[0], detail=hit[1])
    for known in state.now.limits_hit:
        if known not in (name, "disk"):
            return LimitHit(limit=known, detail="no longer binding", cleared=True)
    return None


def _start(state: SessionState) -> AnyEvent | None:
    """Match the first queued run with a free device of its class; evidence goes before screening."""
    again = only_again(state)
    if state.now.paused or state.now.stop or not state.now.free or (state.now.limits_hit and not again):
        return None
    first_free: dict[str | None, DeviceState] = {}
    for name in state.now.free:
        device = state.now.devices[name]
        first_free.setdefault(None, device)
        first_free.setdefault(device.cls, device)
    for name in itertools.chain(state.now.queue_first, state.now.queue):
        run = state.now.runs[name]
        if again and not run.attempts:
            continue
        chosen = first_free.get(run.cls)
        if chosen is not None:
            attempt = f"{run.run}.{len(run.attempts) + 1}"
            return RunIntent(run=run.run, attempt=attempt, device=chosen.device, cls=chosen.cls)
    return None


def _end(state: SessionState) -> AnyEvent | None:
    """End when nothing runs and nothing more can come; what still waits then is cancelled first."""
    ending = _ending(state) if not state.flying else None
    if ending is not None:
        for run in state.now.runs.values():
            return CancelRequested(run=run.run, attempt="", reason="the session ended before its turn")
    return ending


def _ending(state: SessionState) -> SessionEnded | None:
    """How the session ends now that nothing runs, or None if it goes on."""
    if state.now.stop:
        return SessionEnded(reason="stopped by command")
    final = [hit for name, hit in state.now.limits_hit.items() if name != "disk"]
    if only_again(state) and any(run.attempts and state.can_run(run) for run in state.now.runs.values()):
        return None
    if final:
        fruitless = state.now.counts.finished == 0 and state.now.counts.failed > 0
        failed = fruitless or final[0].limit == "consecutive_failures"
        return SessionEnded(reason=f"limit {final[0].limit}: {final[0].detail}", failed=failed)
    research_ended = state.now.research_ended
    idle = not any(state.can_run(run) for run in state.now.runs.values())
    if research_ended is not None and idle and not state.now.owed and not state.now.wanted:
        return SessionEnded(reason=research_ended.reason, failed=state.now.incumbent is None)
    return None


_RULES: tuple[Callable[[SessionState], AnyEvent | None], ...] = (
    stop_clear_loser,
    _cancel,
    _crown,
    _judge,
    _review,
    _confirm,
    _sharpen,
    _queue,
    _limit,
    _start,
    _end,
)
