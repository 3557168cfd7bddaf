"""The SQL console: the tables and views that can be asked, and what stands out in a query."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from core.sql import Table
from tui.palette import Role
from tui.text import clean

TABLES_SQL: Final = """
select c.table_name, c.column_name, c.data_type, c.comment, o.is_view, o.comment
from duckdb_columns() c
join (
    select database_name, schema_name, table_name, comment, false as is_view from duckdb_tables()
    union all
    select database_name, schema_name, view_name, comment, true from duckdb_views()
) o using (database_name, schema_name, table_name)
where not c.internal order by o.is_view desc, c.table_name, c.column_index
"""
"""Asks a session's database for its tables and views."""


class ColumnInfo(NamedTuple):
    """A column of a table or view."""

    name: str
    kind: str
    comment: str


class TableInfo(NamedTuple):
    """A table or view that can be asked."""

    name: str
    is_view: bool
    comment: str
    columns: tuple[ColumnInfo, ...]


def tables_of(answer: Table) -> tuple[TableInfo, ...]:
    """The tables and views in the answer to `TABLES_SQL`."""
    tables: dict[str, TableInfo] = {}
    for name, column, kind, comment, is_view, table_comment in answer.rows:
        table = tables.setdefault(name, TableInfo(clean(name), bool(is_view), clean(table_comment or ""), ()))
        info = ColumnInfo(clean(column), clean(kind).lower(), clean(comment or ""))
        tables[name] = table._replace(columns=(*table.columns, info))
    return tuple(tables.values())


class Listed(NamedTuple):
    """A line of the list of tables: a table or, with `column`, one of its columns."""

    table: TableInfo
    column: ColumnInfo | None

    @property
    def key(self) -> str:
        """What names the line."""
        return self.table.name if self.column is None else f"{self.table.name}.{self.column.name}"

    @property
    def name(self) -> str:
        """What is put into a query."""
        return self.table.name if self.column is None else self.column.name

    @property
    def comment(self) -> str:
        """What it holds."""
        return self.table.comment if self.column is None else self.column.comment


def listed(tables: Sequence[TableInfo], unfolded: frozenset[str]) -> list[Listed]:
    """The list of tables, with the columns of those that are unfolded."""
    lines: list[Listed] = []
    for table in tables:
        lines.append(Listed(table, None))
        if table.name in unfolded:
            lines += [Listed(table, column) for column in table.columns]
    return lines


_TOKENS = re.compile(
    r"(?P<comment>--.*)|(?P<text>'(?:[^']|'')*'?)|(?P<number>\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b)|(?P<word>\b[a-z_]+\b)",
    re.IGNORECASE,
)
_KEYWORDS = re.compile(
    r"(?:all|and|any|as|asc|between|by|case|cast|cross|cube|desc|describe|distinct|else|end|"
    r"except|exclude|exists|explain|false|filter|first|following|for|from|full|group|grouping|"
    r"having|ilike|in|inner|intersect|interval|is|join|last|lateral|left|like|limit|natural|not|"
    r"null|nulls|offset|on|or|order|outer|over|partition|pivot|preceding|qualify|range|recursive|"
    r"replace|right|rollup|row|rows|sample|select|semi|show|struct|summarize|table|then|true|"
    r"unbounded|union|unpivot|using|values|when|where|window|with|within)$",
    re.IGNORECASE,
)
_ROLES: Final = {"comment": Role.MUTED, "text": Role.OBSERVED, "number": Role.CONFIRMED, "word": Role.KEPT}


def coloured(line: str) -> Iterator[tuple[int, int, Role]]:
    """What of a line of SQL stands out, as (start, end, role): keywords, texts, numbers, comments."""
    for match in _TOKENS.finditer(line):
        kind = match.lastgroup
        if kind is not None and (kind != "word" or _KEYWORDS.match(match.group())):
            yield match.start(), match.end(), _ROLES[kind]
