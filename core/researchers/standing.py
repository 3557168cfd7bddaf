"""What the builtin researcher knows of its ideas: which were tried on earlier bases, and what they gained there.

A fold of the ledger, kept up to date as it grows: the same at any event whether the researcher was restarted or not.
"""

from __future__ import annotations

import math
from collections import defaultdict

from core.events import BASELINE
from core.researchers.ideas import parse_call, parts_of
from core.state import Run, SessionState

_PROMISING_SD = 1.0
"""An idea that is not in the base is tried again on a better one if its runs beat their own base by so many sd."""


class Standing:
    """Sums over settled runs, by experiment, on the reference class.

    Args:
        known: keys of ideas that may be tried again; of others only the experiments count.
    """

    def __init__(self, known: frozenset[str]) -> None:
        self._known = known
        self._runs_read = self._experiments_read = 0
        self._sums: defaultdict[tuple[str, bool], tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        self._baseline_squares = 0.0
        self._scored_or_failed: set[str] = set()
        self.failed: set[str] = set()
        """Keys of ideas, alone or combined, whose runs ended without a score: out of memory, diverged, crashed."""
        self._tries: dict[str, tuple[str, str]] = {}  # experiment: (key of the idea, its base)
        self._settled_on: defaultdict[str, int] = defaultdict(int)

    def catch_up(self, state: SessionState) -> None:
        """Read what the ledger has grown by."""
        ledger, cls = state.ledger, state.reference_class()
        for proposal in ledger.experiments[self._experiments_read :]:
            key = parse_call(proposal.call)
            if key is not None and proposal.parent is not None and self._known.issuperset(parts_of(key)):
                self._tries[proposal.exp] = (key, proposal.parent)
        self._experiments_read = len(ledger.experiments)
        for run in ledger.runs[self._runs_read :]:
            experiment = state.experiment(run.exp)
            self._settled_on[(experiment.parent if experiment is not None else None) or ""] += 1
            if run.outcome != "cancelled":
                self._scored_or_failed.add(run.exp)
            if run.outcome in ("oom", "nan", "crash") and run.exp in self._tries:
                self.failed.add(self._tries[run.exp][0])
            if run.scored and run.device_class == cls and run.val_bpb is not None:
                self._add(run, run.val_bpb)
        self._runs_read = len(ledger.runs)

    def version(self, base: str) -> tuple[str, int]:
        """Changes whenever `promising` and `spent` of this base may."""
        return base, self._runs_read - self._settled_on.get(base, 0)

    def promising(self, base: str) -> list[str]:
        """Keys of ideas that gained something on an earlier base, the best first. Whether it was real is for a test."""
        gains: dict[str, float] = {}
        for exp, (key, parent) in self._tries.items():
            if parent != base and key in self._known:
                gain = self._gain(exp, parent)
                if gain is not None and gain < gains.get(key, 0.0):
                    gains[key] = gain
        return sorted(gains, key=lambda key: (gains[key], key))

    def spent(self, base: str) -> set[str]:
        """Keys of ideas that had their chance on an earlier base, as single ideas or in a combination."""
        return {
            part
            for exp, (key, parent) in self._tries.items()
            if parent != base and exp in self._scored_or_failed
            for part in parts_of(key)
        }

    def _add(self, run: Run, val_bpb: float) -> None:
        evidence = run.reason != "screen"
        if run.exp == BASELINE:
            n, total = self._sums[BASELINE, True]
            # Welford 1962, Technometrics 4(3): the sum of squares around the mean, one value at a time.
            self._baseline_squares += n / (n + 1) * (val_bpb - total / n) ** 2 if n else 0.0
        n, total = self._sums[run.exp, evidence]
        self._sums[run.exp, evidence] = (n + 1, total + val_bpb)

    def _gain(self, exp: str, parent: str) -> float | None:
        """What an experiment's runs, the nominating one included, gained on their base; None inside the noise."""
        (n_screen, screen), (n_evidence, evidence) = self._sums[exp, False], self._sums[exp, True]
        n_base, base = self._sums[parent, True]
        n_baseline, _ = self._sums[BASELINE, True]
        if not n_screen + n_evidence or not n_base or n_baseline < 2:
            return None
        gain = (screen + evidence) / (n_screen + n_evidence) - base / n_base
        sd = math.sqrt(self._baseline_squares / (n_baseline - 1))
        return gain if gain < -_PROMISING_SD * sd else None
