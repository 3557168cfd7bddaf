"""The end of a run's log: foreign text made harmless, its newest line in view."""

from __future__ import annotations

from tui.palette import Role
from tui.text import clean_lines
from tui.widgets.scroll_lines import ScrollLines


class LogTail(ScrollLines):
    """Shows the last lines of one log and follows its end."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(follow=True, id=id)
        self._shown: bytes | None = None

    def show(self, tail: bytes, *, whole: bool) -> None:
        """Show the end of a log; unless it is `whole`, its first line is cut and left out."""
        if tail == self._shown:
            return
        self._shown = tail
        lines = clean_lines(tail.decode("utf-8", "replace").rstrip("\n"))
        if not whole:
            lines = ["… earlier lines are in the run's folder", *lines[1:]]
        self.show_lines([(line, Role.TEXT) for line in lines] if tail else [("the log is empty", Role.MUTED)])

    def say(self, sentence: str) -> None:
        """Show a sentence in place of a log."""
        self._shown = None
        self.show_lines([(sentence, Role.MUTED)])
