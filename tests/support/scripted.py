"""An executor for engine tests: attempts end at once, with whatever a function of their spec says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from core.executor import (
    AttemptSpec,
    Device,
    Emit,
    ExecutorEvent,
    Finished,
    OpenAttempt,
    Payload,
    Progress,
    Started,
)

Outcome = Callable[[AttemptSpec], Finished | None]
"""What an attempt ends as; None: it goes on until it is cancelled."""


class ScriptedExecutor:
    """Every attempt starts, reports once and ends within the next turns of the loop."""

    def __init__(self, outcome: Outcome, devices: Mapping[str, str] | None = None, *, external: bool = False) -> None:
        self.external = external
        self.started: list[AttemptSpec] = []
        self.logs: dict[str, bytes] = {}
        self.cancelled: list[tuple[str, str]] = []
        self.closed: bool | None = None
        self.released: list[str] = []
        self._outcome = outcome
        self._devices = dict(devices or {"cpu0": "CPU", "cpu1": "CPU"})
        self._seq: dict[str, int] = {}
        self._running: set[str] = set()

    async def open(self, emit: Emit) -> list[Device]:
        self._emit = emit
        return [Device(name, cls, "here") for name, cls in self._devices.items()]

    async def start(self, spec: AttemptSpec) -> None:
        if any(known.attempt == spec.attempt for known in self.started):
            return
        self.started.append(spec)
        self._running.add(spec.attempt)
        loop = asyncio.get_running_loop()
        loop.call_soon(self.emit, spec.attempt, Started(spec.device))
        finished = self._outcome(spec)
        if finished is not None:
            loop.call_soon(self.emit, spec.attempt, Progress(step=5, frac=0.5, loss=2.0))
            loop.call_soon(self.end, spec.attempt, finished)

    def emit(self, subject: str, payload: Payload) -> None:
        self._seq[subject] = self._seq.get(subject, 0) + 1
        self._emit([ExecutorEvent(subject, self._seq[subject], payload)])

    def end(self, attempt: str, finished: Finished) -> None:
        if attempt in self._running:
            self._running.discard(attempt)
            self.emit(attempt, finished)

    async def adopt(self, open_attempts: Sequence[OpenAttempt], device_seq: Mapping[str, int]) -> None:
        for known in open_attempts:
            self._seq[known.spec.attempt] = known.last_seq
            self.started.append(known.spec)
            self._running.add(known.spec.attempt)
            finished = self._outcome(known.spec)
            if finished is not None:
                asyncio.get_running_loop().call_soon(self.end, known.spec.attempt, finished)

    async def cancel(self, attempt: str, reason: str) -> None:
        self.cancelled.append((attempt, reason))
        self.end(attempt, Finished("cancelled", reason=reason))

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:
        return self.logs.get(attempt, b"")[-max_bytes:]

    async def release(self, attempt: str) -> None:
        self.released.append(attempt)

    async def close(self, *, kill: bool) -> None:
        self.closed = kill


def scored(val_bpb: float) -> Finished:
    """A run that ended well."""
    return Finished("ok", val_bpb=val_bpb, tier="scored", confinement="bwrap", train_s=20.0, steps=100, tokens=100_000)
