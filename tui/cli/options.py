"""Options and helpers that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

session_argument: Callable[[Any], Any] = click.argument("session", default="last", metavar="[SESSION]")
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
plain_option: Callable[[Any], Any] = click.option(
    "--plain", is_flag=True, help="No screen: one line per finished run, then a summary."
)


def has_screen() -> bool:
    """Whether a full screen can be shown: a terminal on both ends."""
    return sys.stdout.isatty() and sys.stdin.isatty()


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json.dumps(value, indent=2, default=str))


def absolute(path: str) -> Path:
    """A path as the user means it, independent of the folder an engine will work in."""
    return Path(path).expanduser().absolute()
