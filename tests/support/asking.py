"""An asker for stories about the SQL console: it answers what the story says, when the story says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.sql import SqlError, Table
from core.sql_console import Answered, FileTaken, Moment, Saved, Say
from tui.view.sql_tables import TABLES_SQL

LEADERS = Table(
    ["place", "experiment_id", "title", "mean_bpb", "n"],
    ["BIGINT", "VARCHAR", "VARCHAR", "DOUBLE", "BIGINT"],
    [
        [1, "e4", "deeper: DEPTH 8 → 9", 0.99312, 3],
        [2, "e2", "a wider\nmodel", 0.99547, 3],
        [3, "e1", "baseline", None, 0],
    ],
)
MESSAGES = Table(
    ["n", "t_s", "content"],
    ["BIGINT", "DOUBLE", "VARCHAR"],
    [[40, 300.5, "nothing left to try"], [12, None, "\x1b[31mred\x1b[0m [bold]not markup[/]"]],
)
RUNS = Table(["run_id", "ended_t_s"], ["VARCHAR", "DOUBLE"], [["r3", 420.0], ["r99999", None]])
TABLES = Table(
    ["table_name", "column_name", "data_type", "comment", "is_view", "comment_1"],
    ["VARCHAR"] * 6,
    [
        ["leaderboard", "place", "BIGINT", "rank on its device class", True, "experiments on each device class"],
        ["experiments", "experiment_id", "VARCHAR", None, False, "hypotheses, with the verdict in force"],
        ["runs", "run_id", "VARCHAR", None, False, "one revision, one seed"],
        ["runs", "val_bpb", "DOUBLE", "validation bits per byte, lower is better", False, "one revision, one seed"],
    ],
)


class Asker:
    """Answers with the table under a word of the query; else with the leaders. `hold` keeps answers back until `go`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Moment]] = []
        self.saved: list[tuple[str, int, Path]] = []
        self.past: list[str] = []
        self.hold = False
        self.stopped = 0
        self.go = asyncio.Event()
        self.taken: set[str] = set()
        self.fails = ""
        self.notices: list[str] = []
        self.truncated = False

    async def ask(self, sql: str, moment: Moment, say: Say) -> Answered:
        if sql == TABLES_SQL:
            return Answered(TABLES, 0.1)
        self.asked.append((sql, moment))
        await self._wait(say, "The query is running")
        known = {"messages": MESSAGES, "runs": RUNS}
        table = next((table for word, table in known.items() if word in sql), LEADERS)
        n = moment.n
        pinned = Table(table.columns, table.types, table.rows, self.truncated, [*self.notices], n, 60.0 * n, 1000)
        return Answered(pinned, 0.25)

    async def save(self, sql: str, n: int, path: Path, say: Say, *, overwrite: bool = False) -> Saved:
        if path.name in self.taken and not overwrite:
            raise FileTaken(f"{path} exists")
        await self._wait(say, "All rows are being fetched")
        self.saved.append((sql, n, path))
        return Saved(path, 25_000, 48_123)

    def history(self) -> list[str]:
        return [*self.past]

    def remember(self, sql: str) -> None:
        self.past = [*(query for query in self.past if query != sql), sql]

    def file_name(self) -> str:
        return "mar5-sql-1.csv"

    async def _wait(self, say: Say, words: str) -> None:
        say(words)
        if self.hold:
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
        if self.fails:
            raise SqlError(self.fails)
