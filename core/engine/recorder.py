"""The one place where events become fact: stamped, appended, folded, and made durable in groups."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable

from core.clock import Clock
from core.events import AnyEvent, LimitHit
from core.journal import DiskFull, Journal
from core.reduce import apply
from core.state import SessionState

_GROUP_EVENTS = 2048
_GROUP_S = 0.1
_DISK_RETRY_S = 2.0


class Recorder:
    """Writes the journal and folds the state in one step; telemetry is made durable in groups.

    Args:
        journal, state, clock: of the session; wall: wall time of an event, None in a simulation, whose journal
            must not hold any.
    """

    def __init__(
        self,
        journal: Journal,
        state: SessionState,
        clock: Clock,
        *,
        wall: Callable[[], float] | None = time.time,
    ) -> None:
        self._journal, self._state, self._clock, self._wall = journal, state, clock, wall
        self.on_disk: Callable[[], None] = lambda: None
        """Called after a disk became full, or has room again."""
        self._timer: asyncio.TimerHandle | None = None
        self._abandoned = asyncio.Event()

    def record(self, event: AnyEvent) -> None:
        """Stamp, append and fold an event. Durable within 0.1 s, or at once through `durable`."""
        event.t = round(self._clock.now(), 3)
        event.w = round(self._wall(), 3) if self._wall is not None else None
        self._journal.append(event)
        apply(self._state, event)
        if self._journal.waiting >= _GROUP_EVENTS:
            self._commit()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GROUP_S, self._commit)

    async def durable(self) -> bool:
        """Return when all that is recorded is durable; on a full disk that is when there is room again.

        False where it was abandoned before.
        """
        while self._journal.waiting and not self._abandoned.is_set():
            self._commit()
            if self._journal.waiting:
                with contextlib.suppress(TimeoutError):  # the disk's time, not the session's
                    await asyncio.wait_for(self._abandoned.wait(), _DISK_RETRY_S)
        return not self._journal.waiting

    def abandon(self) -> None:
        """Wait for no disk any more: the engine leaves."""
        self._abandoned.set()

    def close(self) -> None:
        """Make durable what waits, if that is possible at all, and let go of the journal."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._journal.commit()
        finally:
            self._journal.close()

    def _commit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._journal.commit()
        except DiskFull as full:
            self._make_room(str(full))
            return
        if "disk" not in self._state.now.limits_hit or self._state.now.ended is not None:
            return
        if self._journal.restore_reserve():
            self.record(LimitHit(limit="disk", detail="the disk has room again", cleared=True))
            asyncio.get_running_loop().call_soon(self.on_disk)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DISK_RETRY_S, self._commit)

    def _make_room(self, sentence: str) -> None:
        """Stop new runs, give up the reserve for what is under way, and try again a little later."""
        if "disk" not in self._state.now.limits_hit:
            detail = f"{sentence}; free some space and the session goes on"
            sys.stderr.write(f"{detail}\n")
            self.record(LimitHit(limit="disk", detail=detail))
            asyncio.get_running_loop().call_soon(self.on_disk)
        if self._journal.release_reserve():
            self._commit()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_DISK_RETRY_S, self._commit)
