"""Lines for people without a screen: a finished run, a verdict, a summary."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from core.events import BASELINE, ModelMessage, PhaseChanged, Verdict
from core.state import Run, SessionState
from core.summary import Summary
from tui.text import clean, cut
from tui.view.blocks import block_words
from tui.view.conversation import ModelTalk, model_blocks
from tui.view.model import cost_lines, usd_words
from tui.view.words import idle_words, stop_words

if TYPE_CHECKING:
    from core.analysis import Analysis

_LINE_CHARS = 110
_GIST_CHARS = 200
_MOST_NAMES = 8


def clock(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def run_line(state: SessionState, run: Run) -> str:
    """One finished run on one line."""
    proposal = state.experiment(run.exp)
    title = clean(proposal.title) if proposal else ""
    score = f"{run.val_bpb:.4f}" if run.val_bpb is not None else run.outcome or ""
    steps = f"{run.steps} steps" if run.steps is not None else ""
    why = f" ({clean(run.failure or run.note)})" if run.failure or run.note else ""
    tier = "" if run.tier in (None, "scored") else f" [{run.tier}]"
    head = f"{clock(run.ended_t_s or 0.0):>8}  {run.run:<5} {run.exp:<4} {run.reason:<9}"
    return f"{head} {score:<9} {steps:<11} {run.device:<6} {title}{why}{tier}".rstrip()


def analysis_lines(analysis: Analysis) -> list[str]:
    """What the numbers say, one sentence after the other."""
    sentences = analysis.sentences
    if not sentences:
        return []
    return ["", "what the numbers say"] + [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            clean(sentence), _LINE_CHARS, initial_indent="  - ", subsequent_indent="    ", break_long_words=False
        )
    ]


def verdict_line(verdict: Verdict) -> str:
    """One verdict on one line."""
    return f"{clock(verdict.t):>8}  {verdict.exp}: {verdict.verdict}: {clean(verdict.reason)}"


def phase_line(event: PhaseChanged) -> str:
    """The beginning of a phase on one line."""
    return f"{clock(event.t):>8}  phase {clean(event.phase)}: {clean(event.why)}"


def model_talk_line(event: ModelTalk, state: SessionState) -> str | None:
    """What a model said or why it did not, on one line; None for what only it is told."""
    if isinstance(event, ModelMessage) and event.role == "user":
        return None
    blocks = model_blocks(event, state)
    said = [block for block in blocks if block.kind != "thinking"] or blocks
    words = cut("; ".join(block_words(block) for block in said) or "an empty answer", _GIST_CHARS)
    if not isinstance(event, ModelMessage) or event.role != "assistant":
        return f"{clock(event.t):>8}  {words}"
    tokens = f"{event.usage.output:,} tokens, " if event.usage is not None else ""
    return f"{clock(event.t):>8}  model: {words} ({tokens}{usd_words(event.usd)})"


def summary_lines(summary: Summary) -> list[str]:
    """The figures of a session in words."""
    runs, best, gpus = summary.runs, summary.best, summary.gpus
    kind = ": SIMULATED, nothing was trained" if summary.simulated else ""
    lines = [
        f"session   {summary.session} ({summary.id})",
        f"by        the {summary.researcher} researcher on the {summary.executor} executor{kind}",
        f"state     {summary.state}"
        + (f": {summary.reason}" if summary.reason else "")
        + f", {clock(summary.seconds)}",
        f"runs      {runs.finished} finished, {runs.failed} failed, {runs.cancelled} cancelled, "
        f"{runs.running} running, {runs.queued} queued; {summary.kept} improvements kept",
    ]
    if (fork := summary.fork) is not None:
        spent = f"{fork.gpu_hours:.2f} device-hours" + (f" and {usd_words(fork.llm_usd)}" if fork.llm_usd else "")
        lines.append(
            f"forked    from {clean(fork.session)} ({fork.id}) at {clock(fork.seconds)}, event {fork.event}: its runs, "
            f"time and {spent} until then are in these figures"
        )
    if best.baseline is not None:
        noise = f", one run varies by {best.noise_sd:.4f} (sd)" if best.noise_sd is not None else ""
        lines.append(f"baseline  {best.baseline:.4f} bits per byte on {best.device_class}{noise}")
    if best.confirmed is not None and best.experiment != BASELINE:
        around = f" [{best.interval[0]:.4f}, {best.interval[1]:.4f}]" if best.interval else ""
        gain = f", {best.confirmed - best.baseline:+.4f}" if best.baseline is not None else ""
        lines.append(f"confirmed {best.confirmed:.4f}{around}{gain}: {best.experiment} {clean(best.title or '')}")
    if best.observed is not None:
        lines.append(f"observed  {best.observed:.4f}, the luckiest single run")
    lines.append(
        f"devices   {gpus.busy} of {gpus.total} busy; {gpus.occupancy:.0%} of their time allocated, "
        f"{gpus.training_share:.0%} spent training; {summary.cost.gpu_hours:.2f} device-hours"
    )
    if gpus.drained:
        names = ", ".join(map(clean, gpus.drained[:_MOST_NAMES]))
        more = f" and {len(gpus.drained) - _MOST_NAMES} more" if len(gpus.drained) > _MOST_NAMES else ""
        lines.append(f"drained   {names}{more}: no new run starts there; 'drain --undo' gives a device back")
    if why := idle_words(gpus.idle, gpus.device_s):
        lines.append(f"idle      {why.replace(' idle', '', 1)}")
    lines += _why_lines(summary)
    if told := stop_words(summary.early_stops):
        lines.append(f"stopped   {told}")
    if summary.model is not None:
        lines += [f"{label:<9} {words}" for label, words in cost_lines(summary.model)]
    if "unconfined" in summary.tiers:
        lines.append(f"warning   {summary.tiers['unconfined']} scores are unconfined: no sandbox kept train.py apart")
    return lines


def _why_lines(summary: Summary) -> list[str]:
    """How the researcher goes about it, and why the last verdicts fell as they did, newest first."""
    lines = []
    if summary.phase is not None:
        lines.append(
            f"phase     {clean(summary.phase.name)}, for {clock(summary.phase.since_s)}: {clean(summary.phase.why)}"
        )
    for verdict in summary.verdicts:
        what = f"{verdict.exp} {clean(verdict.title)}".rstrip()
        lines.append(f"verdict   {what}: {verdict.verdict} at {clock(verdict.seconds)}: {clean(verdict.reason)}")
    return lines
