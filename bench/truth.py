"""What only a benchmark may know: the true value of a file, free of noise, and the best that the space holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bench.policies.space import Space, Unit, space_of
from core.patching import set_constants
from core.revisions import Revisions
from core.state import SessionState
from sim.gpus import H100
from sim.model import Failure
from sim.world.outlook import Physics

RESTARTS: Final = 4
"""Starts of the search for the optimum: the file itself, and random points."""
_SWEEP_VALUES: Final = 9
_ROUNDS: Final = 40
_PAIRS_TRIED: Final = 400
_SAME_BPB: Final = 1e-7


class Optimum(msgspec.Struct, frozen=True):
    """The lowest true score found in the space, where it is, and in how many evaluations.

    `found` holds the end of each start: how far they agree says how far it can be trusted.
    """

    val_bpb: float
    constants: dict[str, str]
    evaluations: int
    found: list[float]


class Truth:
    """True scores on an H100 within the budget, by the physics of a world; infinite for a file that fails."""

    def __init__(self, physics: Physics, source: str, budget_s: float) -> None:
        self.physics, self._source, self._budget_s = physics, source, budget_s
        self._known: dict[str, float] = {}
        self.space: Space = space_of(source)
        self.evaluations = 0

    def of_source(self, source: str) -> float:
        """The true score of a train.py."""
        setup = self.physics.read(source)
        if isinstance(setup, Failure):
            return math.inf
        said = self.physics.forecast(setup, H100, self._budget_s)
        return math.inf if said.failure is not None else said.val_bpb

    def of_constants(self, constants: dict[str, str]) -> float:
        """The true score of the baseline's file with some constants changed."""
        self.evaluations += 1
        return self.of_source(set_constants(self._source, constants))

    def of_point(self, point: Unit) -> float:
        """The true score at a point of the space."""
        return self.of_constants(self.space.literals(point))

    def forget(self) -> None:
        """Forget experiments: the next session's have the same names."""
        self._known.clear()

    def of_experiment(self, state: SessionState, exp: str) -> float:
        """The true score of an experiment's file."""
        if exp not in self._known:
            self._known[exp] = self.of_source(experiment_source(state, exp))
        return self._known[exp]


def experiment_source(state: SessionState, exp: str) -> str:
    """The train.py of an experiment."""
    proposal = state.experiment(exp)
    assert proposal is not None
    return Revisions(state).text(proposal.revision)


class _End(NamedTuple):
    """Where one start ended."""

    val_bpb: float
    point: Unit


def optimum(truth: Truth, restarts: int = RESTARTS, seed: int = 0) -> Optimum:
    """Search the whole space for its lowest true score: coordinate sweeps and joint moves from several starts."""
    rng = np.random.default_rng(seed)
    space, before = truth.space, truth.evaluations
    starts = [space.base, *(_near(space, rng) for _ in range(restarts - 1))]
    ends = [_descend(truth, start, rng) for start in starts]
    best = min(ends, key=lambda end: end.val_bpb)
    return Optimum(
        best.val_bpb, space.literals(best.point), truth.evaluations - before, sorted(end.val_bpb for end in ends)
    )


def _near(space: Space, rng: np.random.Generator) -> Unit:
    drawn: Unit = np.clip(space.base + rng.normal(0.0, 0.2, len(space)), 0.0, 1.0)
    return drawn


def _descend(truth: Truth, start: Unit, rng: np.random.Generator) -> _End:
    """Sweep each coordinate, finer each time that nothing is gained, with random joint moves in between."""
    here = _End(truth.of_point(start), start)
    width = 1.0
    for _ in range(_ROUNDS):
        before = here.val_bpb
        for at in rng.permutation(len(truth.space)):
            here = _sweep(truth, here, int(at), width)
        here = _shake(truth, here, rng, width)
        if before - here.val_bpb < _SAME_BPB:
            width /= 2.0
            if width < 0.02:
                break
    return here


def _sweep(truth: Truth, here: _End, at: int, width: float) -> _End:
    """The best of several values of one coordinate: all values of a choice or of few whole numbers."""
    dimension = truth.space.dimensions[at]
    few = len(dimension.choices) or (round(dimension.high - dimension.low) + 1 if dimension.kind != "real" else 0)
    whole = 0 < few <= 2 * _SWEEP_VALUES
    values = (
        (np.arange(few) + (0.5 if dimension.choices else 0.0)) / (few if dimension.choices else max(1, few - 1))
        if whole
        else here.point[at] + width / 2 * np.linspace(-1.0, 1.0, _SWEEP_VALUES)
    )
    for value in np.clip(values, 0.0, 1.0):
        there = here.point.copy()
        there[at] = value
        here = _better(truth, here, there)
    return here


def _shake(truth: Truth, here: _End, rng: np.random.Generator, width: float) -> _End:
    """Joint moves of two to four coordinates, drawn at random around the best."""
    for _ in range(_PAIRS_TRIED):
        there = here.point.copy()
        moved = rng.choice(len(truth.space), size=min(len(truth.space), int(rng.integers(2, 5))), replace=False)
        there[moved] = np.clip(there[moved] + rng.normal(0.0, 0.15 * width, len(moved)), 0.0, 1.0)
        here = _better(truth, here, there)
    return here


def _better(truth: Truth, here: _End, there: Unit) -> _End:
    value = truth.of_point(there)
    return _End(value, there) if value < here.val_bpb - 1e-12 else here


def cached_optimum(truth: Truth, path: Path) -> Optimum:
    """The optimum, from a file where it was found before; the caller's path names the world and its coefficients."""
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Optimum)
    found = optimum(truth)
    path.write_bytes(msgspec.json.encode(found))
    return found
