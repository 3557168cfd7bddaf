"""How a screen looks here: the colours of its theme, and the characters that its terminal can draw."""

from __future__ import annotations

from typing import Any

from textual.app import App

from tui.palette import Look
from tui.raster.braille import CharsetName


def look_of(app: App[Any]) -> Look:
    """Which colours of the palette go with the app's theme."""
    theme = app.current_theme
    if theme.ansi:
        return "ansi"
    if theme.name == "contrast":
        return "contrast"
    return "dark" if theme.dark else "light"


def charset_of(app: App[Any]) -> CharsetName:
    """What figures are drawn with; an app of ours says so, any other one draws braille."""
    charset: CharsetName = getattr(app, "charset", "braille")
    return charset
