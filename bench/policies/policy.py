"""What all comparators share: a policy says which points to try next, and this puts them on the bench.

The engine screens, confirms and judges what a policy proposes, as it does for every researcher. A policy only sees
its own nominating scores, as its method would. It lives in one engine and is not restarted: for benchmarks only.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from bench.policies.results import Result, Results, baseline_bpb
from bench.policies.space import Space, Unit, space_of
from core.bench import Accepted, Bench, Proposal
from core.events import BASELINE
from core.state import SessionState

SPARE_RUNS = 2
"""Runs that wait for a device while all are busy: so few that a decision is never old, and no device waits."""
MOST_REFUSED = 200
"""So many points in a row that were tried before: nothing is left."""


class Policy(ABC):
    """See core.bench.Researcher. A policy overrides `ask`, `told` and, where it has a base, `pick`."""

    name: ClassVar[str]
    space: Space
    state: SessionState
    rng: np.random.Generator

    def __init__(self) -> None:
        self.points: dict[str, Unit] = {}
        self.scores: dict[str, float] = {}
        self._tried: set[str] = set()
        self._proposed = 0

    # -- what a policy is

    def begin(self) -> None:  # noqa: B027  a hook that a policy may leave alone
        """Prepare, once `space`, `state` and `rng` are there."""

    @abstractmethod
    def ask(self) -> list[Unit]:
        """Points to try now: as many as the policy wants tested; none while it waits for results."""

    def told(self, result: Result) -> None:  # noqa: B027  a hook that a policy may leave alone
        """An experiment's nominating run ended."""

    def accepted(self, exp: str) -> None:  # noqa: B027  a hook that a policy may leave alone
        """The next of the points that were asked for became an experiment."""

    def refused(self) -> None:  # noqa: B027  a hook that a policy may leave alone
        """The next of the points that were asked for was tried before, or cannot be tried."""

    def pick(self) -> str | None:
        """The experiment that the policy itself would report as its best: here, the lowest score seen."""
        best = min(self.scores.items(), key=lambda item: (item[1], item[0]), default=None)
        return best[0] if best is not None and best[1] < self.baseline() else BASELINE

    # -- what it may use

    def baseline(self) -> float:
        """The baseline's mean on the reference class; infinite before it has a score."""
        known = baseline_bpb(self.state, self.state.reference_class())
        return known if known is not None else float("inf")

    def devices(self) -> int:
        """Devices that are up."""
        return max(1, sum(device.up for device in self.state.now.devices.values()))

    def wanted(self) -> int:
        """How many runs an asynchronous policy should add now: enough for a free device, and a few to spare."""
        now = self.state.now
        waiting = sum(now.runs[run].cls is None for run in now.queue) + sum(owed.cls is None for owed in now.owed)
        return max(0, len(now.free) + SPARE_RUNS - waiting)

    # -- core.bench.Researcher

    async def research(self, bench: Bench) -> str:
        self.state = state = bench.state
        started = state.now.started
        assert started is not None
        self.space = space_of(await bench.read_code(BASELINE))
        self.rng = np.random.default_rng([started.seed, zlib.crc32(self.name.encode())])
        self.begin()
        results = Results(state)
        while True:
            for result in results.catch_up():
                if result.exp in self.points:
                    if result.val_bpb is not None:
                        self.scores[result.exp] = result.val_bpb
                    self.told(result)
            if not await self._propose(bench) and not state.now.pending and not state.waiting:
                return "the policy has no point left to try"
            await bench.wait(settled_above=state.settled)

    async def _propose(self, bench: Bench) -> bool:
        """Put what the policy asks for on the bench; False where all that it asks for was tried before."""
        refusals = 0
        while refusals < MOST_REFUSED and (points := self.ask()):
            for point in points:
                refusals = 0 if await self._propose_one(bench, point) else refusals + 1
        return refusals < MOST_REFUSED

    async def _propose_one(self, bench: Bench, point: Unit) -> bool:
        constants = self.space.literals(point)
        said = " ".join(f"{name}={literal}" for name, literal in constants.items())
        if said in self._tried or not constants:
            self.refused()
            return False
        self._tried.add(said)
        proposal = Proposal(
            base=BASELINE, title=said, hypothesis="It scores lower.", design=self.name, constants=constants
        )
        self._proposed += 1
        [answer] = await bench.propose([proposal], call=f"{self.name}:{self._proposed}", rationale=self.name)
        if not isinstance(answer, Accepted):
            self.refused()
            return False
        self.points[answer.exp] = self.space.snapped(point)
        self.accepted(answer.exp)
        return True


class WavePolicy(Policy):
    """A policy with a barrier: it asks for a wave, waits until all of it has ended, and decides."""

    def begin(self) -> None:
        self._open: set[str] = set()
        self._wave: list[str] = []

    @abstractmethod
    def wave(self) -> Sequence[Unit]:
        """The next wave's points."""

    @abstractmethod
    def settle(self, wave: Sequence[str]) -> None:
        """All of a wave's experiments have ended: decide."""

    def ask(self) -> list[Unit]:
        if self._open:
            return []
        if self._wave:
            wave, self._wave = self._wave, []
            self.settle(wave)
        return list(self.wave())

    def accepted(self, exp: str) -> None:
        self._open.add(exp)
        self._wave.append(exp)

    def told(self, result: Result) -> None:
        self._open.discard(result.exp)
