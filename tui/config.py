"""A person's settings: from the command line, the environment, a TOML file, what was remembered, and the terminal.

The first of these that says something about a setting is followed.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

import msgspec
import platformdirs

from tui import terminal
from tui.memory import recall
from tui.terminal import CharsetName, Settings, ThemeName

Choice = Literal["auto", "braille", "blocks", "ascii"]
THEME_NAMES: Final[tuple[str, ...]] = get_args(ThemeName)
CHOICES: Final[tuple[str, ...]] = get_args(Choice)


class ConfigError(Exception):
    """The settings cannot be followed; the text is one sentence that names the file and the setting."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person's file says; None where it says nothing. `keys` maps names of tui.bindings to keys."""

    theme: ThemeName | None = None
    charset: Choice | None = None
    slow: bool | None = None
    mouse: bool | None = None
    keys: dict[str, str] = {}


class Flags(NamedTuple):
    """What the command line says; None where it says nothing."""

    theme: str | None = None
    ascii: bool | None = None
    slow: bool | None = None
    mouse: bool | None = None


class Effective(NamedTuple):
    """The settings as they are followed, and for each where it comes from, in words."""

    settings: Settings
    origins: dict[str, str]


def config_path() -> Path:
    """The person's file, which need not exist; AUTORESEARCH_CONFIG names another one."""
    named = os.environ.get("AUTORESEARCH_CONFIG")
    return Path(named).expanduser() if named else Path(platformdirs.user_config_dir("autoresearch")) / "config.toml"


def read_config(path: Path) -> Config:
    """What a file says; a file that is not there says nothing. Raises ConfigError."""
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}") from None
    unknown = [name for name in plain if name not in Config.__struct_fields__]
    if unknown:
        known = ", ".join(Config.__struct_fields__)
        raise ConfigError(f"{path}: there is no setting {unknown[0]!r}; there are {known}")
    try:
        return msgspec.convert(plain, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_where(plain, str(error))}") from None


def _where(plain: dict[str, Any], complaint: str) -> str:
    """A complaint of msgspec's with the setting's name in front and what there is to choose from behind."""
    what, _, place = complaint.partition(" - at ")
    name = place.strip("`").removeprefix("$.").replace("[...]", "")
    choices = {"theme": THEME_NAMES, "charset": CHOICES}.get(name)
    if choices and isinstance(plain.get(name), str):
        return f"{name} = {plain[name]!r} is not known; choose one of {', '.join(choices)}"
    return f"{name}: {what[:1].lower()}{what[1:]}"


def effective(flags: Flags, config: Config, *, environ: Mapping[str, str] = os.environ, path: Path) -> Effective:
    """Weigh all that was said. Raises ConfigError where the environment names a theme that there is not."""
    origins: dict[str, str] = {}
    in_file = f"in {path}"

    def first(name: str, *said: tuple[Any, str]) -> Any:
        value, origins[name] = next((value, origin) for value, origin in said if value is not None)
        return value

    slow = first("slow", (flags.slow, "--slow"), (config.slow, in_file), (False, "the default"))
    asked = first("charset", ("ascii" if flags.ascii else None, "--ascii"), (config.charset, in_file), ("auto", ""))
    charset: CharsetName = asked
    if asked == "auto":
        charset = terminal.charset_of_terminal(environ)
        origins["charset"] = "what the locale and the terminal can show"
    theme = first(
        "theme",
        (flags.theme, "--theme"),
        ("ansi" if terminal.no_color(environ) else None, "NO_COLOR"),
        (_theme_of(environ), "AUTORESEARCH_THEME"),
        (config.theme, in_file),
        (_remembered_theme(), "chosen on the screen"),
        (terminal.theme_of_terminal(environ), "what the terminal can show"),
    )
    mouse = first("mouse", (flags.mouse, "--no-mouse"), (config.mouse, in_file), (True, "the default"))
    over_ssh = terminal.over_ssh(environ)
    hz = terminal.SLOW_HZ if slow else terminal.SSH_HZ if over_ssh else terminal.LOCAL_HZ
    origins["ticks_hz"] = origins["slow"] if slow else "a session over SSH" if over_ssh else "the default"
    no_color = terminal.no_color(environ)
    origins["no_color"] = "NO_COLOR" if no_color else "the default"
    origins["keys"] = in_file
    settings = Settings(
        theme=theme, charset=charset, slow=slow, mouse=mouse, no_color=no_color, ticks_hz=hz, keys=config.keys
    )
    return Effective(settings, origins)


def _theme_of(environ: Mapping[str, str]) -> str | None:
    name = environ.get("AUTORESEARCH_THEME")
    if name and name not in THEME_NAMES:
        raise ConfigError(f"AUTORESEARCH_THEME={name} is not known; choose one of {', '.join(THEME_NAMES)}")
    return name or None


def _remembered_theme() -> str | None:
    name = recall("theme")
    return name if name in THEME_NAMES else None


def settle(flags: Flags) -> Effective:
    """Read the person's file, let this process's screens follow it, and check its keys. Raises ConfigError."""
    path = config_path()
    config = read_config(path)
    found = effective(flags, config, path=path)
    terminal.settle(found.settings)
    if config.keys:
        from tui.keymap import checked  # Textual, which is told what to do by now

        terminal.settle(msgspec.structs.replace(found.settings, keys=checked(config.keys, path)))
    return found._replace(settings=terminal.current())
