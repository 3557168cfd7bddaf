"""Bad spells of a thing that is otherwise well: when they begin and end is a pure function of a key."""

from __future__ import annotations

import bisect
from typing import NamedTuple

from sim import draws


class Spell(NamedTuple):
    """A bad spell in session seconds, whole milliseconds; both are infinite where none comes any more."""

    from_s: float
    to_s: float


class Spells:
    """Good and bad times in turn, each of a random length; drawn as far as somebody asks, and kept.

    Args:
        good_mean_s: mean of the exponential lengths of good times; infinite: there is never a bad one.
        bad_least_s, bad_mean_s: bad times last at least this long and an exponential length beyond, of this mean
            in all.
        key: names the thing.
    """

    def __init__(self, good_mean_s: float, bad_least_s: float, bad_mean_s: float, *key: int | str) -> None:
        self._good_mean_s, self._bad_least_s = good_mean_s, bad_least_s
        self._bad_beyond_s = bad_mean_s - bad_least_s
        self._key = key
        self._drawn: list[Spell] = []

    def nth(self, index: int) -> Spell:
        """The bad spell of this number, from 0."""
        while len(self._drawn) <= index:
            self._draw()
        return self._drawn[index]

    def first_from(self, t_s: float) -> float:
        """When the first bad spell begins that begins at this second or later."""
        self._reach(t_s)
        return self._drawn[bisect.bisect_left(self._drawn, t_s, key=lambda spell: spell.from_s)].from_s

    def covers(self, t_s: float) -> bool:
        """Whether this second lies in a bad spell."""
        self._reach(t_s)
        index = bisect.bisect_right(self._drawn, t_s, key=lambda spell: spell.from_s) - 1
        return index >= 0 and t_s < self._drawn[index].to_s

    def _reach(self, t_s: float) -> None:
        while not self._drawn or self._drawn[-1].from_s < t_s:
            self._draw()

    def _draw(self) -> None:
        number = len(self._drawn)
        since_s = self._drawn[-1].to_s if self._drawn else 0.0
        from_s = since_s + draws.exponential(self._good_mean_s, *self._key, number, "good")
        length_s = self._bad_least_s + draws.exponential(self._bad_beyond_s, *self._key, number, "bad")
        self._drawn.append(Spell(round(from_s, 3), round(from_s + length_s, 3)))
