"""What a policy learns of its own experiments: the first score of each, corrected for the device class it ran on."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from core.events import BASELINE
from core.state import Run, SessionState


class Result(NamedTuple):
    """How the nominating run of an experiment ended: `val_bpb` as on the reference class; None without a score.

    `own` where the file itself failed; otherwise the world failed the run, which says nothing of the file.
    """

    exp: str
    val_bpb: float | None
    own: bool


def baseline_bpb(state: SessionState, cls: str | None) -> float | None:
    """Mean score of the baseline on a device class so far, or None."""
    scores = [run.val_bpb for run in state.ledger.runs_of.get(BASELINE, ()) if run.scored and run.device_class == cls]
    known = [score for score in scores if score is not None]
    return fmean(known) if known else None


def class_shift(state: SessionState, cls: str) -> float | None:
    """How much higher the baseline scores on a class than on the reference class; None while that is being measured.

    A class on which the baseline could not be measured counts as the reference class.
    """
    reference = state.reference_class()
    if cls == reference:
        return 0.0
    if BASELINE in state.now.pending:
        return None
    here, there = baseline_bpb(state, cls), baseline_bpb(state, reference)
    return here - there if here is not None and there is not None else 0.0


class Results:
    """Reads the ledger as it grows; each experiment's nominating run is told once, in the order of settling."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._read = 0
        self._waiting: list[Run] = []

    def catch_up(self) -> Iterator[Result]:
        """What is new, as far as the classes' difference is known; the rest waits for it."""
        runs = self._state.ledger.runs
        self._waiting += [run for run in runs[self._read :] if run.reason == "screen"]
        self._read = len(runs)
        again: list[Run] = []
        for run in self._waiting:
            if not run.scored or run.val_bpb is None:
                yield Result(run.exp, None, run.outcome in ("oom", "nan", "crash", "timeout"))
                continue
            shift = class_shift(self._state, run.device_class)
            if shift is None:
                again.append(run)
            else:
                yield Result(run.exp, run.val_bpb - shift, True)
        self._waiting = again
