"""The driver of a real terminal: it knows how long the terminal takes to swallow what it is sent."""

from __future__ import annotations

import signal
import time
from typing import IO, Any, Final

from textual import events
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.geometry import Size

from tui.terminal import current

SLOW_FLUSH_S: Final = 0.1
"""A terminal that takes longer than this for what it was sent cannot follow."""

_CALM_TICKS: Final = 8
"""So many ticks in a row without a delay make the ticks twice as frequent again."""

LEAST_HZ: Final = 1.0


class Outlet:
    """The terminal as a file. What is written blocks for as long as the terminal takes: so its delay can be told.

    Written to by Textual's writer thread, asked by the event loop. A terminal that has gone swallows all at once.

    Args:
        file: the terminal.
        gone: called, from the writer's thread, when the terminal is no longer there.
    """

    def __init__(self, file: IO[str], gone: Any) -> None:
        self._file = file
        self._gone = gone
        self._began_s: float | None = None
        self._took_s = 0.0
        self._lost = False

    @property
    def delay_s(self) -> float:
        """How long the write takes that is under way, or how long the longest since the last call took."""
        began_s, took_s = self._began_s, self._took_s
        self._took_s = 0.0
        return max(took_s, time.monotonic() - began_s if began_s is not None else 0.0)

    def write(self, text: str) -> int:
        """Write, and note how long it took."""
        return self._timed(self._file.write, text) or len(text)

    def flush(self) -> None:
        """Flush, and note how long it took."""
        self._timed(self._file.flush)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._file.isatty()

    def fileno(self) -> int:
        """Its file descriptor."""
        return self._file.fileno()

    def _timed(self, call: Any, *args: str) -> Any:
        if self._lost:
            return None
        self._began_s = began_s = time.monotonic()
        try:
            return call(*args)
        except OSError:
            # Textual's writer would die of it, and the screen then hang on a queue that nobody empties.
            self._lost = True
            self._gone()
            return None
        finally:
            self._began_s = None
            self._took_s = max(self._took_s, time.monotonic() - began_s)


class TerminalDriver(LinuxDriver):
    """Textual's driver with an outlet that tells its delay, and one size at a time."""

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse and current().mouse, size=size)
        if self._size is None:
            # Of a terminal that does not know its size Textual has two opinions, and would draw both in turn for ever.
            self._size = self._get_terminal_size()
        assert self._file is not None
        self.outlet = Outlet(self._file, self._leave)
        self._file = self.outlet  # type: ignore[assignment]  # all that the writer needs of a file

    def start_application_mode(self) -> None:
        """Take the terminal over, and from then on follow its size."""
        super().start_application_mode()  # type: ignore[no-untyped-call]  # Textual has no type for it
        # Textual reads the size in its signal handler. Of two signals in quick succession the second is handled in the
        # middle of the first, whose older size is then posted last and stays. The event loop handles one at a time.
        self._loop.add_signal_handler(signal.SIGWINCH, self._post_size)

    def _post_size(self) -> None:
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(events.Resize(size, size))

    def _leave(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._app.exit)


class Pace:
    """How often to look for news on a terminal that may not be able to follow: halved at once, raised slowly.

    Args:
        hz: how often at most; ticks come so often, and this says which of them to leave out.
    """

    def __init__(self, hz: float) -> None:
        self._most_every = max(1, round(hz / LEAST_HZ))
        self._every = 1
        self._ticks = self._calm = 0

    @property
    def every(self) -> int:
        """Each how manieth tick is due."""
        return self._every

    def due(self, delay_s: float) -> bool:
        """Whether this tick is to look for news, after the terminal's delay since the last one."""
        self._ticks += 1
        if delay_s > SLOW_FLUSH_S:
            self._every, self._calm = min(self._most_every, self._every * 2), 0
        else:
            self._calm += 1
            if self._calm >= _CALM_TICKS:
                self._every, self._calm = max(1, self._every // 2), 0
        return self._ticks % self._every == 0
