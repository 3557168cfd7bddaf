"""One row of an answer in full, over the answer: each column with all of its text."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class RowScreen(ModalScreen[None]):
    """Shows harmless lines under the names of their columns.

    Args:
        title: which row it is.
        columns: names and lines.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,v,q", "dismiss", "back")]

    def __init__(self, title: str, columns: list[tuple[str, list[str]]]) -> None:
        super().__init__()
        self._title = title
        self._columns = columns

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        text = Text()
        for name, lines in self._columns:
            text.append(name, style="bold")
            text.append("  " + lines[0] if len(lines) == 1 else "\n" + "\n".join(f"  {line}" for line in lines))
            text.append("\n")
        with VerticalScroll(classes="help row") as box:
            box.border_title = Text(self._title)
            yield Static(text)
