"""One of a few, on one line: the chosen one marked by a sign, changed with the arrow keys."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from tui.look import charset_of
from tui.text import cut


class Choice(Widget, can_focus=True):
    """Shows all choices side by side; where they do not fit, it begins with the chosen one."""

    DEFAULT_CSS = """
    Choice {
        height: 1;
        color: $foreground;
        &:focus { background: $boost; text-style: bold; }
    }
    """

    chosen: reactive[str] = reactive("", layout=False)

    class Changed(Message):
        """Another choice was made."""

        def __init__(self, choice: Choice) -> None:
            super().__init__()
            self.choice = choice

        @property
        def control(self) -> Choice:
            """The widget, so that handlers can be bound to one by a selector."""
            return self.choice

    def __init__(self, choices: Sequence[str], chosen: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._choices = tuple(choices)
        self.set_reactive(Choice.chosen, chosen)

    def step(self, by: int) -> None:
        """Choose the one before or behind; the ends do not meet."""
        index = self._choices.index(self.chosen) + by
        if 0 <= index < len(self._choices):
            self._choose(self._choices[index])

    def on_click(self, event: Click) -> None:
        """Choose what was clicked."""
        right = 0
        for choice, label in self._labels():
            right += len(label)
            if event.x < right:
                self._choose(choice)
                return

    def render_line(self, y: int) -> Strip:
        """The only line."""
        width = self.size.width
        if y:
            return Strip.blank(width, self.rich_style)
        text = cut("".join(label for _, label in self._labels()).rstrip(), width)
        return Strip([Segment(text)]).adjust_cell_length(width).apply_style(self.rich_style)

    def _labels(self) -> list[tuple[str, str]]:
        on, off = ("*", "o") if charset_of(self.app) == "ascii" else ("●", "○")
        labels = [(choice, f"{on if choice == self.chosen else off} {choice}  ") for choice in self._choices]
        first = 0
        chosen = self._choices.index(self.chosen)
        while first < chosen and sum(len(label) for _, label in labels[first : chosen + 1]) - 2 > self.size.width:
            first += 1
        return labels[first:]

    def _choose(self, choice: str) -> None:
        if choice != self.chosen:
            self.chosen = choice
            self.post_message(self.Changed(self))
