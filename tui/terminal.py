"""What this terminal can do, and the settings that Textual reads at import: import this before anything of textual."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

ThemeName = Literal["dark", "light", "contrast", "ansi"]
CharsetName = Literal["braille", "blocks", "ascii"]

SLOW_HZ: Final = 1.0
SSH_HZ: Final = 2.0
LOCAL_HZ: Final = 4.0

_PYTHONS_OWN: Final = frozenset({"C.UTF-8", "C.utf8", "UTF-8"})
"""What Python puts into LC_CTYPE where it finds the locale "C" (PEP 538)."""

_NO_UNICODE_FONT: Final = re.compile(r"linux|dumb|unknown|vt\d+.*|ansi|cons25.*")
"""Terminals that have at most 512 glyphs, braille not among them."""

_OWN_SETTINGS: Final = frozenset(name for name in os.environ if name.startswith("TEXTUAL_"))
"""What the person has set for Textual is left as it is."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the screens of this process look and behave.

    `keys` maps names of tui.bindings to keys; `ticks_hz` is how often a screen looks for news.
    """

    theme: ThemeName = "dark"
    charset: CharsetName = "braille"
    slow: bool = False
    mouse: bool = True
    no_color: bool = False
    ticks_hz: float = LOCAL_HZ
    keys: dict[str, str] = {}


_current = Settings()


def current() -> Settings:
    """The settings of this process: one process has one terminal."""
    return _current


def settle(settings: Settings) -> None:
    """Let the screens of this process have these settings; to be called before textual is imported."""
    global _current  # noqa: PLW0603  one process has one terminal, and Textual's settings are global too
    _current = settings
    for name in ("COLUMNS", "LINES"):  # of another terminal, or none; this one says itself how large it is
        os.environ.pop(name, None)
    if settings.slow:
        _tell_textual(TEXTUAL_FPS="5", TEXTUAL_COLOR_SYSTEM="256")
    elif settings.ticks_hz <= SSH_HZ:
        _tell_textual(TEXTUAL_FPS="15")


def _tell_textual(**values: str) -> None:
    os.environ.update({name: value for name, value in values.items() if name not in _OWN_SETTINGS})


def over_ssh(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a network between this process and the terminal: each look for news costs the link."""
    return "SSH_CONNECTION" in environ or "SSH_TTY" in environ


def is_dumb(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal says that it can do no more than a typewriter."""
    return environ.get("TERM", "") in ("dumb", "unknown")


def no_color(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the person wants no colours at all (https://no-color.org)."""
    return environ.get("NO_COLOR", "") != ""


def charset_of_terminal(environ: Mapping[str, str] = os.environ, *, coerced: bool | None = None) -> CharsetName:
    """ASCII where the locale is set to something other than UTF-8, or the terminal has hardly any glyphs.

    No locale at all means UTF-8: so it is in containers, and what they are looked at with draws it.

    Args:
        environ: the process's environment.
        coerced: whether Python has replaced LC_CTYPE (PEP 538, 540); None: as it is here.
    """
    if _NO_UNICODE_FONT.fullmatch(environ.get("TERM", "")):
        return "ascii"
    coerced = bool(sys.flags.utf8_mode) if coerced is None else coerced
    ctype = environ.get("LC_CTYPE", "")
    if coerced and ctype in _PYTHONS_OWN:
        ctype = ""
    locale = environ.get("LC_ALL") or ctype or environ.get("LANG") or "UTF-8"
    return "braille" if re.search(r"utf-?8", locale, re.IGNORECASE) else "ascii"


def theme_of_terminal(environ: Mapping[str, str] = os.environ) -> ThemeName:
    """The terminal's own sixteen colours where it has no others, or is to show none."""
    if no_color(environ):
        return "ansi"
    many = "256" in environ.get("TERM", "") or environ.get("COLORTERM", "") in ("truecolor", "24bit")
    known = re.search(r"kitty|ghostty|alacritty|wezterm|foot|direct", environ.get("TERM", "")) is not None
    return "dark" if many or known else "ansi"


def shows_links(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal is known to understand hyperlinks (OSC 8); those that do not may show the bytes.

    Source of the versions: each terminal's release notes, collected in https://github.com/Alhadis/OSC8-Adoption .
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if is_dumb(environ) or term.startswith(("screen", "linux", "ansi", "vt")) or "STY" in environ:
        return False
    if program == "tmux":
        return _version(environ.get("TERM_PROGRAM_VERSION", "")) >= (3, 4)
    if "TMUX" in environ:
        return False
    vte = environ.get("VTE_VERSION", "")
    return (
        (vte.isdecimal() and int(vte) >= 5000)
        or program in ("iTerm.app", "WezTerm", "ghostty", "vscode")
        or term in ("xterm-kitty", "xterm-ghostty", "foot", "wezterm")
        or "WT_SESSION" in environ
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


# No animation anywhere: each of its frames repaints whole lines.
_tell_textual(TEXTUAL_ANIMATIONS="none", TEXTUAL_SMOOTH_SCROLL="0", TEXTUAL_FPS="30")
