"""`config`: how the screens of this person look on this terminal, why, and which keys there are."""

from __future__ import annotations

import json

import click

from tui.cli import UserError


@click.command()
@click.option("--keys", "keys", is_flag=True, help="All actions with their keys, as TOML to paste into the file.")
def config(keys: bool) -> None:
    """Say how screens look here, and where each setting comes from.

    Settings come from options (--theme, --ascii, --slow, --no-mouse), the environment (AUTORESEARCH_THEME, NO_COLOR),
    the file named below, what was chosen on the screen, and the terminal, in this order.
    """
    from tui.config import ConfigError, Flags, config_path, settle

    try:
        found = settle(Flags())
    except ConfigError as error:
        raise UserError(str(error), 2) from None
    if keys:
        _echo_keys(found.settings.keys)
        return
    path = config_path()
    click.echo(f"# {path}" + ("" if path.exists() else " (there is none yet)"))
    settings = found.settings
    for name, value in (
        ("theme", settings.theme),
        ("charset", settings.charset),
        ("slow", settings.slow),
        ("mouse", settings.mouse),
    ):
        line = f"{name} = {json.dumps(value)}"
        click.echo(f"{line:<24} # {found.origins[name]}")
    click.echo(f"# colours: {'none' if settings.no_color else 'yes'} ({found.origins['no_color']})")
    click.echo(f"# looks for news {settings.ticks_hz:g} times a second ({found.origins['ticks_hz']})")
    click.echo(f"# keys of your own: {len(settings.keys)} ('autoresearch-tui config --keys' lists all)")


def _echo_keys(own: dict[str, str]) -> None:
    from tui.bindings import KEYS, TITLES

    click.echo("[keys]")
    for where, title in TITLES.items():
        click.echo(f"# {title}")
        for key in (key for key in KEYS if key.where == where):
            line = f'"{key.id}" = {json.dumps(own.get(key.id, key.keys))}'
            click.echo(f"{line:<48} # {key.says}")
