"""Forking: a new session that begins with the evidence of another one, as it stood at one of its events.

The new journal is the parent's up to that event, byte for byte but for its first line, which names the parent; then the
events that part the two. So one reducer gives the state, numbers and ids stay what they were, and the folder needs
nothing of the parent's. docs/decisions/15-forks.md says why.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from core.events import (
    AnyEvent,
    CancelRequested,
    Command,
    ConfirmRequested,
    Fork,
    RunFinished,
    SessionForked,
    SessionStarted,
    UnknownEvent,
)
from core.executor import Outcome
from core.journal import START, FileOps, Journal, Position, Tail, line_of
from core.journal.format import segment_path
from core.keyframe import state_hash
from core.reduce import apply
from core.session import SessionConfig, SessionError, SessionFolder, check_name, forking_dir, sessions_dir
from core.state import Run, SessionState

LOG_BYTES: Final = 64 * 1024
"""So much of the end of a copied run's log is kept: as much as a screen reads."""

_COPY_BYTES: Final = 2**20
_BATCH: Final = 5_000


class ForkPoint(NamedTuple):
    """A moment of a session: its state there, and where in the journal its first event and the last one end."""

    parent: SessionFolder
    state: SessionState
    first: Position
    last: Position

    @property
    def started(self) -> SessionStarted:
        """The parent's first event."""
        assert self.state.now.started is not None, "fork_point refuses what has not begun"
        return self.state.now.started


def fork_point(parent: SessionFolder, *, n: int | None = None, t_s: float | None = None) -> ForkPoint:
    """Fold a session's journal up to event `n`, or up to session second `t_s`, or to its end. It may still grow.

    Raises:
        SessionError: there is no such event, or this release does not understand all of them.
        JournalDamaged: the journal is damaged before that moment.
    """
    name = parent.config().name
    state, tail, first, last = SessionState(), Tail(parent.journal_dir), START, START
    for event, position in _events(tail):
        if (n is not None and event.n > n) or (t_s is not None and event.t > t_s):
            break
        if isinstance(event, UnknownEvent):
            raise SessionError(
                f"event {event.n} of session {name} was written by a newer version of autoresearch-tui: upgrade to "
                "fork from there, or fork from an event before it"
            )
        apply(state, event)
        first, last = first if event.n > 1 else position, position
    if state.now.started is None or (n is not None and last.n < n):
        there = f"it has {last.n} events" if last.n else "nothing has happened in it"
        raise SessionError(f"session {name} cannot be forked from event {n if n is not None else 0}: {there}")
    return ForkPoint(parent, state, first, last)


