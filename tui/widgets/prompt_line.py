"""A line at a pane's foot to type into: it lives in the lower border, so that nothing moves when it opens."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.content import Content
from textual.widget import Widget

from tui.text import clean

_CURSOR = "▏"


class PromptLine(Widget):
    """A pane that one can type a line into, for a widget to derive from beside its own kind.

    While the line is open, printable keys go into it and nowhere else; all other keys do what they always do. Enter
    keeps what was typed, escape drops it. The owner hears of every change at once.
    """

    OPENS: ClassVar[str] = ""
    """The action that opens the line."""

    # Not in a constructor: those of the classes beside this one take other arguments.
    _typed: str | None = None
    _foot = Content()

    def line_changed(self, text: str) -> None:
        """The line reads so now; also called with "" when it is dropped."""
        raise NotImplementedError

    def line_closed(self) -> None:
        """The line was kept or dropped, and is closed."""

    def line_note(self) -> str:
        """What is to stand behind the open line."""
        return ""

    def line_kept(self) -> str:
        """What a line that was kept leaves at the foot."""
        return ""

    def open_line(self, text: str = "") -> None:
        """Let the reader type, beginning with what there is."""
        self._typed = text
        self.add_class("-typing")
        self.draw_foot()

    def close_line(self, *, keep: bool) -> None:
        """Go on without the line."""
        if self._typed is None:
            return
        self._typed = None
        self.remove_class("-typing")
        if not keep:
            self.line_changed("")
        self.line_closed()
        self.draw_foot()

    def set_foot(self, words: Content) -> None:
        """What stands in the lower border while no line is open."""
        self._foot = words
        self.draw_foot()

    def draw_foot(self) -> None:
        """Put the line, or what else there is, into the lower border; what is there already costs nothing."""
        words = f"/{self._typed}{_CURSOR} {self.line_note()}" if self._typed is not None else self.line_kept()
        foot = Content(words.rstrip()) if words else self._foot
        if self.border_subtitle != foot:
            self.border_subtitle = foot

    def check_consume_key(self, key: str, character: str | None) -> bool:  # noqa: ARG002
        """Whether a key goes into the line."""
        return self._typed is not None and character is not None and character.isprintable()

    def on_key(self, event: events.Key) -> None:
        """What is typed goes into the open line.

        The key that opens it is obeyed here and not by the app, where it would arrive behind the keys that follow it.
        """
        if self._typed is None:
            active = self.screen.active_bindings.get(event.key)
            if active is not None and active.node is self and active.binding.action == self.OPENS:
                getattr(self, f"action_{self.OPENS}")()
                event.stop()
                event.prevent_default()
            return
        typed = self._typed
        if event.key in ("enter", "escape"):
            self.close_line(keep=event.key == "enter")
        elif event.is_printable and event.character is not None:
            self._type(typed + event.character)
        elif event.key in ("backspace", "ctrl+h"):
            self._type(typed[:-1])
        elif event.key == "ctrl+u":
            self._type("")
        elif event.key == "ctrl+w":
            head = typed.rstrip()
            self._type(head[: head.rfind(" ") + 1])
        else:
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: events.Paste) -> None:
        """A pasted line goes in without what could harm a terminal."""
        if self._typed is not None:
            self._type(self._typed + clean(event.text))
            event.stop()

    def on_blur(self) -> None:
        """Who goes elsewhere keeps what was typed."""
        self.close_line(keep=True)

    def _type(self, text: str) -> None:
        self._typed = text
        self.line_changed(text)
        self.draw_foot()
