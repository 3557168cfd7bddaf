"""What the val_bpb curve shows: every finished run, the best observed and the best confirmed so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from core.events import Verdict
from core.state import Run, SessionState
from core.statistics import interval_of, mean_of, noise, reference_runs
from tui.palette import Role
from tui.raster.ticks import FloatArray
from tui.text import clean, cut
from tui.view.words import clock_words, delta_words

Codes = npt.NDArray[np.int64]

_NOT_FAILURES: Final = frozenset({"ok", "cancelled", "pruned"})
_WORDS: Final = {
    Role.KEPT: "kept",
    Role.REJECTED: "rejected",
    Role.UNDECIDED: "undecided",
    Role.NOMINATED: "nominated",
}
_TITLE_CELLS: Final = 40


def _none() -> FloatArray:
    return np.empty(0)


def _no_codes() -> Codes:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """Columns over finished runs in the order of finishing; run number i stands at index i - 1.

    Args:
        t_s: session seconds at the end; val_bpb: NaN where there is no score.
        device_h: hours that devices were given to this run and all that ended before it.
        counted: whether the score ranks (ended well, measured by our harness).
        failed: whether the run ended badly, by the revision's fault or the world's.
        failures: why, as foreigners wrote it, not yet clean.
        experiment: its place in the ledger, or -1; cls: the place of its device class in `class_names`.
    """

    runs: tuple[str, ...] = ()
    exps: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    t_s: FloatArray = field(default_factory=_none)
    device_h: FloatArray = field(default_factory=_none)
    val_bpb: FloatArray = field(default_factory=_none)
    counted: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))
    failed: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=bool))
    experiment: Codes = field(default_factory=_no_codes)
    cls: Codes = field(default_factory=_no_codes)

    def class_of(self, index: int) -> str:
        """The device class of a run."""
        return self.class_names[int(self.cls[index])]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A best value over the session. Each entry holds from its place on: run number `x`, session second `t_s`, so many
    device-hours.

    `low` and `high` bound the value (NaN where nothing is known of its uncertainty).
    """

    x: FloatArray = field(default_factory=_none)
    t_s: FloatArray = field(default_factory=_none)
    device_h: FloatArray = field(default_factory=_none)
    value: FloatArray = field(default_factory=_none)
    low: FloatArray = field(default_factory=_none)
    high: FloatArray = field(default_factory=_none)
    exps: tuple[str, ...] = ()
    """Whose value each entry is, of the confirmed ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Standings:
    """The role of each experiment of the ledger, by its place, from the first `verdicts` verdicts."""

    roles: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    verdicts: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CurveView:
    """Input of the `Curve` widget. Two views with equal `key` show the same.

    Args:
        roles: per finished run, `Role.BLANK` where nothing is drawn.
        titles: of experiments, as the researcher wrote them, not yet clean.
    """

    key: tuple[object, ...] = ()
    reference: str = ""
    facts: Facts = field(default_factory=Facts)
    roles: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, dtype=np.uint8))
    titles: dict[str, str] = field(default_factory=dict)
    observed: Course = field(default_factory=Course)
    confirmed: Course = field(default_factory=Course)
    standings: Standings = field(default_factory=Standings)


def curve_view(state: SessionState, previous: CurveView | None = None) -> CurveView:
    """Project the state; `previous` saves work: it comes back itself where nothing changed.

    Settled runs and proposals never change, so what is made of them is taken over from `previous` as far as both have
    them; verdicts likewise, as long as no replay went back.
    """
    ledger = state.ledger
    session = state.now.started.session if state.now.started else ""
    reference = state.reference_class() or ""
    key = (session, reference, len(ledger.runs), len(ledger.verdicts), len(ledger.incumbents))
    if previous is not None and previous.key == key:
        return previous
    known = previous if previous is not None and previous.key[:1] == key[:1] else CurveView()
    facts = _facts(state, known.facts)
    on_reference = np.array([name == reference for name in facts.class_names], dtype=bool)[facts.cls]
    standings = _standings(state, known.standings)
    return CurveView(
        key=key,
        reference=reference,
        facts=facts,
        roles=_roles(state, facts, standings, on_reference),
        titles=known.titles | {event.exp: event.title for event in ledger.experiments[len(known.titles) :]},
        observed=_observed(facts, on_reference),
        confirmed=_confirmed(state, facts, reference),
        standings=standings,
    )


def _facts(state: SessionState, known: Facts) -> Facts:
    runs, places = state.ledger.runs, state.ledger.experiment_index
    count = min(len(known.runs), len(runs))
    if count == len(runs) == len(known.runs):
        return known
    new = runs[count:]
    failed = [run.outcome not in _NOT_FAILURES or (run.outcome == "ok" and run.val_bpb is None) for run in new]
    scores = [run.val_bpb if run.val_bpb is not None else np.nan for run in new]
    names = {name: code for code, name in enumerate(known.class_names)}
    classes = [names.setdefault(run.device_class, len(names)) for run in new]
    before_h = known.device_h[count - 1] if count else 0.0
    return Facts(
        runs=known.runs[:count] + tuple(run.run for run in new),
        exps=known.exps[:count] + tuple(run.exp for run in new),
        failures=known.failures[:count] + tuple(run.failure or run.outcome or "" for run in new),
        class_names=tuple(names),
        t_s=np.concatenate([known.t_s[:count], np.array([run.ended_t_s or 0.0 for run in new])]),
        device_h=np.concatenate([known.device_h[:count], before_h + np.cumsum([_device_h(run) for run in new])]),
        val_bpb=np.concatenate([known.val_bpb[:count], np.array(scores, dtype=np.float64)]),
        counted=np.concatenate([known.counted[:count], np.array([run.scored for run in new], dtype=bool)]),
        failed=np.concatenate([known.failed[:count], np.array(failed, dtype=bool)]),
        experiment=np.concatenate(
            [known.experiment[:count], np.array([places.get(run.exp, -1) for run in new], np.int64)]
        ),
        cls=np.concatenate([known.cls[:count], np.array(classes, dtype=np.int64)]),
    )


def _device_h(run: Run) -> float:
    """Hours that devices were given to a run, those of attempts that the world failed included."""
    spans = [(attempt.started_t_s, attempt.ended_t_s) for attempt in run.attempts]
    earlier_s = sum(max(0.0, end - start) for start, end in spans if start is not None)
    return (earlier_s + max(0.0, run.allocated_s(run.ended_t_s or 0.0))) / 3600.0


def _standings(state: SessionState, known: Standings) -> Standings:
    verdicts, places = state.ledger.verdicts, state.ledger.experiment_index
    if known.verdicts > len(verdicts):
        known = Standings()
    roles = np.full(len(state.ledger.experiments), Role.UNDECIDED, dtype=np.uint8)
    same = min(len(roles), len(known.roles))
    roles[:same] = known.roles[:same]
    for verdict in verdicts[known.verdicts :]:
        if verdict.exp in places:
            roles[places[verdict.exp]] = _role_of(verdict)
    return Standings(roles, len(verdicts))


def _roles(
    state: SessionState, facts: Facts, standings: Standings, on_reference: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """By verdict on the reference class, dim elsewhere; runs without a score are failures or blank."""
    places = state.ledger.experiment_index
    by_exp = np.append(standings.roles, np.uint8(Role.UNDECIDED))  # the last one is that of an unknown experiment
    for _, exp in state.ledger.incumbents:
        if exp in places:
            by_exp[places[exp]] = Role.KEPT
    roles = by_exp[facts.experiment]
    roles[~(on_reference & facts.counted)] = Role.DIM
    roles[np.isnan(facts.val_bpb)] = Role.BLANK
    roles[facts.failed] = Role.FAILED
    return roles


def _role_of(verdict: Verdict) -> Role:
    if verdict.verdict == "kept":
        return Role.KEPT
    if verdict.verdict == "rejected":
        return Role.REJECTED
    # Without evidence of its own there are only the runs that nominated it.
    tested = verdict.evidence is not None and verdict.evidence.n > 0
    return Role.UNDECIDED if tested else Role.NOMINATED


def _observed(facts: Facts, on_reference: npt.NDArray[np.bool_]) -> Course:
    index = np.flatnonzero(on_reference & facts.counted)
    if not index.size:
        return Course()
    best = np.minimum.accumulate(facts.val_bpb[index])
    falls = np.flatnonzero(np.diff(best, prepend=np.inf) < 0)
    at, unknown = index[falls], np.full(len(falls), np.nan)
    return Course(at.astype(np.float64) + 1.0, facts.t_s[at], facts.device_h[at], best[falls], unknown, unknown)


def _confirmed(state: SessionState, facts: Facts, reference: str) -> Course:
    """The incumbents' means with their intervals, by all the evidence there is now, from where each became one."""
    spread = noise(state, reference) if state.ledger.incumbents else None
    entries: list[tuple[float, float, float, float]] = []
    exps: list[str] = []
    for t_s, exp in state.ledger.incumbents:
        scores = reference_runs(state, exp, reference)
        mean = mean_of(scores)
        if mean is not None:
            low, high = interval_of(scores, spread) or (np.nan, np.nan)
            entries.append((t_s, mean.mean, low, high))
            exps.append(exp)
    if not entries:
        return Course()
    t_s_of, value, low_of, high_of = (np.array(column, dtype=np.float64) for column in zip(*entries, strict=True))
    ended = np.searchsorted(facts.t_s, t_s_of, side="right")
    device_h = np.concatenate([[0.0], facts.device_h])[ended]
    return Course(ended.astype(np.float64), t_s_of, device_h, value, low_of, high_of, tuple(exps))


