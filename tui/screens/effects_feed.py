"""Brings an effects pane what it shows: worked out beside the screen, one view at a time, and never too often."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from core.keyframe import settled
from core.sources import Source
from core.state import SessionState
from tui.view.effects import EffectsView, Key, effects_view
from tui.widgets.effects import Effects

REST: Final = 4.0
"""After each view so many times as long a rest, unless the reader asks for another one: a fifth of a core at most."""

_Asked = tuple[str, int, int, int, str | None, Key | None]


class EffectsFeed:
    """Follows a source for one pane.

    What a view shows depends on what is settled alone, so it is worked out again only where that has grown, or where
    a replay went elsewhere.
    """

    def __init__(self, pane: Effects) -> None:
        self._pane = pane
        self._state: SessionState | None = None
        self._wanted: Key | None = None
        self._shown: _Asked | None = None
        self._busy = False
        self._hurry = asyncio.Event()

    def follow(self, source: Source) -> None:
        """Show the source as it is now, as soon as that is worked out."""
        self._state = source.state
        self._start()

    def want(self, design: Key) -> None:
        """Show another design."""
        self._wanted = design
        self._hurry.set()
        self._start()

    def _start(self) -> None:
        if not self._busy and self._state is not None and self._asked(self._state) != self._shown:
            self._busy = True
            self._pane.run_worker(self._work(), group="effects", exit_on_error=False)

    def _asked(self, state: SessionState) -> _Asked:
        ledger, now = state.ledger, state.now
        session = now.started.session if now.started is not None else ""
        sizes = len(ledger.runs), len(ledger.experiments), len(ledger.designs)
        return session, *sizes, now.incumbent, self._wanted

    async def _work(self) -> None:
        try:
            while self._state is not None and (asked := self._asked(self._state)) != self._shown:
                self._hurry.clear()
                began_s = time.monotonic()
                view = await asyncio.to_thread(_worked_out, settled(self._state), self._wanted)
                took_s = time.monotonic() - began_s
                self._shown = asked
                self._pane.show(view)
                if self._asked(self._state) != asked:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._hurry.wait(), REST * took_s)
        finally:
            self._busy = False


def _worked_out(state: Callable[[], SessionState], wanted: Key | None) -> EffectsView:
    try:
        return effects_view(state(), wanted)
    except Exception as error:  # noqa: BLE001  whatever a foreign design holds, the pane says it and the screen stays
        return EffectsView(notes=(f"the effects could not be worked out: {error!r}",))
