"""The simulated world: gives an attempt its timeline, from its place, its file and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from core.executor import AttemptSpec, Device, Outcome
from sim import draws
from sim.faults import Fault, Faults
from sim.gpus import GPU_CLASSES
from sim.world.outlook import Outlook, Outlooks, Physics
from sim.world.places import LOST_REASON, Node, outages
from sim.world.spells import Spells
from sim.world.timeline import Ending, Timeline, events_until, samples_in

SEED_SD_BPB: Final = 0.0007
"""Spread of a file's score over its own seeds. Assumed: one published change of seed moved it by 0.0007."""
REPEAT_SD_BPB: Final = 0.00015
"""Spread of a file's score with one seed on one host. Measured: modes of 11,192 repetitions (multiautoresearch)."""
THROTTLED_SPEED: Final = 0.97
"""Measured: the slow tail of repeated runs, 983 steps of 1,013."""

_PLACING_S = (1.0, 3.0)
_SLOW_PENDING_MEAN_S = 90.0
_STARTUP_SD = 0.12
_READ_S = (6.0, 12.0)
_OOM_S = (24.0, 45.0)
_GIVEN_UP_S = (60.0, 180.0)
_OWN_FLAKES: Final[tuple[tuple[Outcome, str], ...]] = (
    ("nan", "FloatingPointError: the loss is nan at step {step}"),
    ("oom", "torch.OutOfMemoryError: CUDA out of memory"),
    ("crash", "torch.AcceleratorError: CUDA error: an illegal memory access was encountered"),
)
_UNPLACED: Final[tuple[tuple[Outcome, str], ...]] = (
    ("unschedulable", "no node had room for the attempt in time"),
    ("image", "the image could not be fetched: the registry did not answer"),
)
_INFRASTRUCTURE: Final = (
    "the node stopped answering",
    "the attempt's container could not be created",
    "CUDA could not be initialised: system not yet initialized",
    "the node's disk is under pressure, and the attempt was removed",
)


