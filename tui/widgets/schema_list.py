"""The tables and views that can be asked; a table unfolds into its columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual.binding import BindingType
from textual.content import Content

from tui.bindings import Where, bindings_for
from tui.view.sql_tables import Listed, TableInfo, listed
from tui.widgets.virtual_table import Column, ListRows, TableView, VirtualTable

_COLUMNS: Final = (Column("name", 20, flex=True), Column("type", 10))


class SchemaList(VirtualTable):
    """`show_tables` lists them; the comment on the line under the cursor stands in the lower border."""

    PLACE: ClassVar[Where] = "schema"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tables: Sequence[TableInfo] = ()
        self._unfolded: frozenset[str] = frozenset()
        self._listed: list[Listed] = []

    def show_tables(self, tables: Sequence[TableInfo]) -> None:
        """List these."""
        self._tables = tables
        self._listed = listed(tables, self._unfolded)
        cells = [
            (Text(f"  {line.name}"), line.column.kind)
            if line.column
            else (line.name, "view" if line.table.is_view else "table")
            for line in self._listed
        ]
        rows = ListRows(cells, [line.key for line in self._listed])
        version = (tuple(table.name for table in tables), self._unfolded)
        self.show(TableView(_COLUMNS, rows, version=version, empty="listed after the first answer"))

    def line(self, key: str | None) -> Listed | None:
        """A line by its key."""
        return next((line for line in self._listed if line.key == key), None)

    def on_virtual_table_row_highlighted(self) -> None:
        """Say what the table or column under the cursor holds."""
        self._comment()

    def action_unfold(self, unfold: bool) -> None:
        """Show or hide the columns of the table under the cursor."""
        line = self.line(self.cursor_key)
        if line is not None:
            name = {line.table.name}
            self._unfolded = self._unfolded | name if unfold else self._unfolded - name
            self.show_tables(self._tables)
            if not unfold:
                self._goto(next(index for index, one in enumerate(self._listed) if one.key == line.table.name))
            self._comment()

    def _comment(self) -> None:
        line = self.line(self.cursor_key)
        self.border_subtitle = Content(line.comment) if line is not None and line.comment else None
