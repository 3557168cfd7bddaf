"""A screen of numbered panes: side by side where there is room, one at a time with tabs where there is not."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import msgspec
from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.events import Click, DescendantFocus
from textual.message import Message
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Footer, Static

from core.model_summary import model_summary
from core.sources import Source
from core.state import SessionState
from core.summary import summarise
from tui.bindings import bindings_for
from tui.look import look_of
from tui.messages import SourceWanted
from tui.palette import Role, style_of
from tui.view.model import now_words
from tui.view.orders import OrderLine
from tui.view.status import cluster_words, status_pieces
from tui.view.targets import Subject
from tui.view.timeline import timeline_view
from tui.widgets.order_strip import OrderStrip
from tui.widgets.replay_bar import ReplayBar
from tui.widgets.status_bar import StatusBar


@runtime_checkable
class Follows(Protocol):
    """A screen that shows a source and goes on with it."""

    @property
    def is_mounted(self) -> bool:
        """Whether its widgets are there."""

    def show_source(self, source: Source) -> None:
        """Show the source as it is now; what did not change costs nothing."""


class PaneTabs(Widget):
    """The names of the panes, the active one marked; shown where only one pane is."""

    class Chosen(Message):
        """The reader clicked the tab of the pane with this number (from 1)."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, titles: tuple[str, ...]) -> None:
        super().__init__()
        self._titles = titles
        self._active = 0

    def show(self, active: int) -> None:
        """Mark another pane as active."""
        self._active = active
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The only line."""
        width = self.size.width
        if y:
            return Strip.blank(width, self.rich_style)
        style = style_of(Role.CURSOR, look_of(self.app))
        segments = [
            Segment(label, style if index == self._active else None) for index, label in enumerate(self._labels())
        ]
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def on_click(self, event: Click) -> None:
        """Choose the pane whose name was clicked."""
        right = 0
        for index, label in enumerate(self._labels()):
            right += len(label)
            if event.x < right:
                self.post_message(self.Chosen(index + 1))
                return

    def _labels(self) -> list[str]:
        return [
            f"[{number} {title}]" if number == self._active + 1 else f" {number} {title} "
            for number, title in enumerate(self._titles, start=1)
        ]


class PaneScreen(Screen[None]):
    """Status line, panes, notice, replay bar, footer. A screen of this kind says what its panes are and show.

    `PANES` maps each pane's id to its title, in the order of their numbers. Those of `WIDE_ONLY` stand beside others
    only where a terminal is wide and high; elsewhere they have the room to themselves or are not seen.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("panes")
    PANES: ClassVar[dict[str, str]] = {}
    WIDE_ONLY: ClassVar[frozenset[str]] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self._active = next(iter(self.PANES))
        self._source: Source | None = None
        self._shown_state: SessionState | None = None
        self._shown_n = -1
        self._version = 0
        self._status_of: tuple[str, str, str | None] | None = None

    def compose_panes(self) -> ComposeResult:
        """The panes, each with its id in `PANES`, in the order of the grid."""
        raise NotImplementedError

    def project(self, source: Source, *, changed: bool) -> None:
        """Show the source in the panes that can be seen; `changed` is False where only time went on."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """All but the panes is the same on each screen."""
        yield StatusBar(id="status")
        yield PaneTabs(tuple(self.PANES.values()))
        with Container(id="panes"):
            yield from self.compose_panes()
        yield Static(id="notice", markup=False)
        yield OrderStrip(id="orders")
        yield ReplayBar(id="replay")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Name the panes; Textual puts the focus on the first."""
        for number, (pane, title) in enumerate(self.PANES.items(), start=1):
            widget = self.query_one(f"#{pane}")
            widget.add_class("pane")
            widget.border_title = f"{number} {title}"
        self._mark_active()

    def show_source(self, source: Source) -> None:
        """Show the source as it is now; what did not change costs nothing."""
        self._source = source
        state = source.state
        changed = state is not self._shown_state or source.position != self._shown_n
        self._shown_state, self._shown_n = state, source.position
        self.query_one(ReplayBar).show(timeline_view(source))
        model = model_summary(state, source.now_s, engine_alive=source.mode != "engine gone")
        status_of = (source.mode, source.problem, now_words(model) if model is not None else None)
        if changed or self._status_of != status_of:
            self._status_of = status_of
            summary = msgspec.structs.replace(summarise(state), model=model)
            self.query_one(StatusBar).show(status_pieces(summary, source.mode, source.problem))
        self._show_notice(notice(source))
        self.project(source, changed=changed)

    def show_orders(self, lines: tuple[OrderLine, ...]) -> None:
        """Show what became of commands."""
        self.query_one(OrderStrip).show(lines)

    def under_cursor(self) -> Subject | None:
        """What the cursor of the active pane is on; None where it is on nothing that has a name."""
        return None

    def in_view(self, pane: str) -> bool:
        """Whether a pane can be seen in the present layout."""
        if self.single:
            return pane == self._active
        return self.wide or pane not in self.WIDE_ONLY

    @property
    def single(self) -> bool:
        """Whether one pane has all the room."""
        return self.has_class("-narrow") or self.has_class("-zoomed")

    @property
    def wide(self) -> bool:
        """Whether there is room for all panes at once."""
        return self.has_class("-wide") and self.has_class("-high")

    def next_version(self) -> int:
        """A number that no view of this screen had before, for widgets that compare versions."""
        self._version += 1
        return self._version

    def action_pane(self, number: int) -> None:
        """Go to the pane with this number, if there is one."""
        if number <= len(self.PANES):
            pane = list(self.PANES)[number - 1]
            if pane in self.WIDE_ONLY and not self.wide:
                self.add_class("-zoomed")
                self._arrange()
            self._activate(pane)

    def action_zoom(self) -> None:
        """Give the active pane all the room, or take it back."""
        self.toggle_class("-zoomed")
        self._arrange()
        if not self.in_view(self._active):
            self._activate(next(iter(self.PANES)))
        self._refill()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """The pane with the focus is the active one."""
        # The event may be late: what counts is where the focus is now.
        for node in (self.focused or event.widget).ancestors_with_self:
            if node.id in self.PANES and node.id != self._active:
                self._active = node.id
                self._mark_active()

    def on_pane_tabs_chosen(self, event: PaneTabs.Chosen) -> None:
        """A click on a tab."""
        self.action_pane(event.number)

    def on_resize(self) -> None:
        """Panes that come into view are to be filled; one that had its place in a wider terminal gives the focus on."""
        self._arrange()
        if not self.in_view(self._active):
            self._activate(next(iter(self.PANES)))
        self._refill()

    def _arrange(self) -> None:
        """Side by side in three columns where there is room."""
        self.set_class(self.wide and not self.single, "-columns")

    def _activate(self, pane: str) -> None:
        self._active = pane
        self._mark_active()
        # Not Widget.focus(), which waits its turn: the next key may be there already.
        widget = self.query_one(f"#{pane}")
        inner = (node for node in widget.query("*") if node.focusable)
        self.set_focus(widget if widget.focusable else next(inner, None))

    def _mark_active(self) -> None:
        for pane in self.PANES:
            self.query_one(f"#{pane}").set_class(pane == self._active, "-active")
        self.query_one(PaneTabs).show(list(self.PANES).index(self._active))
        self._refill()

    def _refill(self) -> None:
        """Fill the panes that came into view at once: the next key may be meant for them."""
        self._shown_state = None
        if self._source is None:
            self.post_message(SourceWanted())
        else:
            self.show_source(self._source)

    def _show_notice(self, text: str) -> None:
        widget = self.query_one("#notice", Static)
        if widget.display != bool(text) or (text and str(widget.content) != text):
            widget.update(text)
            widget.display = bool(text)


def notice(source: Source) -> str:
    """What stands between the reader and a working session, in a sentence; empty where nothing does."""
    if source.problem:
        return source.problem[0].upper() + source.problem[1:]
    if source.mode == "engine gone" and source.state.now.ended is None and not source.behind:
        return "The engine is gone: this screen can only look. Press r to resume the session."
    return cluster_words(source.state)
