"""The process that writes a whole answer to a file by DuckDB's COPY: `python -P -m core.sql_copy`.

It runs no SQL of a user's. It reads a JSON request from stdin: `database` (as core.sql.materialise made it), `path`,
`format`; it exits with 0, or with 1 and one sentence on stderr.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final

from core.sql_worker import quoted

if TYPE_CHECKING:
    import duckdb

FORMATS: Final = {"csv": "format csv, header", "parquet": "format parquet", "json": "format json"}
"""What an answer can be saved as, by the end of the file's name, with DuckDB's options. JSON is one object a line."""

_NICENESS: Final = 5


def main() -> int:
    """Serve the one request on stdin."""
    import duckdb

    request = json.load(sys.stdin)
    os.nice(_NICENESS)
    try:
        copy(request["database"], request["path"], request["format"])
    except duckdb.Error as error:
        sys.stderr.write(str(error).partition("\n")[0] + "\n")
        return 1
    return 0


def copy(database: str, path: str, kind: str) -> None:
    """Write table `rows` of a database to a file. Raises duckdb.Error where the file cannot be written."""
    import duckdb

    with duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "512MB"}) as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"attach {quoted(database)} as whole (read_only)")
        con.execute(f"copy ({_selection(con, kind)}) to {quoted(path)} ({FORMATS[kind]})")


def _selection(con: duckdb.DuckDBPyConnection, kind: str) -> str:
    """All columns; for JSON, which has no word for them, NaN and infinities become null."""
    columns = con.execute("describe whole.rows").fetchall()
    parts = []
    for name, column_type, *_ in columns:
        column = '"' + name.replace('"', '""') + '"'
        finite = kind == "json" and column_type in ("DOUBLE", "FLOAT")
        parts.append(f"case when isfinite({column}) then {column} end as {column}" if finite else column)
    return f"select {', '.join(parts)} from whole.rows"  # noqa: S608  quoted names


if __name__ == "__main__":
    raise SystemExit(main())
