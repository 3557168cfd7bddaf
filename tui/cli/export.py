"""`export`: a session for other programs: its conversations with a model, or the train.py that it found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from core.secrets import split_environment
from core.session import resolve_session
from core.state import SessionState
from tui.cli import UserError
from tui.cli.inspect import state_of
from tui.cli.options import session_argument
from tui.text import clean_lines

_ADDRESSES = frozenset({"ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"})


@click.command()
@session_argument
@click.option(
    "--format", "kind", type=click.Choice(["atif", "source"]), default="atif", show_default=True, help="What to write."
)
@click.option(
    "-e", "--experiment", help="With source: whose train.py, as e12 or a revision (default: the incumbent's)."
)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="The file (default: print it).")
def export(session: str, kind: str, experiment: str | None, out: Path | None) -> None:
    """Write a session's conversations with its model (atif), or the train.py of an experiment (source).

    atif is ATIF 1.7, one JSON document, for viewers and data sets: thinking as it was summarized, texts, tool calls
    with results, tokens and dollars of each answer. Keys are hidden.
    """
    if experiment is not None and kind != "source":
        raise click.UsageError("--experiment goes with --format source")
    state = state_of(resolve_session(session))
    text = _source(state, experiment) if kind == "source" else _conversations(state)
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        click.echo(f"written to {out}", err=True)
    elif sys.stdout.isatty():
        # A terminal must not be moved by what a model wrote; a file or a pipe gets every byte.
        click.echo("\n".join(clean_lines(text)), nl=False)
    else:
        sys.stdout.buffer.write(text.encode())


def _conversations(state: SessionState) -> str:
    from core.export.atif import NoConversation, as_json, trajectory

    secrets, _ = split_environment(os.environ)
    hidden = [word for name, value in secrets.items() if name not in _ADDRESSES for word in value.split()]
    try:
        return as_json(trajectory(state, hidden))
    except NoConversation as error:
        raise UserError(str(error)) from None


def _source(state: SessionState, experiment: str | None) -> str:
    from core.patching import PatchError
    from core.revisions import Revisions

    ref = experiment or state.now.incumbent
    if ref is None:
        raise UserError("nothing is kept yet: say with --experiment whose train.py is wanted")
    revisions = Revisions(state)
    try:
        return revisions.text(revisions.resolve(ref))
    except KeyError as error:
        raise UserError(str(error.args[0])) from None
    except PatchError as error:
        raise UserError(f"the train.py of {ref} cannot be put together: {error}") from None
