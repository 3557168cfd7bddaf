"""Going anywhere in a journal: keyframes and marks left while it is read, and a cursor with a clock over them."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from core.events import RunFinished, Verdict
from core.journal import START, JournalDamaged, Position, Tail
from core.journal.reader import Placed
from core.keyframe import Keyframe, keyframe, restore
from core.moment import Moment
from core.reduce import apply
from core.state import SessionState

KEYFRAME_EVERY: Final = 2_000
"""Least events between keyframes: folding that many takes a few milliseconds, so any seek stays well under 50."""

FRAME_BYTES_PER_EVENT: Final = 50
"""Keyframes of large sessions lie further apart, so that all of them take at most so much memory per event."""

SPEEDS: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 10_000)
"""Session seconds per second that a replay can run at."""

WATCHABLE_S: Final = 120.0
"""A replay starts at the lowest speed that shows the whole session within this many seconds."""

_AHEAD = 500

Mark = Literal["event", "run", "verdict"]
"""What a replay can step by: any event, the end of a run, a verdict."""


class History:
    """Folds a journal as far as it goes, and leaves behind what makes every event of it reachable fast.

    Args:
        journal_dir: the session's folder of segments; it may still grow, or not exist yet.
    """

    def __init__(self, journal_dir: Path) -> None:
        self.journal_dir = journal_dir
        self.head = SessionState()
        """The state after the newest event that was read."""
        self.behind = True
        """Whether there may be events that are not read: so until an `extend` finds none."""
        self.problem = ""
        """Why reading stopped before the end of the journal, in a sentence for the user."""
        self._tail = Tail(journal_dir)
        self._frames: list[tuple[Keyframe, Position]] = [(keyframe(self.head), START)]
        self._marks: dict[Mark, list[int]] = {"run": [], "verdict": []}

    def extend(self, limit: int) -> bool:
        """Read and fold at most `limit` more events; returns whether there were any."""
        if self.problem:
            return False
        try:
            batch = self._tail.read(limit)
        except (JournalDamaged, OSError) as error:
            damaged = isinstance(error, JournalDamaged)
            self.problem = str(error) if damaged else f"the journal cannot be read: {error}"
            self.behind = False
            return False
        self.behind = bool(batch)
        for event, position in batch:
            apply(self.head, event)
            if isinstance(event, RunFinished):
                self._marks["run"].append(event.n)
            elif isinstance(event, Verdict):
                self._marks["verdict"].append(event.n)
            last = self._frames[-1][0]
            if event.n - last.n >= max(KEYFRAME_EVERY, last.size // FRAME_BYTES_PER_EVENT):
                self._frames.append((keyframe(self.head), position))
        return bool(batch)

    def before_event(self, n: int) -> tuple[SessionState, Position]:
        """The nearest keyframe's state at or before event `n`, with the place to read on from."""
        return self._restored(bisect_right(self._frames, n, key=lambda frame: frame[0].n) - 1)

    def before_time(self, t_s: float) -> tuple[SessionState, Position]:
        """The last keyframe's state at which no event was later than session second `t_s`."""
        return self._restored(max(0, bisect_right(self._frames, t_s, key=lambda frame: frame[0].t_s) - 1))

    def mark(self, kind: Mark, n: int, direction: Literal[-1, 1]) -> int | None:
        """The number of the next (1) or previous (-1) event of a kind as seen from event `n`, or None."""
        if kind == "event":
            there = n + direction
            return there if 0 <= there <= self.head.now.n else None
        marks = self._marks[kind]
        index = bisect_right(marks, n) if direction > 0 else bisect_left(marks, n) - 1
        return marks[index] if 0 <= index < len(marks) else None

    def _restored(self, index: int) -> tuple[SessionState, Position]:
        frame, position = self._frames[index]
        return restore(frame, self.head.ledger), position


