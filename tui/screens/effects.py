"""Effects of the session's designs: what each knob does, which interact, and what cannot be told apart."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from core.sources import Source
from tui.bindings import Where, bindings_for
from tui.screens.effects_feed import EffectsFeed
from tui.screens.panes import PaneScreen
from tui.widgets.effects import Effects


class EffectsScreen(PaneScreen):
    """Follows the source; the pane has all the room there is."""

    PLACE: ClassVar[Where] = "view"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)
    PANES: ClassVar[dict[str, str]] = {"effects": "effects"}

    def __init__(self) -> None:
        super().__init__()
        self._pane = Effects(id="effects")
        self._feed = EffectsFeed(self._pane)

    def compose_panes(self) -> ComposeResult:
        """The only pane."""
        yield self._pane

    def project(self, source: Source, *, changed: bool) -> None:
        """Let the pane follow."""
        if changed:
            self._feed.follow(source)

    def on_effects_design_wanted(self, event: Effects.DesignWanted) -> None:
        """Another design."""
        self._feed.want(event.design)

    def action_back(self) -> None:
        """Back to the session."""
        self.dismiss()
