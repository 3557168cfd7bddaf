"""What a command would hit, told before it is sent: runs, device time, devices; and the names that it can mean."""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.control import Request
from core.engine.commands import promise, still_going
from core.events import BASELINE
from core.state import Run, SessionState
from tui.text import clean, cut
from tui.view.words import clock_words, count_words

_TITLE_CELLS = 40


class Subject(NamedTuple):
    """What a cursor is on; `name` is what commands call it: the id of a run, experiment or device, `design:NAME`."""

    kind: Literal["run", "experiment", "design", "device"]
    name: str


class Choice(NamedTuple):
    """One way to answer a question: a key, what it means, and the value that it stands for."""

    key: str
    words: str
    value: str


def cancel_choices(state: SessionState, now_s: float, name: str) -> tuple[Choice, ...]:
    """What can be cancelled around a run, an experiment or a design, the narrowest first; each hits more runs."""
    run = state.now.runs.get(name)
    exp = run.exp if run is not None else name
    proposal = state.experiment(exp)
    wider = [("y", name), ("e", exp)]
    if proposal is not None and proposal.design and (run is not None or exp == name):
        wider.append(("d", f"design:{proposal.design}"))
    choices: list[Choice] = []
    fewest = 0
    for key, what in wider:
        runs = still_going(state, what)
        if len(runs) > fewest:
            fewest = len(runs)
            words = f"{_names(state, what)}: {_runs_words(runs, now_s, alone=what in state.now.runs)}"
            choices.append(Choice("y" if not choices else key, words, what))
    return tuple(choices)


def cancel_question(state: SessionState, name: str) -> str:
    """What cancelling something means beyond the runs that are lost."""
    run = state.now.runs.get(name)
    if state.now.incumbent is None and BASELINE in (name, run.exp if run is not None else ""):
        return f"Cancel {name}? It is the baseline that all else is measured against: without it the session ends."
    return clean(f"Cancel {name}?")


def stop_choices(state: SessionState, now_s: float) -> tuple[Choice, ...]:
    """Stop now, or let what is under way finish."""
    flying = state.in_flight
    if not flying:
        return (Choice("y", "stop: nothing is under way", "now"),)
    count = count_words(len(flying), "run")
    queued = f"; {state.waiting} queued are cancelled" if state.waiting else ""
    return (
        Choice(
            "y",
            f"now: {count} under way {'is' if len(flying) == 1 else 'are'} cancelled, {_lost(flying, now_s)}",
            "now",
        ),
        Choice("f", f"let {count} under way finish{queued}", "finish"),
    )


def drain_question(state: SessionState, name: str) -> str:
    """What draining a device, or all of a node or a class, would do."""
    return clean(f"Drain {name}? {promise(state, Request('drain', name))}.")


def resume_question(state: SessionState) -> str:
    """What starting an engine again would do."""
    flying = state.in_flight
    adopts = f" It adopts what still runs of {count_words(len(flying), 'run')}." if flying else ""
    return f"Start an engine again? It goes on with the session up to its limits.{adopts}"


def cancel_names(state: SessionState) -> list[str]:
    """Names of all that can be cancelled: experiments, designs and runs, the newest first."""
    going = [run for run in reversed(state.now.runs.values()) if run.cancel is None]
    exps = list(dict.fromkeys(run.exp for run in going))
    proposals = (state.experiment(exp) for exp in exps)
    designs = dict.fromkeys(proposal.design for proposal in proposals if proposal is not None and proposal.design)
    return [*exps, *designs, *(run.run for run in going)]


def drain_names(state: SessionState) -> list[str]:
    """Names of all that can be drained: devices, then nodes and classes."""
    devices = state.now.devices.values()
    nodes = dict.fromkeys(f"node:{device.node}" for device in devices)
    classes = dict.fromkeys(f"class:{device.cls}" for device in devices)
    return [*state.now.devices, *nodes, *classes]


def _names(state: SessionState, what: str) -> str:
    if what in state.now.runs:
        run = state.now.runs[what]
        return f"{run.run} of {run.exp}"
    proposal = state.experiment(what)
    if proposal is not None:
        return f"{what} {cut(clean(proposal.title), _TITLE_CELLS)}"
    return f"design {cut(clean(what.removeprefix('design:')), _TITLE_CELLS)}"


def _runs_words(runs: list[Run], now_s: float, *, alone: bool) -> str:
    flying = [run for run in runs if run.status != "queued"]
    if alone:
        [run] = runs
        return "queued, nothing is lost" if not flying else f"on {clean(run.device)}, {_lost(flying, now_s)}"
    words = count_words(len(runs), "run")
    return (
        f"{words} queued, nothing is lost"
        if not flying
        else f"{words}, {len(flying)} under way, {_lost(flying, now_s)}"
    )


def _lost(flying: list[Run], now_s: float) -> str:
    lost_s = sum(max(0.0, run.allocated_s(now_s)) for run in flying)
    return f"{clock_words(lost_s)} of device time lost"
