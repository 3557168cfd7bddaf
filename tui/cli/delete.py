"""`delete`: remove a session's folder, whole or damaged, once the person has said so."""

from __future__ import annotations

import sys

import click
import msgspec

from core.figures import read_figures
from core.glance import Glance, glance, with_figures
from core.session import SessionFolder, delete_session, disk_bytes, resolve_session, session_folders
from tui.cli import UserError
from tui.view.home import delete_question


@click.command()
@click.argument("session", metavar="SESSION")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(session: str, yes: bool) -> None:
    """Remove a session for good: its journal, its runs' logs and its tables. One with a live engine is refused."""
    folder = _find(session)
    refuse_where_something_runs(folder)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UserError("'delete' asks before it deletes, and here is nobody to ask: add --yes", 2)
        click.confirm(delete_question(_looked_at(folder)), abort=True, err=True)
    name = glance(folder).name
    remove(folder)
    click.echo(f"session {name} is deleted")


def _find(session: str) -> SessionFolder:
    """The session by name, id or prefix; a folder too damaged to say its name goes by its own. Raises SessionError."""
    for folder in session_folders():
        if folder.path.name == session:
            return folder
    return resolve_session(session)


def _looked_at(folder: SessionFolder) -> Glance:
    try:
        seen = with_figures(glance(folder), read_figures(folder), folder)
    except OSError:  # what cannot be read can still be deleted
        seen = glance(folder)
    return msgspec.structs.replace(seen, size=disk_bytes(folder.path))


def remove(folder: SessionFolder) -> None:
    """Delete a session on which nothing works any more. Raises UserError, SessionError."""
    refuse_where_something_runs(folder)
    delete_session(folder)


def refuse_where_something_runs(folder: SessionFolder) -> None:
    """Neither an engine nor attempts must lose their folder; these outlive a killed engine. Raises UserError."""
    from executors.folder import is_held

    name = glance(folder).name
    if folder.engine_alive():
        raise UserError(f"an engine works on session {name}: 'autoresearch-tui stop {name}' ends it first")
    try:
        held = sorted(path.name for path in folder.runs_dir.iterdir() if path.is_dir() and is_held(path))
    except OSError:
        return
    if held:
        sentence = f"attempts of session {name} still run ({', '.join(held[:3])}): 'autoresearch-tui stop {name}'"
        raise UserError(f"{sentence} ends them first")
