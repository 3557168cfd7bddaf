"""Forking from a screen: the command line does it in a process of its own, so that the screen goes on meanwhile."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from core.session import SessionError, SessionFolder, sessions_dir
from tui.create import paced
from tui.view.fork import ForkWish


class _Made(msgspec.Struct):
    """What `fork --json` prints of the new session."""

    id: str


class CommandForks:
    """Forks one session; `made` is the last fork, to be opened next."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder
        self.made: SessionFolder | None = None

    async def fork(self, wish: ForkWish) -> None:
        """Make a fork and start its engine. Raises SessionError: the command's own last sentence."""
        words = [sys.executable, "-P", "-m", "tui", "fork", self._folder.path.name, *self._options(wish)]
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            told, complaint = await process.communicate()
        except asyncio.CancelledError:
            process.kill()  # half a fork is none
            raise
        if process.returncode != 0:
            lines = complaint.decode(errors="replace").strip().splitlines()
            raise SessionError(lines[-1].removeprefix("autoresearch-tui: ") if lines else "the fork was not made")
        self.made = SessionFolder(sessions_dir() / msgspec.json.decode(told, type=_Made).id)

    def _options(self, wish: ForkWish) -> list[str]:
        config = self._folder.config()
        given = {
            "--name": wish.name,
            "--hint": wish.hint,
            "--hours": wish.hours,
            "--runs": wish.runs,
            "--gpu-hours": wish.gpu_hours,
            "--max-usd": wish.usd,
        }
        if config.simulated:  # it will be watched
            own = any((wish.hours, wish.runs, wish.gpu_hours))
            hours = float(wish.hours) if wish.hours else None if own else config.limits.hours
            given["--speed"] = f"{paced(None, hours, watched=True):g}"
        said = [f"{option}={value}" for option, value in given.items() if value]
        return [f"--at-event={wish.n}", "--detach", "--json", *said]
