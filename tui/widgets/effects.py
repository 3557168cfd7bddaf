"""The effects pane: a session's designs, one of them drawn in full; the reader chooses design and pair of knobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.strip import Strip

from tui.bindings import Where, bindings_for
from tui.terminal import CharsetName
from tui.view.effects import EffectsView, Key
from tui.view.effects_page import Look, boxes_of, design_at, page_of, pair_at
from tui.widgets.lines import LineWidget, strip_of


class Effects(LineWidget):
    """`show(EffectsView)` draws it. Posts `DesignWanted` when the reader goes to another design.

    Its view is for the owner to bring, since it takes work (tui.screens.effects_feed).
    """

    PLACE: ClassVar[Where] = "effects"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    @dataclass
    class DesignWanted(Message):
        """Another design is to be shown."""

        design: Key

    def __init__(
        self,
        *,
        title: str = "effects",
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(charset=charset, id=id, classes=classes, title=title)
        self._view = EffectsView()
        self._pair = 0
        self._top = 0
        self._wanted = 0

    def show(self, view: EffectsView) -> None:
        """Show another view; an equal one costs nothing. The chosen pair stays chosen where it is still there."""
        if view == self._view:
            return
        before, self._view = self._view, view
        self._wanted = view.chosen
        if before.designs and view.designs and before.designs[before.chosen].key != view.designs[view.chosen].key:
            self._pair = self._top = 0
        elif before.pairs:
            names = before.pairs[min(self._pair, len(before.pairs) - 1)][:2]
            self._pair = next((index for index, pair in enumerate(view.pairs) if pair[:2] == names), 0)
        self.redraw()

    @property
    def pair(self) -> tuple[str, str] | None:
        """The pair of knobs that is drawn."""
        if not self._view.pairs:
            return None
        first, second = self._view.pairs[min(self._pair, len(self._view.pairs) - 1)][:2]
        return first, second

    def draw(self, width: int, height: int) -> list[Strip]:
        raster = page_of(self._view, self._looking(), width, height)
        return [strip_of(raster.spans(y), look=self.look) for y in range(height)]

    def action_design(self, by: int) -> None:
        """Go to a neighbouring design."""
        self._want(self._wanted + by)

    def action_pair(self, by: int) -> None:
        """Go to a neighbouring pair of knobs."""
        self._choose(self._pair + by)

    def action_page(self, direction: int) -> None:
        """Scroll the main effects by half of what is in sight."""
        box = boxes_of(self._view, *self.size).mains
        shown = max(1, box.height - 1)
        last = max(0, len(self._view.mains) - shown)
        self._top = min(max(0, self._top + direction * max(1, shown // 2)), last)
        self.redraw()

    def on_click(self, event: events.Click) -> None:
        """Choose the design or the pair that was clicked."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        design = design_at(self._view, *self.size, offset.x, offset.y)
        pair = pair_at(self._view, self._looking(), *self.size, offset.x, offset.y)
        if design is not None:
            self._want(design)
        elif pair is not None:
            self._choose(pair)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel scrolls the main effects."""
        event.stop()
        self.action_page(-1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel scrolls the main effects."""
        event.stop()
        self.action_page(1)

    def _looking(self) -> Look:
        return Look(self._pair, self._top, self.charset)

    def _want(self, index: int) -> None:
        index = min(max(0, index), len(self._view.designs) - 1)
        if index >= 0 and index != self._wanted:
            self._wanted = index
            self.post_message(self.DesignWanted(self._view.designs[index].key))

    def _choose(self, index: int) -> None:
        index = min(max(0, index), len(self._view.pairs) - 1)
        if index >= 0 and index != self._pair:
            self._pair = index
            self.redraw()
