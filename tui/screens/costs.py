"""Costs and limits, over the panes: how far each limit is, tokens, dollars, what an improvement took."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from core.sources import Source
from tui.look import charset_of
from tui.raster.blocks import bar
from tui.view.costs import CostsView, costs_view
from tui.view.limits import LimitsView

_BAR_CELLS: Final = 14


class CostsScreen(ModalScreen[None]):
    """Follows its source while it is open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,c,q", "dismiss", "back")]

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._view: CostsView | None = None

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll(classes="help costs") as box:
            box.border_title = "costs and limits"
            yield Static(id="costs-limits")
            yield Static(id="costs-lines")
            yield Static(id="costs-table")

    def on_mount(self) -> None:
        """Show what there is at once."""
        self.show_source(self._source)

    def show_source(self, source: Source) -> None:
        """Show the costs as they are now; the same ones cost nothing."""
        view = costs_view(source.state, source.now_s, engine_alive=source.mode != "engine gone")
        if view == self._view:
            return
        self._view = view
        limits = limits_table(view.limits, plain=charset_of(self.app) == "ascii")
        self.query_one("#costs-limits", Static).update(limits)
        lines = Table.grid(padding=(0, 1))
        lines.add_column(style="bold", no_wrap=True)
        lines.add_column()
        for label, words in view.lines:
            lines.add_row(Text(label), Text(words))
        self.query_one("#costs-lines", Static).update(lines)
        self.query_one("#costs-table", Static).update(Text("\n".join(["", *view.table]) if view.table else ""))


def limits_table(view: LimitsView, *, plain: bool) -> Table:
    """A line for each limit, with a bar for what is used of it; `plain` is ASCII."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for row in view.rows:
        meter = "".join(bar(row.share, _BAR_CELLS, plain=plain))
        table.add_row(Text(row.name), Text(f"{meter} {row.share:4.0%}"), Text(row.used), Text(row.binds))
    rows = Table.grid()
    rows.add_row(table if view.rows else Text("This session has no limits: it ends when it is stopped."))
    rows.add_row(Text(f"{view.first}\n" if view.first else ""))
    return rows
