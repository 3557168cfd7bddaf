"""What the screens look like: pictures of a fixed session, to be looked at whenever they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.events import DeviceLost
from core.sources import LiveSource
from tests.support.homes import FakeDeeds, FixedSessions, seen
from tests.support.story import Story, session, write_journal
from tui.app import SessionApp
from tui.doctor import Row
from tui.screens.home import HomeApp
from tui.view.form import Facts


def app_of(folder: Path) -> SessionApp:
    journal = write_journal(folder, session(experiments=40, devices=8, ended=True))
    return SessionApp(LiveSource(journal, lambda: True, clock=lambda: 0.0), ticks_hz=0)


async def shown(pilot: Pilot[None], *keys: str) -> None:
    app = pilot.app
    assert isinstance(app, SessionApp)
    app.tick()
    while app.source.behind:
        app.tick()
    await pilot.pause()
    await pilot.press(*keys)
    await pilot.pause()
    app.tick()
    for _ in range(3):
        await pilot.pause()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=["80x24", "120x40", "200x60"])
def test_the_session_at_a_glance(snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]) -> None:
    assert snap_compare(app_of(tmp_path), terminal_size=size, run_before=shown)


def test_one_experiment_in_full(snap_compare: Callable[..., bool], tmp_path: Path) -> None:
    async def opened(pilot: Pilot[None]) -> None:
        await shown(pilot, "4", "enter")

    assert snap_compare(app_of(tmp_path), terminal_size=(120, 40), run_before=opened)


def home_app() -> HomeApp:
    sessions = FixedSessions(
        seen("mar7", experiments=9, live=True, ended=False, executor="sim", simulated=True),
        seen("mar6-a-rather-long-name-of-a-session", experiments=30, size=1_234_000_000),
        seen("mar5", summary=None, fault="incomplete", trouble="session.json is missing", size=8_192),
        seen("mar4", summary=None, size=None),
    )
    doctor = (
        Row("fail", "torch", "torch is not installed in /usr/bin/python3", "install 'autoresearch-tui[train]' there"),
        Row("ok", "devices", "1 (H100-80GB)"),
    )
    facts = Facts(("local", "sim"), ("builtin", "claude"), planned=("kubernetes",), python="/usr/bin/python3")
    return HomeApp(sessions, FakeDeeds(*doctor), facts)


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_utc")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_the_sessions_there_are(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def chosen(pilot: Pilot[None]) -> None:
        await pilot.press("j", "j")
        for _ in range(3):
            await pilot.pause()

    assert snap_compare(home_app(), terminal_size=size, run_before=chosen)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_a_new_session(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def refused(pilot: Pilot[None]) -> None:
        await pilot.press("n", "right", "down", "right", "down", "down", "down", "down", "down", *"many", "enter")
        screen = pilot.app.screen
        while "torch" not in "".join(strip.text for strip in screen._compositor.render_strips()):
            await pilot.pause(0.01)
        for _ in range(5):
            await pilot.pause()

    assert snap_compare(home_app(), terminal_size=size, run_before=refused)


def cluster_of(devices: int, folder: Path) -> SessionApp:
    """A session on nodes of eight, most devices at work, one node lost, some devices free."""
    story = Story(devices=devices, progress=8)
    exp = story.propose("warm-down 0.4", {}, range(devices))
    for index in range(devices):
        run = story.start(exp, index, f"gpu{index}", "screen") if index % 9 else None
        for step in range(1, index % 9):
            if run is not None:
                story.advance(run, step)
    for index in range(8, min(devices, 16)):
        story.add(DeviceLost(device=f"gpu{index}", seq=2, reason="node is gone"))
    journal = write_journal(folder, story.events)
    return SessionApp(LiveSource(journal, lambda: True, clock=lambda: 0.0), ticks_hz=0)


@pytest.mark.parametrize(
    ("devices", "keys", "size"),
    [
        (16, "v", (120, 24)),
        (16, "vv", (80, 24)),
        (16, "vvv", (80, 24)),
        (1_024, "", (80, 24)),
        (1_024, "vvvv", (80, 24)),
    ],
    ids=["tiles", "rows", "map", "map-of-1024", "nodes-of-1024"],
)
def test_devices_by_the_space_there_is(
    snap_compare: Callable[..., bool], tmp_path: Path, devices: int, keys: str, size: tuple[int, int]
) -> None:
    async def opened(pilot: Pilot[None]) -> None:
        await shown(pilot, "2", "z", *keys, "j", "l")

    assert snap_compare(cluster_of(devices, tmp_path), terminal_size=size, run_before=opened)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_experiments_by_design(snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]) -> None:
    async def grouped(pilot: Pilot[None]) -> None:
        await shown(pilot, "4", "d", "o", "z")

    assert snap_compare(app_of(tmp_path), terminal_size=size, run_before=grouped)


def test_experiments_while_a_filter_is_typed(snap_compare: Callable[..., bool], tmp_path: Path) -> None:
    async def filtered(pilot: Pilot[None]) -> None:
        await shown(pilot, "4", *"/matrix", "space", *"-kept")

    assert snap_compare(app_of(tmp_path), terminal_size=(120, 40), run_before=filtered)
