"""Where a query is written: enter runs a complete statement, the arrows beyond its ends walk the history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.widgets import TextArea

from tui.bindings import Where, bindings_for
from tui.look import look_of
from tui.palette import style_of
from tui.view.sql_tables import coloured


class SqlEditor(TextArea):
    """Posts `Submitted` when the query is to be run and `Walked` when another one of the history is wanted."""

    PLACE: ClassVar[Where] = "query"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    class Submitted(Message):
        """The query is to be run."""

    class CopyAsked(Message):
        """ctrl+c, which elsewhere stops what is under way."""

    @dataclass
    class Walked(Message):
        """The query before (-1) or after (1) is wanted."""

        direction: Literal[-1, 1]

    def __init__(self, text: str, *, id: str) -> None:  # noqa: A002
        super().__init__(text, id=id, tab_behavior="focus", soft_wrap=True, show_line_numbers=False)
        self.cursor_blink = False

    def get_line(self, line_index: int) -> Text:
        """A line with its keywords, texts, numbers and comments in colours of the palette."""
        text = super().get_line(line_index)
        look = look_of(self.app)
        for start, end, role in coloured(text.plain):
            text.stylize(style_of(role, look), start, end)
        return text

    def put(self, text: str, *, at_start: bool = False) -> None:
        """Show another query, with the cursor at its end or start; undo brings the one before back."""
        if text != self.text:
            self.replace(text, self.document.start, self.document.end)
            self.move_cursor(self.document.start if at_start else self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter" and self.cursor_at_end_of_text and self.text.rstrip().endswith(";"):
            event.stop()
            event.prevent_default()
            self.action_submit()

    def action_submit(self) -> None:
        """Run what is written."""
        self.post_message(self.Submitted())

    def action_cursor_up(self, select: bool = False) -> None:
        """A line up; from the first one, the query before."""
        if self.navigator.is_first_wrapped_line(self.selection.end) and not select:
            self.post_message(self.Walked(-1))
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """A line down; from the last one, the query after."""
        if self.navigator.is_last_wrapped_line(self.selection.end) and not select:
            self.post_message(self.Walked(1))
        else:
            super().action_cursor_down(select)

    def action_walk(self, direction: Literal[-1, 1]) -> None:
        """The query before or after, wherever the cursor is."""
        self.post_message(self.Walked(direction))

    def action_copy(self) -> None:
        """Copy what is selected; with nothing selected, leave the key to the screen."""
        if self.selected_text:
            super().action_copy()
        else:
            self.post_message(self.CopyAsked())
