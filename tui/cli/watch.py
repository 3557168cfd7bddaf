"""`attach` and `replay`: the same screen over a live or a recorded source."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.session import SessionFolder, home, resolve_session
from tui.cli import UserError
from tui.cli.options import has_screen, no_screen_words, plain_option, screen_options, session_argument

if TYPE_CHECKING:
    from core.control import Reply
    from core.sql_console import SqlConsole


@click.command()
@session_argument
@plain_option
@screen_options
def attach(session: str, plain: bool) -> int:
    """Watch a session; q leaves it working. With its engine gone the screen is read-only and offers to resume."""
    folder = resolve_session(session)
    return watch_live(folder, plain=plain or not has_screen())


@click.command()
@session_argument
@screen_options
def replay(session: str) -> int:
    """Watch a session again: space plays and pauses, < and > set the speed, H and L seek, , and . step."""
    folder = resolve_session(session)
    if not has_screen():
        raise UserError(
            f"'replay' needs {no_screen_words()}; 'autoresearch-tui attach --plain' prints the runs as lines", 2
        )
    return watch_replay(folder)


def watch_replay(folder: SessionFolder) -> int:
    """Play a session from its beginning on a screen; returns an exit code."""
    from core.replay import ReplaySource
    from tui.app import run_app
    from tui.forking import CommandForks

    forks = CommandForks(folder)
    source = ReplaySource(folder.journal_dir, playing=True)
    with _console(folder) as sql:
        code = run_app(source, logs=log_provider(folder), forks=forks, sql=sql, crash_log=_crash_log())
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
    with _console(folder) as sql:
        code = run_app(
            source,
            commands=SocketCommands(folder),
            logs=log_provider(folder),
            answers=lambda: control.follow(folder),
            forks=forks,
            sql=sql,
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

    async def send(self, verb: str, arg: str = "", *, client: str = "") -> Reply:
        """Send one command and return its answer; `resume` starts an engine where none works."""
        from core.control import Reply, request

        if verb == "resume" and not self._folder.engine_alive():
            from tui.launch import start_engine

            await asyncio.to_thread(start_engine, self._folder)
            return Reply(True, "an engine works on this session again")
        return await request(self._folder, verb, arg, client=client)


def log_provider(folder: SessionFolder) -> Callable[[str, int], bytes]:
    """A reader of the last bytes of an attempt's log. It raises OSError where there is none."""

    def read(attempt: str, last_bytes: int) -> bytes:
        with (folder.runs_dir / attempt / "output.log").open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - last_bytes))
            return log.read()

    return read


def _console(folder: SessionFolder) -> AbstractContextManager[SqlConsole]:
    """What the screen's SQL console asks; it leaves nothing behind."""
    from core.sql_console import SqlConsole
    from core.sql_history import SqlHistory, history_path

    return contextlib.closing(SqlConsole(folder, SqlHistory(history_path())))


def _crash_log() -> Path:
    return home() / "screen.log"
