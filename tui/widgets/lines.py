"""The base of widgets that draw fixed lines: it repaints only the lines that changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.text import Text
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui.look import charset_of, look_of
from tui.palette import Look, Role, sign, style_of
from tui.raster.braille import Span
from tui.terminal import CharsetName


class LineWidget(Widget, can_focus=True):
    """Lines drawn as a whole whenever something changed; what reaches the terminal is the difference.

    One dirty region per changed line and never several: Textual repaints each from the widget's left edge
    (Textualize/textual#5625).
    """

    DEFAULT_CSS = """
    LineWidget {
        height: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        &:focus { border: heavy $border; border-title-color: $text; }
    }
    """

    def __init__(
        self,
        *,
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
        title: str = "",
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._charset = charset
        self._lines: list[Strip] = []
        self._title = ""
        self.set_title(title)
        self._legend: tuple[Look, tuple[tuple[Role, str], ...]] | None = None

    @property
    def charset(self) -> CharsetName:
        """What figures are drawn with: what was asked for, else what the app draws with."""
        return self._charset or charset_of(self.app)

    @property
    def plain(self) -> bool:
        """Whether only ASCII may be shown."""
        return self.charset == "ascii"

    @property
    def look(self) -> Look:
        """Which colours of the palette go with the theme."""
        return look_of(self.app)

    def draw(self, width: int, height: int) -> list[Strip]:
        """`height` lines of exactly `width` cells."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw, compare with what is shown and mark the changed lines."""
        width, height = self.size
        lines = self.draw(width, height) if width > 0 and height > 0 else []
        before, self._lines = self._lines, lines
        if len(before) != len(lines):
            self.refresh()
            return
        for y, (old, new) in enumerate(zip(before, lines, strict=True)):
            if old != new:
                self.refresh(Region(0, y, width, 1))

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.size.width, self.rich_style)
        return self._lines[y].apply_style(self.rich_style)

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002
        self.redraw()

    def on_focus(self) -> None:
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_mounted:
            self.redraw()

    def set_title(self, title: str) -> None:
        """Put words into the upper border, never as markup; only a change repaints (the whole widget)."""
        if title != self._title:
            self._title = title
            self.border_title = Text(title)

    def set_legend(self, entries: Iterable[tuple[Role, str]]) -> None:
        """Put a legend into the lower border; Textual repaints the whole widget, so only where it changed."""
        legend = (self.look, tuple(entries))
        if legend == self._legend:
            return
        self._legend = legend
        text = Text()
        for role, words in legend[1]:
            text.append(sign(role, plain=self.plain), style_of(role, self.look))
            text.append(f" {words} ")
        self.border_subtitle = text


def strip_of(spans: Sequence[Span], *, look: Look) -> Strip:
    """A line from (text, role) pieces."""
    return Strip([Segment(text, style_of(role, look)) for text, role in spans if text])