def describe(view: CurveView, index: int) -> str:
    """One finished run in words: ids, score and verdict or failure, distance to the incumbent of then, class where it
    is not the reference, title, when it ended.
    """
    facts = view.facts
    run, exp, score = facts.runs[index], facts.exps[index], facts.val_bpb[index]
    parts = [run, exp]
    role = Role(int(view.roles[index]))
    if np.isnan(score):
        parts.append(facts.failures[index])
    else:
        parts += [f"{score:.4f}", _WORDS.get(role, ""), _against(view, index)]
    if facts.class_of(index) != view.reference:
        parts.append(facts.class_of(index))
    parts += [cut(clean(view.titles.get(exp, "")), _TITLE_CELLS), f"at {clock_words(facts.t_s[index])}"]
    return " ".join(filter(None, map(clean, parts)))


def _against(view: CurveView, index: int) -> str:
    """A score on the reference class less that of the incumbent when the run ended; nothing for its own runs."""
    facts, confirmed = view.facts, view.confirmed
    at = int(np.searchsorted(confirmed.x, index + 1.0)) - 1
    if at < 0 or view.roles[index] == Role.DIM or confirmed.exps[at] == facts.exps[index]:
        return ""
    return f"{delta_words(float(facts.val_bpb[index] - confirmed.value[at]))} vs {confirmed.exps[at]}"
