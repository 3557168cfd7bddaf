"""The control channel, client side: ask a session's engine for something over its private Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from core.session import SessionFolder

if TYPE_CHECKING:
    from core.bench import Delta

MAX_LINE_BYTES = 64 * 1024
_CONNECT_S = 2.0
_REPLY_S = 30.0

COMMANDS = ("pause", "resume", "hint", "cancel", "drain", "undrain", "stop")
"""Verbs that change the session: journalled, then obeyed."""


class Request(msgspec.Struct, frozen=True):
    """One line to the engine. `client` is unique per command, so that a repetition is recognised."""

    verb: str
    arg: str = ""
    client: str = ""


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line back: whether it was done, a sentence, and the session's clock and version.

    `rate` is in session seconds per second: 1 in real time, 0 while time stands still, None where it is unbounded.
    """

    ok: bool
    text: str
    t_s: float = 0.0
    rate: float | None = 1.0
    version: str = ""
    pid: int = 0


class EngineGone(Exception):
    """No engine answers for this session; the text is one sentence for the user."""


class EngineSilent(EngineGone):
    """An engine took the request and did not answer it: it may still obey."""


def new_client(who: str) -> str:
    """A unique name for one command."""
    return f"{who}-{uuid.uuid4().hex[:12]}"


async def request(folder: SessionFolder, verb: str, arg: str = "", *, client: str = "") -> Reply:
    """Ask once and return the reply. Safe to repeat with the same `client`.

    Raises:
        EngineGone: nobody listens.
        EngineSilent: the answer does not come.
    """
    reader, writer = await _connect(folder)
    try:
        writer.write(msgspec.json.encode(Request(verb, arg, client or new_client("cli"))) + b"\n")
        async with asyncio.timeout(_REPLY_S):
            await writer.drain()
            line = await reader.readline()
        return msgspec.json.decode(line, type=Reply)
    except (OSError, TimeoutError, msgspec.DecodeError):
        raise EngineSilent(f"the engine of session {folder.path.name} does not answer; see {folder.log_path}") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def follow(folder: SessionFolder) -> AsyncIterator[Delta]:
    """What a model says just now, piece by piece, until the engine is gone. Slow readers miss pieces.

    Raises:
        EngineGone: nobody listens, or the engine has no room for one more.
    """
    from core.bench import Delta

    reader, writer = await _connect(folder)
    try:
        writer.write(msgspec.json.encode(Request("watch")) + b"\n")
        async with asyncio.timeout(_REPLY_S):
            await writer.drain()
            reply = msgspec.json.decode(await reader.readline(), type=Reply)
        if not reply.ok:
            raise EngineGone(reply.text)
        while line := await reader.readline():
            yield msgspec.json.decode(line, type=Delta)
    except (OSError, TimeoutError, ValueError, msgspec.DecodeError) as error:
        raise EngineGone(f"the engine of session {folder.path.name} tells no more: {error}") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect(folder: SessionFolder) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises EngineGone."""
    engine = folder.engine()
    gone = EngineGone(f"no engine works on session {folder.path.name}; 'autoresearch-tui resume' starts one")
    if engine is None or not engine.socket:
        raise gone
    try:
        async with asyncio.timeout(_CONNECT_S):
            return await asyncio.open_unix_connection(engine.socket, limit=MAX_LINE_BYTES)
    except (OSError, TimeoutError):
        raise gone from None
