"""`attach` and `replay`: the same screen over a live or a recorded source."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import click

from core.session import SessionFolder, home, resolve_session
from tui.cli import UserError
from tui.cli.options import has_screen, plain_option, session_argument


@click.command()
@session_argument
@plain_option
def attach(session: str, plain: bool) -> int:
    """Watch a session; q leaves it working. With its engine gone the screen is read-only and offers to resume."""
    folder = resolve_session(session)
    return watch_live(folder, plain=plain or not has_screen())


@click.command()
@session_argument
def replay(session: str) -> int:
    """Watch a session again: space plays and pauses, < and > set the speed, H and L seek, , and . step."""
    folder = resolve_session(session)
    if not has_screen():
        raise UserError("'replay' needs a terminal; 'autoresearch-tui attach --plain' prints the runs as lines", 2)
    return watch_replay(folder)


def watch_replay(folder: SessionFolder) -> int:
    """Play a session from its beginning on a screen; returns an exit code."""
    from core.replay import ReplaySource
    from tui.app import run_app
    from tui.forking import CommandForks

    forks = CommandForks(folder)
    source = ReplaySource(folder.journal_dir, playing=True)
    code = run_app(source, logs=log_provider(folder), forks=forks, crash_log=_crash_log())
    return code if forks.made is None else watch_live(forks.made, plain=False)


def watch_live(folder: SessionFolder, *, plain: bool, started_here: bool = False) -> int:
    """Follow a session with a screen or with plain lines; returns an exit code."""
    if plain:
        from tui.plain import follow

        return follow(folder, started_here=started_here)
    from core import control
    from core.sources import LiveSource
    from tui.app import run_app
    from tui.forking import CommandForks

    forks = CommandForks(folder)
    source = LiveSource(folder.journal_dir, folder.engine_alive)
    code = run_app(
        source,
        commands=SocketCommands(folder),
        logs=log_provider(folder),
        answers=lambda: control.follow(folder),
        forks=forks,
        crash_log=_crash_log(),
    )
    if folder.engine_alive():
        name = folder.config().name
        click.echo(f"session {name} goes on; 'autoresearch-tui attach {name}' shows it again")
    return code if forks.made is None else watch_live(forks.made, plain=False)


class SocketCommands:
    """Sends the screen's commands over the session's control socket."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder

    async def send(self, verb: str, arg: str = "") -> str:
        """Send one command and return the sentence that answers it; `resume` starts an engine where none works."""
        from core.control import EngineGone, new_client, request
        from core.session import SessionError

        try:
            if verb == "resume" and not self._folder.engine_alive():
                from tui.launch import start_engine

                await asyncio.to_thread(start_engine, self._folder)
                return "an engine works on this session again"
            reply = await request(self._folder, verb, arg, client=new_client("screen"))
        except (EngineGone, SessionError) as error:
            return str(error)
        return reply.text


def log_provider(folder: SessionFolder) -> Callable[[str, int], bytes]:
    """A reader of the last bytes of an attempt's log. It raises OSError where there is none."""

    def read(attempt: str, last_bytes: int) -> bytes:
        with (folder.runs_dir / attempt / "output.log").open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - last_bytes))
            return log.read()

    return read


def _crash_log() -> Path:
    return home() / "screen.log"
