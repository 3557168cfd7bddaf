"""Holds back attempts that would meet a fault of the cluster which no retry mends: one probe at a time goes through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.clock import Clock

FIRST_S: Final = 60.0
LONGEST_S: Final = 600.0
"""Session seconds between probes: a fault that a person has to mend is seen to be mended within ten minutes."""


@dataclass
class _Closed:
    reason: str
    wait_s: float
    probe_at_s: float
    probe: str = ""


class Gates:
    """One gate per kind of fault and what it concerns (an image, a product, the namespace's policy).

    A closed gate lets one attempt through from time to time. If that one gets past the fault, the gate opens for all.

    Args:
        clock: session time.
        on_time: called when a probe may go.
    """

    def __init__(self, clock: Clock, on_time: Callable[[], None]) -> None:
        self._clock, self._on_time = clock, on_time
        self._closed: dict[tuple[str, str], _Closed] = {}
        self._tickets = 0

    def shut(self, kind: str, what: str, reason: str, attempt: str) -> None:
        """An attempt met a fault: close its gate, or keep it closed for longer where the attempt was the probe."""
        known = self._closed.get((kind, what))
        wait_s = FIRST_S if known is None else known.wait_s
        if known is not None and known.probe == attempt:
            wait_s = min(LONGEST_S, known.wait_s * 2)
        elif known is not None:
            known.reason = reason
            return
        at_s = self._clock.now() + wait_s
        self._closed[kind, what] = _Closed(reason, wait_s, at_s)
        self._tickets += 1
        self._clock.call_at(at_s, ("kubernetes-gate", 0, self._tickets), self._on_time)

    def open(self, kind: str, what: str) -> bool:
        """Open a gate; whether it was closed."""
        return self._closed.pop((kind, what), None) is not None

    def held(self, attempt: str, keys: list[tuple[str, str]]) -> str:
        """Why an attempt may not go now; empty where it may. The first that asks in time becomes the probe."""
        waiting = [gate for key in keys if (gate := self._closed.get(key)) is not None and gate.probe != attempt]
        for gate in waiting:
            if gate.probe or self._clock.now() < gate.probe_at_s:
                return gate.reason
        for gate in waiting:
            gate.probe = attempt
        return ""

    def drop(self, attempt: str) -> bool:
        """An attempt is gone: if it was a probe, the next may try. Whether it was one."""
        probes = [gate for gate in self._closed.values() if gate.probe == attempt]
        for gate in probes:
            gate.probe = ""
        return bool(probes)

    def passed(self, attempt: str, kinds: Sequence[str] | None = None) -> bool:
        """An attempt got past what closed gates (of these kinds): those that it was to try open. Whether any did."""
        opened = [
            key for key, gate in self._closed.items() if gate.probe == attempt and (kinds is None or key[0] in kinds)
        ]
        for key in opened:
            del self._closed[key]
        return bool(opened)

    @property
    def reasons(self) -> list[str]:
        """Why gates are closed, in order of their closing."""
        return list(dict.fromkeys(gate.reason for gate in self._closed.values()))
