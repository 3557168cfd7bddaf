"""The control channel, engine side: a private Unix socket that answers one JSON line with one JSON line.

One verb, `watch`, is answered by more: what a model says, piece by piece, until the client goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec

from core.bench import Delta
from core.clock import parse_speed
from core.control import COMMANDS, MAX_LINE_BYTES, Reply, Request
from core.engine.commands import promise, refusal
from core.engine.loop import Engine
from core.events import Command
from core.figures import figures_of

_IDLE_S = 60.0
_FASTEST_PACE = 6400.0
MOST_WATCHERS = 16
_PIECE_CHARS = 8_000
"""Of a longer piece several are made, so that each line stays below MAX_LINE_BYTES, escapes included."""


class ControlServer:
    """Serves one engine. Other users cannot connect: the socket is 0600 in a folder that is theirs to nobody.

    Args:
        publish: makes a fresh snapshot of the projection and returns a sentence.
    """

    def __init__(self, engine: Engine, path: Path, version: str, publish: Callable[[], Awaitable[str]]) -> None:
        self._engine, self._path, self._version, self._publish = engine, path, version, publish
        self._server: asyncio.Server | None = None
        self._watchers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen. A socket file that a dead engine left is replaced: we hold the session's lock."""
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE_BYTES)
        finally:
            os.umask(mask)

    async def close(self) -> None:
        """Stop listening, remove the socket, and let go of those who watch."""
        if self._server is not None:
            self._server.close()
        for writer in self._watchers:
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await self._line(reader):
                asked = self._request(line)
                if isinstance(asked, Request) and asked.verb == "watch":
                    await self._watch(reader, writer)
                    break
                reply = asked if isinstance(asked, Reply) else await self._answer(asked)
                await _send(writer, msgspec.json.encode(reply) + b"\n")
        writer.close()

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what a model says from here on. Who takes it slowly misses pieces; the engine never waits."""
        if len(self._watchers) >= MOST_WATCHERS:
            refusal = self._reply(ok=False, text=f"{MOST_WATCHERS} screens watch already: close one")
            await _send(writer, msgspec.json.encode(refusal) + b"\n")
            return
        self._watchers.add(writer)
        tasks: list[asyncio.Task[None]] = []
        try:
            with self._engine.broadcast.listen() as pieces:
                await _send(writer, msgspec.json.encode(self._reply(ok=True, text="watching")) + b"\n")
                tasks = [asyncio.create_task(_until_gone(reader)), asyncio.create_task(_pass_on(pieces, writer))]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watchers.discard(writer)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(_IDLE_S):
                return await reader.readline()
        except (ValueError, TimeoutError):  # longer than the limit, or silent: not one of our clients
            return b""

    def _request(self, line: bytes) -> Request | Reply:
        """What a line asks for, or the answer to one that asks for nothing."""
        try:
            return msgspec.json.decode(line, type=Request)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            return self._reply(ok=False, text=f"not a request: {error}")

    async def _answer(self, asked: Request) -> Reply:
        if asked.verb in COMMANDS:
            return await self._command(asked)
        if asked.verb == "publish":
            return self._reply(ok=True, text=await self._publish())
        if asked.verb == "speed":
            return self._set_speed(asked.arg)
        if asked.verb == "figures":
            return self._reply(ok=True, text=self._figures())
        if asked.verb in ("hello", "ping"):
            return self._reply(ok=True, text=self._engine.state.status)
        return self._reply(ok=False, text=f"this engine does not know the verb {asked.verb!r}")

    async def _command(self, asked: Request) -> Reply:
        """Journal a command, make it durable, and only then say that it is done."""
        state = self._engine.state
        if any(known.client == asked.client for known in state.ledger.commands):
            await self._engine.recorder.durable()
            return self._reply(ok=True, text="already done")
        refused = refusal(state, asked)
        if refused:
            return self._reply(ok=False, text=refused)
        words = promise(state, asked)
        self._engine.take(Command(client=asked.client, verb=asked.verb, arg=asked.arg))
        await self._engine.recorder.durable()
        return self._reply(ok=True, text=words)

    def _figures(self) -> str:
        return msgspec.json.encode(figures_of(self._engine.state, engine_alive=True)).decode()

    def _set_speed(self, arg: str) -> Reply:
        """Pace a simulated session; how fast it is watched is no part of it, so nothing is journalled."""
        clock = self._engine.clock
        try:
            speed = parse_speed(arg) if arg not in ("faster", "slower") else _next_speed(clock.rate, arg)
            clock.set_speed(speed)
        except ValueError as error:
            return self._reply(ok=False, text=str(error))
        words = "as fast as this machine can" if speed is None else f"{speed:g} session seconds a second"
        return self._reply(ok=True, text=f"the session's time passes at {words}")

    def _reply(self, *, ok: bool, text: str) -> Reply:
        clock = self._engine.clock
        rate = clock.rate if math.isfinite(clock.rate) else None
        return Reply(ok, text, t_s=clock.touch(), rate=rate, version=self._version, pid=os.getpid())


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    """Return when the client has closed its end; what it says until then is nothing to us."""
    while await reader.read(4096):
        pass


async def _pass_on(pieces: asyncio.Queue[Delta], writer: asyncio.StreamWriter) -> None:
    """Write what has come as fast as the client takes it."""
    while True:
        waiting = [await pieces.get()]
        while not pieces.empty():
            waiting.append(pieces.get_nowait())
        await _send(writer, b"".join(line for piece in waiting for line in _lines_of(piece)))


def _lines_of(piece: Delta) -> Iterator[bytes]:
    # Half a surrogate pair is no UTF-8: the other half may come with the next piece, or never.
    text = piece.text.encode(errors="replace").decode()
    for start in range(0, len(text) or 1, _PIECE_CHARS):
        yield msgspec.json.encode(Delta(piece.req, piece.kind, text[start : start + _PIECE_CHARS])) + b"\n"


def _next_speed(rate: float, arg: str) -> float | None:
    """Twice or half the present rate, from 1 on; as fast as possible beyond what a screen can follow."""
    if rate == 0.0:
        raise ValueError("the session's time stands still just now")
    if arg == "slower":
        return _FASTEST_PACE if rate > _FASTEST_PACE else max(1.0, rate / 2)
    return max(1.0, rate) * 2 if rate * 2 <= _FASTEST_PACE else None
