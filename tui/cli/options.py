"""Options and helpers that several commands share."""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tui.terminal import is_dumb

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


def screen_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command with a screen; the command itself never sees them. Raises UserError."""

    @click.option("--ascii", "ascii_only", is_flag=True, default=None, help="Draw with nothing but ASCII.")
    @click.option("--slow", is_flag=True, default=None, help="Spare a slow link: one look a second, 256 colours.")
    @click.option("--theme", type=_ThemeName(), help="dark, light, contrast, or ansi (the terminal's own colours).")
    @click.option(
        "--no-mouse", is_flag=True, default=None, help="Leave the mouse to the terminal, to select text with."
    )
    @functools.wraps(command)
    def with_screen(*args: Any, **asked: Any) -> Any:
        context = click.get_current_context()
        mine = {name: asked.pop(name) for name in _SCREEN_OPTIONS}
        # Said before the command's name they hold for the command.
        before = context.find_root().params
        said = {name: before.get(name) if value is None else value for name, value in mine.items()}
        if context.invoked_subcommand is None and has_screen() and not asked.get("plain") and not asked.get("detach"):
            _settle_screen(**said)
        return command(*args, **asked)

    return with_screen


_SCREEN_OPTIONS = ("ascii_only", "slow", "theme", "no_mouse")


def _settle_screen(ascii_only: bool | None, slow: bool | None, theme: str | None, no_mouse: bool | None) -> None:
    """Let the screens of this process look as the person wants them to. Raises UserError."""
    from tui.cli import UserError
    from tui.config import ConfigError, Flags, settle

    try:
        settle(Flags(theme, ascii_only, slow, False if no_mouse else None))
    except ConfigError as error:
        raise UserError(str(error), 2) from None


class _ThemeName(click.ParamType[str]):
    """One of our themes, known only when it is asked for: `--help` is to be quick."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from tui.config import THEME_NAMES

        if value not in THEME_NAMES:
            self.fail(f"{value!r} is not known; choose one of {', '.join(THEME_NAMES)}", param, ctx)
        return str(value)


def has_screen() -> bool:
    """Whether a full screen can be shown: a terminal on both ends, and more than a typewriter."""
    return sys.stdout.isatty() and sys.stdin.isatty() and not is_dumb()


def no_screen_words() -> str:
    """Why there can be no full screen, as the end of a sentence."""
    if sys.stdout.isatty() and sys.stdin.isatty():
        return "one that can move its cursor (TERM says 'dumb')"
    return "a terminal"


def print_json(value: Any) -> None:
    """Print a value as JSON, indented."""
    click.echo(json.dumps(value, indent=2, default=str))


def absolute(path: str) -> Path:
    """A path as the user means it, independent of the folder an engine will work in."""
    return Path(path).expanduser().absolute()
