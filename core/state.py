"""What is known of a session at one event: the open part, and the append-only ledger of all that is settled."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from typing import Literal

import msgspec

from core.conversation import ModelNow
from core.events import (
    Autopilot,
    Command,
    ConfirmRequested,
    DesignDeclared,
    EpochStarted,
    ExecutorNotice,
    ExperimentProposed,
    Forecast,
    LimitHit,
    ModelFailed,
    ModelMessage,
    ModelStatus,
    Note,
    PhaseChanged,
    ResearchEnded,
    RevisionAdded,
    RunReason,
    SessionEnded,
    SessionForked,
    SessionStarted,
    Verdict,
)
from core.executor import Outcome
from core.forecast import Forecaster
from core.idle import IdleFold
from core.stops import Stops

RunStatus = Literal["queued", "starting", "running", "finished"]
MAX_ATTEMPTS = 3
"""How often the world may fail a run before the run is given up as failed by the world."""

LAST_VERDICTS = 3
"""So many verdicts are told with their reasons wherever a session is summed up."""

COUNTED_TIERS = frozenset({"unconfined", "scored", "audited"})
"""Tiers that a harness of ours measured; `self_reported` numbers are shown grey and never rank."""


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One ended execution of a run that led to another one."""

    attempt: str
    device: str
    outcome: Outcome
    started_t_s: float | None
    ended_t_s: float
    reason: str


