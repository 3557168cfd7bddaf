"""What the model is told: the frozen system text of a session, and the message that begins each turn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from core.claude.clean import lines, one_line
from core.claude.turns import WANTED
from core.events import BASELINE, SessionStarted
from core.limits import totals
from core.state import SessionState
from core.summary import best

ROLE: Final = Path(__file__).with_name("role.md")
"""What every session tells its model, word for word."""

_OPERATOR_LINE: Final = "{operator}"
_OPERATOR: Final = {
    True: "The operator speaks in system messages and in the program, nowhere else. A later word goes before an "
    "earlier one.",
    False: "The operator speaks in the program, and within `<operator>` at the end of a user message, nowhere else. A "
    "later word goes before an earlier one.",
}
_MAX_PROGRAM_CHARS: Final = 40_000
_FENCE: Final = re.compile(r"`{3,}")


def system_blocks(
    *,
    program: str,
    baseline: str,
    started: SessionStarted,
    devices: Mapping[str, int],
    reference: str = "",
    max_usd: float | None = None,
    system_turns: bool = True,
) -> list[dict[str, Any]]:
    """The system text in wire form: the role, the program, the session's facts with the baseline's train.py in full.

    The same arguments give the same bytes; nothing in it counts or tells the time. The last block is where a cache
    marker belongs. A server that takes one string gets the blocks' texts, joined.

    Args:
        program: the session's program.md; baseline: its first train.py, exactly.
        devices: how many there are of each class when the session starts; reference: the class of the verdicts.
        max_usd: what the model may cost.
        system_turns: whether the operator's words come as system messages, or within the user's.
    """
    role = ROLE.read_text(encoding="utf-8").replace(_OPERATOR_LINE, _OPERATOR[system_turns])
    page = lines(program, _MAX_PROGRAM_CHARS, code=True).strip("\n")
    texts = (
        role.strip(),
        f"<program>\n{page}\n</program>",
        f"{_facts(started, devices, reference, max_usd)}\n\n{_code(baseline)}",
    )
    return [{"type": "text", "text": text} for text in texts]


def device_counts(state: SessionState) -> dict[str, int]:
    """How many devices of each class the session has ever had, by name."""
    tally: dict[str, int] = {}
    for device in state.now.devices.values():
        tally[device.cls] = tally.get(device.cls, 0) + 1
    return dict(sorted(tally.items()))


def _facts(started: SessionStarted, devices: Mapping[str, int], reference: str, max_usd: float | None) -> str:
    target, limits = started.target, started.limits
    kinds = {"gpu": "seconds of training", "cpu": "CPU seconds of training", "steps": "optimizer steps"}
    counted = [
        f"{count} x {one_line(cls)}{' (reference class)' if cls == reference else ''}"
        for cls, count in sorted(devices.items())
    ]
    ends = [
        f"{limits.hours:g} hours" if limits.hours is not None else "",
        f"{limits.runs:,} runs" if limits.runs is not None else "",
        f"{limits.gpu_hours:g} device-hours" if limits.gpu_hours is not None else "",
    ]
    facts = [
        f"- Executor: {one_line(started.executor)}.",
        f"- Devices at its start: {', '.join(counted) or 'none yet'}. One run takes one device.",
        f"- Budget of a run: {target.budget_s:g} {kinds[target.budget_kind]}; start-up and scoring come on top.",
        f"- Scored: {target.eval_tokens:,} held-out tokens, {target.seq_len:,} at a time. Profile: {target.profile}.",
        f"- The session ends after: {' or '.join(end for end in ends if end) or 'nothing but its own wish'}.",
    ]
    if max_usd is not None:
        facts.append(f"- What you may cost: ${max_usd:.2f}.")
    if started.fork is not None:
        facts.append(
            "- This session was forked from another: what that had measured by then is evidence here as well, and "
            "limits count from there. The status gives time, runs and money as totals, with what was spent before."
        )
    if started.simulated:
        facts.append(
            "- The cluster is simulated: nothing trains, and scores follow a statistical model of published runs. Work "
            "as if it were real."
        )
    return "\n".join(["# This session", "", *facts])


def _code(baseline: str) -> str:
    """The baseline's file within a fence that it cannot close."""
    longest = max((len(run) for run in _FENCE.findall(baseline)), default=2)
    fence = "`" * (longest + 1)
    return f"# train.py of the baseline ({BASELINE})\n\n{fence}python\n{baseline.rstrip()}\n{fence}"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Where the session stands, as its model is told it.

    Args:
        t_s: session seconds; hours, max_runs, max_usd: the limits as totals (see core.limits), None without one.
        settled: runs that have ended; busy, up: devices with a run, and all that are not drained.
        backlog: runs that wait and are not evidence; evidence: those that are.
        low: below it the queue is to be filled; fit: how many more runs may wait.
        confirmed: the incumbent's mean; observed: the best single run, both on the class `cls`; noise_sd: of one run.
        context_tokens, roll_tokens: size of the conversation, and that at which a new one begins.
    """

    t_s: float
    hours: float | None
    settled: int
    max_runs: int | None
    busy: int
    up: int
    backlog: int
    evidence: int
    low: int
    fit: int
    cls: str
    incumbent: str
    confirmed: float | None
    observed: float | None
    observed_run: str
    baseline: float | None
    noise_sd: float | None
    usd: float
    max_usd: float | None
    context_tokens: int
    roll_tokens: int


def status_of(state: SessionState, *, low: int, high: int, max_usd: float | None, now_s: float | None = None) -> Status:
    """The present status.

    Args:
        low, high: runs that should wait in the queue (see core.claude.wake.water); now_s: the session's clock.
    """
    now, model, figures = state.now, state.now.model, best(state)
    limits = totals(state)
    own = figures.by_class.get(figures.device_class) if figures.device_class is not None else None
    return Status(
        t_s=now.t_s if now_s is None else max(now_s, now.t_s),
        hours=limits.hours,
        settled=state.settled,
        max_runs=limits.runs,
        busy=state.flying,
        up=state.serving,
        backlog=state.backlog,
        evidence=max(0, state.waiting - state.backlog),
        low=low,
        fit=max(0, high - state.backlog),
        cls=figures.device_class or "",
        incumbent=figures.experiment or "",
        confirmed=figures.confirmed,
        observed=figures.observed,
        observed_run=(own.observed_run or "") if own is not None else "",
        baseline=figures.baseline,
        noise_sd=figures.noise_sd,
        usd=model.usd + model.held_usd if model is not None else 0.0,
        max_usd=max_usd,
        context_tokens=model.context_tokens if model is not None else 0,
        roll_tokens=model.roll_tokens if model is not None else 0,
    )


def status_line(status: Status) -> str:
    """The status in three lines: time and queue, scores, money."""
    runs = f"{_count(status.settled, 'run')} ended" + (
        f" of {status.max_runs:,}" if status.max_runs is not None else ""
    )
    evidence = f" and {status.evidence} for evidence" if status.evidence else ""
    first = (
        f"{_clock(status.t_s)}{f' of {status.hours:.4g} h' if status.hours is not None else ''} | {runs} | "
        f"{status.busy} of {status.up} devices busy | {status.backlog} waiting{evidence}, {status.fit} more fit"
    )
    return "\n".join((first, _scores(status), _money(status)))


def _clock(t_s: float) -> str:
    minutes = int(t_s) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _scores(status: Status) -> str:
    if status.baseline is None:
        return "the baseline is being measured: no differences yet"
    noise = f", noise of a run {status.noise_sd:.5f} (sd)" if status.noise_sd is not None else ""
    parts = [f"baseline {status.baseline:.5f} on {status.cls}{noise}"]
    if status.confirmed is not None:
        gained = f" ({status.confirmed - status.baseline:+.5f})" if status.incumbent != BASELINE else ""
        parts.append(f"confirmed best {status.confirmed:.5f}{gained}, {status.incumbent}")
    if status.observed is not None:
        delta = status.observed - status.baseline
        parts.append(f"luckiest run {status.observed:.5f} ({delta:+.5f}), {status.observed_run}")
    return " | ".join(parts)


def _money(status: Status) -> str:
    spent = f"${status.usd:.2f} spent" + (f" of ${status.max_usd:.2f}" if status.max_usd is not None else "")
    full = f" | context {status.context_tokens / status.roll_tokens:.0%} full" if status.roll_tokens else ""
    return spent + full


def wanted(status: Status) -> str:
    """What the turn is for, in a sentence."""
    if status.backlog < status.low and status.fit:
        idle = max(0, status.up - status.busy)
        hurry = (
            f" and {_count(idle, 'device')} {'is' if idle == 1 else 'are'} idle" if idle and not status.backlog else ""
        )
        return f"{WANTED}{hurry}: {_count(status.fit, 'more run')} fit now. Fill it in this turn."
    if status.fit:
        return (
            f"The queue is fine; {_count(status.fit, 'more run')} would fit. Propose what the news suggests, or wait."
        )
    return "The queue is full: nothing more fits. Look into what is unclear, note what was learned, or wait."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def events_message(status: Status, events: Sequence[str], notes: Sequence[str] = ()) -> str:
    """The text of a user message: what is new, where things stand, what is wanted now.

    Args:
        events: parts of the news (see core.claude.news); notes: words for special cases (see core.claude.notes).
    """
    told = "\n\n".join(part for part in events if part) or "nothing new"
    words = "\n".join((*notes, wanted(status)))
    return f"<events>\n{told}\n</events>\n<status>\n{status_line(status)}\n</status>\n{words}"
