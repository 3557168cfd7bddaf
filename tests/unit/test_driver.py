"""The driver ends with the size that the terminal has, whenever its signals come."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from textual import events
from textual.app import App
from textual.drivers.linux_driver import LinuxDriver

from tui.driver import TerminalDriver

_TAKEN = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Give back the handlers that a driver takes."""
    before = [signal.getsignal(number) for number in _TAKEN]
    yield
    for number, handler in zip(_TAKEN, before, strict=True):
        signal.signal(number, handler)


class Heard(App[None]):
    """An app that only notes the sizes it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []

    def post_message(self, message: object) -> bool:  # type: ignore[override]
        """Note a size."""
        if isinstance(message, events.Resize):
            self.sizes.append((message.size.width, message.size.height))
        return True


async def _driver(monkeypatch: pytest.MonkeyPatch) -> tuple[Heard, TerminalDriver]:
    """A driver that has taken over a terminal which is not there."""
    monkeypatch.setattr(LinuxDriver, "start_application_mode", lambda self: None)
    app = Heard()
    driver = TerminalDriver(app, size=(80, 24))
    driver.start_application_mode()
    return app, driver


async def _settled(app: Heard) -> None:
    """Wait until the loop has handed on a signal, and had its chance to hand on another."""
    async with asyncio.timeout(20.0):
        while not app.sizes:
            await asyncio.sleep(0.001)
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_resize_in_the_middle_of_another_is_not_undone_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    app, driver = await _driver(monkeypatch)
    terminal = [(20, 5)]

    def read() -> tuple[int, int]:
        size = terminal[0]
        if size == (20, 5):  # the user goes on pulling at the window's corner while its size is being read
            terminal[0] = (80, 24)
            signal.raise_signal(signal.SIGWINCH)
        return size

    monkeypatch.setattr(driver, "_get_terminal_size", read)
    signal.raise_signal(signal.SIGWINCH)
    await _settled(app)
    async with asyncio.timeout(20.0):
        while app.sizes[-1] != (80, 24):
            await asyncio.sleep(0.001)
    assert app.sizes == [(20, 5), (80, 24)]


async def test_a_terminal_that_tells_its_size_itself_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    app, driver = await _driver(monkeypatch)
    monkeypatch.setattr(driver, "_get_terminal_size", lambda: (100, 30))
    driver._in_band_window_resize = True
    signal.raise_signal(signal.SIGWINCH)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert app.sizes == []
    driver._in_band_window_resize = False
    signal.raise_signal(signal.SIGWINCH)
    await _settled(app)
    assert app.sizes == [(100, 30)]
