"""One experiment in full: what was tried and why, the verdict with its evidence in words, its runs, its diff."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from rich.text import Text

from core.events import Evidence, Verdict
from core.state import Run, SessionState
from tui.palette import Role
from tui.text import clean, clean_lines
from tui.view.words import clock_words, count_words, delta_words

DiffKind = Literal["add", "remove", "hunk", "file", "same"]


class DiffLine(NamedTuple):
    """A clean line of a unified diff, its sign included."""

    kind: DiffKind
    text: str


class RunRow(NamedTuple):
    """One run of the experiment, or an attempt that the world failed before it; `attempt` names its log."""

    run: str
    attempt: str
    seed: int
    device: str
    status: str
    role: Role
    val_bpb: float | None
    time: str
    note: str


class DetailView(NamedTuple):
    """All that the experiment screen shows but loss curves and logs. All text is clean."""

    exp: str
    title: str
    about: tuple[tuple[str, str], ...]
    verdict: tuple[str, ...]
    runs: tuple[RunRow, ...]
    diff: tuple[DiffLine, ...]


def detail_view(state: SessionState, exp: str, now_s: float) -> DetailView | None:
    """An experiment in full, or None where the state does not know it (a replay went to before it)."""
    proposal = state.experiment(exp)
    if proposal is None:
        return None
    parent = f"{proposal.parent} {_title(state, proposal.parent)}" if proposal.parent is not None else "nothing"
    runs = experiment_runs(state, exp)
    notes = dict.fromkeys(clean(run.note) for run in runs if run.note)
    knobs = ", ".join(f"{clean(name)} = {clean(value)}" for name, value in proposal.knobs.items())
    about = [
        ("hypothesis", clean(proposal.hypothesis)),
        ("rationale", clean(proposal.rationale)),
        ("against", parent),
        ("design", _design_words(state, proposal.design)),
        ("knobs", knobs or "none changed"),
        ("revision", proposal.revision[:12]),
        *(("note", note) for note in notes),
    ]
    return DetailView(
        exp=exp,
        title=clean(proposal.title),
        about=tuple(about),
        verdict=tuple(verdict_words(state.verdict(exp))),
        runs=tuple(row for run in runs for row in (*_earlier_rows(run), _run_row(state, run, now_s))),
        diff=tuple(diff_lines(_patch(state, proposal.revision))),
    )


def about_text(view: DetailView) -> Text:
    """The words about an experiment, verdict first."""
    text = Text("\n".join(view.verdict) + "\n")
    for label, words in view.about:
        text.append(f"\n{label}  ", style="bold")
        text.append(words)
    return text


def _design_words(state: SessionState, name: str) -> str:
    """A design's name, with what it is and what for where that was declared."""
    declared = state.design(name)
    return clean(name) if declared is None else f"{clean(name)} ({clean(declared.kind)}): {clean(declared.why)}"


def experiment_runs(state: SessionState, exp: str) -> list[Run]:
    """The runs of an experiment, ended ones first."""
    return [*state.ledger.runs_of.get(exp, []), *state.open_runs_of(exp)]


def verdict_words(verdict: Verdict | None) -> list[str]:
    """A verdict and its evidence in sentences."""
    if verdict is None:
        return ["No verdict yet."]
    words = [f"{verdict.verdict.capitalize()}: {clean(verdict.reason)}."]
    if verdict.evidence is not None:
        words.append(_evidence_words(verdict, verdict.evidence))
    if verdict.want:
        words.append(f"{count_words(verdict.want, 'more seed')} would settle it.")
    return words


def _evidence_words(verdict: Verdict, evidence: Evidence) -> str:
    parts = []
    if verdict.delta is not None:
        parts.append(f"{delta_words(verdict.delta)} bits per byte against {clean(evidence.ref)}")
    if verdict.interval is not None:
        low, high = verdict.interval
        parts.append(f"with an interval from {delta_words(low)} to {delta_words(high)}")
    runs = f"from {count_words(evidence.n, 'run')} here and {count_words(evidence.n_ref, 'run')} there"
    parts.append(f"on {clean(evidence.cls)}, {runs}")
    sentence = " ".join(parts)
    if evidence.sd is not None:
        freedom = count_words(evidence.df, "degree")
        sentence += f"; the pooled standard deviation is {evidence.sd:.5f} with {freedom} of freedom"
    if evidence.look:
        sentence += f"; look {evidence.look} may spend {evidence.alpha:g} of the error"
    return f"{sentence[0].upper()}{sentence[1:]}."


def diff_lines(patch: str) -> list[DiffLine]:
    """A unified diff line by line; signs stay, so that colour never carries the meaning alone."""
    lines: list[DiffLine] = []
    in_hunk = False
    for line in clean_lines(patch.rstrip("\n")) if patch else []:
        in_hunk = in_hunk or line.startswith("@@")
        lines.append(DiffLine(_diff_kind(line) if in_hunk else "file", line))
    return lines


def _diff_kind(line: str) -> DiffKind:
    kinds: dict[str, DiffKind] = {"+": "add", "-": "remove", "@": "hunk"}
    return kinds.get(line[:1], "same")


def _patch(state: SessionState, revision: str) -> str:
    index = state.ledger.revision_index.get(revision)
    return "" if index is None else state.ledger.revisions[index].patch


def _title(state: SessionState, exp: str) -> str:
    proposal = state.experiment(exp)
    return "" if proposal is None else clean(proposal.title)


def _earlier_rows(run: Run) -> Iterator[RunRow]:
    """The attempts that the world failed."""
    for one in run.attempts:
        yield RunRow(
            run=one.attempt,
            attempt=one.attempt,
            seed=run.seed,
            device=clean(one.device),
            status=one.outcome.replace("_", " "),
            role=Role.FAILED,
            val_bpb=None,
            time=clock_words(one.ended_t_s - one.started_t_s) if one.started_t_s is not None else "",
            note=clean(one.reason),
        )


def _run_row(state: SessionState, run: Run, now_s: float) -> RunRow:
    started = run.started_t_s if run.started_t_s is not None else run.intent_t_s
    ended = run.ended_t_s if run.ended_t_s is not None else now_s
    status: str = run.outcome or run.status
    if run.status == "running":
        status = f"running {run.frac:.0%}"
    role = Role.OBSERVED if run.outcome == "ok" else Role.FAILED if run.outcome else Role.BUSY
    if run.outcome == "pruned":
        status, role = "stopped early", Role.REJECTED
    if run.waiting_t_s is not None:
        status, role = ("held", Role.FAILED) if run.held else ("waiting", Role.WAITING)
    measured = "simulated" if run.confinement == "simulated" else run.tier or ""
    note = clean(run.waiting or run.failure or run.note) or measured
    if run.status == "queued" and state.held_back(run.cls):
        note = f"waits: {f'every {clean(run.cls)}' if run.cls else 'every device'} is drained"
    return RunRow(
        run=run.run,
        attempt=run.attempt,
        seed=run.seed,
        device=f"{clean(run.device)} {clean(run.device_class)}".strip(),
        status=status,
        role=role,
        val_bpb=run.val_bpb,
        time=clock_words(ended - started) if started is not None else "",
        note=note if run.tier != "unconfined" else f"unconfined {clean(run.failure)}".strip(),
    )
