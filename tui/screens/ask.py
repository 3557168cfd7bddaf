"""Short questions to the reader: a line of text, a name, yes and no, one of a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Input, Static

from tui.text import clean, cut
from tui.view.targets import Choice

_HINT_CELLS = 160


class AskText(ModalScreen[str]):
    """Asks for one line, beginning with `value`; empty where the reader thought better of it.

    Args:
        names: what the answer probably is one of: it is completed while it is typed, the right arrow takes it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "never mind")]

    def __init__(self, question: str, value: str = "", names: Sequence[str] = ()) -> None:
        super().__init__()
        self._question, self._value = question, value
        self._names = [name for name in names if clean(name) == name]

    def compose(self) -> ComposeResult:
        """The question over its input, which begins with an answer where one is likely."""
        with Vertical(classes="ask"):
            yield Static(self._question, markup=False)
            suggester = SuggestFromList(self._names, case_sensitive=False) if self._names else None
            yield Input(self._value, suggester=suggester, select_on_focus=False)
            if self._names:
                yield Static(cut("  ".join(self._names), _HINT_CELLS), markup=False, classes="hint")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter answers."""
        self.dismiss(event.value.strip())


class AskYes(ModalScreen[bool]):
    """Asks for a yes; any other way out is a no."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape", "dismiss(False)", "no"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """The question and its two keys."""
        with Vertical(classes="ask"):
            yield Static(self._question, markup=False)
            yield Static("y yes   n no", markup=False)


class AskChoice(ModalScreen[str]):
    """Asks for one of a few ways, each by its key; empty where the reader thought better of it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("n,escape", "dismiss('')", "no")]

    def __init__(self, question: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._question = question
        self._choices = choices

    def compose(self) -> ComposeResult:
        """The question, and a line for each way."""
        with Vertical(classes="ask"):
            yield Static(self._question, markup=False)
            for choice in self._choices:
                yield Static(f"{choice.key}  {choice.words}", markup=False, classes="choice")
            yield Static("n  no", markup=False, classes="choice")

    def on_key(self, event: Key) -> None:
        """A choice's key takes it."""
        for choice in self._choices:
            if event.key == choice.key:
                event.stop()
                self.dismiss(choice.value)
                return
