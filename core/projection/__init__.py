"""The DuckDB projection: session.duckdb, made from the journal by a process of its own, always rebuildable."""

from typing import Final

SNAPSHOT_NAME: Final = "session.duckdb"
"""The published database in a session's folder: replaced as a whole, to be opened read-only by anybody."""