class Run(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One revision, one seed; mutable while open, never touched again once it is in the ledger.

    `curve` holds (share of the budget, training loss) samples of the present attempt. Times are session seconds.
    `forecast` is why it was stopped early, or, of a `spared` one, why it would have been. `waiting` is why it has not
    started, as far as its executor says, since `waiting_t_s`; `held` whether that needs mending. `waited_s` sums the
    stretches that the present attempt waited before.
    """

    run: str
    exp: str
    seed: int
    reason: RunReason
    cls: str | None
    queued_t_s: float
    status: RunStatus = "queued"
    attempt: str = ""
    attempts: list[AttemptRecord] = []
    device: str = ""
    device_class: str = ""
    intent_t_s: float | None = None
    started_t_s: float | None = None
    ended_t_s: float | None = None
    seq: int = 0
    step: int = 0
    frac: float = 0.0
    loss: float | None = None
    util: float | None = None
    mem_mb: float | None = None
    curve: list[tuple[float, float]] = []
    cancel: str | None = None
    forecast: Forecast | None = None
    spared: bool = False
    outcome: Outcome | None = None
    val_bpb: float | None = None
    tier: str | None = None
    confinement: str | None = None
    train_s: float | None = None
    startup_s: float | None = None
    score_s: float | None = None
    steps: int | None = None
    tokens: int | None = None
    params: int | None = None
    failure: str = ""
    note: str = ""
    waiting: str = ""
    held: bool = False
    waiting_t_s: float | None = None
    waited_s: float | None = None

    def allocated_s(self, t_s: float) -> float:
        """Seconds up to a session second for which the present attempt has had a device: not those that it waited."""
        if self.intent_t_s is None:
            return 0.0
        waits_s = 0.0 if self.waiting_t_s is None else t_s - self.waiting_t_s
        return t_s - self.intent_t_s - waits_s - (self.waited_s or 0.0)

    @property
    def scored(self) -> bool:
        """Whether this run is evidence: it ended well, and a harness of ours measured a number."""
        measured = self.val_bpb is not None and math.isfinite(self.val_bpb)
        return measured and self.outcome == "ok" and self.tier in COUNTED_TIERS

    @property
    def stopped_early(self) -> bool:
        """Whether it was asked to end because its loss forecast a clear loser."""
        return self.cancel is not None and self.forecast is not None and not self.spared


class Owed(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that a proposal or a confirmation promised and that is not queued yet."""

    exp: str
    seed: int
    reason: RunReason
    cls: str | None


class DeviceState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A device as the session sees it. `busy_s` sums the time allocated to ended attempts."""

    device: str
    cls: str
    node: str
    memory_mb: int
    seq: int
    up: bool = True
    run: str | None = None
    since_t_s: float = 0.0
    busy_s: float = 0.0
    finished: int = 0
    seen_t_s: float = 0.0
    lost_reason: str = ""


class Counts(msgspec.Struct, omit_defaults=True):
    """Counts of runs, as `status` shows them. `started` counts runs that ever had an attempt, `stopped` those that were
    stopped early: they are neither failed nor cancelled.
    """

    submitted: int = 0
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    attempts: int = 0
    started: int = 0
    consecutive_failures: int = 0
    stopped: int = 0


class Phase(msgspec.Struct, frozen=True):
    """How the researcher goes about it now, why, and since which session second."""

    name: str
    why: str
    since_t_s: float


class Before(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a session's forebears had spent when it was forked: not charged to its own limits.

    `runs` counts as the limit does; `held_usd` may have been spent beyond `usd`, with what was in flight. `epochs`
    counts the conversations with models up to then: none of them goes on.
    """

    t_s: float = 0.0
    runs: int = 0
    allocated_s: float = 0.0
    usd: float = 0.0
    held_usd: float = 0.0
    epochs: int = 0

    @property
    def most_usd(self) -> float:
        """The most that can have been spent."""
        return self.usd + self.held_usd


class OpenState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that can still change: small, whatever the length of the session. A keyframe is a copy of it.

    `pending` counts an experiment's runs that are owed or open; `judge` holds experiments whose runs are all
    in and not judged; `wanted` the seeds that a verdict asked for and nobody granted yet. `sampled` names the run that
    the last event was a sample of, if it is one that may be stopped early. `memory` is the researcher's notebook,
    `before` what was spent before the session was forked, if it was. `drained` names the devices that get no new run,
    `notice` is what befalls the executor as a whole.
    """

    n: int = 0
    t_s: float = 0.0
    started: SessionStarted | None = None
    ended: SessionEnded | None = None
    paused: bool = False
    stop: Literal["", "finish", "now"] = ""
    devices: dict[str, DeviceState] = {}
    free: dict[str, None] = {}
    runs: dict[str, Run] = {}
    queue_first: dict[str, None] = {}
    queue: dict[str, None] = {}
    owed: list[Owed] = []
    to_cancel: dict[str, str] = {}
    pending: dict[str, int] = {}
    judge: dict[str, None] = {}
    wanted: dict[str, int] = {}
    incumbent: str | None = None
    counts: Counts = msgspec.field(default_factory=Counts)
    train_s: float = 0.0
    allocated_s: float = 0.0
    limits_hit: dict[str, LimitHit] = {}
    research_ended: ResearchEnded | None = None
    unknown_events: int = 0
    phase: Phase | None = None
    sampled: str = ""
    model: ModelNow | None = None
    memory: dict[str, str] = {}
    before: Before | None = None
    drained: dict[str, None] = {}
    notice: ExecutorNotice | None = None


class Group(msgspec.Struct):
    """Count and mean of an experiment's evidence on one device class."""

    n: int = 0
    mean: float = 0.0


class Noise(msgspec.Struct):
    """Sum of squares within the replicated experiments of a device class, and its degrees of freedom."""

    squares: float = 0.0
    df: int = 0


class Pair(msgspec.Struct):
    """Experiments with evidence on two device classes: how many, their weights, and the weighted sum of differences.

    The weight of an experiment is n1 * n2 / (n1 + n2), the inverse of the variance of its difference of means in
    units of the noise: so the weighted mean is the class effect of an additive fit (Searle 1971, Linear Models, §7.1).
    """

    experiments: int = 0
    weight: float = 0.0
    total: float = 0.0


class Ledger:
    """Append-only lists of what is settled, with indexes that are derived from them.

    A keyframe keeps only the lengths; `prefix` rebuilds the ledger as it was at those lengths. `cancel_calls` is how
    many runs there were when a call first cancelled one: repeated, it means no others. Only an engine asks for it.
    """

    LISTS = (
        *("revisions", "experiments", "runs", "verdicts", "confirms", "commands", "incumbents", "talk", "designs"),
        *("epochs", "messages"),
    )

    def __init__(self) -> None:
        self.revisions: list[RevisionAdded] = []
        self.experiments: list[ExperimentProposed] = []
        self.runs: list[Run] = []
        self.verdicts: list[Verdict] = []
        self.confirms: list[ConfirmRequested] = []
        self.commands: list[Command] = []
        self.incumbents: list[tuple[float, str]] = []
        self.crowned: dict[str, float] = {}
        self.talk: list[TalkEvent] = []
        self.designs: list[DesignDeclared] = []
        self.epochs: list[EpochStarted] = []
        self.messages: list[ModelMessage] = []
        self.cancel_calls: dict[str, int] = {}
        self.design_index: dict[str, int] = {}
        self.revision_index: dict[str, int] = {}
        self.experiment_index: dict[str, int] = {}
        self.run_index: dict[str, int] = {}
        self.verdict_index: dict[str, int] = {}
        self.told: deque[Verdict] = deque(maxlen=LAST_VERDICTS + 1)
        self.runs_of: defaultdict[str, list[Run]] = defaultdict(list)
        self.calls: dict[str, list[str]] = {}
        self.best_observed: dict[str, Run] = {}
        self.seeds_given: defaultdict[str, int] = defaultdict(int)
        self.replicates: defaultdict[tuple[str, str], Group] = defaultdict(Group)
        self.noise: defaultdict[str, Noise] = defaultdict(Noise)
        self.pairs: defaultdict[tuple[str, str], Pair] = defaultdict(Pair)
        self.experiment_of_effective: dict[str, str] = {}
        self.tiers: defaultdict[str, int] = defaultdict(int)
        self.confirmed = 0
        self.forecasts = Forecaster()
        self.stops = Stops()

    def add_revision(self, event: RevisionAdded) -> None:
        """A revision is added once; a repetition changes nothing."""
        if event.revision not in self.revision_index:
            self.revision_index[event.revision] = len(self.revisions)
            self.revisions.append(event)

    def add_experiment(self, event: ExperimentProposed) -> None:
        """An experiment id is used once; a repetition changes nothing."""
        if event.exp in self.experiment_index:
            return
        self.experiment_index[event.exp] = len(self.experiments)
        index = self.revision_index.get(event.revision)
        if index is not None and self.revisions[index].effective:
            self.experiment_of_effective[self.revisions[index].effective] = event.exp
        self.calls.setdefault(event.call, []).append(event.exp)
        self.seeds_given[event.exp] += len(event.seeds)
        self.experiments.append(event)

    def add_run(self, run: Run) -> None:
        """Take a finished run; it is never changed afterwards."""
        self.run_index[run.run] = len(self.runs)
        self.runs.append(run)
        self.runs_of[run.exp].append(run)
        self.confirmed += run.reason == "confirm"
        if run.tier is not None:
            self.tiers[run.tier] += 1
        self.stops.take_run(run)
        if run.scored and run.val_bpb is not None:
            if run.reason != "screen":
                self._add_replicate(run.exp, run.device_class, run.val_bpb)
            best = self.best_observed.get(run.device_class)
            if best is None or best.val_bpb is None or run.val_bpb < best.val_bpb:
                self.best_observed[run.device_class] = run

    def _add_replicate(self, exp: str, cls: str, val_bpb: float) -> None:
        """Keep the pooled noise of a class up to date. Source: Welford 1962, Technometrics 4(3)."""
        group, noise = self.replicates[exp, cls], self.noise[cls]
        self._pair_up(exp, cls, -1)
        group.n += 1
        away = val_bpb - group.mean
        group.mean += away / group.n
        noise.squares += away * (val_bpb - group.mean)
        noise.df += group.n > 1
        self._pair_up(exp, cls, 1)

    def _pair_up(self, exp: str, cls: str, sign: int) -> None:
        """Take an experiment's differences between a class and the others into their sums, or out of them."""
        here = self.replicates[exp, cls]
        for other in self.noise:
            there = self.replicates.get((exp, other))
            if other != cls and there is not None and there.n and here.n:
                first, second = (here, there) if cls < other else (there, here)
                pair = self.pairs[min(cls, other), max(cls, other)]
                weight = sign * here.n * there.n / (here.n + there.n)
                pair.experiments += sign
                pair.weight += weight
                pair.total += weight * (second.mean - first.mean)

    def add_verdict(self, event: Verdict) -> None:
        """A later verdict on the same experiment supersedes.

        `told` ends with the last verdicts that say something: not those on experiments that never had their chance,
        nor those that leave a kept experiment kept. One more is there: the one that was told until now.
        """
        before = self.verdict_index.get(event.exp)
        was_kept = before is not None and self.verdicts[before].verdict == "kept"
        if not (event.verdict == "undecided" and event.delta is None) and not (was_kept and event.verdict == "kept"):
            self.told.append(event)
        self.verdict_index[event.exp] = len(self.verdicts)
        self.stops.take_verdict(event)
        self.verdicts.append(event)

    def add_confirm(self, event: ConfirmRequested) -> None:
        """A confirmation is owed once per call id."""
        self.calls.setdefault(event.call, []).append(event.exp)
        self.seeds_given[event.exp] += len(event.seeds)
        self.confirms.append(event)

    def add_design(self, event: DesignDeclared) -> None:
        """A design's name is used once; a repetition changes nothing."""
        if event.design not in self.design_index:
            self.design_index[event.design] = len(self.designs)
            self.calls.setdefault(event.call, [])
            self.designs.append(event)

    def add_incumbent(self, t_s: float, exp: str) -> None:
        """An experiment became the incumbent at a session second."""
        self.incumbents.append((t_s, exp))
        self.crowned.setdefault(exp, t_s)

    def lengths(self) -> tuple[int, ...]:
        """How long each list is: with the open part, all that a keyframe needs."""
        return tuple(len(getattr(self, name)) for name in self.LISTS)

    def prefix(self, lengths: tuple[int, ...]) -> Ledger:
        """The ledger as it was when its lists had these lengths; indexes are derived anew."""
        part = Ledger()
        cut = {name: getattr(self, name)[:length] for name, length in zip(self.LISTS, lengths, strict=True)}
        for revision in cut["revisions"]:
            part.add_revision(revision)
        for experiment in cut["experiments"]:
            part.add_experiment(experiment)
        for run in cut["runs"]:
            part.add_run(run)
        for verdict in cut["verdicts"]:
            part.add_verdict(verdict)
        for confirm in cut["confirms"]:
            part.add_confirm(confirm)
        for command in cut["commands"]:
            part.commands.append(command)
        for t_s, exp in cut["incumbents"]:
            part.add_incumbent(t_s, exp)
        part.talk = cut["talk"]
        for design in cut["designs"]:
            part.add_design(design)
        part.epochs, part.messages = cut["epochs"], cut["messages"]
        return part


TalkEvent = (
    SessionForked
    | ExperimentProposed
    | Note
    | DesignDeclared
    | PhaseChanged
    | Verdict
    | Command
    | LimitHit
    | ExecutorNotice
    | ResearchEnded
    | SessionEnded
    | EpochStarted
    | ModelMessage
    | ModelFailed
    | ModelStatus
    | Autopilot
)
"""What the reasoning pane tells, in the order it happened."""


class SessionState:
    """The fold of a journal's events up to number `n`.

    `flying` counts the runs that hold a device, `again` those that wait for another attempt, `queued` those that wait
    by the device class that they are pinned to, `confirming` those that test a candidate: derived from the runs.
    `idle` is where the devices' time has gone.
    """

    __slots__ = ("again", "confirming", "flying", "idle", "ledger", "now", "queued")

    def __init__(
        self, now: OpenState | None = None, ledger: Ledger | None = None, idle: IdleFold | None = None
    ) -> None:
        self.now = now if now is not None else OpenState()
        self.ledger = ledger if ledger is not None else Ledger()
        self.idle = idle if idle is not None else IdleFold()
        self.flying = self.again = self.confirming = 0
        self.queued: dict[str | None, int] = {}
        for run in self.now.runs.values():
            self.count(run, 1)

    def count(self, run: Run, sign: int) -> None:
        """Take a run into the counts, or out of them before its status changes."""
        self.confirming += sign if run.reason == "confirm" else 0
        if run.status != "queued":
            self.flying += sign
            return
        self.again += sign if run.attempts else 0
        waiting = self.queued.pop(run.cls, 0) + sign
        if waiting:
            self.queued[run.cls] = waiting

    def experiment(self, exp: str) -> ExperimentProposed | None:
        """The proposal of an experiment, or None."""
        index = self.ledger.experiment_index.get(exp)
        return None if index is None else self.ledger.experiments[index]

    def design(self, name: str) -> DesignDeclared | None:
        """What was declared of a design, or None: a design need not be declared."""
        index = self.ledger.design_index.get(name)
        return None if index is None else self.ledger.designs[index]

    def run(self, run: str) -> Run | None:
        """An open or finished run, or None."""
        if run in self.now.runs:
            return self.now.runs[run]
        index = self.ledger.run_index.get(run)
        return None if index is None else self.ledger.runs[index]

    def verdict(self, exp: str) -> Verdict | None:
        """The verdict on an experiment that holds now, or None."""
        index = self.ledger.verdict_index.get(exp)
        return None if index is None else self.ledger.verdicts[index]

    def can_run(self, run: Run) -> bool:
        """Whether a device that is there could take this run, or one has it. A drained one may be given back."""
        return any(device.up and run.cls in (None, device.cls) for device in self.now.devices.values())

    def held_back(self, cls: str | None) -> bool:
        """Whether what is pinned to a class (or to none) waits for drained devices only."""
        fitting = [device for device in self.now.devices.values() if device.up and cls in (None, device.cls)]
        return bool(fitting) and all(device.device in self.now.drained for device in fitting)

    def open_runs_of(self, exp: str) -> list[Run]:
        """Runs of an experiment that are not finished."""
        return [run for run in self.now.runs.values() if run.exp == exp]

    def open_runs_named(self, name: str) -> list[Run]:
        """The open runs that a name means: a run, or all of an experiment, or of a design (also as `design:NAME`)."""
        if name in self.now.runs:
            return [self.now.runs[name]]
        if name in self.ledger.experiment_index:
            return self.open_runs_of(name)
        design = name.removeprefix("design:")
        proposals = {run.exp: self.experiment(run.exp) for run in self.now.runs.values()} if design else {}
        exps = {exp for exp, proposal in proposals.items() if proposal is not None and proposal.design == design}
        return [run for run in self.now.runs.values() if run.exp in exps]

    def devices_named(self, name: str) -> list[DeviceState]:
        """The devices that a name means: one, else `node:NAME` or `class:NAME` all there."""
        if name in self.now.devices:
            return [self.now.devices[name]]
        kind, _, of = name.partition(":")
        return [
            device
            for device in self.now.devices.values()
            if (kind == "node" and device.node == of) or (kind == "class" and device.cls == of)
        ]

    @property
    def serving(self) -> int:
        """How many devices are there and not drained, or drained and still at work."""
        return sum(
            device.up and (device.run is not None or device.device not in self.now.drained)
            for device in self.now.devices.values()
        )

    def reference_class(self) -> str | None:
        """The device class that best values and verdicts refer to: that of the baseline, once it is proposed.

        Before, the class with most devices (ties: the one that was seen first). It never changes in a session, or
        the evidence so far would refer to another class than the evidence to come.
        """
        if self.ledger.experiments and self.ledger.experiments[0].cls is not None:
            return self.ledger.experiments[0].cls
        tally: dict[str, int] = {}
        for device in self.now.devices.values():
            tally[device.cls] = tally.get(device.cls, 0) + 1
        return max(tally, key=lambda cls: tally[cls]) if tally else None

    def conversation(self) -> list[ModelMessage]:
        """The messages of the present epoch."""
        return self.ledger.messages[self.now.model.first_message :] if self.now.model is not None else []

    @property
    def in_flight(self) -> list[Run]:
        """Runs that hold a device."""
        return [run for run in self.now.runs.values() if run.status != "queued"]

    @property
    def waiting(self) -> int:
        """How many runs are queued or owed."""
        return len(self.now.queue) + len(self.now.queue_first) + len(self.now.owed)

    @property
    def backlog(self) -> int:
        """How many runs wait or are owed that are not evidence: evidence is pinned to a class, these go anywhere."""
        return len(self.now.queue) + sum(owed.reason == "screen" for owed in self.now.owed)

    @property
    def settled(self) -> int:
        """How many runs are finished, failed, cancelled or stopped early."""
        counts = self.now.counts
        return counts.finished + counts.failed + counts.cancelled + counts.stopped

    @property
    def status(self) -> Literal["new", "running", "paused", "stopping", "ended", "failed"]:
        """One word for the session, as far as the journal knows (whether an engine lives is not its business)."""
        now = self.now
        if now.ended is not None:
            return "failed" if now.ended.failed else "ended"
        if now.started is None:
            return "new"
        if now.stop:
            return "stopping"
        return "paused" if now.paused else "running"