def default_seed(point: ForkPoint) -> int:
    """The seed of a fork that was not given one: another than the parent's, and the same for equal forks."""
    started = point.started
    digest = hashlib.sha256(f"{started.session}/{started.seed}/fork/{point.last.n}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % 10_000


def fork_session(
    point: ForkPoint, config: SessionConfig, *, hint: str = "", ops: FileOps | None = None
) -> SessionFolder:
    """Make a session that goes on from a moment of another one. The point is used up.

    It is put together aside and then moved to the sessions as a whole: at no moment is there half a session.

    Args:
        config: the new session's; its `target_dir` becomes its own copy of the parent's.
        hint: what its researcher is told first.
        ops: the journal's file operations, replaced by tests.

    Raises:
        SessionError: the id is taken, or the folder cannot be made.
    """
    check_name(config.name)
    final = SessionFolder(sessions_dir() / config.session)
    sessions_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    with _aside(config.session) as path:
        try:
            folder = SessionFolder(path)
            folder.runs_dir.mkdir(mode=0o700)
            shutil.copytree(point.parent.path / "target", path / "target")
            _copy_logs(point, folder)
            _write_journal(point, folder, _first_event(point, config, hint), hint, config.created_unix_s, ops)
            named = msgspec.structs.replace(config, target_dir=str(final.path / "target"))
            folder.write(folder.meta_path, named)
            _sync(path)
            if final.path.exists():
                raise SessionError(f"a session with the id {config.session} exists already in {sessions_dir()}")
            path.rename(final.path)
            _sync(sessions_dir())
        except OSError as error:
            raise SessionError(f"session {config.name} cannot be put together in {path}: {error.strerror}") from None
    return final


def fold_checked(state: SessionState, event: AnyEvent | UnknownEvent) -> None:
    """Fold an event of a session that is about to go on; what it was forked from must be what its journal says.

    Checked by the release that made the fork: another one may hash another way.

    Raises:
        SessionError: the copied events give another state than the parent had.
    """
    apply(state, event)
    started = state.now.started
    fork = started.fork if started is not None else None
    if fork is None or event.n != fork.n or started is None or started.version != _release():
        return
    if parent_hash(state) != fork.state:
        raise SessionError(
            f"the first {fork.n} events of session {started.name} are not those of {fork.origin.name}, which it was "
            "forked from: fork that session again"
        )


def parent_hash(state: SessionState) -> str:
    """The hash that a forked session's parent had, from the fork's own state after the last event that was copied."""
    own = state.now.started
    assert own is not None
    assert own.fork is not None, "only a forked session has a parent"
    state.now.started = own.fork.origin
    try:
        return state_hash(state)
    finally:
        state.now.started = own


def _release() -> str:
    from core.version import installed_version

    return installed_version()


def _events(tail: Tail) -> Iterator[tuple[AnyEvent | UnknownEvent, Position]]:
    while batch := tail.read(_BATCH):
        yield from batch


# -- the journal


def _first_event(point: ForkPoint, config: SessionConfig, hint: str) -> SessionStarted:
    origin = point.started
    fork = Fork(n=point.last.n, state=state_hash(point.state), origin=origin)
    session = config.session
    if config.simulated:
        asked = (fork.state, fork.n, origin.session, config.seed, config.researcher, config.limits, config.options)
        text = msgspec.json.encode((*asked, config.version, hint), order="sorted")
        session = f"sim-{hashlib.sha256(text).hexdigest()[:12]}"
    return msgspec.structs.replace(
        origin,
        session=session,
        name=config.title if config.simulated else config.name,
        seed=config.seed,
        researcher=config.researcher,
        limits=config.limits,
        version=config.version,
        until_limits=bool(config.options.get("until_limits", False)),
        fork=fork,
    )


def _write_journal(
    point: ForkPoint, folder: SessionFolder, first: SessionStarted, hint: str, wall_s: float, ops: FileOps | None
) -> None:
    """Copy the lines, then record what parts the two. Opening the copy checks every line of it again."""
    folder.journal_dir.mkdir(mode=0o700)
    for segment in range(1, point.last.segment + 1):
        _copy_segment(point, folder.journal_dir, segment, line_of(first)[0])
    state, parent = point.state, point.started
    state.now.started = first
    journal = Journal(folder.journal_dir, ops=ops)
    try:
        if journal.last_n != point.last.n:
            raise SessionError(f"the journal of session {parent.name} changed while it was copied: fork it again")
        for event in _parting(state, parent.name, hint):
            event.t, event.w = state.now.t_s, None if parent.simulated else wall_s
            journal.append(event)
            apply(state, event)
        journal.commit()
    finally:
        journal.close()


def _copy_segment(point: ForkPoint, journal_dir: Path, segment: int, first: bytes) -> None:
    """The same bytes in the same segment, since a segment's first line has the checksum of the line before it."""
    source_path = segment_path(point.parent.journal_dir, segment)
    begin = point.first.offset if segment == 1 else 0
    end = point.last.offset if segment == point.last.segment else source_path.stat().st_size
    with source_path.open("rb") as source, segment_path(journal_dir, segment).open("xb") as copy:
        copy.write(first if segment == 1 else b"")
        source.seek(begin)
        left = end - begin
        while left > 0 and (data := source.read(min(left, _COPY_BYTES))):
            copy.write(data)
            left -= len(data)
        copy.flush()
        os.fsync(copy.fileno())


def _parting(state: SessionState, parent: str, hint: str) -> Iterator[AnyEvent]:
    """What a fork begins with: its own limits, no run in flight, and those that were owed again under new numbers."""
    in_flight = state.in_flight
    again = [run for run in in_flight if run.cancel is None]
    yield SessionForked(parent=parent, runs=len(state.ledger.runs), in_flight=len(in_flight))
    for run in in_flight:
        yield from _taken_back(run, parent)
    for run in again:
        call = f"fork:{run.run}"
        yield ConfirmRequested(exp=run.exp, call=call, seeds=[run.seed], cls=run.cls, reason=run.reason)
    if hint:
        yield Command(client=f"fork:{state.now.n}", verb="hint", arg=hint)


def _taken_back(run: Run, parent: str) -> Iterator[AnyEvent]:
    """The end of a run that goes on in the parent only."""
    if run.cancel is None:
        yield CancelRequested(run=run.run, attempt=run.attempt, reason=_reason(parent))
    outcome: Outcome = "pruned" if run.stopped_early else "cancelled"
    yield RunFinished(
        run=run.run, attempt=run.attempt, seq=run.seq + 1, outcome=outcome, reason=run.cancel or _reason(parent)
    )


def _reason(parent: str) -> str:
    return f"in flight when this session was forked: it goes on in {parent} only"


# -- the folder


@contextlib.contextmanager
def _aside(session: str) -> Iterator[Path]:
    """A folder to put a session together in; held for as long as somebody does. What the dead left is removed."""
    path = forking_dir() / session
    with contextlib.ExitStack() as held:
        try:
            forking_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
            with _held(forking_dir(), wait=True):  # nobody else sweeps between the making of a folder and its lock
                for left in forking_dir().iterdir():
                    with contextlib.suppress(OSError), _held(left):
                        shutil.rmtree(left, ignore_errors=True)
                path.mkdir(mode=0o700)
                held.enter_context(_held(path))
        except OSError as error:
            raise SessionError(f"the folder {path} cannot be made: {error.strerror}") from None
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)  # half a session is none; a whole one is elsewhere by now


@contextlib.contextmanager
def _held(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder; the kernel lets go of it for the dead. Raises OSError where somebody has it, unless it waits."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(fd)


def _copy_logs(point: ForkPoint, folder: SessionFolder) -> None:
    """The ends of what ended attempts printed. Nothing else of theirs: no executor may take them for its own."""
    state, runs_dir = point.state, point.parent.runs_dir
    open_runs = state.now.runs.values()
    ended = {record.attempt for run in (*state.ledger.runs, *open_runs) for record in run.attempts}
    ended |= {run.attempt for run in state.ledger.runs if run.attempt}
    with contextlib.suppress(FileNotFoundError):
        for attempt in sorted(ended & {entry.name for entry in os.scandir(runs_dir)}):
            _copy_end(runs_dir / attempt / "output.log", folder.runs_dir / attempt)


def _copy_end(log: Path, attempt_dir: Path) -> None:
    try:
        source = log.open("rb")
    except OSError:
        return  # it printed nothing, or somebody has cleaned up
    with source:
        source.seek(max(0, source.seek(0, os.SEEK_END) - LOG_BYTES))
        attempt_dir.mkdir(mode=0o700)
        (attempt_dir / log.name).write_bytes(source.read())


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
