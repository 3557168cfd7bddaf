"""The process that runs one untrusted SQL statement on published snapshots: `python -P -m core.sql_worker`.

It reads a JSON request from stdin and writes JSON lines to stdout: a header, rows, a footer; or one error.
What DuckDB's settings do not stop (they bound neither memory nor time) the kernel's limits and the parent do.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from core.projection import schema

if TYPE_CHECKING:
    import duckdb

ADDRESS_SPACE_BYTES: Final = 1_500 * 2**20
"""Stops `list_sum(range(2000000000))`, which DuckDB's memory_limit does not."""

MAX_SAVED_BYTES: Final = 4 * 2**30
"""No file of an answer that is kept whole grows beyond this size. Other answers may write no file at all."""

MAX_RESULT_BYTES: Final = 32 * 2**20
"""A result is cut where its rows, as JSON, reach this size."""

_THREADS: Final = 2
_FETCH_ROWS: Final = 500
_NICENESS: Final = 5
"""Runs on this machine's CPUs do not wait for a query, nor do keys."""
_READING: Final = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""Statement types that are let through. MULTI is a PIVOT. Read-only snapshots stop what hides in a SELECT."""

_SETTINGS: Final = (
    "errors_as_json = true",
    "timezone = 'UTC'",
    f"threads = {_THREADS}",
    "memory_limit = '512MB'",
    "max_temp_directory_size = '0B'",
    "python_enable_replacements = false",
    "allow_community_extensions = false",
    "autoload_known_extensions = false",
    "autoinstall_known_extensions = false",
    "enable_external_access = false",
    "lock_configuration = true",
)


class Refused(Exception):
    """The statement must not or cannot run; the text is one sentence for the user."""


class WrongDatabase(Refused):
    """It is not the statement: the snapshot cannot be opened, or is of another moment."""


def main() -> None:
    """Serve the one request on stdin."""
    request = json.load(sys.stdin)
    _die_with(request["parent"])
    into = request.get("into")
    _limit(request["timeout_s"], 0 if into is None else MAX_SAVED_BYTES)
    try:
        for line in answer(
            request["snapshots"], request["sql"], request.get("max_rows", 0), at_n=request["at_n"], into=into
        ):
            sys.stdout.write(line + "\n")
    except Refused as refused:
        error = {"error": str(refused), "no_database": isinstance(refused, WrongDatabase)}
        sys.stdout.write(json.dumps(error) + "\n")


def answer(
    snapshots: list[str], sql: str, max_rows: int, *, at_n: int | None = None, into: str | None = None
) -> Iterator[str]:
    """Run one statement on the snapshots and yield lines of JSON: header, rows, footer.

    Args:
        at_n: the last event that the one snapshot must hold; None: whatever it holds.
        into: a database to make, whose table `rows` takes the whole answer; then the number of rows is all that
            is yielded.

    Raises:
        Refused: for whatever reason there is no answer; it may come after some rows.
    """
    import duckdb

    try:
        con = _connect(snapshots, into)
        moment = _moment(con, at_n) if len(snapshots) == 1 else (0, 0.0)
        yield from _lines(con, sql, max_rows, moment) if into is None else _whole(con, sql)
    except (duckdb.OutOfMemoryException, MemoryError):
        raise Refused(
            "the query needs more memory than it may have (512 MB for its plan, 1.5 GB in all): "
            "narrow it with WHERE, LIMIT or fewer columns"
        ) from None
    except duckdb.Error as error:
        raise Refused(_sentence(error, sql)) from None


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, whatever the query does then."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(timeout_s: float, file_bytes: int) -> None:
    os.nice(_NICENESS)
    cpu_s = math.ceil(timeout_s * _THREADS) + 2
    for limit, value in (
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _connect(snapshots: list[str], into: str | None) -> duckdb.DuckDBPyConnection:
    """Attach the snapshots read-only, show one as it is or several as one, then lock every door."""
    import duckdb

    con = duckdb.connect(":memory:")
    for index, path in enumerate(snapshots):
        try:
            con.execute(f"attach {quoted(path)} as s{index} (read_only)")
        except duckdb.Error as error:
            raise WrongDatabase(
                f"{path} cannot be opened: {str(error).splitlines()[0]}; delete it, and make it anew with "
                "`python -P -m core.projection SESSION_DIR --rebuild`"
            ) from None
    if into is not None:
        con.execute(f"attach {quoted(into)} as whole")
    if len(snapshots) == 1:
        con.execute("use s0")
    else:
        _unite(con)
    for setting in _SETTINGS:
        con.execute(f"set {setting}")
    return con


def quoted(path: str) -> str:
    """A path as a text in SQL."""
    return "'" + path.replace("'", "''") + "'"


def _moment(con: duckdb.DuckDBPyConnection, at_n: int | None) -> tuple[int, float]:
    """Up to which event and session second the snapshot goes.

    Raises:
        WrongDatabase: it is not of the event that is asked for, in the tables of this release.
    """
    n, t_s = con.execute(
        "select coalesce((select n from projection), 0), coalesce((select last_t_s from sessions), 0)"
    ).fetchall()[0]
    if at_n is not None and n != at_n:
        raise WrongDatabase(f"the database is as of event #{n:,}, not as of event #{at_n:,}")
    if at_n is not None and con.execute("select schema_sha from meta").fetchall() != [(schema()[1],)]:
        raise WrongDatabase("the database was made by another release, with other tables")
    return n, t_s


def _unite(con: duckdb.DuckDBPyConnection) -> None:
    """Make views that show the same table of all snapshots as one; columns may differ between releases."""
    where: dict[str, list[str]] = {}
    for database, name in con.execute(
        """
        select database_name, table_name from duckdb_tables() where database_name <> 'memory' and not internal
        union all
        select database_name, view_name from duckdb_views() where database_name <> 'memory' and not internal
        order by all
        """
    ).fetchall():
        where.setdefault(name, []).append(database)
    for name, databases in where.items():
        parts = " union all by name ".join(f'from {database}.main."{name}"' for database in databases)
        con.execute(f'create view "{name}" as {parts}')


def _whole(con: duckdb.DuckDBPyConnection, sql: str) -> Iterator[str]:
    statement = _one_reading_statement(con, sql)
    if statement.lstrip().lower().startswith("explain"):
        raise Refused("what EXPLAIN says is no table: it can be copied, not saved")
    con.execute(f"create table whole.rows as from ({_bare(statement)}\n)")
    con.execute("checkpoint whole")
    yield json.dumps({"rows": con.execute("select count(*) from whole.rows").fetchall()[0][0]})


def _bare(statement: str) -> str:
    return statement.rstrip().rstrip(";")


def _lines(con: duckdb.DuckDBPyConnection, sql: str, max_rows: int, moment: tuple[int, float]) -> Iterator[str]:
    statement = _one_reading_statement(con, sql)
    con.execute(statement)
    columns = [(str(name), str(kind)) for name, kind, *_ in con.description or ()]
    zoned = [kind == "TIMESTAMP WITH TIME ZONE" for _, kind in columns]
    if any(zoned):
        # DuckDB hands these to Python only with a package that we do not have; all times here are UTC anyhow.
        casts = ", ".join(f"#{i}::timestamp" if zone else f"#{i}" for i, zone in enumerate(zoned, start=1))
        con.execute(f"select {casts} from ({_bare(statement)}\n)")  # noqa: S608  it is the user's SQL
    n, t_s = moment
    yield json.dumps(
        {"columns": [name for name, _ in columns], "types": [kind for _, kind in columns], "n": n, "t_s": t_s}
    )
    rows = size = 0
    while batch := con.fetchmany(_FETCH_ROWS):
        for row in batch:
            line = json.dumps([_plain(value) for value in row])
            if rows == max_rows or size + len(line) > MAX_RESULT_BYTES:
                yield json.dumps({"truncated": True, "size_bytes": size})
                return
            size += len(line)
            rows += 1
            yield line
    yield json.dumps({"truncated": False, "size_bytes": size})


def _one_reading_statement(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    statements = con.extract_statements(sql)
    if len(statements) != 1:
        raise Refused("there is no SQL to run" if not statements else "only one SQL statement can run at a time")
    kind = "unknown"
    with contextlib.suppress(ValueError):  # DuckDB has statement types that its Python enum lacks
        kind = statements[0].type.name
    if kind not in _READING:
        raise Refused(
            f"a statement of type {kind} is refused, the database is a read-only snapshot: ask with SELECT, FROM, "
            "WITH, PIVOT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN"
        )
    return str(statements[0].query)


def _sentence(error: duckdb.Error, sql: str) -> str:
    """DuckDB's complaint on one line, with line and column where it gives a position."""
    text = str(error)
    try:
        details = json.loads(text[text.index("{") :])
    except ValueError:
        details = {"exception_type": text.partition(" Error")[0], "exception_message": text}
    message = " ".join(str(details["exception_message"]).split())
    if "read-only mode" in message or message.endswith("is not an table"):
        return "writing is refused: the database is a read-only snapshot"
    if details["exception_type"] == "Permission":
        return f"a query may touch no files, extensions or settings: {message}"
    place = ""
    if str(details.get("position", "")).isdigit():
        before = sql.encode()[: int(details["position"])].decode(errors="replace")
        place = f" at line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
    return f"SQL error{place}: {message}"


def _plain(value: Any) -> Any:
    """What JSON can hold: times as ISO 8601, decimals as numbers, bytes as hex, what else there is as text."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return float(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case list() | tuple():
            return [_plain(item) for item in value]
        case dict():
            return {str(_plain(key)): _plain(item) for key, item in value.items()}
        case _:
            return str(value)


if __name__ == "__main__":
    main()
