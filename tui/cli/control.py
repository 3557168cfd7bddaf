"""Commands that talk to a session's engine: pause, resume, hint, cancel, drain, stop."""

from __future__ import annotations

import asyncio
import time

import click

from core.control import EngineGone, new_client, request
from core.session import SessionFolder, resolve_session
from tui.cli import UserError
from tui.cli.options import session_argument, speed_option

_STOP_WAIT_S = 3600.0
_LOOK_S = 0.1


@click.command()
@session_argument
def pause(session: str) -> None:
    """Start nothing new; what runs goes on. Session time stands still once nothing runs."""
    _command(resolve_session(session), "pause")


@click.command()
@session_argument
@speed_option
def resume(session: str, speed: str | None) -> None:
    """Go on after a pause; where the engine is gone, start one that adopts what still runs."""
    folder = resolve_session(session)
    if speed is not None and not folder.config().simulated:
        raise UserError("--speed belongs to a simulated session; this one runs in real time", 2)
    if folder.engine_alive():
        from tui.cli.inspect import summary_of

        if speed is not None:
            _command(folder, "speed", speed)
        if speed is None or summary_of(folder).state == "paused":
            _command(folder, "resume")
        return
    from tui.launch import start_engine

    start_engine(folder, *(("--speed", speed) if speed is not None else ()))
    click.echo(f"an engine works on {folder.config().name} again; 'autoresearch-tui attach' shows it")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-s", "--session", default="last", help="The session (default: last).")
def hint(words: tuple[str, ...], session: str) -> None:
    """Say something to the researcher, e.g. `hint MATRIX_LR=0.06 DEPTH=3`."""
    _command(resolve_session(session), "hint", " ".join(words))


@click.command()
@click.argument("what")
@click.option("-s", "--session", default="last", help="The session (default: last).")
def cancel(what: str, session: str) -> None:
    """Cancel a run (r12), or the runs of an experiment (e5) or a design that are open now.

    A design is meant by its name; `design:NAME` where that looks like a run's or an experiment's.
    """
    _command(resolve_session(session), "cancel", what)


@click.command()
@click.argument("what", metavar="DEVICE")
@click.option("-s", "--session", default="last", help="The session (default: last).")
@click.option("--undo", is_flag=True, help="Give the device back: it takes new runs again.")
def drain(what: str, session: str, undo: bool) -> None:
    """Start nothing new on a device (gpu3); what runs there finishes. `node:NAME` or `class:NAME` means all there."""
    _command(resolve_session(session), "undrain" if undo else "drain", what)


@click.command()
@session_argument
@click.option("--finish", is_flag=True, help="Let the runs that are under way finish; by default they are cancelled.")
def stop(session: str, finish: bool) -> None:
    """End a session for good; what was measured stays. Returns when the engine has ended."""
    folder = resolve_session(session)
    if folder.engine_alive() or _ended(folder):
        _command(folder, "stop", "finish" if finish else "now")
    else:
        from tui.launch import start_engine

        start_engine(folder, "--stop")  # its runs may go on under their launchers: they are cancelled too
    deadline_s = time.monotonic() + _STOP_WAIT_S
    while folder.engine_alive():
        if time.monotonic() > deadline_s:
            raise UserError(f"the engine has not ended yet; see {folder.log_path}")
        time.sleep(_LOOK_S)
    click.echo(f"session {folder.config().name} has ended; 'autoresearch-tui replay' shows it again")


def _command(folder: SessionFolder, verb: str, arg: str = "") -> None:
    """Send one command and print the engine's sentence. Raises UserError where it was refused."""
    try:
        reply = asyncio.run(request(folder, verb, arg, client=new_client("cli")))
    except EngineGone:
        if folder.engine_alive():
            raise
        raise UserError(_gone(folder)) from None
    if not reply.ok:
        raise UserError(f"{folder.config().name}: {reply.text}")
    click.echo(f"{folder.config().name}: {reply.text}")


def _ended(folder: SessionFolder) -> str:
    """Why the session has ended, or nothing if it has not."""
    from core.journal import scan
    from core.reduce import fold

    ended = fold(event for event, _ in scan(folder.journal_dir)).now.ended
    return ended.reason if ended is not None else ""


def _gone(folder: SessionFolder) -> str:
    name, ended = folder.config().name, _ended(folder)
    if ended:
        return f"session {name} has ended ({ended})"
    return f"no engine works on session {name}; 'autoresearch-tui resume {name}' starts one"
