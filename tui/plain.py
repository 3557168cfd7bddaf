"""Watching without a screen: a line per finished run, verdict, phase and answer of a model, then a summary."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator

import msgspec

from core.collector import collect_rarely
from core.control import EngineGone, request
from core.events import AnyEvent, ExecutorNotice, LimitHit, PhaseChanged, RunWaiting, SessionForked, UnknownEvent
from core.journal import Tail
from core.keyframe import forget_texts
from core.reduce import apply
from core.session import SessionFolder
from core.state import SessionState
from core.summary import summarise
from tui.text import clean, printable
from tui.view.conversation import ModelTalk
from tui.view.transcript import fork_words
from tui.words import clock, model_talk_line, phase_line, run_line, summary_lines, verdict_line

_LOOK_S = 0.2
_SECOND_CTRL_C_S = 3.0


def follow(folder: SessionFolder, *, started_here: bool) -> int:
    """Print what happens until the session ends; returns an exit code.

    The first Ctrl-C stops watching and prints how to stop the session; a second one within 3 s stops it.
    """
    collect_rarely()
    state = SessionState()
    try:
        config = folder.config()
        _say(f"session {config.name}{' (simulated)' if config.simulated else ''}; Ctrl-C leaves it working")
        _follow(folder, state)
    except KeyboardInterrupt:
        return _interrupted(folder, started_here=started_here)
    alive = folder.engine_alive()
    summary = summarise(state, engine_alive=alive)
    named = msgspec.structs.replace(summary, session=folder.config().name, id=folder.path.name)
    for line in summary_lines(named):
        _say(line)
    if state.now.ended is None:
        info = folder.engine()
        why = info.error if info is not None and info.error else f"see {folder.log_path}"
        sys.stderr.write(f"autoresearch-tui: the engine is gone before the session ended: {why}\n")
        return 1
    return 1 if state.now.ended.failed else 0


def _follow(folder: SessionFolder, state: SessionState) -> None:
    tail = Tail(folder.journal_dir)
    told, held = _told(state), set[tuple[str, str]]()
    while True:
        alive = folder.engine_alive()
        batch = tail.read()
        for event, _ in batch:
            apply(state, event)
            if not _is_copied(state, event):
                for line in (*_held(event, held), *_news(state, *told)):
                    _say(line)
            forget_texts(state, event)
            told = _told(state)
        if not batch and not alive:
            return
        if not batch:
            time.sleep(_LOOK_S)


def _told(state: SessionState) -> tuple[int, int, int]:
    """How many runs, verdicts and words there are by now."""
    return len(state.ledger.runs), len(state.ledger.verdicts), len(state.ledger.talk)


def _news(state: SessionState, runs: int, verdicts: int, said: int) -> Iterator[str]:
    """Lines for what came after so many runs, verdicts and words."""
    for run in state.ledger.runs[runs:]:
        yield run_line(state, run)
    for verdict in state.ledger.verdicts[verdicts:]:
        yield verdict_line(verdict)
    for talk in state.ledger.talk[said:]:
        if isinstance(talk, LimitHit):
            yield f"{clock(talk.t):>8}  {talk.limit}: {clean(talk.detail)}"
        elif isinstance(talk, ExecutorNotice):
            yield f"{clock(talk.t):>8}  cluster: {clean(talk.text) or 'well again'}"
        elif isinstance(talk, SessionForked):
            yield f"{clock(talk.t):>8}  {fork_words(talk)}"
        elif isinstance(talk, PhaseChanged):
            yield phase_line(talk)
        elif isinstance(talk, ModelTalk) and (line := model_talk_line(talk, state)) is not None:
            yield line


def _held(event: AnyEvent | UnknownEvent, known: set[tuple[str, str]]) -> Iterator[str]:
    """A line for a run that does not start before somebody mends something: once, however often it is tried again."""
    if isinstance(event, RunWaiting) and event.held and (event.attempt, event.reason) not in known:
        known.add((event.attempt, event.reason))
        yield f"{clock(event.t):>8}  {clean(event.run)} is held: {clean(event.reason)}"


def _is_copied(state: SessionState, event: AnyEvent | UnknownEvent) -> bool:
    """Whether an event is another session's, which this one was forked from."""
    fork = state.now.started.fork if state.now.started is not None else None
    return fork is not None and event.n <= fork.n


def _interrupted(folder: SessionFolder, *, started_here: bool) -> int:
    name = folder.config().name
    left = "the session goes on without this terminal" if started_here else "detached"
    try:
        sys.stderr.write(
            f"\n{left}; 'autoresearch-tui attach {name}' shows it, 'autoresearch-tui stop {name}' ends it; "
            "Ctrl-C again now ends it too\n"
        )
        time.sleep(_SECOND_CTRL_C_S)
    except KeyboardInterrupt:
        _stop(folder, name)
    return 130


def _stop(folder: SessionFolder, name: str) -> None:
    """Ask the engine to end the session, and say how that went."""
    try:
        reply = asyncio.run(request(folder, "stop", "now"))
    except EngineGone as gone:
        sys.stderr.write(f"{gone}\n")
    else:
        sys.stderr.write(f"session {name}: {reply.text}\n")


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()
