"""Untrusted SQL on sessions: asks a worker process with hard limits, and renders what it answers."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from core.projection import SNAPSHOT_NAME
from core.sql_process import Stop, run

_MIN_COLUMN: Final = 6
_GAP: Final = "  "
_SMALL: Final = 0.1
"""Scores are shown to eight digits (runs differ in the fifth), differences of scores to six."""


class SqlError(Exception):
    """A query has no answer; the text is one sentence that says why and what to do."""


class NoDatabase(SqlError):
    """There is no database to ask: none was published yet, it cannot be opened, or it is of another moment."""


@dataclass(frozen=True, slots=True)
class Table:
    """A query's answer.

    `types` are DuckDB's names. Values are JSON's: times are ISO 8601 text in UTC, decimals are floats.
    `truncated` says that there are more rows; `notices` are sentences about sessions that were left out.
    Of one session, `n` and `t_s` say up to which event, and up to which session second, its database went.
    `size_bytes` is that of the rows as JSON.
    """

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool = False
    notices: list[str] = field(default_factory=list)
    n: int = 0
    t_s: float = 0.0
    size_bytes: int = 0


def query(
    session_dirs: Path | Sequence[Path],
    sql: str,
    *,
    timeout_s: float = 10.0,
    max_rows: int = 10_000,
    at_n: int | None = None,
    stop: Stop | None = None,
) -> Table:
    """Run one reading statement on the published snapshots of one or several sessions.

    Several sessions appear as one: every table and view holds the rows of all, told apart by `session_id`.
    Blocks until the answer; call it from a thread that lives as long as the call.

    Args:
        session_dirs: a session's folder, or several.
        sql: anything, from anybody.
        timeout_s: wall seconds, the worker's start included, after which the worker is killed.
        max_rows: how many rows to return at most.
        at_n: the last event that the database must hold, where only that moment will do.
        stop: ends the query from another thread.

    Raises:
        NoDatabase: no snapshot, one that cannot be opened, or one of another moment than `at_n`.
        SqlError: wrong SQL, a write, too much memory, too long, stopped.
    """
    dirs = [session_dirs] if isinstance(session_dirs, Path) else list(session_dirs)
    snapshots, notices = _snapshots(dirs)
    asked = {"snapshots": [str(path) for path in snapshots], "sql": sql, "max_rows": max_rows, "at_n": at_n}
    head, *rows, foot = _worker_lines(asked, timeout_s, stop or Stop())
    return Table(
        head["columns"], head["types"], rows, foot["truncated"], notices, head["n"], head["t_s"], foot["size_bytes"]
    )


def materialise(
    session_dir: Path, sql: str, into: Path, *, timeout_s: float, at_n: int | None = None, stop: Stop | None = None
) -> int:
    """Put the whole answer of a reading statement, typed as DuckDB has it, into table `rows` of a new database.

    The statement can write nowhere itself: where its answer goes is said before it is read.
    Returns the number of rows. The arguments and errors are those of `query`; `into` must not exist.
    """
    snapshots, _ = _snapshots([session_dir])
    asked = {"snapshots": [str(path) for path in snapshots], "sql": sql, "at_n": at_n, "into": str(into)}
    return int(_worker_lines(asked, timeout_s, stop or Stop())[-1]["rows"])


def _snapshots(dirs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The published files of sessions that have one, and a notice about each that has none."""
    paths = [path.resolve() / SNAPSHOT_NAME for path in dirs]
    missing = [path.parent.name for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        what = f"session {missing[0]} has" if len(missing) == 1 else "no session has"
        raise NoDatabase(
            f"{what} no {SNAPSHOT_NAME} to query yet: an engine publishes it within seconds of its start, and "
            "`python -P -m core.projection SESSION_DIR --rebuild` makes it from the journal"
        )
    notices = [f"session {name} is left out: it has no {SNAPSHOT_NAME} yet" for name in missing]
    return [path for path in paths if path.is_file()], notices


def _too_long(timeout_s: float) -> str:
    return f"the query did not end within {timeout_s:g} s and was stopped: narrow it with WHERE or LIMIT"


def _worker_lines(asked: dict[str, Any], timeout_s: float, stop: Stop) -> list[Any]:
    """What the worker answers, line by line. Raises SqlError."""
    try:
        worker = run("core.sql_worker", {**asked, "timeout_s": timeout_s}, timeout_s, stop)
    except subprocess.TimeoutExpired:
        raise SqlError(_too_long(timeout_s)) from None
    if stop.asked:
        raise SqlError("the query was stopped")
    if worker.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise SqlError(_too_long(timeout_s))
    lines = [json.loads(line) for line in worker.stdout.splitlines()] if worker.returncode == 0 else []
    if not lines:
        last = worker.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SqlError(
            f"the process that runs queries ended with code {worker.returncode}"
            f"{': ' + last if last else ', probably for want of memory'}"
        )
    if isinstance(lines[-1], dict) and "error" in lines[-1]:
        kind = NoDatabase if lines[-1]["no_database"] else SqlError
        raise kind(_printable(lines[-1]["error"]))
    return lines


def json_rows(table: Table) -> str:
    """The rows as a JSON list of objects. A repeated column name gets a number; NaN and infinities become null."""
    names: list[str] = []
    for column in table.columns:
        name, number = column, 1
        while name in names:
            number += 1
            name = f"{column}_{number}"
        names.append(name)
    objects = [dict(zip(names, (_finite(value) for value in row), strict=True)) for row in table.rows]
    return json.dumps(objects, ensure_ascii=False, indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case list():
            return [_finite(item) for item in value]
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case _:
            return value


def format_table(table: Table, width: int) -> str:
    """The rows as aligned text, cut to `width` cells as far as texts and headings give; numbers are never cut.

    Nothing in it can move a cursor or reorder text: control and format characters are replaced.
    """
    head = [_printable(name) for name in table.columns]
    body = [[cell_words(value) for value in row] for row in table.rows]
    columns = range(len(head))
    numeric = [all(isinstance(row[i], int | float | None) for row in table.rows) for i in columns]
    widths = [max(_cells(row[i]) for row in (head, *body)) for i in columns]
    least = [max([_MIN_COLUMN, *(_cells(row[i]) for row in body if numeric[i])]) for i in columns]
    _shrink(widths, least, width - len(_GAP) * (len(widths) - 1))
    lines = [_GAP.join(map(_fit, row, widths, numeric)).rstrip() for row in (head, *body)]
    lines.insert(1, _GAP.join("─" * cells for cells in widths))
    shown = f"{len(table.rows):,} row{'' if len(table.rows) == 1 else 's'}"
    lines.append(f"(the first {shown}; there are more)" if table.truncated else f"({shown})")
    return "\n".join(lines)


def cell_words(value: Any) -> str:
    """A value on one line, numbers as precisely as they mean something."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.8g}" if abs(value) >= _SMALL else f"{value:.6g}"
        case list() | dict():
            return _printable(json.dumps(value, ensure_ascii=False))
        case _:
            return _printable(str(value))


def _printable(text: str) -> str:
    """One line without control, format (bidirectional, zero-width) and private characters."""
    if text.isascii() and text.isprintable():
        return text
    line = text.replace("\r\n", "\n").replace("\n", "↵").replace("\t", " ")
    return "".join("�" if unicodedata.category(char)[0] == "C" else char for char in line)


def _cells(text: str) -> int:
    """Terminal cells: two for wide characters, none for combining ones."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _shrink(widths: list[int], least: list[int], room: int) -> None:
    """Take from the widest column that can give until all fit, or none can."""
    widths[:] = [min(cells, max(room, low)) for cells, low in zip(widths, least, strict=True)]
    while sum(widths) > room:
        giving = [index for index, cells in enumerate(widths) if cells > least[index]]
        if not giving:
            return
        widths[max(giving, key=widths.__getitem__)] -= 1


def _fit(text: str, cells: int, right: bool) -> str:
    if _cells(text) > cells:
        text = text[: cells - 1]
        while _cells(text) > cells - 1:
            text = text[:-1]
        text += "…"
    padding = " " * (cells - _cells(text))
    return padding + text if right else text + padding
