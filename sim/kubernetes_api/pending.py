"""Delayed steps on the cluster's clock that are harmless once what they were for is gone."""

from __future__ import annotations

from collections.abc import Callable

from core.clock import Clock


class Steps:
    """Calls functions later, each part of the cluster under its own name, ties in the order of asking."""

    def __init__(self, clock: Clock, part: str) -> None:
        self.clock, self._part, self._number = clock, part, 0
        self._closed = False

    def after(self, delay_s: float, fn: Callable[..., object], *args: object) -> None:
        """Call `fn(*args)` after so many session seconds."""
        self.at(self.clock.now() + delay_s, fn, *args)

    def at(self, t_s: float, fn: Callable[..., object], *args: object) -> None:
        """Call `fn(*args)` at this session second."""
        self._number += 1
        self.clock.call_at(t_s, (self._part, self._number, 0), self._call, fn, args)

    def close(self) -> None:
        """Nothing that was asked for happens any more."""
        self._closed = True

    def _call(self, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self._closed:
            fn(*args)
