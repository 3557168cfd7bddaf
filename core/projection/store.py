"""The private database: rows and the journal's position in one transaction, and snapshots published from it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.events import Verdict
from core.journal import START, Position
from core.projection import SNAPSHOT_NAME, schema
from core.projection.fold import RowFold, Rows

if TYPE_CHECKING:
    import duckdb

STORE_NAME: Final = "projection.duckdb"
STORAGE_VERSION: Final = "v1.5.0"
"""The newest file format that the duckdb command line of most distributions reads."""

_REWRITTEN: Final = {
    "sessions": "true",
    "devices": "true",
    "runs": "ended_t_s is null",
    "attempts": "ended_t_s is null",
    "idle": "not settled",
    "model_requests": "status = 'open'",
}
"""What each transaction removes before it writes the open rows anew: as many as queue and devices hold."""


class Store:
    """`projection.duckdb` of one session: the caller holds the projection's lock.

    A file that is missing, unreadable or of another schema is made anew, empty.
    """

    def __init__(self, session_dir: Path) -> None:
        self._dir = session_dir
        self._path = session_dir / STORE_NAME
        self._schema, self._schema_sha = schema()
        self._con = self._open()

    def _open(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self._path.exists():
            with contextlib.suppress(duckdb.Error):
                con = self._attach()
                with contextlib.suppress(duckdb.Error):
                    if con.execute("select schema_sha from meta").fetchall() == [(self._schema_sha,)]:
                        return con
                con.close()
        return self._create()

    def _attach(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        con = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "1GB"})
        try:
            path = str(self._path).replace("'", "''")
            con.execute(f"attach '{path}' as store (storage_version '{STORAGE_VERSION}')")
            con.execute("use store")
        except duckdb.Error:
            con.close()
            raise
        return con

    def _create(self) -> duckdb.DuckDBPyConnection:
        for path in (self._path, self._path.with_name(STORE_NAME + ".wal")):
            path.unlink(missing_ok=True)
        con = self._attach()
        self._path.chmod(0o600)
        con.execute("begin")
        con.execute(self._schema)
        con.execute("insert into meta values (?, ?)", [self._schema_sha, STORAGE_VERSION])
        con.execute("commit")
        return con

    def reset(self) -> None:
        """Begin anew with an empty database."""
        self._con.close()
        self._con = self._create()

    def position(self) -> Position:
        """How far the journal is ingested."""
        found = self._con.execute("select segment, byte_offset, n, crc from projection").fetchone()
        return START if found is None else Position(*found)

    def write(self, fold: RowFold, position: Position) -> None:
        """Put what a fold has collected, and the position it has reached, into one transaction."""
        self._con.execute("begin")
        try:
            for table, condition in _REWRITTEN.items():
                self._con.execute(f"delete from {table} where {condition}")  # noqa: S608  our own constants
            self._append(fold.drain_settled())
            self._append(fold.open_rows())
            self._set_verdicts(fold.drain_verdicts())
            self._con.execute("delete from projection")
            self._con.execute("insert into projection values (?, ?, ?, ?)", list(position))
        except BaseException:
            self._con.execute("rollback")
            raise
        self._con.execute("commit")

    def _append(self, rows_of: Rows) -> None:
        for table, rows in rows_of.items():
            if rows:
                appender = self._con.appender(table)
                appender.append_rows(rows)
                appender.flush()

    def _set_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Show the verdict in force beside each experiment."""
        if not verdicts:
            return
        self._con.execute(
            """
            update experiments as e
            set verdict = v.verdict, delta_bpb = v.delta, delta_low = v.low, delta_high = v.high
            from (
                select unnest(?::varchar[]) as exp, unnest(?::varchar[]) as verdict, unnest(?::double[]) as delta,
                    unnest(?::double[]) as low, unnest(?::double[]) as high
            ) as v
            where e.experiment_id = v.exp
            """,
            [
                [event.exp for event in verdicts],
                [event.verdict for event in verdicts],
                [event.delta for event in verdicts],
                [None if event.interval is None else event.interval[0] for event in verdicts],
                [None if event.interval is None else event.interval[1] for event in verdicts],
            ],
        )

    def publish(self) -> None:
        """Replace the snapshot by a copy of the database as it is now; readers keep what they have open.

        Raises:
            OSError: the disk is full or broken; the snapshot before is untouched.
        """
        self._con.execute("checkpoint store")
        partial = self._dir / (SNAPSHOT_NAME + ".partial")
        try:
            shutil.copyfile(self._path, partial)
            partial.chmod(0o600)
            _sync(partial)
            partial.replace(self._dir / SNAPSHOT_NAME)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        _sync(self._dir)

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
