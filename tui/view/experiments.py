"""The list of experiments: one row each, newest first, with where it stands and what it measured."""

from __future__ import annotations

from statistics import fmean
from typing import NamedTuple

from rich.text import Text

from core.events import ExperimentProposed
from core.state import Run, SessionState
from tui.palette import Look, Role, style_of
from tui.text import clean
from tui.view.words import delta_words, score_words


class ExperimentRow(NamedTuple):
    """One experiment. `val_bpb` is the mean of its scored runs on `cls`; `done` of `owed` runs have ended."""

    exp: str
    sign: str
    role: Role
    status: str
    val_bpb: float | None
    cls: str
    delta: float | None
    done: int
    owed: int
    title: str


class ExperimentTable:
    """All experiments of a state, newest first, as rows for a virtual table: a row is worded when it is seen."""

    def __init__(self, state: SessionState) -> None:
        self._state = state
        self._count = len(state.ledger.experiments)
        self._reference = state.reference_class()
        self._incumbents = {exp for _, exp in state.ledger.incumbents}
        self._open: dict[str, list[Run]] = {}
        for run in state.now.runs.values():
            self._open.setdefault(run.exp, []).append(run)
        self._owed: dict[str, int] = {}
        for promise in state.now.owed:
            self._owed[promise.exp] = self._owed.get(promise.exp, 0) + 1

    def __len__(self) -> int:
        return self._count

    def key(self, index: int) -> str:
        """The experiment's id."""
        return self._state.ledger.experiments[self._count - 1 - index].exp

    def index(self, key: str) -> int | None:
        """Where an experiment stands."""
        at = self._state.ledger.experiment_index.get(key)
        return None if at is None or at >= self._count else self._count - 1 - at

    def row(self, index: int) -> tuple[str | Text, ...]:
        """The cells of one row, id, sign, val_bpb or status, delta, runs, title."""
        return cells_of(self.experiment(index))

    def experiment(self, index: int) -> ExperimentRow:
        """One row as values."""
        proposal = self._state.ledger.experiments[self._count - 1 - index]
        open_runs = self._open.get(proposal.exp, [])
        row = _row(self._state, proposal, open_runs, self._owed.get(proposal.exp, 0), self._reference)
        # A baseline becomes the incumbent without a verdict: there is nothing to hold it against.
        unjudged = row.status == "unjudged" and row.exp in self._incumbents
        return row._replace(sign="●", role=Role.KEPT, status="incumbent") if unjudged else row


def cells_of(row: ExperimentRow, *, look: Look = "dark") -> tuple[str | Text, ...]:
    """A row as cells: id, sign, val_bpb or status, delta, runs, title."""
    measure = score_words(row.val_bpb) or row.status
    return (
        row.exp,
        Text(row.sign, style_of(row.role, look)),
        Text(measure, style_of(row.role, look)) if row.val_bpb is None else measure,
        delta_words(row.delta),
        f"{row.done}/{row.owed}",
        row.title,
    )


def measured(runs: list[Run], reference: str | None) -> tuple[float | None, str]:
    """Mean val_bpb on one device class, and that class: the reference class where it has any score.

    The nominating runs count only as long as there are no others: they were picked for their numbers.
    """
    scored = [run for run in runs if run.scored]
    scored = [run for run in scored if run.reason != "screen"] or scored
    if not scored:
        return None, ""
    classes = {run.device_class for run in scored}
    cls = reference if reference in classes else min(classes)
    assert cls is not None
    return fmean(run.val_bpb for run in scored if run.device_class == cls and run.val_bpb is not None), cls


def _row(
    state: SessionState, proposal: ExperimentProposed, open_runs: list[Run], owed: int, reference: str | None
) -> ExperimentRow:
    ended = state.ledger.runs_of.get(proposal.exp, [])
    verdict = state.verdict(proposal.exp)
    val_bpb, cls = measured(ended, reference)
    sign, role, status = _standing(state, proposal.exp, ended, open_runs)
    return ExperimentRow(
        exp=proposal.exp,
        sign=sign,
        role=role,
        status=status,
        val_bpb=val_bpb,
        cls=cls,
        delta=verdict.delta if verdict is not None else None,
        done=len(ended),
        owed=len(ended) + len(open_runs) + owed,
        title=clean(proposal.title),
    )


def _standing(state: SessionState, exp: str, ended: list[Run], open_runs: list[Run]) -> tuple[str, Role, str]:
    """Sign, role and word for where an experiment stands: running first, then its verdict, then its failure."""
    if any(run.status in ("starting", "running") for run in open_runs):
        return "▶", Role.BUSY, "running"
    verdict = state.verdict(exp)
    failed = bool(ended) and not any(run.outcome == "ok" for run in ended)
    if failed and not open_runs and ended[-1].outcome == "pruned":
        return "·", Role.REJECTED, "stopped early"
    if failed and not open_runs:
        return "×", Role.FAILED, ended[-1].outcome or "failed"
    if verdict is not None and verdict.verdict == "kept":
        return "●", Role.KEPT, "kept"
    if verdict is not None and verdict.verdict == "rejected":
        return "·", Role.REJECTED, "rejected"
    if verdict is not None:
        return "○", Role.UNDECIDED, "undecided"
    return "○", Role.MUTED, "queued" if not ended else "unjudged"
