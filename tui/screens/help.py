"""The help screen: every key of the table, and those of the pane that had the focus."""

from __future__ import annotations

from itertools import groupby
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.keys import format_key
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from tui.bindings import KEYS, TITLES

_KEY_CELLS = 14


class HelpScreen(ModalScreen[None]):
    """Lists keys; generated, so that it cannot be wrong."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "back")]

    def __init__(self, focused: Widget | None) -> None:
        super().__init__()
        self._focused = focused

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll(classes="help"):
            yield Static(help_text(self._focused))


def help_text(focused: Widget | None) -> Text:
    """All keys by place; first those of the focused pane that are not in the table."""
    text = Text()
    own = _own_keys(focused)
    if focused is not None and own:
        _section(text, f"This pane: {focused.border_title or type(focused).__name__}", own)
    for where, keys in groupby(KEYS, key=lambda key: key.where):
        _section(text, TITLES[where], [(key.shown, key.says) for key in keys])
    _section(text, "Always", [("tab", "next pane"), ("ctrl+p", "all commands by name")])
    return text


def _own_keys(focused: Widget | None) -> list[tuple[str, str]]:
    bindings = getattr(type(focused), "BINDINGS", [])
    return [
        (" ".join(map(format_key, binding.key.split(","))), binding.description)
        for binding in bindings
        if isinstance(binding, Binding) and binding.description and not _in_table(binding)
    ]


def _in_table(binding: Binding) -> bool:
    return any(binding.id == f"{key.where}.{key.action}" for key in KEYS)


def _section(text: Text, title: str, keys: list[tuple[str, str]]) -> None:
    text.append(f"{title}\n", style="bold")
    for shown, says in keys:
        text.append(f"  {shown:<{_KEY_CELLS}}{says}\n")
    text.append("\n")
