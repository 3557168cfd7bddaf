"""Greedy keep-if-lower: change something at the present best, keep it where one score is lower, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.policies.policy import WavePolicy
from bench.policies.space import Unit
from core.events import BASELINE

STEPS: Final = 1.0
"""The mean size of a move, in steps of the catalogue: see bench/policies/__init__.py for how it was chosen."""
KNOBS_MOVED: Final = 2
"""How many knobs one experiment moves."""


class GreedyWaves(WavePolicy):
    """As many independent moves as there are devices, a barrier, and the best of them is kept where it is lower."""

    name = "greedy-waves"

    def __init__(self, steps: float = STEPS, knobs_moved: int = KNOBS_MOVED) -> None:
        super().__init__()
        self._steps, self._moved = steps, knobs_moved

    def begin(self) -> None:
        super().begin()
        self._base, self._base_exp, self._base_bpb = self.space.base, BASELINE, float("inf")

    def wave(self) -> Sequence[Unit]:
        return [self._move() for _ in range(self.width())]

    def width(self) -> int:
        """Experiments in a wave."""
        return self.devices()

    def settle(self, wave: Sequence[str]) -> None:
        if self._base_exp == BASELINE:
            self._base_bpb = self.baseline()
        scored = [exp for exp in wave if exp in self.scores]
        best = min(scored, key=lambda exp: self.scores[exp], default=None)
        if best is not None and self.scores[best] < self._base_bpb:
            self._base, self._base_exp, self._base_bpb = self.points[best], best, self.scores[best]

    def pick(self) -> str:
        return self._base_exp

    def _move(self) -> Unit:
        """The base with some knobs moved: which, to which side and how far is drawn."""
        point = self._base
        for at in self.rng.choice(len(self.space), size=self._moved, replace=False):
            steps = self._steps * self.rng.uniform(0.5, 1.5) * self.rng.choice((-1.0, 1.0))
            there = self.space.moved(point, int(at), steps)
            there = there if there is not None else self.space.moved(point, int(at), -steps)
            point = there if there is not None else point
        return point


class SequentialGreedy(GreedyWaves):
    """One experiment at a time, whatever devices there are: the published single-GPU loop."""

    name = "greedy"

    def width(self) -> int:
        return 1
