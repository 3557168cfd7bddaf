"""Options and helpers that several commands share."""

from __future__ import annotations

import json
import math
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


class Amount(click.FloatRange):
    """A number within bounds: "nan", which compares with nothing, is none."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class Count(click.IntRange):
    """A whole number within bounds."""

    name = "integer"


def _checked_speed(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    from core.clock import parse_speed

    if value is not None:
        try:
            parse_speed(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    return value


speed_option: Callable[[Any], Any] = click.option(
    "--speed",
    callback=_checked_speed,
    help="Of simulated time: max, or session seconds per second (a new session with a screen: 2-3 minutes in all).",
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
