"""The engine's hold on the projection process: start it, ask for snapshots, see it end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path


class ProjectionFailed(RuntimeError):
    """The projection process could not publish; the text is one sentence for the user."""


class Projection:
    """The projection process of one session. It never keeps the engine from working: the journal is the truth.

    Args:
        session_dir: the session's folder.
    """

    def __init__(self, session_dir: Path) -> None:
        self._dir = session_dir
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the process; its complaints go to this process's stderr."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "core.projection", str(self._dir)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )

    async def publish(self, n: int) -> int:
        """Return once a snapshot holds every event up to number `n`, which must be in the journal or on its way.

        Returns the number of the last event in the snapshot.

        Raises:
            ProjectionFailed: the journal is damaged, or the process has ended before it got there.
        """
        process = self._process
        assert process is not None, "start() comes first"
        assert process.stdin is not None
        async with self._turn:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(b"publish %d\n" % n)
                await process.stdin.drain()
            published = 0
            # An answer to a caller that was cancelled may still be in the pipe: numbers only grow.
            while published < n:
                published = await self._answer(process, n)
        return published

    async def _answer(self, process: asyncio.subprocess.Process, n: int) -> int:
        assert process.stdout is not None
        answer = (await process.stdout.readline()).decode().strip()
        if not answer and await process.wait() == 0:
            # It has seen the session's end and published everything.
            return n
        verb, _, rest = answer.partition(" ")
        if verb != "published":
            raise ProjectionFailed(rest or "the projection process has ended; its reason is in the engine's log")
        return int(rest)

    async def close(self) -> int:
        """Let the process publish what there is and end; returns its exit code."""
        process = self._process
        if process is None:
            return 0
        assert process.stdin is not None
        process.stdin.close()
        return await process.wait()
