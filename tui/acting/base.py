"""What every action stands on: the session on show, its live source, and a way to say something to the reader."""

from __future__ import annotations

from typing import Literal

from core.sources import LiveSource, Source
from tui.look import LookApp
from tui.text import clean


class ActingApp(LookApp[None]):
    """An app over one session. `source` is on show: `live` itself, or a replay."""

    source: Source
    live: LiveSource | None

    def show_source(self) -> None:
        """Project the source to what shows it."""
        raise NotImplementedError

    def pace_live(self, direction: Literal[-1, 1]) -> bool:
        """Pace a living simulation instead of a replay; False where there is none to pace."""
        raise NotImplementedError

    def tell(
        self,
        text: str,
        *,
        severity: Literal["information", "error"] = "information",
        timeout_s: float | None = None,
    ) -> None:
        """Say something in a corner, in place of what was said before: a stack of answers would hide the panes."""
        self.clear_notifications()
        self.notify(clean(text), severity=severity, markup=False, timeout=timeout_s)
