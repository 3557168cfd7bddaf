"""Actions that open another view of the session on show, over the one there is."""

from __future__ import annotations

from tui.acting.base import ActingApp
from tui.screens.costs import CostsScreen
from tui.screens.effects import EffectsScreen
from tui.screens.help import HelpScreen
from tui.screens.sql import SqlAsker, SqlScreen
from tui.view.sql import Desk


class ViewActions(ActingApp):
    """Opens views; one that is open already is not opened twice.

    `sql` asks the session's database; None where there is none to ask.
    """

    sql: SqlAsker | None
    desk: Desk

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(HelpScreen(self.screen, self.focused))

    def action_effects(self) -> None:
        """Effects of the designs."""
        if not isinstance(self.screen, EffectsScreen):
            self.push_screen(EffectsScreen())

    def action_costs(self) -> None:
        """What the model costs."""
        if not isinstance(self.screen, CostsScreen):
            self.push_screen(CostsScreen(self.source))

    def action_sql(self) -> None:
        """The SQL console; where it is open under something, back to it."""
        if not any(isinstance(screen, SqlScreen) for screen in self.screen_stack):
            self.push_screen(SqlScreen(self.sql, self.desk))
            return
        while not isinstance(self.screen, SqlScreen):
            self.pop_screen()
        self.screen.action_pane(1)
