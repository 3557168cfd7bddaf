"""What is known of every session, kept up to date: cheap looks every two seconds, long journals read by a helper."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from core.control import EngineGone
from core.figures import Figures, ask_figures
from core.glance import Glance, glance, traces, with_figures
from core.session import SessionError, SessionFolder, disk_bytes, empty_trash, session_folders

_LOOK_S: Final = 2.0
_ANSWER_S: Final = 1.5
_SILENCE_S: Final = 30.0
"""How long an engine may be silent before its journal is read in its place."""
_SIZE_S: Final = 20.0
"""How old the size of a session that grows may be."""
_LINE_BYTES: Final = 2**20

ReadFigures = Callable[[SessionFolder], Awaitable[Figures]]


class Sessions(Protocol):
    """What a list of sessions is made from."""

    @property
    def glances(self) -> tuple[Glance, ...]:
        """Every session, newest first."""

    @property
    def problem(self) -> str:
        """Why they cannot be listed, in a sentence; empty where they can."""

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep `glances` up to date and say so, until cancelled."""

    async def look(self) -> bool:
        """Look at once; returns whether anything changed."""


class Shelf:
    """The sessions of this home.

    Args:
        read: folds the journals that nobody has figures of; by default in a process of its own.
        ask: asks an engine.
    """

    def __init__(self, read: ReadFigures | None = None, ask: ReadFigures = ask_figures) -> None:
        self.glances: tuple[Glance, ...] = ()
        self.problem = ""
        self._helper = _Helper() if read is None else None
        self._read: ReadFigures = self._helper.figures if self._helper is not None else read or ask_figures
        self._ask = ask
        self._known: dict[str, Glance] = {}
        self._answered_s: dict[str, float] = {}
        self._sized_s: dict[str, float] = {}
        self._looks: dict[str, tuple[tuple[object, ...], Glance]] = {}
        self._news = asyncio.Event()
        self._looking = asyncio.Lock()

    async def follow(self, changed: Callable[[], None]) -> None:
        """Look, read what is unread, measure; `changed` is called whenever `glances` or `problem` are others."""
        await asyncio.to_thread(empty_trash)
        reading = asyncio.create_task(self._fill(changed))
        try:
            while True:
                if await self.look():
                    changed()
                await asyncio.sleep(_LOOK_S)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if self._helper is not None:
                await self._helper.close()

    async def look(self) -> bool:
        """One look at all folders; engines are asked together, so that a silent one holds up nothing."""
        async with self._looking:
            before = (self.glances, self.problem)
            try:
                folders = await asyncio.to_thread(session_folders)
                self.problem = ""
            except SessionError as error:
                folders, self.problem = [], str(error)
            looks = await asyncio.to_thread(lambda: [self._look_at(folder) for folder in folders])
            seen = [self._merged(now, fresh=fresh) for now, fresh in looks]
            self._known = {one.session: one for one in seen}
            self._sort()
            self._news.set()
            live = [folder for one, folder in zip(seen, folders, strict=True) if one.live]
            await asyncio.gather(*(self._ask_engine(folder.path.name, folder) for folder in live))
            self._sort()
            return before != (self.glances, self.problem)

    def _look_at(self, folder: SessionFolder) -> tuple[Glance, bool]:
        """A glance, and whether it may be another one than at the last look."""
        traces_now = traces(folder)
        last = self._looks.get(folder.path.name)
        if last is not None and last[0] == traces_now:
            return last[1], False
        now = glance(folder)
        self._looks[folder.path.name] = (traces_now, now)
        return now, True

    def _merged(self, now: Glance, *, fresh: bool) -> Glance:
        """A look, with what was known before for as long as it may hold."""
        before = self._known.get(now.session)
        if before is None:
            return now
        if not fresh and before.live == now.live:
            return before
        changed = before.stamp != now.stamp
        if changed and not now.live:
            self._sized_s.pop(now.session, None)
        now = msgspec.structs.replace(now, size=before.size)
        if now.summary is not None or before.summary is None or before.live != now.live or (changed and not now.live):
            return now
        fault, trouble = (now.fault, now.trouble) if now.fault else (before.fault, before.trouble)
        kept = {name: getattr(before, name) for name in ("summary", "limits", "used", "simulated")}
        return msgspec.structs.replace(now, fault=fault, trouble=trouble, **kept)

    async def _ask_engine(self, session: str, folder: SessionFolder) -> None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                figures = await self._ask(folder)
        except (EngineGone, TimeoutError) as error:
            last_s = self._answered_s.setdefault(session, time.monotonic())
            if time.monotonic() - last_s > _SILENCE_S:
                words = str(error) or f"its engine has not answered for half a minute; see {folder.log_path}"
                self._replace(session, fault="silent", trouble=words)
            return
        self._answered_s[session] = time.monotonic()
        one = self._known.get(session)
        if one is not None:  # it may be deleted by now
            healthy = msgspec.structs.replace(one, fault="", trouble="") if one.fault == "silent" else one
            self._known[session] = with_figures(healthy, figures, folder)

    def _replace(self, session: str, **news: Any) -> None:
        """Change what is known of a session, if it is still there."""
        if session in self._known:
            self._known[session] = msgspec.structs.replace(self._known[session], **news)

    async def _fill(self, changed: Callable[[], None]) -> None:
        """Read what is unread, newest first, then measure what is not measured."""
        while True:
            self._news.clear()
            while (one := self._unread()) is not None:
                figures = await self._read(SessionFolder(_path(one)))
                self._take(one, figures)
                changed()
            if self._helper is not None:
                await self._helper.close()
            while (one := self._unmeasured()) is not None:
                size = await asyncio.to_thread(disk_bytes, _path(one))
                self._sized_s[one.session] = time.monotonic()
                self._replace(one.session, size=size)
                self._sort()
                changed()
            await self._news.wait()

    def _take(self, one: Glance, figures: Figures) -> None:
        now = self._known.get(one.session)
        if now is None:
            return
        self._known[one.session] = with_figures(now, figures, SessionFolder(_path(one)))
        self._sort()

    def _unread(self) -> Glance | None:
        return next((one for one in self.glances if one.summary is None and self._nobody_tells(one)), None)

    def _nobody_tells(self, one: Glance) -> bool:
        """Whether the journal has to be read: no engine is there to ask, or it has been silent for long."""
        return one.stamp is not None and (not one.live or one.fault == "silent")

    def _unmeasured(self) -> Glance | None:
        old_s = time.monotonic() - _SIZE_S
        sized_s = self._sized_s
        return next(
            (one for one in self.glances if one.session not in sized_s or (one.live and sized_s[one.session] < old_s)),
            None,
        )

    def _sort(self) -> None:
        newest = sorted(self._known.values(), key=lambda one: (one.created_unix_s or 0.0, one.session), reverse=True)
        self.glances = tuple(newest)


class _Helper:
    """The process that folds journals; it lives as long as there are some to fold."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def figures(self, folder: SessionFolder) -> Figures:
        """Have one journal folded. A helper that dies over it costs that session its figures, nothing more."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "core.figures"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                limit=_LINE_BYTES,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{folder.path}\n".encode())
            await process.stdin.drain()
            return msgspec.json.decode(await process.stdout.readline(), type=Figures)
        except (OSError, ValueError, msgspec.DecodeError):
            await self.close()
            return _unreadable(folder)

    async def close(self) -> None:
        """End the process; it has nothing to lose."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


def _path(one: Glance) -> Path:
    return Path(one.folder)


def _unreadable(folder: SessionFolder) -> Figures:
    from core.figures import figures_of
    from core.state import SessionState

    why = f"reading the journal failed; 'autoresearch-tui status {folder.path.name}' says why"
    return figures_of(SessionState(), engine_alive=False, trouble=why)
