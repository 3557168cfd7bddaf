"""The queries that a person ran, kept for that person across sessions: their text, never an answer."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Final

import platformdirs

MOST: Final = 500
"""How many are kept."""

_MAX_CHARACTERS: Final = 20_000
"""A longer query is run, and not kept."""


def history_path() -> Path:
    """In AUTORESEARCH_HOME where that is set, else in the platform's folder for what programs remember."""
    configured = os.environ.get("AUTORESEARCH_HOME")
    folder = (
        Path(configured).expanduser().absolute() if configured else Path(platformdirs.user_state_dir("autoresearch"))
    )
    return folder / "sql-history.jsonl"


class SqlHistory:
    """Queries, oldest first, in a file of one JSON string per line that only its owner may read.

    Several screens may add to it at once. Lines that are none of ours are dropped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def queries(self) -> list[str]:
        """What is kept; nothing where the file is missing or cannot be read."""
        try:
            return _parsed(self._path.read_bytes())
        except OSError:
            return []

    def add(self, sql: str) -> None:
        """Keep a query as the newest, once. Raises OSError where the file cannot be written."""
        if len(sql) > _MAX_CHARACTERS:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = [query for query in _parsed(file.read()) if query != sql]
            lines = b"".join(json.dumps(query).encode() + b"\n" for query in [*kept, sql][-MOST:])
            file.seek(0)
            file.write(lines)
            file.truncate()


def _parsed(data: bytes) -> list[str]:
    queries: list[str] = []
    for line in data.splitlines():
        try:
            query = json.loads(line)
        except ValueError:
            continue
        if isinstance(query, str):
            queries.append(query)
    return queries
