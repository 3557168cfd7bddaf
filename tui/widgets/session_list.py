"""The list of sessions: a table that a line at its foot filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.text import Text
from textual.content import Content
from textual.message import Message

from tui.palette import Look, Role, style_of
from tui.view.home import HomeRow, Order
from tui.widgets.prompt_line import PromptLine
from tui.widgets.virtual_table import Cell, Column, ListRows, TableView, VirtualTable

NEW: Final = ""
"""The key of the row that starts a session: no session has an empty id."""

_ROOMY: Final = 117
_COLUMNS: Final = (
    Column("session", 12, flex=True),
    Column("", 1),
    Column("state", 11),
    Column("best", 6, align="right"),
    Column("Δ", 7, align="right", at_least=_ROOMY),
    Column("runs", 7, align="right", at_least=_ROOMY),
    Column("done", 5, align="right"),
    Column("of", 12, at_least=_ROOMY),
    Column("size", 6, align="right"),
    Column("made", 5),
    Column("at", 5, at_least=_ROOMY),
    Column("by", 18),
)


class SessionList(VirtualTable, PromptLine):
    """Shows rows below the offer of a new session."""

    @dataclass
    class Filtered(Message):
        """The reader wants to see only what has these words in it."""

        needle: str

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="pane")
        self.needle = ""
        self._version = 0

    def show_rows(self, rows: list[HomeRow], leaving: frozenset[str], order: Order, look: Look, *, plain: bool) -> None:
        """Show these rows; those that are `leaving` are being deleted. `plain`: in ASCII."""
        self._version += 1
        accent = style_of(Role.OBSERVED, look)
        offer: tuple[Cell, ...] = (Text("new session", accent), Text("+", accent), Text("enter", accent))
        cells = [(*offer, *[""] * (len(_COLUMNS) - len(offer)))]
        cells += [_cells(row, look, leaving=row.session in leaving, plain=plain) for row in rows]
        keys = [NEW, *(row.session for row in rows)]
        self.show(TableView(_COLUMNS, ListRows(cells, keys), version=self._version, empty=""))
        self.border_title = Content(f"sessions {len(rows)}" if rows else "sessions")
        self.set_foot(Content(order.words()))

    def line_changed(self, text: str) -> None:
        """The list follows what is typed."""
        self.needle = text
        self.post_message(self.Filtered(text))

    def line_kept(self) -> str:
        """What is left out, and how to have it back."""
        return f"/{self.needle} esc shows all" if self.needle else ""


def _cells(row: HomeRow, look: Look, *, leaving: bool, plain: bool) -> tuple[Cell, ...]:
    live, not_live = ("*", ".") if plain else ("●", "○")
    sign = Text(live if row.live else not_live, style_of(Role.OBSERVED if row.live else Role.MUTED, look))
    state = Text("deleting" if leaving else row.state, style_of(row.role, look))
    date, _, hour = row.started.partition(" ")
    return (
        *(row.name, sign, state, row.best, row.gain, row.runs, row.share, row.of),
        *(row.size, date[5:], hour, row.by),
    )
