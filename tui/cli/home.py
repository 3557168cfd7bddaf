"""The bare command: the home screen where there is a terminal, else what to run instead."""

from __future__ import annotations

import click

from tui.cli import UserError
from tui.cli.options import has_screen


def home() -> int:
    """Show the sessions and open the one that is chosen; returns an exit code."""
    if not has_screen():
        raise UserError(
            "the home screen needs a terminal; 'autoresearch-tui run --plain' starts a session without one, "
            "'autoresearch-tui sessions' lists them, --help shows all commands",
            2,
        )
    click.echo("")
    return 0
