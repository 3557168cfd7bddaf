"""One row of the list of experiments: where it stands, what it measured, what it took; and all rows by their age."""

from __future__ import annotations

from statistics import fmean
from typing import Final, NamedTuple

from rich.text import Text

from core.events import ExperimentProposed, Verdict
from core.state import Run, SessionState
from tui.palette import Look, Role, style_of
from tui.text import clean
from tui.view.transcript import VERDICT_SIGNS
from tui.view.words import age_words, delta_words, score_words


class ExperimentRow(NamedTuple):
    """One experiment. `val_bpb` is the mean of its scored runs on `cls`; `done` of `owed` runs have ended. Without any
    score `cls` is where the last run was.

    It was proposed at session second `asked_t_s`; its ended runs held devices for `device_s` seconds.
    """

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
    design: str = ""
    asked_t_s: float = 0.0
    device_s: float = 0.0


class Waiting(NamedTuple):
    """What of an experiment has not ended: how many runs are open, whether one holds a device, how many are owed."""

    open: int = 0
    working: bool = False
    owed: int = 0


class ExperimentTable:
    """All experiments of a state in the order of their proposals, as rows for a virtual table.

    A row is worded when it is seen, so that the table costs the same whatever its length.

    Args:
        now_s: the session second that ages are counted from.
        newest_first: else the oldest comes first.
    """

    def __init__(
        self, state: SessionState, now_s: float = 0.0, *, newest_first: bool = True, look: Look = "dark"
    ) -> None:
        self._state, self._now_s, self._look = state, now_s, look
        self._newest_first = newest_first
        self._count = len(state.ledger.experiments)
        self._reference = state.reference_class()
        self._waiting = waiting_runs(state)

    def __len__(self) -> int:
        return self._count

    def key(self, index: int) -> str:
        """The experiment's id."""
        return self._state.ledger.experiments[self._place(index)].exp

    def index(self, key: str) -> int | None:
        """Where an experiment stands."""
        at = self._state.ledger.experiment_index.get(key)
        return None if at is None or at >= self._count else self._place(at)

    def row(self, index: int) -> tuple[str | Text, ...]:
        """The cells of one row; see `cells_of`."""
        return cells_of(self.experiment(index), self._now_s, look=self._look)

    def words(self, index: int) -> str:
        """One row to be copied."""
        return row_words(self.experiment(index))

    def experiment(self, index: int) -> ExperimentRow:
        """One row as values."""
        proposal = self._state.ledger.experiments[self._place(index)]
        return experiment_row(self._state, proposal, self._waiting.get(proposal.exp, NOTHING), self._reference)

    def _place(self, index: int) -> int:
        """From a row to a place in the ledger, and back."""
        return self._count - 1 - index if self._newest_first else index


NOTHING: Final = Waiting()


def waiting_runs(state: SessionState) -> dict[str, Waiting]:
    """What has not ended, by experiment."""
    found: dict[str, Waiting] = {}
    for run in state.now.runs.values():
        so_far = found.get(run.exp, NOTHING)
        working = so_far.working or run.status in ("starting", "running")
        found[run.exp] = Waiting(so_far.open + 1, working, so_far.owed)
    for promise in state.now.owed:
        so_far = found.get(promise.exp, NOTHING)
        found[promise.exp] = so_far._replace(owed=so_far.owed + 1)
    return found


def cells_of(row: ExperimentRow, now_s: float, *, look: Look = "dark") -> tuple[str | Text, ...]:
    """A row as cells: id, sign, val_bpb or status, delta, runs, class, device-minutes, age, design, title."""
    measure = score_words(row.val_bpb) or row.status.removesuffix(" early")
    return (
        row.exp,
        Text(row.sign, style_of(row.role, look)),
        Text(measure, style_of(row.role, look)) if row.val_bpb is None else measure,
        delta_words(row.delta),
        f"{row.done}/{row.owed}",
        row.cls,
        f"{row.device_s / 60.0:.0f}" if row.device_s else "",
        age_words(now_s - row.asked_t_s),
        row.design,
        row.title,
    )


def row_words(row: ExperimentRow) -> str:
    """An experiment on one line: id, title, what it measured or where it stands, how it differs."""
    parts = [row.exp, row.title, score_words(row.val_bpb), row.status, delta_words(row.delta)]
    return "  ".join(part for part in parts if part)


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


def experiment_row(
    state: SessionState, proposal: ExperimentProposed, waiting: Waiting, reference: str | None
) -> ExperimentRow:
    """One experiment as values; `reference` is the device class that scores are shown on where they can be."""
    ended = state.ledger.runs_of.get(proposal.exp, [])
    verdict = state.verdict(proposal.exp)
    val_bpb, cls = measured(ended, reference)
    sign, role, status = _standing(verdict, ended, waiting)
    # A baseline becomes the incumbent without a verdict: there is nothing to hold it against.
    if status == "unjudged" and proposal.exp in state.ledger.crowned:
        sign, role, status = "●", Role.KEPT, "incumbent"
    return ExperimentRow(
        exp=proposal.exp,
        sign=sign,
        role=role,
        status=status,
        val_bpb=val_bpb,
        cls=cls or (ended[-1].device_class if ended else ""),
        delta=verdict.delta if verdict is not None else None,
        done=len(ended),
        owed=len(ended) + waiting.open + waiting.owed,
        title=clean(proposal.title),
        design=clean(proposal.design),
        asked_t_s=proposal.t,
        device_s=sum(map(held_s, ended)),
    )


def held_s(run: Run) -> float:
    """Seconds for which an ended run held devices, over all its attempts."""
    earlier_s = sum(one.ended_t_s - one.started_t_s for one in run.attempts if one.started_t_s is not None)
    return earlier_s if run.ended_t_s is None else earlier_s + run.allocated_s(run.ended_t_s)


def _standing(verdict: Verdict | None, ended: list[Run], waiting: Waiting) -> tuple[str, Role, str]:
    """Sign, role and word for where an experiment stands: running first, then its failure, then its verdict."""
    if waiting.working:
        return "▶", Role.BUSY, "running"
    failed = bool(ended) and not waiting.open and not any(run.outcome == "ok" for run in ended)
    if failed and ended[-1].outcome == "pruned":
        return "·", Role.REJECTED, "stopped early"
    if failed:
        return "×", Role.FAILED, ended[-1].outcome or "failed"
    if verdict is None:
        return "○", Role.MUTED, "unjudged" if ended else "queued"
    sign, role = VERDICT_SIGNS[verdict.verdict]
    return sign, role, verdict.verdict
