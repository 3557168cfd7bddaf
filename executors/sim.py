"""Runs that only seem to happen: attempts on a simulated cluster, in the session's own time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from core.executor import (
    AttemptSpec,
    Device,
    DeviceLost,
    DeviceSeen,
    Emit,
    ExecutorConfig,
    ExecutorEvent,
    OpenAttempt,
)
from sim.faults import parse_faults
from sim.mix import DEFAULT_MIX, devices, parse_mix
from sim.world.outlook import Physics
from sim.world.places import LOST_REASON
from sim.world.timeline import Ending, Timeline
from sim.world.world import World


def create(config: ExecutorConfig) -> SimExecutor:
    """Make the executor (entry point `sim`)."""
    return SimExecutor(config, lambda: _physics(config))


def _physics(config: ExecutorConfig) -> Physics:
    """What the simulated world goes by; imported here: other sessions do not pay. Raises ExecutorError."""
    from sim.world.physics import physics

    confined = bool(config.options.get("research"))  # a model may write what is run here
    asked = str(config.options.get("profiler", ""))
    return physics(config.python, asked, config.session_dir / "profiles", seq_len=config.seq_len, confined=confined)


class _Course(msgspec.Struct):
    """An attempt under way: its timeline, its key in the clock, and the number of the event that comes next."""

    timeline: Timeline
    key: tuple[str, int, int]
    seq: int


class SimExecutor:
    """Executes attempts on a simulated cluster (see core.executor.Executor).

    What becomes of an attempt is a function of the session's seed and the attempt's spec, so nothing is kept
    outside the journal: a later engine finds every open attempt where it would have been. Of each attempt and each
    device that can be lost, only the next event waits in the clock. What has ended is forgotten.

    `config.gpus` is a mixture (see sim.mix), `config.options["faults"]` its faults (see sim.faults),
    `config.options["cluster_seed"]` the seed of a cluster that another session had before (see sim.world.world).
    """

    external = False

    def __init__(self, config: ExecutorConfig, physics: Callable[[], Physics]) -> None:
        self._config, self._clock, self._physics = config, config.clock, physics
        self._devices: dict[str, Device] = {}
        self._numbers: dict[str, int] = {}
        self._courses: dict[str, _Course] = {}

    async def open(self, emit: Emit) -> list[Device]:
        """Set the cluster up. Raises ExecutorError where the mixture or the faults cannot be read."""
        self._emit = emit
        found = devices(parse_mix(self._config.gpus if self._config.gpus is not None else DEFAULT_MIX))
        faults = parse_faults(str(self._config.options.get("faults", "default")))
        self._devices = {device.device: device for device in found}
        self._numbers = {device.device: number for number, device in enumerate(found)}
        self._world = World(
            self._config.seed,
            found,
            faults,
            self._physics(),
            eval_tokens=self._config.eval_tokens,
            cluster_seed=self._config.options.get("cluster_seed"),
        )
        return found

    async def start(self, spec: AttemptSpec) -> None:
        """Let an attempt take its course; does nothing while it is under way."""
        self._follow(spec, seq=1)

    async def adopt(self, open_attempts: Sequence[OpenAttempt], device_seq: Mapping[str, int]) -> None:
        """Let every open attempt go on after its last known event, and devices after theirs.

        Nothing is emitted before the clock moves: the engine settles first, as it did in its former life.
        """
        for known in open_attempts:
            self._follow(known.spec, seq=known.last_seq + 1)
        for device in self._devices:
            self._await_change(device, device_seq.get(device, 1) + 1)

    async def cancel(self, attempt: str, reason: str) -> None:
        """End an attempt as `cancelled`, at this instant of the session."""
        course = self._courses.get(attempt)
        if course is not None:
            self._clock.call_at(self._clock.now(), course.key, self._end, attempt, reason)

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:  # noqa: ARG002
        """A run that only seems to happen prints nothing; why it failed is in its result."""
        return b""

    async def release(self, attempt: str) -> None:
        """What has ended is forgotten already."""

    async def close(self, *, kill: bool) -> None:
        """Forget all attempts; with `kill`, report their ends first."""
        if kill:
            for attempt in list(self._courses):
                self._end(attempt, "the session was stopped")
        self._courses.clear()
        self._world.physics.close()

    # -- attempts

    def _follow(self, spec: AttemptSpec, *, seq: int) -> None:
        if spec.attempt not in self._courses:
            course = self._courses[spec.attempt] = _Course(self._world.timeline(spec), _key(spec.attempt), seq)
            self._await_event(spec.attempt, course)

    def _await_event(self, attempt: str, course: _Course) -> None:
        self._clock.call_at(course.timeline.t_s(course.seq), course.key, self._happen, attempt, course.seq)

    def _happen(self, attempt: str, seq: int) -> None:
        course = self._courses.get(attempt)
        if course is None or course.seq != seq:
            return  # it was cancelled in the meantime
        event = ExecutorEvent(attempt, seq, course.timeline.payload(seq, self._world.physics))
        if seq < course.timeline.last_seq:
            course.seq += 1
            self._await_event(attempt, course)
        else:
            del self._courses[attempt]
        self._emit([event])

    def _end(self, attempt: str, reason: str) -> None:
        course = self._courses.pop(attempt, None)
        if course is not None:
            finished = course.timeline.finished(Ending(self._clock.now(), "cancelled", reason))
            self._emit([ExecutorEvent(attempt, course.seq, finished)])

    # -- devices

    def _await_change(self, device: str, seq: int) -> None:
        """Wait for a device's event of this number: it is seen with number 1, then lost and back in turn."""
        spell = self._world.outages[device].nth(seq // 2 - 1)
        t_s = spell.from_s if seq % 2 == 0 else spell.to_s
        if t_s != math.inf:
            self._clock.call_at(t_s, ("device", self._numbers[device], seq), self._change, device, seq)

    def _change(self, device: str, seq: int) -> None:
        known = self._devices[device]
        lost = seq % 2 == 0
        payload = DeviceLost(LOST_REASON) if lost else DeviceSeen(known.cls, known.node, known.memory_mb)
        self._await_change(device, seq + 1)
        self._emit([ExecutorEvent(device, seq, payload)])


def _key(attempt: str) -> tuple[str, int, int]:
    """The clock's key of an attempt, from its id (`r34.2`). Devices go first where both happen at one instant:
    no run may be given a device that is lost in the same millisecond.
    """
    run, _, number = attempt.removeprefix("r").partition(".")
    return "run", int(run), int(number)
