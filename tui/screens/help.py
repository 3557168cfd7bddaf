"""The help screen: every key of the table, those of the focused pane first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.bindings import KEYS, TITLES, Key, Where, places_in
from tui.look import LookApp

_KEY_CELLS = 14


class HelpScreen(ModalScreen[None]):
    """Lists keys; generated, so that it cannot be wrong.

    Args:
        screen: the screen that help is wanted on.
        focused: its widget with the focus.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "back")]

    def __init__(self, screen: Screen[Any], focused: Widget | None) -> None:
        super().__init__()
        self._places = places_of(screen, focused)

    def compose(self) -> ComposeResult:
        """One scrolling text."""
        with VerticalScroll(classes="help"):
            assert isinstance(self.app, LookApp)
            yield Static(help_text(self._places, self.app.shown))


def places_of(screen: Screen[Any], focused: Widget | None) -> list[Where]:
    """Where the reader is, nearest first: the focused pane, its screen, then all other places of the table."""
    nodes = [*(focused.ancestors_with_self if focused is not None else ()), screen]
    near: list[Where] = [place for node in nodes for place in places_in(node)]
    return list(dict.fromkeys([*near, *TITLES]))


def help_text(places: Sequence[Where], shown: Callable[[Key], str]) -> Text:
    """All keys by place, written as `shown` has them."""
    text = Text()
    for where in places:
        _section(text, TITLES[where], [(shown(key), key.says) for key in KEYS if key.where == where])
    _section(text, "Always", [("tab", "next pane"), ("ctrl+p", "all commands by name")])
    return text


def _section(text: Text, title: str, keys: list[tuple[str, str]]) -> None:
    text.append(f"{title}\n", style="bold")
    for shown, says in keys:
        text.append(f"  {shown:<{_KEY_CELLS}}{says}\n")
    text.append("\n")
