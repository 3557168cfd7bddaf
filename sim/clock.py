"""Virtual session time: a discrete-event clock that jumps, or paces, whenever the process has nothing left to do.

There is no fake event loop. asyncio gets a selector of ours; when it would block and no input is there, everything
that the last instant caused is done, and the next instant may fire. `loop.time()` stays real, so the time limits
of sockets and processes stay right.

What happens at an instant is a function of the session alone, however fast time flows: `now` is the last instant
fired, and only an input from outside (a person's command, a live model's reply) finds it elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import selectors
import time
from collections.abc import Callable, Iterator
from typing import Any

from core.clock import Key, wake

_LIVE_RATE = 1.0
_BEHIND_S = 0.25
"""A process that was held up longer than this goes on from where it is, instead of rushing to catch up."""
_MS_PER_S = 1000.0


def create(start_s: float, speed: float | None, most: float | None = None) -> VirtualClock:
    """Make the clock (entry point `virtual`)."""
    return VirtualClock(start_s, speed=speed, most=most)


class VirtualClock:
    """See core.clock.Clock. Instants are whole milliseconds, as the journal writes them.

    Args:
        start_s: session second to go on from.
        speed: session seconds per second; None: as fast as the machine can.
        most: the fastest that it may be, where something outside keeps pace (None: no bound).
        wall: seconds that only grow; tests give their own.
    """

    def __init__(
        self,
        start_s: float = 0.0,
        *,
        speed: float | None = None,
        most: float | None = None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall = wall
        self._most = math.inf if most is None else most
        self._speed = min(self._most, math.inf if speed is None else speed)
        self._now_s = start_s
        self._anchor = (start_s, wall())
        self._paused = self._stopped = False
        self._frozen = 0
        self._lent = 0  # of the frozen holds
        self._live = 0
        self._flowing = False  # nothing is left of the last instant: what comes now comes from outside
        self._heap: list[tuple[float, Key, int, Callable[..., object], tuple[Any, ...]]] = []
        self._tickets = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- core.clock.Clock

    def now(self) -> float:
        return self._now_s

    def touch(self) -> float:
        if self._flowing:
            self._advance()
        return self._now_s

    def call_at(self, t_s: float, key: Key, fn: Callable[..., object], *args: Any) -> None:
        instant_s = max(self._now_s, round(t_s * _MS_PER_S) / _MS_PER_S)
        heapq.heappush(self._heap, (instant_s, key, next(self._tickets), fn, args))

    async def sleep_until(self, t_s: float, key: Key) -> None:
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.call_at(t_s, key, wake, sleeper)
        try:
            await sleeper
        except asyncio.CancelledError:
            # An instant at which nothing happens would still move `now`.
            self._heap = [entry for entry in self._heap if not (entry[4] and entry[4][0] is sleeper)]
            heapq.heapify(self._heap)
            raise

    @contextlib.contextmanager
    def hold(self, *, live: bool) -> Iterator[None]:
        self._advance()
        self._live, self._frozen = self._live + live, self._frozen + (not live)
        try:
            yield
        finally:
            # A live reply comes when it comes; the end of a computation belongs to the instant that asked for it.
            self._advance()
            self._live, self._frozen = self._live - live, self._frozen - (not live)
            self._flowing = False

    @contextlib.contextmanager
    def lend(self) -> Iterator[None]:
        self._advance()
        self._lent += 1
        self._flowing = False  # the request came while time stood still: it belongs to the instant that asked
        try:
            yield
        finally:
            self._advance()
            self._lent -= 1
            self._flowing = False

    def pause(self) -> None:
        if not self._paused:
            self._advance()
            self._paused = True

    def resume(self) -> None:
        if self._paused and not self._stopped:
            self._paused = False
            self._anchor = (self._now_s, self._wall())

    def stop(self) -> None:
        self.pause()
        self._stopped = True
        self._heap.clear()

    @property
    def rate(self) -> float:
        if self._paused or self._frozen > self._lent:
            return 0.0
        return _LIVE_RATE if self._live else self._speed

    def set_speed(self, speed: float | None) -> None:
        wanted = math.inf if speed is None else speed
        if wanted > self._most:
            raise ValueError(
                f"this session's cluster is reached over sockets, which cannot jump: at most {self._most:g}"
            )
        self._advance()
        self._speed = wanted

    def event_loop(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.SelectorEventLoop(QuiescentSelector(self))
        return self._loop

    # -- how time passes

    def seconds_to_next(self) -> float | None:
        """Seconds of real time until the next instant is due; None while no time passes or nothing is to come."""
        if not self._heap or self.rate == 0.0:
            return None
        if self.rate == math.inf:
            return 0.0
        from_s, from_wall_s = self._anchor
        due_wall_s = from_wall_s + (self._heap[0][0] - from_s) / self.rate
        return max(0.0, due_wall_s - self._wall())

    def flow(self) -> None:
        """Everything that the last instant caused is done: from here on inputs come from outside."""
        self._flowing = True

    def fire_soon(self) -> None:
        """Have the loop fire the next instant: within the loop, so that an error there ends the engine."""
        if self._loop is None:
            raise AssertionError("a virtual clock moves only inside its own event loop")
        self._flowing = False
        self._loop.call_soon(self._fire)

    def _fire(self) -> None:
        if not self._heap or self.rate == 0.0:
            return
        instant_s, _, _, fn, args = heapq.heappop(self._heap)
        self._now_s = max(self._now_s, instant_s)
        if self.rate != math.inf and self._present_s() - self._now_s > _BEHIND_S * self.rate:
            self._anchor = (self._now_s, self._wall())
        fn(*args)

    def _present_s(self) -> float:
        from_s, from_wall_s = self._anchor
        return from_s + (self._wall() - from_wall_s) * self.rate

    def _advance(self) -> None:
        """Bring `now` to the present, where time flows at a pace, and let it flow on from there."""
        if self._flowing and 0.0 < self.rate < math.inf:
            present_s = math.floor(self._present_s() * _MS_PER_S) / _MS_PER_S
            next_s = self._heap[0][0] if self._heap else math.inf
            self._now_s = max(self._now_s, min(present_s, next_s))
        self._anchor = (self._now_s, self._wall())


class QuiescentSelector(selectors.DefaultSelector):
    """Waits for input as any selector does, and fires the clock's next instant where the loop would wait."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        due_s = self._clock.seconds_to_next()
        if due_s == 0.0:
            self._clock.fire_soon()
            return []
        self._clock.flow()
        if due_s is not None and (timeout is None or due_s < timeout):
            timeout = due_s
        return super().select(timeout)
