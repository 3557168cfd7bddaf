"""Session time: the one clock that everything in `core` waits on, and its real-time form."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

Key = tuple[str, int, int]
"""Breaks ties between instants in a stable way: (who, number, number)."""


def parse_speed(text: str) -> float | None:
    """Read a speed: `max` (None), or session seconds per second, above 0 and finite.

    Raises:
        ValueError: it is neither; the text is one sentence for the user.
    """
    if text == "max":
        return None
    with contextlib.suppress(ValueError):
        speed = float(text)
        if 0.0 < speed < math.inf:
            return speed
    raise ValueError(f"{text!r} is no speed: give 'max', or session seconds per second, such as 200")


class Clock(Protocol):
    """Session seconds. `now()` is discrete: it is the last instant fired or touched."""

    def now(self) -> float:
        """Session seconds of the last instant."""

    def touch(self) -> float:
        """Advance to the present and return it: called before an outside input is recorded."""

    def call_at(self, t_s: float, key: Key, fn: Callable[..., object], *args: Any) -> None:
        """Call `fn(*args)` at session second `t_s`, or as soon as possible where that is past."""

    async def sleep_until(self, t_s: float, key: Key) -> None:
        """Return at session second `t_s`, or as soon as possible where that is past. A cancelled sleeper leaves
        nothing behind; one that a stopped clock left asleep has to be cancelled.
        """

    def hold(self, *, live: bool) -> AbstractContextManager[None]:
        """Bind simulated time to something real: it flows at 1x (`live`: a model thinks), or stands still (a thread
        computes). Real time cannot be held.
        """

    def lend(self) -> AbstractContextManager[None]:
        """Take back one frozen `hold` for a while: a simulated server sleeps for the caller that is frozen until it
        answers. Time flows once each frozen hold is lent; a thread that computes beside it keeps time still.
        """

    def pause(self) -> None:
        """Freeze session time: `--hours` does not count a pause."""

    def resume(self) -> None:
        """Let session time flow again."""

    def stop(self) -> None:
        """The session has ended: nothing that was to come will."""

    @property
    def rate(self) -> float:
        """Session seconds per second just now: 1 in real time, infinite at full speed, 0 while time stands still."""

    def set_speed(self, speed: float | None) -> None:
        """Let simulated time flow at another speed (None: as fast as it can). Raises ValueError in real time, and where
        it may not be so fast.
        """

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """Make the event loop that this clock lives in; called once, before anything waits on the clock."""


class ClockFactory(Protocol):
    """What the entry-point group `autoresearch_tui.clocks` names."""

    def __call__(self, start_s: float, speed: float | None, most: float | None = None) -> Clock:
        """Make a clock that goes on from a session second; `speed` as in `Clock.set_speed`, `most` bounds it."""


def wake(sleeper: asyncio.Future[None]) -> None:
    """End a sleep, unless the sleeper is gone."""
    if not sleeper.done():
        sleeper.set_result(None)


class RealClock:
    """Session time that follows the machine's monotonic clock, minus pauses and the time the engine was down.

    Args:
        start_s: session second to go on from (0 for a new session, the journal's last for a resumed one).
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._base_s = start_s
        self._anchor_s = time.monotonic()
        self._paused = False
        self._now_s = start_s
        self._stopped = False
        self._pending: dict[int, tuple[float, Callable[..., object], tuple[Any, ...]]] = {}
        self._handles: dict[int, asyncio.TimerHandle] = {}
        self._tickets = itertools.count()

    def now(self) -> float:
        return self._now_s

    def touch(self) -> float:
        self._now_s = self._present_s()
        return self._now_s

    def call_at(self, t_s: float, key: Key, fn: Callable[..., object], *args: Any) -> None:  # noqa: ARG002
        self._schedule(next(self._tickets), t_s, fn, *args)

    async def sleep_until(self, t_s: float, key: Key) -> None:  # noqa: ARG002
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = next(self._tickets)
        self._schedule(ticket, t_s, wake, awake)
        try:
            await awake
        finally:
            self._pending.pop(ticket, None)
            if (handle := self._handles.pop(ticket, None)) is not None:
                handle.cancel()

    @contextlib.contextmanager
    def hold(self, *, live: bool) -> Iterator[None]:  # noqa: ARG002
        yield

    @contextlib.contextmanager
    def lend(self) -> Iterator[None]:
        yield

    def pause(self) -> None:
        if not self._paused:
            self._base_s = self._present_s()
            self._paused = True
            for handle in self._handles.values():
                handle.cancel()
            self._handles.clear()

    def resume(self) -> None:
        if self._paused and not self._stopped:
            self._anchor_s = time.monotonic()
            self._paused = False
            for ticket in list(self._pending):
                self._arm(ticket)

    def stop(self) -> None:
        self.pause()
        self._stopped = True
        self._pending.clear()

    @property
    def rate(self) -> float:
        return 0.0 if self._paused else 1.0

    def set_speed(self, speed: float | None) -> None:  # noqa: ARG002
        raise ValueError("this session runs in real time, which has one speed")

    def event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def _present_s(self) -> float:
        return self._base_s if self._paused else self._base_s + time.monotonic() - self._anchor_s

    def _schedule(self, ticket: int, t_s: float, fn: Callable[..., object], *args: Any) -> None:
        self._pending[ticket] = (t_s, fn, args)
        if not self._paused and not self._stopped:
            self._arm(ticket)

    def _arm(self, ticket: int) -> None:
        delay_s = max(0.0, self._pending[ticket][0] - self._present_s())
        self._handles[ticket] = asyncio.get_running_loop().call_later(delay_s, self._fire, ticket)

    def _fire(self, ticket: int) -> None:
        _, fn, args = self._pending.pop(ticket)
        self._handles.pop(ticket, None)
        self.touch()
        fn(*args)
