"""SQL on one session at one moment: finds or makes the database of that moment, asks it, saves whole answers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from core.control import EngineGone, request
from core.projection import SNAPSHOT_NAME
from core.session import SessionError, SessionFolder
from core.sql import NoDatabase, SqlError, Table, materialise, query
from core.sql_copy import FORMATS
from core.sql_history import SqlHistory
from core.sql_process import Stop, run, start

TIMEOUT_S: Final = 30.0
"""Wall seconds that a query may take."""

SAVE_TIMEOUT_S: Final = 300.0
"""Wall seconds that a whole answer, and then its file, may take."""

_PUBLISH_S: Final = 5.0
"""How long an engine may take to publish before what it published last has to do."""

_CUTS: Final = 4
"""Databases of past moments that are kept at hand."""

Say = Callable[[str], None]
"""Hears in a sentence what is being waited for; called on the event loop."""

T = TypeVar("T")


class Moment(NamedTuple):
    """What a query is to see: everything up to event `n`, or, where the engine is at work and `live`, the newest."""

    n: int
    live: bool


class Saved(NamedTuple):
    """A file that holds a whole answer."""

    path: Path
    rows: int
    size_bytes: int


class Answered(NamedTuple):
    """An answer, and how long it took in wall seconds."""

    table: Table
    took_s: float


class FileTaken(SqlError):
    """There is a file of this name, and nobody said that it may go."""


class SqlConsole:
    """Asks one session. Coroutines may be cancelled at any time: the process that they wait for is killed.

    A live session is asked on what its engine publishes. Any other moment is asked on the published database where
    that is of this very moment; else one is made from the journal, elsewhere, exactly as it was then.
    """

    def __init__(self, folder: SessionFolder, history: SqlHistory) -> None:
        self._folder = folder
        self._history = history
        self._cuts: dict[int, Path] = {}
        self._room: Path | None = None

    def history(self) -> list[str]:
        """The person's queries, oldest first."""
        return self._history.queries()

    def remember(self, sql: str) -> None:
        """Add a query to the person's; where that is impossible, it is merely not there the next time."""
        with contextlib.suppress(OSError):
            self._history.add(sql)

    def file_name(self) -> str:
        """A name in the current folder that an answer can be saved under: NAME-sql-1.csv, or a later number."""
        try:
            name = self._folder.config().name
        except SessionError:
            name = self._folder.path.name
        numbers = itertools.count(1)
        return next(file for number in numbers if not Path(file := f"{name}-sql-{number}.csv").exists())

    async def ask(self, sql: str, moment: Moment, say: Say) -> Answered:
        """Answer a query as of a moment.

        Raises:
            SqlError: there is no answer; the text says why.
        """
        began_s = time.monotonic()
        notice = await self._freshen(say) if moment.live else ""
        table = await self._in_thread(partial(self._ask, sql, None if moment.live else moment.n), say)
        if notice:
            table.notices.append(notice)
        return Answered(table, time.monotonic() - began_s)

    async def save(self, sql: str, n: int, path: Path, say: Say, *, overwrite: bool = False) -> Saved:
        """Save all rows of a query, as of event `n`, as CSV, Parquet or JSON lines, by the end of the file's name.

        Raises:
            FileTaken: the file is there already, and `overwrite` is False.
            SqlError: it could not be saved; nothing half-written is left.
        """
        path, kind = _target(path, overwrite=overwrite)
        return await self._in_thread(partial(self._save, sql, n, path, kind), say)

    def close(self) -> None:
        """Remove what was made for past moments."""
        if self._room is not None:
            shutil.rmtree(self._room, ignore_errors=True)
        self._room, self._cuts = None, {}

    async def _freshen(self, say: Say) -> str:
        """Have the newest events published; a sentence where that could not be had."""
        say("The engine is publishing the newest events")
        try:
            async with asyncio.timeout(_PUBLISH_S):
                reply = await request(self._folder, "publish")
        except (EngineGone, TimeoutError):
            return "the engine does not answer: this is what it published last"
        return "" if reply.ok else reply.text

    async def _in_thread(self, work: Callable[[Say, Stop], T], say: Say) -> T:
        """Run what waits for processes beside the event loop; a cancelled wait kills them."""
        stop, loop = Stop(), asyncio.get_running_loop()

        def say_from_there(words: str) -> None:
            if not stop.asked:
                loop.call_soon_threadsafe(say, words)

        try:
            return await asyncio.to_thread(work, say_from_there, stop)
        except OSError as error:
            raise SqlError(f"no process can be started for the query, or no file made: {error}") from None
        finally:
            stop.now()

    def _ask(self, sql: str, n: int | None, say: Say, stop: Stop) -> Table:
        return self._on_database(n, say, stop, lambda folder, at_n: _query(folder, sql, at_n, say, stop))

    def _save(self, sql: str, n: int, path: Path, kind: str, say: Say, stop: Stop) -> Saved:
        with tempfile.TemporaryDirectory(prefix="sql-", dir=self._temporary()) as room:
            whole = Path(room) / "whole.duckdb"

            def keep(folder: Path, at_n: int | None) -> int:
                say("All rows are being fetched")
                whole.unlink(missing_ok=True)
                return materialise(folder, sql, whole, timeout_s=SAVE_TIMEOUT_S, at_n=at_n, stop=stop)

            rows = self._on_database(n, say, stop, keep)
            say(f"{rows:,} rows are being written")
            # Beside its place, so that it comes there in one step.
            partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
            try:
                _copy(whole, partial_path, kind, stop)
                size_bytes = partial_path.stat().st_size
                partial_path.replace(path)
            except OSError as error:
                raise SqlError(f"{path} cannot be written: {error.strerror}") from None
            finally:
                with contextlib.suppress(OSError):
                    partial_path.unlink(missing_ok=True)
        return Saved(path, rows, size_bytes)

    def _on_database(self, n: int | None, say: Say, stop: Stop, work: Callable[[Path, int | None], T]) -> T:
        """Work on the published database, where it is of event `n` (None: whatever it is of), else on one made so."""
        if n not in self._cuts:
            try:
                return work(self._folder.path, n)
            except NoDatabase:
                if n is None:
                    raise
        assert n is not None
        return work(self._cuts.get(n) or self._cut(n, say, stop), n)

    def _cut(self, n: int, say: Say, stop: Stop) -> Path:
        """Make the database of a past moment from the journal. Raises SqlError."""
        if not self._folder.journal_dir.is_dir():
            raise SqlError(f"{self._folder.path} has no journal any more, and no database of this moment")
        place = Path(tempfile.mkdtemp(prefix="at-", dir=self._temporary()))
        try:
            _build(self._folder.path, n, place, say, stop)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        while len(self._cuts) >= _CUTS:
            shutil.rmtree(self._cuts.pop(next(iter(self._cuts))), ignore_errors=True)
        self._cuts[n] = place
        return place

    def _temporary(self) -> Path:
        """A folder of ours, for this user alone, until `close`."""
        if self._room is None:
            self._room = Path(tempfile.mkdtemp(prefix="autoresearch-sql-"))
        return self._room