class ReplaySource:
    """A cursor over a session's history: it plays, steps and seeks; the journal may grow meanwhile.

    Args:
        journal_dir: the session's folder of segments.
        history: what was read of it already, where somebody has read it.
        playing: whether time flows from the start.
        clock: seconds that only grow; tests give their own.
    """

    def __init__(
        self,
        journal_dir: Path,
        *,
        history: History | None = None,
        playing: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.history = history if history is not None else History(journal_dir)
        self.playing = playing
        self.speed: int | None = None
        """Session seconds per second; None until the length of the session is known."""
        self._clock = clock
        self._clock_s = clock()
        self._ahead: deque[Placed] = deque()
        self._now_s = self._due_s = 0.0
        self._behind = False
        self.state, position = self.history.before_event(0)
        self._tail = Tail(journal_dir, position)

    @property
    def mode(self) -> Literal["replay"]:
        """A replay stays one, whatever the engine does."""
        return "replay"

    @property
    def now_s(self) -> float:
        """The cursor's session time."""
        return self._now_s

    @property
    def span_s(self) -> float:
        """Session seconds from the start to the newest event known."""
        return self.history.head.now.t_s

    @property
    def position(self) -> int:
        """The number of the last event in `state`."""
        return self.state.now.n

    @property
    def last(self) -> int:
        """The number of the newest event known."""
        return self.history.head.now.n

    @property
    def behind(self) -> bool:
        """Whether another poll would find work at once."""
        return self.history.behind or (self.playing and self._behind)

    @property
    def problem(self) -> str:
        """Why the journal could not be read to its end, or nothing."""
        return self.history.problem

    def poll(self, limit: int = 5000) -> bool:
        """Read what is new, let time flow, fold what its flow uncovers; at most about `limit` events each."""
        grown = self.history.extend(limit)
        now_clock_s = self._clock()
        passed_s, self._clock_s = now_clock_s - self._clock_s, now_clock_s
        if self.history.behind:
            return grown
        if self.speed is None:
            self.speed = next((speed for speed in SPEEDS if self.span_s / speed <= WATCHABLE_S), SPEEDS[-1])
        if not self.playing:
            return grown
        self._due_s = min(self.span_s, self._due_s + passed_s * self.speed)
        self._behind = not self._fold_until_time(self._due_s, limit)
        # What is on show is never older than the time beside it, however slow the folding is.
        self._now_s = self.state.now.t_s if self._behind else self._due_s
        if not self._behind and self.position == self.last:
            self.playing = False
        return True

    def play(self, playing: bool) -> None:
        """Let time flow or hold it; playing on from the very end starts over."""
        if playing and self.position >= self.last:
            self.seek_event(0)
        self.playing = playing
        self._due_s = self._now_s

    def change_speed(self, direction: Literal[-1, 1]) -> None:
        """The next higher or lower of `SPEEDS`."""
        index = SPEEDS.index(self.speed) if self.speed is not None else 0
        self.speed = SPEEDS[min(len(SPEEDS) - 1, max(0, index + direction))]
        self._due_s = self._now_s

    def step(self, kind: Mark, direction: Literal[-1, 1]) -> bool:
        """Go to the next or previous event, run end or verdict, and hold time; False where there is none."""
        self.playing = False
        n = self.history.mark(kind, self.position, direction)
        if n is None:
            return False
        self.seek_event(n)
        return True

    def seek_event(self, n: int) -> None:
        """Go to the state right after event `n` (0: before the first; cut to what there is)."""
        n = min(max(n, 0), self.last)
        if not 0 <= n - self.position <= KEYFRAME_EVERY:
            self._jump(*self.history.before_event(n))
        if not self._ahead:
            self._ahead.extend(self._tail.read(n - self.position))
        while self.position < n:
            self._fold_next()
        self._now_s = self._due_s = self.state.now.t_s

    def seek_time(self, t_s: float) -> None:
        """Go to session second `t_s`, after all that happened up to then (cut to what there is)."""
        t_s = min(max(t_s, 0.0), self.span_s)
        self._jump(*self.history.before_time(t_s))
        while not self._fold_until_time(t_s, KEYFRAME_EVERY):
            pass
        self._now_s = self._due_s = t_s

    def seek_fraction(self, fraction: float) -> None:
        """Go to a share of the session's time, 0 to 1."""
        self.seek_time(fraction * self.span_s)

    def seek(self, moment: Moment) -> None:
        """Go to a moment that a person named (cut to what there is)."""
        if moment.kind == "event":
            self.seek_event(round(moment.value))
        else:
            self.seek_time(moment.value)

    def go_to_end(self) -> None:
        """Go to the newest event known."""
        self.seek_event(self.last)

    def _jump(self, state: SessionState, position: Position) -> None:
        self.state = state
        self._tail = Tail(self.history.journal_dir, position)
        self._ahead.clear()

    def _peek(self) -> Placed | None:
        """The event after the cursor, if the history knows one."""
        if self.position >= self.last:
            return None
        if not self._ahead:
            self._ahead.extend(self._tail.read(min(_AHEAD, self.last - self.position)))
        return self._ahead[0] if self._ahead else None

    def _fold_next(self) -> None:
        placed = self._peek()
        assert placed is not None, "the history counted an event that the journal no longer has"
        apply(self.state, placed[0])
        self._ahead.popleft()

    def _fold_until_time(self, t_s: float, limit: int) -> bool:
        """Fold at most `limit` events that are not later than `t_s`; returns whether that was all."""
        for _ in range(limit):
            placed = self._peek()
            if placed is None or placed[0].t > t_s:
                return True
            self._fold_next()
        return False
