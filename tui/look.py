"""What every app of ours has: themes, characters and keys that a person chose, and a terminal that is left clean."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any, ClassVar, Final, TypeVar

from tui import terminal  # before textual, which reads its settings at import

# isort: split
from textual.app import App
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.filter import LineFilter, Monochrome, NoColor

from tui.bindings import Key, bindings_for, keys_words
from tui.driver import Pace, TerminalDriver
from tui.filters import Ascii, Harmless, NoColors
from tui.memory import remember
from tui.palette import Look
from tui.terminal import CharsetName, Settings
from tui.themes import THEMES

_LEAVE_S: Final = 3.0

Chosen = TypeVar("Chosen")


class LookApp(App[Chosen]):
    """An app that looks as its person wants it to.

    Args:
        settings: what the person wants; None: the settings of this process.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings_for("terminal")

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or terminal.current()
        self.charset: CharsetName = self.settings.charset
        self.no_color = self.settings.no_color
        self.pace = Pace(self.settings.ticks_hz)
        for name in [*self.available_themes]:
            self.unregister_theme(name)
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.settings.theme
        self.set_keymap(self.settings.keys)
        self._last_filters: list[LineFilter] = [Harmless(), *([NoColors()] if self.no_color else [])]
        if self.charset == "ascii":
            self._last_filters.append(Ascii())

    def get_driver_class(self) -> type[Driver]:
        """The driver that tells how long the terminal takes; another one where the environment names it."""
        return super().get_driver_class() if "TEXTUAL_DRIVER" in os.environ else TerminalDriver

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters but for its own without colour, which leave grey; then the last doors of ours."""
        ours = [found for found in super().get_line_filters() if not isinstance(found, Monochrome | NoColor)]
        return [*ours, *self._last_filters]

    def get_key_display(self, binding: Binding) -> str:
        """Keys in the footer, written as on the help screen."""
        return binding.key_display or keys_words(binding.key)

    def shown(self, key: Key) -> str:
        """How the keys of an action are written, a person's own in place of the table's."""
        return keys_words(self.settings.keys.get(key.id, key.keys))

    def on_mount(self) -> None:
        """Leave the terminal clean whoever ends us; draw all of it when a shell gives it back."""
        self.app_resume_signal.subscribe(self, lambda _: self.action_redraw())
        if not self.is_headless:
            leave = partial(self._leave_at_signal, asyncio.get_running_loop())
            for signum in (signal.SIGTERM, signal.SIGHUP):
                signal.signal(signum, leave)

    def action_theme(self) -> None:
        """The next theme, for this time and the next; without colours there is only one."""
        if self.no_color:
            self.notify("NO_COLOR is set: there is only one theme.", markup=False)
            return
        names = [theme.name for theme in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)]
        remember("theme", self.theme)
        self.clear_notifications()
        self.notify(f"theme: {self.theme}", markup=False)

    def action_redraw(self) -> None:
        """Draw every cell anew, after noise on the line."""
        self.refresh(layout=True)

    def terminal_follows(self) -> bool:
        """Whether to look for news at this tick: a terminal that is behind is asked less often."""
        delay_s = self._driver.outlet.delay_s if isinstance(self._driver, TerminalDriver) else 0.0
        return self.pace.due(delay_s)

    def _leave_at_signal(self, loop: asyncio.AbstractEventLoop, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Leave the terminal clean; do not wait for long, since one that is gone may never take what is written.

        Not asyncio's handler: the loop itself may be what waits for the terminal.
        """
        last_resort = threading.Timer(_LEAVE_S, os._exit, args=(128 + signum,))
        last_resort.daemon = True
        last_resort.start()
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(self.exit)


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
