"""Actions that open another view of the session on show, over the one there is."""

from __future__ import annotations

from tui.acting.base import ActingApp
from tui.screens.costs import CostsScreen
from tui.screens.help import HelpScreen


class ViewActions(ActingApp):
    """Opens views; one that is open already is not opened twice."""

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(HelpScreen(self.screen, self.focused))

    def action_costs(self) -> None:
        """What the model costs."""
        if not isinstance(self.screen, CostsScreen):
            self.push_screen(CostsScreen(self.source))
