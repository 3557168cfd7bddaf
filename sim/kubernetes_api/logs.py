"""What containers print: kept in memory, capped, with the session microsecond of each line."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MOST_BYTES: Final = 10 << 20
"""As a kubelet keeps of a container's log before it rotates the file."""


class PodLog:
    """The log of one container. Lines are numbered from 0; the oldest are dropped beyond the cap.

    Times of one log differ, so that who reads it again can tell how far they got. `reachable` is False while the
    pod's node does not answer: its log cannot be read then.
    """

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque()
        self._bytes = 0
        self._waiting: list[asyncio.Future[None]] = []
        self.first = 0
        self.ended = False
        self.reachable = True

    @property
    def count(self) -> int:
        """How many lines were printed so far, those included that are dropped."""
        return self.first + len(self._lines)

    def append(self, t_s: float, text: str) -> None:
        """Take a line, printed at this session second; what comes after the end is lost."""
        if self.ended:
            return
        at_us = round(t_s * 1e6)
        if self._lines:
            at_us = max(at_us, self._lines[-1][0] + 1)
        self._lines.append((at_us, text))
        self._bytes += len(text) + 1
        while self._bytes > MOST_BYTES and len(self._lines) > 1:
            self._bytes -= len(self._lines.popleft()[1]) + 1
            self.first += 1
        self._wake()

    def end(self) -> None:
        """The container is over: nothing more comes."""
        self.ended = True
        self._wake()

    def read(self, number: int = 0) -> tuple[list[tuple[int, str]], int]:
        """The lines from this number on, as far as they are kept, and the number of the line to come.

        Each line is (session microsecond, text without its newline).
        """
        kept = max(0, number - self.first)
        return [self._lines[at] for at in range(kept, len(self._lines))], self.count

    async def wait(self, number: int) -> None:
        """Return once there is a line of this number, or the log has ended."""
        while self.count <= number and not self.ended:
            more: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(more)
            await more

    def tail(self, most_bytes: int, most_lines: int) -> str:
        """The end of the log, as `FallbackToLogsOnError` takes it into a pod's status."""
        lines = [text + "\n" for _, text in list(self._lines)[-most_lines:]]
        return "".join(lines)[-most_bytes:]

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for more in waiting:
            if not more.done():
                more.set_result(None)


class Logs:
    """The logs of all pods that are still known, by pod uid."""

    def __init__(self) -> None:
        self._logs: dict[str, PodLog] = {}

    def begin(self, uid: str) -> PodLog:
        """The log of a container that is about to start."""
        return self._logs.setdefault(uid, PodLog())

    def open(self, uid: str) -> PodLog | None:
        """The log of a pod; None where its container never started, or the pod is gone."""
        return self._logs.get(uid)

    def forget(self, uid: str) -> None:
        """Let go of a pod's log; whoever follows it sees its end."""
        log = self._logs.pop(uid, None)
        if log is not None:
            log.end()
