"""Published snapshots in tests: make one from events, read all of it, let its journal grow."""

from __future__ import annotations

from pathlib import Path

import duckdb

from core.projection import SNAPSHOT_NAME
from core.projection.ingest import rebuild
from tests.support.story import write_journal


def contents(folder: Path) -> dict[str, list[tuple]]:
    """All rows of all tables and views of a snapshot, in an order of their own."""
    with duckdb.connect(str(folder / SNAPSHOT_NAME), read_only=True) as con:
        names = [name for (name,) in con.execute("show tables").fetchall()]
        return {name: con.execute(f"from {name} order by all").fetchall() for name in names}


def ask(folder: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(folder / SNAPSHOT_NAME), read_only=True) as con:
        return con.execute(sql).fetchall()


def published(folder: Path, events, **options) -> Path:
    """A session's folder with a journal of these events and its snapshot."""
    write_journal(folder / "journal", events, **options)
    assert rebuild(folder) is None
    return folder


def journal_bytes(folder: Path) -> bytes:
    return (folder / "journal" / "000001.jsonl").read_bytes()


def append(folder: Path, events) -> None:
    """Let a journal grow as an engine does: by whole lines at its end."""
    grown = folder / "grown"
    write_journal(grown, events)
    data = (grown / "000001.jsonl").read_bytes()
    journal = folder / "journal" / "000001.jsonl"
    with journal.open("ab") as file:
        file.write(data[journal.stat().st_size :])
