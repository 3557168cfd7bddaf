"""The action that starts a session of its own from the moment on show."""

from __future__ import annotations

from typing import Final, Protocol

from core.replay import ReplaySource
from tui.acting.base import ActingApp
from tui.screens.fork import ForkForm
from tui.view.fork import ForkWish, fork_view

_LONGEST_S: Final = 600.0
"""A large session takes a while to copy; until then that is what there is to say."""


class Forks(Protocol):
    """How a screen has the session on show forked."""

    async def fork(self, wish: ForkWish) -> None:
        """Make it and start its engine; whoever opened the screen opens the new session when it is left.

        Raises an exception whose text is a sentence for the user.
        """


class ForkActions(ActingApp):
    """Forks; `forks` is None where nobody can."""

    forks: Forks | None

    def action_fork(self) -> None:
        """Ask how the fork shall be, make it, and leave for it."""
        if isinstance(self.source, ReplaySource):
            self.source.playing = False  # the moment that is asked about stays on show
        view = fork_view(self.source)
        if self.forks is None or view is None:
            self.tell("Nothing can be forked here." if view is not None else "Nothing has happened yet at this moment.")
            return
        forks = self.forks

        def answer(wish: ForkWish | None) -> None:
            if wish is not None:
                self.run_worker(self._fork(forks, wish), group="fork", exclusive=True, exit_on_error=False)

        self.push_screen(ForkForm(view), answer)

    async def _fork(self, forks: Forks, wish: ForkWish) -> None:
        self.tell(f"Forking at event {wish.n}: the new session opens here.", timeout_s=_LONGEST_S)
        try:
            await forks.fork(wish)
        except Exception as error:  # noqa: BLE001  whatever it meets, the reader reads it and the screen stays
            self.tell(str(error), severity="error")
        else:
            self.exit()
