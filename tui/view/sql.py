"""The SQL console: answers pinned to their moments, as rows, and what a row points at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from rich.cells import cell_len

from core.sql import Table, cell_words
from core.sql_questions import QUESTIONS
from core.state import SessionState
from tui.text import clean, clean_lines
from tui.view.sql_tables import TableInfo
from tui.view.words import clock_words, count_words

COPY_BYTES: Final = 64 * 1024
"""How much is copied at most: many terminals take no more in one OSC 52."""

_KEPT_BYTES: Final = 64 * 2**20
_KEPT_ANSWERS: Final = 50
"""Answers at hand: the newest, up to so many and about so many bytes of JSON."""

_MEASURED_ROWS: Final = 200
_WIDEST: Final = 48
_WIDE_ENOUGH: Final = 14
_NARROWEST: Final = 4
_NUMERIC = re.compile(r"(?:U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|DOUBLE|FLOAT|DECIMAL.*)$")
_EXPERIMENT = re.compile(r"e\d+$")
_RUN = re.compile(r"r\d+(?:\.\d+)?$")


@dataclass(frozen=True, slots=True)
class Pinned:
    """An answer, pinned to the moment that it is of: event `table.n`, session second `table.t_s`.

    `number` counts the answers of this screen; `took_s` is wall seconds.
    """

    number: int
    sql: str
    table: Table
    took_s: float


@dataclass(slots=True)
class Desk:
    """What lies on the reader's desk as long as a session's screen is open, whether the console is on show or not."""

    draft: str = QUESTIONS[0].sql
    answers: list[Pinned] = field(default_factory=list)
    """Oldest first."""
    shown: Pinned | None = None
    tables: tuple[TableInfo, ...] = ()
    asked: int = 0

    def pin(self, sql: str, table: Table, took_s: float) -> Pinned:
        """Keep an answer and show it; the oldest ones go when they get too many or too large."""
        self.asked += 1
        pinned = Pinned(self.asked, sql, table, took_s)
        self.answers.append(pinned)
        while len(self.answers) > 1 and (
            len(self.answers) > _KEPT_ANSWERS or sum(one.table.size_bytes for one in self.answers) > _KEPT_BYTES
        ):
            del self.answers[0]
        self.shown = pinned
        return pinned

    def answer(self, number: str) -> Pinned | None:
        """An answer by its number."""
        return next((one for one in self.answers if str(one.number) == number), None)


class Here(NamedTuple):
    """Where a row points: an event (its number) or a session second."""

    kind: Literal["event", "second"]
    at: float


# ---- answers ----------------------------------------------------------------------------------------------------


class AnswerRows:
    """The rows of an answer for a virtual table: worded when they come into sight."""

    def __init__(self, table: Table) -> None:
        self._rows = table.rows

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> Sequence[str]:
        """The cells of a row."""
        return [value_words(value) for value in self._rows[index]]

    def key(self, index: int) -> str:
        """Its number, from 0."""
        return str(index)

    def index(self, key: str) -> int | None:
        """Where a row stands."""
        return int(key) if int(key) < len(self._rows) else None

    def words(self, index: int) -> str:
        """The row's cells, parted by tabs; what is null is empty."""
        return "\t".join("" if value is None else value_words(value) for value in self._rows[index])


class AnswerColumn(NamedTuple):
    """A column of an answer, `width` cells wide; `flex` takes what room is left, `right` holds numbers."""

    title: str
    width: int
    flex: bool
    right: bool


def answer_columns(table: Table, room: int) -> tuple[AnswerColumn, ...]:
    """As wide as headings and the first rows need, within bounds; the last column of texts takes the rest.

    Where that is wider than `room`, texts give way to some degree, the widest first; numbers never do.
    """
    right = [_NUMERIC.match(kind) is not None for kind in table.types]
    texts = [index for index, number in enumerate(right) if not number]
    sample = table.rows[:_MEASURED_ROWS]
    widths = [_width(name, [row[index] for row in sample]) for index, name in enumerate(table.columns)]
    excess = sum(widths) + len(widths) - 1 - room
    while excess > 0 and texts:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= _WIDE_ENOUGH:
            break
        widths[widest] -= 1
        excess -= 1
    return tuple(
        AnswerColumn(clean(name), widths[index], bool(texts) and index == texts[-1], right[index])
        for index, name in enumerate(table.columns)
    )


