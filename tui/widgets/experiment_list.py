"""The experiments pane: a table whose order, filter and grouping its reader chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from textual import events
from textual.binding import BindingType
from textual.message import Message

from tui.bindings import Where, bindings_for
from tui.messages import ExperimentChosen
from tui.view.experiment_filter import parse_filter
from tui.view.listing import Wish, is_header
from tui.widgets.prompt_line import PromptLine
from tui.widgets.virtual_table import Column, VirtualTable


def columns(count: int) -> tuple[Column, ...]:
    """The columns of a list of so many experiments, as `tui.view.experiments.cells_of` fills them."""
    return (Column("#", max(4, len(f"e{count}")), align="right"), *_COLUMNS)


_COLUMNS: Final = (
    Column("", 1),
    Column("val_bpb", 9),
    Column("Δ", 7, align="right"),
    Column("runs", 5, align="right"),
    Column("class", 10, at_least=100),
    Column("min", 5, align="right", at_least=100),
    Column("age", 4, align="right", at_least=70),
    Column("design", 18, at_least=120),
    Column("what", 12, flex=True),
)


class ExperimentList(VirtualTable, PromptLine):
    """Shows experiments as its `wish` says, and asks for what to show whenever that changes."""

    PLACE: ClassVar[Where] = "experiments"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)
    OPENS: ClassVar[str] = "filter"

    @dataclass
    class Wished(Message):
        """The reader wants to see the list otherwise."""

        wish: Wish

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.wish = Wish()
        self._fitting = ""

    def show_fitting(self, words: str) -> None:
        """How many experiments fit the filter, as `34 of 910`."""
        if words != self._fitting:
            self._fitting = words
            self.draw_foot()

    def line_note(self) -> str:
        """How many experiments fit."""
        return self._fitting

    def action_order(self) -> None:
        """The next order."""
        self._want(self.wish.next_order())

    def action_reverse(self) -> None:
        """The same order the other way round."""
        self._want(self.wish._replace(reverse=not self.wish.reverse))

    def action_group(self) -> None:
        """By design, or not."""
        self._want(self.wish._replace(grouped=not self.wish.grouped))

    def action_filter(self) -> None:
        """Type a filter, or go on with the one there is."""
        self.screen.set_focus(self)
        self.open_line(self.wish.filter.text)

    def action_select(self) -> None:
        """Open an experiment; fold or unfold a design."""
        key = self.cursor_key
        if key is None:
            return
        if is_header(key):
            self._want(self.wish.fold(key))
        else:
            self.post_message(ExperimentChosen(key))

    def on_key(self, event: events.Key) -> None:
        """Escape takes a filter away before it does anything else."""
        if event.key == "escape" and self._typed is None and self.wish.filter.text:
            self.line_changed("")
            event.stop()
            event.prevent_default()

    def line_changed(self, text: str) -> None:
        """The list follows what is typed."""
        self._want(self.wish._replace(filter=parse_filter(text)))

    def _want(self, wish: Wish) -> None:
        self.wish = wish
        self.post_message(self.Wished(wish))