def _target(path: Path, *, overwrite: bool) -> tuple[Path, str]:
    """Where to save, in full, and in what format. Raises SqlError, FileTaken."""
    path = path.expanduser().absolute()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise SqlError(f"{path.name} does not say what to save: end the name with .csv, .parquet or .json")
    if not path.parent.is_dir():
        raise SqlError(f"the folder {path.parent} does not exist")
    if path.is_dir():
        raise SqlError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise FileTaken(f"{path} exists")
    return path, kind


def _query(folder: Path, sql: str, at_n: int | None, say: Say, stop: Stop) -> Table:
    say("The query is running")
    return query(folder, sql, timeout_s=TIMEOUT_S, at_n=at_n, stop=stop)


def _build(session_dir: Path, n: int, place: Path, say: Say, stop: Stop) -> None:
    """Fill `place` with the database as of event `n`. Raises SqlError."""
    words = f"The database as of event #{n:,} is being made from the journal"
    say(words)
    with start("core.projection", str(session_dir), "--upto", str(n), str(place)) as process:
        stop.watch(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        for line in process.stdout:
            say(f"{words}: {100 * int(line) // n} %")
        problem = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
    if stop.asked:
        raise SqlError("the query was stopped")
    if process.returncode != 0 or not (place / SNAPSHOT_NAME).is_file():
        raise SqlError(problem or f"the database as of event #{n:,} could not be made from the journal")


def _copy(whole: Path, path: Path, kind: str, stop: Stop) -> None:
    """Raises SqlError."""
    try:
        done = run("core.sql_copy", {"database": str(whole), "path": str(path), "format": kind}, SAVE_TIMEOUT_S, stop)
    except subprocess.TimeoutExpired:
        raise SqlError(f"the file was not written within {SAVE_TIMEOUT_S:g} s and was given up") from None
    if stop.asked:
        raise SqlError("the saving was stopped")
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SqlError(
            f"the file cannot be written: {last or f'the process that writes it ended with {done.returncode}'}"
        )
