"""Where a screen gets a session's state and time from: live from a journal that grows, or from a replay of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, Protocol

from core.replay import History, ReplaySource
from core.state import SessionState

Mode = Literal["live", "replay", "engine gone"]

_PROBE_EVERY_S: Final = 1.0


class Source(Protocol):
    """What a screen reads: it never waits, and all it does is bounded."""

    @property
    def state(self) -> SessionState:
        """The fold up to `position`; to be looked at, never changed, and not kept across polls and seeks."""

    @property
    def mode(self) -> Mode:
        """Whether this follows a living engine, replays, or shows what a dead engine left."""

    @property
    def now_s(self) -> float:
        """Session seconds at the last poll or seek: the only present that a screen knows."""

    @property
    def span_s(self) -> float:
        """Session seconds of the newest event known."""

    @property
    def position(self) -> int:
        """The number of the last event in `state`."""

    @property
    def last(self) -> int:
        """The number of the newest event known."""

    @property
    def behind(self) -> bool:
        """Whether another poll would find work at once."""

    @property
    def problem(self) -> str:
        """Why the journal could not be read to its end, in a sentence; empty where it could."""

    def poll(self, limit: int = 5000) -> bool:
        """Take in at most about `limit` events; returns whether the state or a replay's time changed."""


class LiveSource:
    """Follows a journal that an engine writes, and knows when none does.

    Session time flows between events while an engine works on real time; a simulated session's time is
    that of its newest event.

    Args:
        journal_dir: the session's folder of segments.
        engine_alive: a quick, non-blocking probe of the session's lock.
        clock: seconds that only grow; tests give their own.
    """

    def __init__(
        self,
        journal_dir: Path,
        engine_alive: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = History(journal_dir)
        self._engine_alive = engine_alive
        self._clock = clock
        self._read_at_s = clock()
        self._read_n = 0
        self._probed_at_s = self._read_at_s
        self._alive = engine_alive()
        self._now_s = 0.0

    @property
    def state(self) -> SessionState:
        return self.history.head

    @property
    def mode(self) -> Mode:
        return "live" if self._alive else "engine gone"

    @property
    def now_s(self) -> float:
        return self._now_s

    @property
    def span_s(self) -> float:
        return self.history.head.now.t_s

    @property
    def position(self) -> int:
        return self.history.head.now.n

    @property
    def last(self) -> int:
        return self.history.head.now.n

    @property
    def behind(self) -> bool:
        return self.history.behind

    @property
    def problem(self) -> str:
        return self.history.problem

    def poll(self, limit: int = 5000) -> bool:
        was_alive = self._alive
        clock_s = self._clock()
        if clock_s - self._probed_at_s >= _PROBE_EVERY_S:
            self._probed_at_s = clock_s
            self._alive = self._engine_alive()
        grown = self.history.extend(limit)
        if self.position != self._read_n:  # a replay over the same history may have read it
            self._read_n, self._read_at_s = self.position, clock_s
        flown_s = max(0.0, clock_s - self._read_at_s) if self._time_flows() else 0.0
        # An event that took a while to reach us must not turn the screen's time back.
        self._now_s = max(self._now_s, self.history.head.now.t_s + flown_s)
        return grown or was_alive != self._alive

    def replay(self) -> ReplaySource:
        """A replay of what was read so far, held at this moment; it costs no second reading."""
        source = ReplaySource(self.history.journal_dir, history=self.history, clock=self._clock)
        source.go_to_end()
        return source

    def _time_flows(self) -> bool:
        """A pause stops session time only once nothing runs any more."""
        state = self.history.head
        started = state.now.started
        if not self._alive or started is None or started.simulated or state.now.ended is not None:
            return False
        return not state.now.paused or any(run.status != "queued" for run in state.now.runs.values())
