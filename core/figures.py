"""A session's figures without reading all of its journal again: asked of its engine, or kept beside the journal.

`python -P -m core.figures` is a helper for lists of sessions: it takes folders, one a line, and answers each with a
line of JSON, so that neither the time nor the memory of a long journal is spent in the process that shows it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import msgspec

from core.collector import collect_rarely
from core.control import EngineGone, request
from core.events import Limits
from core.journal import JournalDamaged, Tail
from core.keyframe import forget_texts
from core.reduce import apply
from core.session import SessionFolder
from core.state import Before, SessionState
from core.summary import Summary, allocated_s, summarise
from core.version import installed_version


class Used(msgspec.Struct, frozen=True):
    """What counts against a session's limits: in a fork, only what is its own. Runs under way count."""

    hours: float = 0.0
    runs: int = 0
    gpu_hours: float = 0.0
    usd: float = 0.0


class Figures(msgspec.Struct, frozen=True):
    """What a list says of a session. `trouble` says why its journal could not be read to its end.

    `unknown_events` are those of a newer release: they are not in the figures.
    """

    summary: Summary
    limits: Limits
    used: Used
    unknown_events: int = 0
    trouble: str = ""


class Stamp(msgspec.Struct, frozen=True):
    """What tells whether a journal has changed: its segments, their bytes, and the newest change in nanoseconds."""

    segments: int = 0
    size: int = 0
    changed_ns: int = 0


class _Kept(msgspec.Struct, frozen=True):
    """figures.json: they hold for exactly this journal, as this version of the program reads it."""

    journal: Stamp
    version: str
    figures: Figures


def stamp_of(folder: SessionFolder) -> Stamp:
    """The journal as it is now; that of nothing where there is none. Raises OSError where it cannot be looked at."""
    try:
        with os.scandir(folder.journal_dir) as entries:
            found = [entry.stat() for entry in entries if entry.name.endswith(".jsonl")]
    except FileNotFoundError:
        return Stamp()
    return Stamp(len(found), sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0))


def figures_of(state: SessionState, *, engine_alive: bool, trouble: str = "") -> Figures:
    """The figures of a fold."""
    started = state.now.started
    return Figures(
        summary=summarise(state, engine_alive=engine_alive),
        limits=started.limits if started is not None else Limits(),
        used=_used(state),
        unknown_events=state.now.unknown_events,
        trouble=trouble,
    )


def _used(state: SessionState) -> Used:
    now, before = state.now, state.now.before or Before()
    return Used(
        hours=(now.t_s - before.t_s) / 3600.0,
        runs=now.counts.started - state.again - before.runs,
        gpu_hours=(allocated_s(state, now.t_s) - before.allocated_s) / 3600.0,
        usd=now.model.most_usd - before.usd if now.model is not None else 0.0,
    )


def kept_figures(folder: SessionFolder) -> Figures | None:
    """What is kept of a session on which nobody works, as long as it holds. Raises OSError as `stamp_of` does."""
    stamp = stamp_of(folder)
    try:
        kept = msgspec.json.decode(folder.figures_path.read_bytes(), type=_Kept)
    except (OSError, msgspec.DecodeError):
        return None
    return kept.figures if (kept.journal, kept.version) == (stamp, installed_version()) else None


def keep_figures(folder: SessionFolder, figures: Figures, stamp: Stamp) -> None:
    """Write them beside the journal that they hold for; where that fails, the journal is read again next time."""
    with contextlib.suppress(OSError):
        folder.write(folder.figures_path, _Kept(stamp, installed_version(), figures))


def read_figures(folder: SessionFolder) -> Figures:
    """The figures of any session: those that are kept, else from its journal, and then they are kept.

    Raises OSError where the journal's folder cannot be looked into.
    """
    alive = folder.engine_alive()
    known = None if alive else kept_figures(folder)
    if known is not None:
        return known
    before = stamp_of(folder)
    figures = _fold(folder, engine_alive=alive)
    if before.size and not alive and not folder.engine_alive() and stamp_of(folder) == before:
        keep_figures(folder, figures, before)
    return figures


async def ask_figures(folder: SessionFolder) -> Figures:
    """The figures of a session by its engine.

    Raises:
        EngineGone: nobody answers, or the engine is of a release that does not know the question.
    """
    reply = await request(folder, "figures")
    try:
        return msgspec.json.decode(reply.text, type=Figures)
    except msgspec.DecodeError:
        raise EngineGone(f"the engine of session {folder.path.name} does not tell its figures: {reply.text}") from None


def _fold(folder: SessionFolder, *, engine_alive: bool) -> Figures:
    """Read a journal as far as it can be read."""
    state, trouble = SessionState(), ""
    tail = Tail(folder.journal_dir)
    try:
        while batch := tail.read():
            for event, _ in batch:
                apply(state, event)
                forget_texts(state, event)
    except JournalDamaged as damaged:
        trouble = str(damaged)
    except OSError as error:
        trouble = f"{error.filename or folder.journal_dir} cannot be read: {error.strerror}"
    return figures_of(state, engine_alive=engine_alive, trouble=trouble)


def main() -> int:
    """Answer folders with figures until there are no more. A folder that cannot be read is answered with `trouble`."""
    collect_rarely()
    for line in sys.stdin:
        folder = SessionFolder(Path(line.rstrip("\n")))
        try:
            figures = read_figures(folder)
        except OSError as error:
            trouble = f"{error.filename or folder.path} cannot be read: {error.strerror}"
            figures = figures_of(SessionState(), engine_alive=False, trouble=trouble)
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