def _width(name: str, values: Sequence[Any]) -> int:
    widest = max((cell_len(value_words(value)) for value in values), default=0)
    return max(_NARROWEST, min(_WIDEST, max(widest, cell_len(clean(name)))))


def value_words(value: Any) -> str:
    """A value as one harmless line."""
    return clean(value if isinstance(value, str) else cell_words(value))


def moment_words(table: Table) -> str:
    """`event #900, 3:25:10`."""
    return f"event #{table.n:,}, {clock_words(table.t_s)}"


def title_words(pinned: Pinned) -> str:
    """What the border over an answer says: how much, and of when."""
    first = "the first " if pinned.table.truncated else ""
    return f"answer · {first}{count_words(len(pinned.table.rows), 'row')} as of {moment_words(pinned.table)}"


def answered_words(pinned: Pinned) -> str:
    """What is to be said about an answer beside its rows."""
    words = [
        f"Took {pinned.took_s:.1f} s.",
        *(f"{text[0].upper()}{text[1:]}." for text in pinned.table.notices if text),
    ]
    if pinned.table.truncated:
        words.insert(1, "There are more rows; w saves all of them.")
    return " ".join(map(clean, words))


def size_words(size_bytes: int) -> str:
    """`812 bytes`, `3.4 kB`, `12.0 MB`."""
    if size_bytes < 1000:
        return count_words(size_bytes, "byte")
    return f"{size_bytes / 1000:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1_000_000:,.1f} MB"


def answers_rows(desk: Desk) -> tuple[list[tuple[str, str, str, str]], list[str]]:
    """All answers at hand, newest first, as cells (time, event, rows, query) and keys."""
    newest = desk.answers[::-1]
    cells = [
        (
            ("> " if one is desk.shown else "  ") + clock_words(one.table.t_s),
            f"#{one.table.n}",
            str(len(one.table.rows)) + ("+" if one.table.truncated else ""),
            clean(one.sql),
        )
        for one in newest
    ]
    return cells, [str(one.number) for one in newest]


# ---- a row ------------------------------------------------------------------------------------------------------


def experiment_of(table: Table, row: Sequence[Any], state: SessionState) -> str | None:
    """The experiment that a row is about: named in it, or that of a run or an attempt in it."""
    named = list(zip(table.columns, row, strict=True))
    ids = [value for _, value in sorted(named, key=lambda pair: pair[0] != "experiment_id") if isinstance(value, str)]
    for value in ids:
        if _EXPERIMENT.match(value):
            return value
    for value in ids:
        if _RUN.match(value) and (run := state.run(value.partition(".")[0])) is not None:
            return run.exp
    return None


def here_of(table: Table, row: Sequence[Any]) -> Here | None:
    """The moment that a row names: an event's number in `n` or `last_n`, else the first session second (`…t_s`)."""
    named = list(zip(table.columns, row, strict=True))
    for column, value in named:
        if column in ("n", "last_n") and isinstance(value, int) and _is_event_number(table):
            return Here("event", value)
    for column, value in named:
        if _is_session_second(column) and isinstance(value, int | float):
            return Here("second", float(value))
    return None


def _is_event_number(table: Table) -> bool:
    """In `leaderboard` and in a person's own counts, n is a number of runs: an event is told by what goes with it."""
    return "last_n" in table.columns or any(
        _is_session_second(column) or column.endswith("_at") or column in ("content", "patch", "reason", "why")
        for column in table.columns
    )


def _is_session_second(column: str) -> bool:
    return column == "t_s" or column.endswith("_t_s")


def row_words(table: Table, row: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    """A row in full, column by column, as harmless lines."""
    for column, value in zip(table.columns, row, strict=True):
        yield clean(column), clean_lines(value) if isinstance(value, str) else [value_words(value)]


def tab_separated(table: Table, rows: Sequence[int], *, head: bool) -> tuple[str, int]:
    """Rows, by their numbers from 0, as lines of cells parted by tabs: as many as may be copied, and their count."""
    worded = AnswerRows(table)
    lines = ["\t".join(map(clean, table.columns))] if head else []
    size = sum(len(line.encode()) + 1 for line in lines)
    for copied, index in enumerate(rows):
        line = worded.words(index)
        size += len(line.encode()) + 1
        if size > COPY_BYTES:
            return "\n".join(lines), copied
        lines.append(line)
    return "\n".join(lines), len(rows)
