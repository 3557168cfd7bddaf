"""What the SQL console looks like: pictures of fixed answers, to be looked at whenever they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.sources import LiveSource
from tests.support.asking import Asker
from tests.support.story import session, write_journal
from tui.app import SessionApp

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])


def app_of(folder: Path) -> SessionApp:
    journal = write_journal(folder, session(experiments=12, ended=True))
    return SessionApp(LiveSource(journal, lambda: True, clock=lambda: 0.0), sql=Asker(), ticks_hz=0)


async def opened(pilot: Pilot[None], *keys: str) -> None:
    app = pilot.app
    assert isinstance(app, SessionApp)
    app.tick()
    while app.source.behind:
        app.tick()
    await pilot.pause()
    for key in ("s", *keys):
        await pilot.press(key)
        for _ in range(3):
            await pilot.pause()


@SIZES
def test_the_console_with_its_first_answer(
    snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]
) -> None:
    assert snap_compare(app_of(tmp_path), terminal_size=size, run_before=lambda pilot: opened(pilot, "escape"))


def test_the_tables_of_the_console(snap_compare: Callable[..., bool], tmp_path: Path) -> None:
    async def unfolded(pilot: Pilot[None]) -> None:
        await opened(pilot, "escape", "3", "down", "down", "l")

    assert snap_compare(app_of(tmp_path), terminal_size=(80, 24), run_before=unfolded)
