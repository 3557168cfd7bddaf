"""The logs of pods: follows them while they run, for live progress, and keeps their last words for later."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from core.clock import Clock
from executors.kubernetes.client import Cluster, KubeError
from executors.output import clean

KEPT_BYTES: Final = 2_500_000
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_MARGIN_S: Final = 2
"""The API takes whole seconds only: ask for a little more and drop what was seen (measured to be exact)."""

Json = dict[str, Any]


class Follower:
    """Reads the log of one pod to its end, over cuts of the connection.

    Args:
        cluster: see client.
        clock: session time, which the cluster's time goes with.
        pod: its name.
        path: where the text of the log goes.
        on_line: takes each line that the runner wrote, as JSON.
    """

    def __init__(self, cluster: Cluster, clock: Clock, pod: str, path: Path, on_line: Callable[[Json], None]) -> None:
        self._cluster, self._clock, self._pod, self._path, self._on_line = cluster, clock, pod, path, on_line
        self._last_time, self._last_s = "", 0.0
        self._kept = 0
        self.whole = False

    async def run(self) -> None:
        """Follow until the log ends, or the pod is gone."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                if await self._read():
                    pause_s = _FIRST_PAUSE_S
                self.whole = True
            except KubeError as error:
                if error.status in (400, 404) and not error.transient:
                    return  # not there yet, or not there any more: what counts comes in the pod's status
            if self.whole:
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _read(self) -> bool:
        """One connection; whether anything new came."""
        news = False
        async for time, line in self._cluster.follow_log(self._pod, since_s=self._since_s()):
            if time and time <= self._last_time:
                continue
            self._last_time, self._last_s, news = time or self._last_time, self._clock.touch(), True
            self._take(line)
        return news

    def _since_s(self) -> int | None:
        """How far to look back: our own clock since the last line came, so that nobody's clock need be right."""
        return math.ceil(self._clock.touch() - self._last_s) + _MARGIN_S if self._last_time else None

    def _take(self, line: str) -> None:
        if (told := runner_line(line)) is not None:
            self._on_line(told)
            return
        data = clean(line).encode() + b"\n"
        if self._kept < KEPT_BYTES:
            self._kept += len(data)
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with self._path.open("ab" if self._kept > len(data) else "wb") as file:
                    file.write(data)


def runner_line(line: str) -> Json | None:
    """A line that the pod's runner wrote about its progress, or None for what the trainer printed."""
    if not line.startswith('{"ar"'):
        return None
    try:
        told = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    good = isinstance(told, dict) and told.get("ar") == 1 and isinstance(told.get("seq"), int)
    return told if good else None


async def keep_log(cluster: Cluster, pod: str, path: Path) -> None:
    """Save what a pod printed, as far as the cluster still has it. Raises KubeError."""
    data = await cluster.read_log(pod, limit_bytes=KEPT_BYTES)
    lines = (line for line in data.decode(errors="replace").split("\n") if runner_line(line) is None)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(clean("\n".join(lines)))  # noqa: ASYNC240  at most 2.5 MB, once per run
