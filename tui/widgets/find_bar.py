"""Searching inside a pane: `/` and what is sought, n and N from match to match, and how matches are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType

from tui.bindings import Where, bindings_for
from tui.view.search import Span, pattern_of
from tui.widgets.prompt_line import PromptLine

_MARK: Final = Style(reverse=True)
_HERE: Final = Style(reverse=True, bold=True, underline=True)


class Finding(PromptLine):
    """A pane that one can search, for a widget to derive from beside its own kind.

    Matches are found while one types. Escape ends the search; what was unfolded on the way stays.
    """

    PLACE: ClassVar[Where] = "find"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)
    OPENS: ClassVar[str] = "find"
    _sought = ""

    def seek(self, pattern: re.Pattern[str] | None) -> None:
        """Look for something else, or for nothing."""
        raise NotImplementedError

    def go_to_match(self, by: int) -> None:
        """Go to the next match (1), or to the one before (-1)."""
        raise NotImplementedError

    def found_words(self) -> str:
        """Which match this is and of how many, as `3/17`."""
        raise NotImplementedError

    @property
    def finds(self) -> bool:
        """Whether something is sought."""
        return bool(self._sought)

    def action_find(self) -> None:
        """Type what to look for."""
        self.screen.set_focus(self)
        self.open_line()

    def action_find_next(self, by: int) -> None:
        """To the next match or the one before; past the last one comes the first."""
        if self.finds:
            self.go_to_match(by)
            self.draw_foot()

    def line_changed(self, text: str) -> None:
        """Look for what is typed."""
        self._sought = text
        self.seek(pattern_of(text))

    def line_note(self) -> str:
        """How many matches there are."""
        return self.found_words() if self.finds else ""

    def line_kept(self) -> str:
        """What is sought, and which match this is."""
        return f"/{self._sought} {self.found_words()}" if self.finds else ""

    def on_key(self, event: events.Key) -> None:
        """Escape ends a search before it does anything else."""
        if event.key == "escape" and self._typed is None and self.finds:
            self.line_changed("")
            self.draw_foot()
            event.stop()
            event.prevent_default()


def marked(text: str, style: Style | None, spans: Iterable[Span], here: int | None = None) -> list[Segment]:
    """A line with its matches marked; the one that begins at `here` more so. Spans may reach over the line's ends."""
    segments: list[Segment] = []
    done = 0
    for start, end in spans:
        left, right = max(done, start), min(end, len(text))
        if left >= right:
            continue
        if left > done:
            segments.append(Segment(text[done:left], style))
        segments.append(Segment(text[left:right], (style or Style.null()) + (_HERE if start == here else _MARK)))
        done = right
    if done < len(text) or not segments:
        segments.append(Segment(text[done:], style))
    return segments
