"""Factorial waves with a barrier, as the published 16-GPU agent worked: all combinations of a few promising knobs.

A wave is a full two-level factorial around the present best over the knobs whose next move promises most, and single
moves of the following knobs on the devices that are left. The best cell becomes the base where it scores lower than
the base did; main effects of the wave say which knob goes on, turns round or is left for later.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean
from typing import Final

import msgspec

from bench.policies.policy import WavePolicy
from bench.policies.space import Unit
from core.events import BASELINE

MOST_FACTORS: Final = 4
"""Knobs in a factorial: 16 cells, one for each of the published session's devices."""
STEPS: Final = 1.0
"""A knob's first move, in steps of the catalogue: see bench/policies/__init__.py for how it was chosen."""
UNTRIED_BPB: Final = -0.001
"""What a move that was never tried is taken to promise, so that it goes before those that were seen to do little."""
REPEAT: Final = 0.5
"""What a move that gained is taken to gain if it is made again, as a share: returns diminish."""
SMALLER: Final = 0.5
"""A knob that gains to neither side is tried again with steps this much smaller, when its turn comes."""


class _Move(msgspec.Struct):
    """A knob's next move: to which side, how far, what it promises (lower is better), how many sides failed."""

    at: int
    side: float
    steps: float
    promise: float
    failed: int = 0


class FactorialWaves(WavePolicy):
    """See the module. Where the wave is narrower than eight, several rounds of devices make one wave."""

    name = "factorial"

    def __init__(self, steps: float = STEPS, most_factors: int = MOST_FACTORS) -> None:
        super().__init__()
        self._steps, self._most = steps, most_factors

    def begin(self) -> None:
        super().begin()
        self._base, self._base_exp, self._base_bpb = self.space.base, BASELINE, float("inf")
        # Knobs stand in the catalogue's order, with a little of it in the promise: earlier ones go first.
        self._moves = [
            _Move(at, float(self.rng.choice((-1.0, 1.0))), self._steps, UNTRIED_BPB * (1.0 - 1e-3 * at))
            for at in range(len(self.space))
        ]
        self._factors: list[_Move] = []
        self._cells: dict[str, frozenset[int]] = {}
        self._planned: list[frozenset[int]] = []

    def wave(self) -> Sequence[Unit]:
        ranked = sorted(self._moves, key=lambda move: (move.promise, move.at))
        possible = [move for move in ranked if self._turned(move)]
        width = max(8, self.devices())
        count = min(self._most, width.bit_length() - 1, len(possible))
        self._factors, rest = possible[:count], possible[count:]
        chosen = [
            frozenset(cell) for size in range(1, count + 1) for cell in itertools.combinations(range(count), size)
        ]
        singles = rest[: max(0, width - len(chosen))]
        self._factors += singles
        self._planned = chosen + [frozenset({count + at}) for at in range(len(singles))]
        return [self._point(cell) for cell in self._planned]

    def accepted(self, exp: str) -> None:
        super().accepted(exp)
        self._cells[exp] = self._planned.pop(0)

    def refused(self) -> None:
        """A cell that was tried before: its knobs lose some promise, so that the next wave is another."""
        for factor in self._planned.pop(0):
            self._factors[factor].promise = max(
                self._factors[factor].promise * REPEAT, self._factors[factor].promise + 1e-5
            )

    def settle(self, wave: Sequence[str]) -> None:
        if self._base_exp == BASELINE:
            self._base_bpb = self.baseline()
        scored = [exp for exp in wave if exp in self.scores]
        self._learn(scored)
        best = min(scored, key=lambda exp: self.scores[exp], default=None)
        if best is not None and self.scores[best] < self._base_bpb:
            self._base, self._base_exp, self._base_bpb = self.points[best], best, self.scores[best]
            kept = self._cells[best]
        else:
            kept = frozenset()
        for number, move in enumerate(self._factors):
            if number not in kept:
                continue
            move.failed, move.promise = 0, min(move.promise * REPEAT, 0.0)
        self._cells.clear()

    def pick(self) -> str:
        return self._base_exp

    def _learn(self, scored: Sequence[str]) -> None:
        """Main effects of the wave: the mean with a knob moved less the mean without, the base counted among these."""
        for number, move in enumerate(self._factors):
            with_it = [self.scores[exp] for exp in scored if number in self._cells[exp]]
            without = [self.scores[exp] for exp in scored if number not in self._cells[exp]]
            if not with_it:
                move.promise = max(move.promise * REPEAT, move.promise + 1e-4)
                continue
            alone = all(len(self._cells[exp]) == 1 for exp in scored if number in self._cells[exp])
            against = self._base_bpb if alone else fmean([*without, self._base_bpb])
            move.promise = fmean(with_it) - against
            if move.promise >= 0.0:
                self._turn(move)

    def _turn(self, move: _Move) -> None:
        """A move that gained nothing: the other side next; after both sides, smaller steps, and later."""
        move.side, move.failed = -move.side, move.failed + 1
        if move.failed % 2:
            move.promise = UNTRIED_BPB * 0.9
        else:
            move.steps *= SMALLER
            move.promise = UNTRIED_BPB * SMALLER ** (move.failed / 2)

    def _turned(self, move: _Move) -> bool:
        """Whether a knob can move from the base at all; at a bound it turns round."""
        if self.space.moved(self._base, move.at, move.side * move.steps) is None:
            move.side = -move.side
        return self.space.moved(self._base, move.at, move.side * move.steps) is not None

    def _point(self, cell: frozenset[int]) -> Unit:
        point = self._base
        for factor in sorted(cell):
            move = self._factors[factor]
            there = self.space.moved(point, move.at, move.side * move.steps)
            assert there is not None
            point = there
        return point
