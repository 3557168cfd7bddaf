"""Actions that open another view of the session on show, over the one there is."""

from __future__ import annotations

from tui.acting.base import ActingApp
from tui.clipboard import TooMuch, sequence
from tui.screens.costs import CostsScreen
from tui.screens.help import HelpScreen


class ViewActions(ActingApp):
    """Opens views; one that is open already is not opened twice."""

    def action_help(self) -> None:
        """All keys."""
        self.push_screen(HelpScreen(self.screen, self.focused))

    def copy(self, text: str, what: str) -> None:
        """Put a text into the clipboard of the person's machine, and say so.

        Args:
            text: what is copied, as it is; what would do something where it is pasted is left out.
            what: what it is, for the answer: "the diff of e12".
        """
        try:
            sent = sequence(text)
        except TooMuch as error:
            self.tell(f"{what} was not copied: {error}", severity="error")
            return
        if self._driver is not None:
            self._driver.write(sent)
        self.tell(f"copied {what}, {len(text):,} characters")

    def action_costs(self) -> None:
        """What the model costs."""
        if not isinstance(self.screen, CostsScreen):
            self.push_screen(CostsScreen(self.source))