class World:
    """All that a session's attempts meet.

    Args:
        seed: the session's; what befalls attempts is keyed by it.
        cluster_seed: what lasts is keyed by it: nodes, outages, what a seed of training does to a file. By default the
            session's; a forked one stays on the machines that its evidence is from.
        devices, faults, physics: see there.
        eval_tokens: tokens scored, which a result states.
    """

    def __init__(
        self,
        seed: int,
        devices: Sequence[Device],
        faults: Faults,
        physics: Physics,
        *,
        eval_tokens: int,
        cluster_seed: int | None = None,
    ) -> None:
        self.physics = physics
        lasting = self._cluster_seed = seed if cluster_seed is None else cluster_seed
        self.outages: dict[str, Spells] = {device.device: outages(lasting, device.device, faults) for device in devices}
        self._seed, self._faults, self._eval_tokens = seed, faults, eval_tokens
        nodes = {device.node: Node(lasting, device.node, faults) for device in devices}
        self._nodes = {device.device: nodes[device.node] for device in devices}
        self._outlooks = Outlooks(physics)

    def timeline(self, spec: AttemptSpec) -> Timeline:
        """The whole course of an attempt; the same whenever it is asked for, and whatever was asked before."""
        node = self._nodes[spec.device]
        outlook = self._outlooks.of(spec.revision, spec.source, GPU_CLASSES[spec.device_class], spec.budget_s)
        unplaced = self.unplaced(spec.attempt, spec.intent_t_s)
        start_s = self._start_s(spec, node) if unplaced is None else unplaced.t_s
        train_from_s = round(start_s + self._startup_s(spec, outlook), 3)
        speed = node.speed * (THROTTLED_SPEED if node.throttled.covers(train_from_s) else 1.0)
        steps = outlook.forecast.steps * speed if outlook.forecast is not None else 0.0
        over_s = spec.budget_s / max(1.0, steps) * self._uniform("overrun", spec.attempt)
        train_s = round(spec.budget_s + over_s, 3)
        own = self._own_end(spec, outlook, start_s, train_from_s, train_s)
        mishaps = self._mishaps(spec, outlook, start_s, train_from_s, own)
        ending = min((*mishaps, unplaced or own), key=lambda end: end.t_s)
        samples = samples_in(spec.budget_s)
        return Timeline(
            key=(self._seed, "sample", spec.attempt),
            device=spec.device,
            budget_s=spec.budget_s,
            start_s=start_s,
            train_from_s=train_from_s,
            train_s=train_s,
            speed=speed,
            val_bpb=self._score(spec, outlook, node, speed),
            eval_tokens=self._eval_tokens,
            outlook=outlook,
            ending=ending,
            samples=samples,
            last_seq=events_until(ending.t_s, start_s, ending.t_s - train_from_s, spec.budget_s / samples, samples),
        )

    # -- the usual course

    def _start_s(self, spec: AttemptSpec, node: Node) -> float:
        """When the attempt is placed, and its node has the image."""
        wait_s = self._between(_PLACING_S, "placing", spec.attempt)
        if self._befalls("slow_pending", spec.attempt):
            wait_s -= _SLOW_PENDING_MEAN_S * math.log(self._fault_draw("slow_pending", "wait", spec.attempt))
        return round(max(spec.intent_t_s, node.ready_s) + wait_s, 3)

    def _startup_s(self, spec: AttemptSpec, outlook: Outlook) -> float:
        """How long loading and compiling take; of a file that nobody can read, how long until Python says so."""
        if outlook.forecast is None:
            return self._between(_READ_S, "reading", spec.attempt)
        return outlook.forecast.startup_s * math.exp(_STARTUP_SD * self._normal("startup", spec.attempt))

    def image_ready_s(self, device: str) -> float:
        """The session second from which a device's node has the image."""
        return self._nodes[device].ready_s

    def _own_end(
        self, spec: AttemptSpec, outlook: Outlook, start_s: float, train_from_s: float, train_s: float
    ) -> Ending:
        """How the attempt ends if the world leaves it alone: as its file and its device have it."""
        failure = outlook.failure
        if failure is None and outlook.forecast is not None:
            score_s = outlook.forecast.score_s * math.exp(_STARTUP_SD * self._normal("scoring", spec.attempt))
            return Ending(round(train_from_s + train_s + score_s, 3), "ok")
        assert failure is not None
        if failure.at_frac >= 0.0:
            t_s = train_from_s + min(1.0, failure.at_frac) * spec.budget_s
        elif failure.outcome == "oom":
            # The file's warm-up takes a whole step before its clock starts, so memory runs out no later than there.
            t_s = min(train_from_s, start_s + self._between(_OOM_S, "oom-after", spec.attempt))
        else:
            t_s = train_from_s
        return Ending(round(t_s, 3), failure.outcome, failure.reason)

    def _score(self, spec: AttemptSpec, outlook: Outlook, node: Node, speed: float) -> float:
        """The score with all that makes equal files differ: speed, host, seed, and what is left."""
        if outlook.forecast is None:
            return math.nan
        return (
            outlook.forecast.val_bpb
            + outlook.forecast.bpb_per_ln_steps * math.log(speed)
            + node.offset_bpb
            + SEED_SD_BPB * draws.normal(self._cluster_seed, "run-seed", spec.revision, spec.seed)
            + REPEAT_SD_BPB * self._normal("repeat", spec.attempt, spec.device)
        )

    # -- what goes wrong

    def unplaced(self, attempt: str, intent_t_s: float) -> Ending | None:
        """How an attempt that was ordered at this second ends, if it never gets to start."""
        for outcome, reason in _UNPLACED:
            if self._befalls(outcome, attempt):
                least_s, most_s = _GIVEN_UP_S
                after_s = least_s + (most_s - least_s) * self._fault_draw(outcome, "after", attempt)
                return Ending(round(intent_t_s + after_s, 3), outcome, reason)
        return None

    def _mishaps(
        self, spec: AttemptSpec, outlook: Outlook, start_s: float, train_from_s: float, own: Ending
    ) -> Iterator[Ending]:
        """Everything that would end the attempt otherwise, soonest or not; of equal times the first counts."""
        yield Ending(self.outages[spec.device].first_from(spec.intent_t_s), "device_lost", LOST_REASON)
        if self._faults.preemption.rate:
            share = -math.log(self._fault_draw("preemption", "when", spec.attempt))
            t_s = start_s + share * 3_600.0 / self._faults.preemption.rate
            yield Ending(round(t_s, 3), "preempted", "evicted for somebody with a higher priority")
        if self._befalls("infrastructure", spec.attempt):
            share = self._fault_draw("infrastructure", "when", spec.attempt)
            which = int(self._fault_draw("infrastructure", "what", spec.attempt) * len(_INFRASTRUCTURE))
            t_s = start_s + share * (own.t_s - start_s)
            yield Ending(round(t_s, 3), "infrastructure", _INFRASTRUCTURE[which])
        for outcome, reason in _OWN_FLAKES:
            if self._befalls(outcome, spec.attempt):
                share = self._fault_draw(outcome, "when", spec.attempt)
                step = math.ceil(share * outlook.forecast.steps) if outlook.forecast is not None else 1
                yield Ending(round(train_from_s + share * spec.budget_s, 3), outcome, reason.format(step=step))

    # -- draws

    def _uniform(self, *key: int | str) -> float:
        return draws.uniform(self._seed, *key)

    def _normal(self, *key: int | str) -> float:
        return draws.normal(self._seed, *key)

    def _between(self, bounds_s: tuple[float, float], *key: int | str) -> float:
        least_s, most_s = bounds_s
        return least_s + (most_s - least_s) * self._uniform(*key)

    def _befalls(self, kind: str, attempt: str) -> bool:
        """Whether a fault that befalls a share of attempts befalls this one."""
        fault: Fault = getattr(self._faults, kind)
        return bool(fault.rate) and self._fault_draw(kind, "whether", attempt) < fault.rate

    def _fault_draw(self, kind: str, what: str, attempt: str) -> float:
        """A number in (0, 1) that the seed of this kind of fault moves, and that of no other."""
        fault: Fault = getattr(self._faults, kind)
        return draws.uniform(self._seed, kind, fault.seed, what, attempt)
