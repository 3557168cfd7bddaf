"""The DuckDB projection: session.duckdb, made from the journal by a process of its own, always rebuildable."""

import hashlib
from pathlib import Path
from typing import Final

SNAPSHOT_NAME: Final = "session.duckdb"
"""The published database in a session's folder: replaced as a whole, to be opened read-only by anybody."""


_SCHEMA: Final = Path(__file__).with_name("schema.sql")


def schema() -> tuple[str, str]:
    """The statements that make the tables and views of this release, and their SHA-256."""
    text = _SCHEMA.read_text(encoding="utf-8")
    return text, hashlib.sha256(text.encode()).hexdigest()
