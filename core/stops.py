"""What stopping early did so far: how many runs, how much device time, and how often it would have been wrong.

Of the runs that the rule would stop, a keyed sample goes on to its end (`spared`). What they score is what the
stopped ones would have: so the share of false stops is measured in every session, not assumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.events import Verdict
    from core.state import Run


class Walls:
    """How many runs held a device of one class, and for how long together, in session seconds."""

    __slots__ = ("n", "total_s")

    def __init__(self) -> None:
        self.n, self.total_s = 0, 0.0

    def add(self, seconds: float) -> None:
        """Take a run."""
        self.n += 1
        self.total_s += seconds


class Stops:
    """A tally over settled runs and verdicts, kept by the ledger; the same in whatever order they come."""

    def __init__(self) -> None:
        self.stopped = Walls()
        self._whole: dict[str, Walls] = {}
        self._stopped: dict[str, Walls] = {}
        self._spared: dict[str, int] = {}
        self._pursued: set[str] = set()

    def take_run(self, run: Run) -> None:
        """See a run that is settled."""
        if run.intent_t_s is None or run.ended_t_s is None:
            return
        if run.outcome == "ok":
            self._whole.setdefault(run.device_class, Walls()).add(run.allocated_s(run.ended_t_s))
            if run.spared:
                self._spared[run.exp] = self._spared.get(run.exp, 0) + 1
        elif run.outcome == "pruned":
            for walls in (self.stopped, self._stopped.setdefault(run.device_class, Walls())):
                walls.add(run.allocated_s(run.ended_t_s))

    def take_verdict(self, verdict: Verdict) -> None:
        """See a verdict: one that asks for seeds, or keeps, shows that stopping would have been wrong."""
        if verdict.want or verdict.verdict == "kept":
            self._pursued.add(verdict.exp)

    @property
    def spared(self) -> int:
        """Runs that would have been stopped, went on and have a score."""
        return sum(self._spared.values())

    @property
    def false(self) -> int:
        """Experiments of spared runs that were worth pursuing all the same."""
        return len(self._pursued & self._spared.keys())

    @property
    def saved_s(self) -> float:
        """Device-seconds that stopped runs would have held on, had they taken as long as whole runs of their class."""
        return sum(
            walls.n * self._whole[cls].total_s / self._whole[cls].n - walls.total_s
            for cls, walls in self._stopped.items()
            if cls in self._whole
        )
