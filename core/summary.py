"""A session in figures: what `status`, the status line and every report show, computed from the state alone."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from core.events import BASELINE, VerdictName
from core.idle import CAUSES, Cause
from core.model_summary import ModelSummary, model_summary
from core.state import LAST_VERDICTS, Run, SessionState
from core.statistics import Spread, evidence_runs, interval_of, mean_of, noise, reference_runs, share_bounds

Standing = Literal["new", "running", "paused", "stopping", "ended", "failed", "interrupted"]


class RunCounts(msgspec.Struct, frozen=True):
    """Counts of runs. `stopped` ones were stopped early: they are neither failed nor cancelled."""

    submitted: int
    finished: int
    failed: int
    cancelled: int
    running: int
    queued: int
    stopped: int


class ClassBest(msgspec.Struct, frozen=True):
    """The best values on one device class, in bits per byte; `noise_sd` is that of one run."""

    observed: float | None
    observed_run: str | None
    confirmed: float | None
    interval: tuple[float, float] | None
    seeds: int
    baseline: float | None
    baseline_seeds: int
    noise_sd: float | None


class Best(msgspec.Struct, frozen=True):
    """The best values on the reference class, and beside them those of every class."""

    observed: float | None
    confirmed: float | None
    interval: tuple[float, float] | None
    revision: str | None
    baseline: float | None
    noise_sd: float | None
    experiment: str | None
    title: str | None
    device_class: str | None
    by_class: dict[str, ClassBest]


class Gpus(msgspec.Struct, frozen=True):
    """Devices: how many there are and are busy, and where the `device_s` seconds since each was first seen have gone.

    `occupancy` is the share allocated to runs. `idle` gives the device-seconds of each cause (see core.idle); together
    with the shares of training and scoring they make up all device-seconds. `drained` names those that get no new run.
    """

    total: int
    busy: int
    device_s: float
    occupancy: float
    training_share: float
    scoring_share: float
    idle: dict[Cause, float]
    drained: list[str]


class Cost(msgspec.Struct, frozen=True):
    """What the session has cost. A local device costs no money that we know of.

    `llm_usd` is by the price file; where the model is simulated nobody pays it.
    """

    llm_usd: float
    gpu_usd: float
    gpu_hours: float


class PhaseNow(msgspec.Struct, frozen=True):
    """How the researcher goes about it, why, and for how long."""

    name: str
    why: str
    since_s: float


class LastVerdict(msgspec.Struct, frozen=True):
    """A verdict with its reason; `delta` is against its reference, in bits per byte, `seconds` when it fell."""

    exp: str
    title: str
    verdict: VerdictName
    reason: str
    delta: float | None
    interval: tuple[float, float] | None
    seconds: float


class EarlyStops(msgspec.Struct, frozen=True):
    """Runs that were `stopped` early, the device time that this saved, and how often it was wrong.

    `spared` runs would have been stopped and have a score: a keyed sample always finishes. `false` of them were worth
    pursuing all the same; `upper95` bounds that share, one-sided at 95 %.
    """

    stopped: int
    spared: int
    false: int
    upper95: float
    saved_gpu_hours: float


class ForkedFrom(msgspec.Struct, frozen=True):
    """The session that this one was forked from, the last `event` that was copied, and what had been spent by then:
    part of the session's own figures, but its limits do not count it.
    """

    session: str
    id: str
    event: int
    seconds: float
    gpu_hours: float
    llm_usd: float


class NoticeNow(msgspec.Struct, frozen=True):
    """What befalls the executor as a whole: `level` is info, warning or error, `since_s` for how long."""

    text: str
    level: str
    since_s: float


class WaitingRun(msgspec.Struct, frozen=True):
    """An attempt that does not execute, and why; `held` where a person or the cluster has to mend something."""

    run: str
    attempt: str
    device_class: str
    reason: str
    held: bool
    since_s: float


class Summary(msgspec.Struct, frozen=True):
    """The fields that scripts rely on: `status --json` prints exactly these. The newest of `verdicts` comes first."""

    session: str
    id: str
    state: Standing
    executor: str
    researcher: str
    simulated: bool
    seconds: float
    runs: RunCounts
    best: Best
    gpus: Gpus
    cost: Cost
    early_stops: EarlyStops
    tiers: dict[str, int]
    kept: int
    limits: list[str]
    reason: str
    phase: PhaseNow | None
    verdicts: list[LastVerdict]
    model: ModelSummary | None = None
    fork: ForkedFrom | None = None
    notice: NoticeNow | None = None
    waiting: list[WaitingRun] = []


def summarise(state: SessionState, *, now_s: float | None = None, engine_alive: bool = True) -> Summary:
    """The figures of a session.

    Args:
        state: the fold so far.
        now_s: the present session second; by default that of the last event.
        engine_alive: whether a process works on it; a session that has not ended is else `interrupted`.
    """
    now, started = state.now, state.now.started
    t_s = now.t_s if now_s is None else max(now_s, now.t_s)
    open_runs = list(now.runs.values())
    queued = sum(run.status == "queued" for run in open_runs)
    standing: Standing = state.status
    if standing in ("new", "running", "paused", "stopping") and not engine_alive:
        standing = "interrupted"
    model = model_summary(state, t_s, engine_alive=engine_alive)
    return Summary(
        session=started.name if started else "",
        id=started.session if started else "",
        state=standing,
        executor=started.executor if started else "",
        researcher=started.researcher if started else "",
        simulated=started.simulated if started else False,
        seconds=t_s,
        runs=RunCounts(
            submitted=now.counts.submitted,
            finished=now.counts.finished,
            failed=now.counts.failed,
            cancelled=now.counts.cancelled,
            running=len(open_runs) - queued,
            queued=queued + len(now.owed),
            stopped=now.counts.stopped,
        ),
        best=best(state),
        gpus=_gpus(state, t_s),
        cost=Cost(llm_usd=0.0 if model is None else model.usd, gpu_usd=0.0, gpu_hours=allocated_s(state, t_s) / 3600.0),
        early_stops=early_stops(state),
        tiers=dict(state.ledger.tiers),
        kept=sum(exp != BASELINE for _, exp in state.ledger.incumbents),
        limits=list(now.limits_hit),
        reason=now.ended.reason if now.ended else "; ".join(hit.detail for hit in now.limits_hit.values()),
        phase=phase_now(state, t_s),
        verdicts=last_verdicts(state),
        model=model,
        fork=forked_from(state),
        notice=NoticeNow(now.notice.text, now.notice.level, t_s - now.notice.t) if now.notice is not None else None,
        waiting=[_waiting(run, t_s) for run in open_runs if run.status == "starting" and run.waiting],
    )


def forked_from(state: SessionState) -> ForkedFrom | None:
    """Where a session comes from; None of one that was not forked."""
    started, before = state.now.started, state.now.before
    if started is None or started.fork is None or before is None:
        return None
    origin = started.fork.origin
    hours = before.allocated_s / 3600.0
    return ForkedFrom(origin.name, origin.session, started.fork.n, before.t_s, hours, before.usd)


def phase_now(state: SessionState, t_s: float) -> PhaseNow | None:
    """The phase at session second `t_s`; None before the researcher has told one."""
    phase = state.now.phase
    return None if phase is None else PhaseNow(phase.name, phase.why, max(0.0, t_s - phase.since_t_s))


def last_verdicts(state: SessionState) -> list[LastVerdict]:
    """The newest verdicts that say something (see Ledger.add_verdict), and why each fell as it did."""
    verdicts = []
    for event in list(reversed(state.ledger.told))[:LAST_VERDICTS]:
        proposal = state.experiment(event.exp)
        title = proposal.title if proposal is not None else ""
        verdicts.append(
            LastVerdict(event.exp, title, event.verdict, event.reason, event.delta, event.interval, event.t)
        )
    return verdicts


def early_stops(state: SessionState) -> EarlyStops:
    """What stopping early did so far."""
    stops = state.ledger.stops
    return EarlyStops(
        stopped=state.now.counts.stopped,
        spared=stops.spared,
        false=stops.false,
        upper95=share_bounds(stops.false, stops.spared)[1],
        saved_gpu_hours=stops.saved_s / 3600.0,
    )


def best(state: SessionState) -> Best:
    """Best observed (the luckiest run) and best confirmed (the incumbent's evidence), kept apart."""
    reference = state.reference_class()
    classes = sorted({device.cls for device in state.now.devices.values()})
    by_class = {cls: _class_best(state, cls) for cls in classes}
    own = by_class.get(reference) if reference else None
    incumbent = state.experiment(state.now.incumbent) if state.now.incumbent else None
    return Best(
        observed=own.observed if own else None,
        confirmed=own.confirmed if own else None,
        interval=own.interval if own else None,
        revision=incumbent.revision if incumbent else None,
        baseline=own.baseline if own else None,
        noise_sd=own.noise_sd if own else None,
        experiment=incumbent.exp if incumbent else None,
        title=incumbent.title if incumbent else None,
        device_class=reference,
        by_class=by_class,
    )


def _class_best(state: SessionState, cls: str) -> ClassBest:
    spread: Spread | None = noise(state, cls)
    observed = state.ledger.best_observed.get(cls)
    incumbent = state.now.incumbent
    evidence = reference_runs(state, incumbent, cls) if incumbent else []
    confirmed = mean_of(evidence)
    base = mean_of(evidence_runs(state, BASELINE, cls))
    return ClassBest(
        observed=observed.val_bpb if observed else None,
        observed_run=observed.run if observed else None,
        confirmed=confirmed.mean if confirmed else None,
        interval=interval_of(evidence, spread),
        seeds=confirmed.n if confirmed else 0,
        baseline=base.mean if base else None,
        baseline_seeds=base.n if base else 0,
        noise_sd=spread.sd if spread else None,
    )


def _waiting(run: Run, t_s: float) -> WaitingRun:
    since_s = t_s - run.waiting_t_s if run.waiting_t_s is not None else 0.0
    return WaitingRun(run.run, run.attempt, run.device_class, run.waiting, run.held, since_s)


def _gpus(state: SessionState, t_s: float) -> Gpus:
    devices = state.now.devices.values()
    spent_s = state.idle.spent_s(state, t_s)
    device_s = math.fsum(spent_s.values())
    return Gpus(
        total=sum(device.up for device in devices),
        busy=sum(device.run is not None for device in devices),
        device_s=device_s,
        occupancy=allocated_s(state, t_s) / device_s if device_s > 0 else 0.0,
        training_share=spent_s.get("training", 0.0) / device_s if device_s > 0 else 0.0,
        scoring_share=spent_s.get("scoring", 0.0) / device_s if device_s > 0 else 0.0,
        idle={cause: spent_s[cause] for cause in CAUSES if cause in spent_s},
        drained=list(state.now.drained),
    )


def allocated_s(state: SessionState, t_s: float) -> float:
    """Device seconds allocated to attempts, those under way included; not those that attempts waited for a cluster."""
    return state.now.allocated_s + sum(run.allocated_s(t_s) for run in state.in_flight)
