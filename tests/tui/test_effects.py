"""The effects screen as its readers use it: designs, pairs of knobs, a replay, a session that still grows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.designs import Factor, fractional, full
from core.events import AnyEvent
from core.replay import ReplaySource
from core.sources import LiveSource
from tests.support.designed import designed
from tests.support.story import session, write_journal
from tests.tui.test_app import NARROW, Clock, Growing, live, on_screen, press, reads, settled, text_of, tick
from tui.app import SessionApp
from tui.screens import effects_feed
from tui.screens.dashboard import Dashboard
from tui.screens.effects import EffectsScreen
from tui.view.effects import EffectsView
from tui.widgets.effects import Effects

FACTORS = [Factor("MATRIX_LR", "0.02", "0.06"), Factor("WARMDOWN", "0.3", "0.6"), Factor("DEPTH", "8", "10")]
DESIGN = full("opening", FACTORS, "which of three knobs matter")


def score(row) -> float:
    return 1.0 - 0.005 * row[0] + 0.002 * row[1] - 0.0015 * row[0] * row[1]


def events(*, done: int | None = None) -> list[AnyEvent]:
    return designed(DESIGN, score, done=done)


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot's waits between keys are long; what a story needs it waits for itself."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001)


@pytest.mark.parametrize("size", [NARROW, (120, 40), (200, 60)], ids=["80x24", "120x40", "200x60"])
async def test_e_shows_what_the_knobs_do_and_escape_goes_back(tmp_path: Path, size: tuple[int, int]) -> None:
    async with on_screen(live(tmp_path, events()), size=size) as (app, pilot):
        await press(pilot, "e")
        await reads(
            app, pilot, "opening on e1", "8 of 8 runs", "high 0.06", "low 0.3", "either", "MATRIX_LR × WARMDOWN"
        )
        assert isinstance(app.screen, EffectsScreen)
        await press(pilot, "escape")
        assert isinstance(app.screen, Dashboard)


async def test_the_palette_knows_the_effects(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, events())) as (app, pilot):
        commands = {command.title for command in app.get_system_commands(app.screen)}
        assert "Effects of the designs" in commands
        await press(pilot, "e")
        await reads(app, pilot, "opening on e1")
        commands = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Effects: next design", "Effects: next pair of knobs"} <= commands


async def test_j_and_k_go_from_pair_to_pair_and_l_and_h_from_design_to_design(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, events())) as (app, pilot):
        await press(pilot, "e")
        await reads(app, pilot, "pairs 1 of 3")
        pane = app.screen.query_one(Effects)
        first = pane.pair
        await press(pilot, "j")
        await reads(app, pilot, "pairs 2 of 3")
        assert pane.pair != first
        await press(pilot, "k", "k")
        await reads(app, pilot, "pairs 1 of 3")
        assert pane.pair == first
        await press(pilot, "l")
        await settled(app, pilot)
        await reads(app, pilot, "▸ all runs")
        await press(pilot, "right_square_bracket", "h")
        await settled(app, pilot)
        await reads(app, pilot, "▸ opening on e1")


async def test_a_click_chooses_a_design_and_a_pair(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, events())) as (app, pilot):
        await press(pilot, "e")
        await reads(app, pilot, "pairs 1 of 3")
        lines = text_of(app).splitlines()
        row = next(y for y, line in enumerate(lines) if "DEPTH × WARMDOWN" in line or "WARMDOWN × DEPTH" in line)
        column = max(lines[row].rfind("DEPTH ×"), lines[row].rfind("WARMDOWN ×"))
        await pilot.click(offset=(column, row))
        assert set(app.screen.query_one(Effects).pair or ()) == {"DEPTH", "WARMDOWN"}
        row = next(y for y, line in enumerate(lines) if "all runs" in line)
        await pilot.click(offset=(5, row))
        await settled(app, pilot)
        await reads(app, pilot, "▸ all runs")


async def test_a_session_without_a_design_says_so(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=1)[:3])) as (app, pilot):
        await press(pilot, "e")
        await settled(app, pilot)
        await reads(app, pilot, "This session has no design yet")


async def test_an_unfinished_design_grows_while_one_looks(tmp_path: Path) -> None:
    begun, whole = events(done=5), events()
    growing = Growing(tmp_path, begun)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await press(pilot, "e")
        await reads(app, pilot, "5 of 8 runs")
        for event in whole[len(begun) :]:
            growing.add(event)
        await tick(app, pilot)
        await settled(app, pilot)
        await reads(app, pilot, "8 of 8 runs")


async def test_a_replay_takes_the_effects_with_it(tmp_path: Path) -> None:
    source = ReplaySource(write_journal(tmp_path, events()), clock=Clock())
    async with on_screen(source) as (app, pilot):
        await press(pilot, "E", "e")
        await reads(app, pilot, "8 of 8 runs")
        await press(pilot, *["left_parenthesis"] * 3)
        await settled(app, pilot)
        await reads(app, pilot, "5 of 8 runs")
        await press(pilot, "E")
        await settled(app, pilot)
        await reads(app, pilot, "8 of 8 runs")


async def test_a_design_that_cannot_be_worked_out_is_said_and_the_screen_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> EffectsView:
        raise ZeroDivisionError("a strange design")

    monkeypatch.setattr("tui.screens.effects_feed.effects_view", fails)
    async with on_screen(live(tmp_path, events())) as (app, pilot):
        await press(pilot, "e")
        await settled(app, pilot)
        await reads(app, pilot, "could not be worked out")
        assert isinstance(app.screen, EffectsScreen)


async def test_nothing_is_worked_out_again_while_nothing_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    worked_out = effects_feed.effects_view
    monkeypatch.setattr(effects_feed, "effects_view", lambda *given: asked.append(1) or worked_out(*given))
    async with on_screen(live(tmp_path, events())) as (app, pilot):
        await press(pilot, "e")
        await settled(app, pilot)
        await reads(app, pilot, "8 of 8 runs")
        for _ in range(3):
            await tick(app, pilot)
        await settled(app, pilot)
        assert len(asked) == 1


@pytest.mark.parametrize("size", [NARROW, (120, 40), (200, 60)], ids=["80x24", "120x40", "200x60"])
def test_the_effects_of_a_design(snap_compare: Callable[..., bool], tmp_path: Path, size: tuple[int, int]) -> None:
    async def opened(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, SessionApp)
        await tick(app, pilot)
        await press(pilot, "e")
        await settled(app, pilot)
        await reads(app, pilot, "pairs 1 of")
        for _ in range(3):
            await pilot.pause()

    factors = [*FACTORS, Factor("WEIGHT_DECAY", "0.1", "0.2"), Factor("MLP_RATIO", "3", "5")]
    design = fractional("opening", factors, 5, "which of five knobs matter, and which of them together")
    told = designed(design, lambda row: score(row) - 0.004 * row[3] + 0.0025 * row[3] * row[4])
    source = LiveSource(write_journal(tmp_path, told), lambda: True, clock=lambda: 0.0)
    assert snap_compare(SessionApp(source, ticks_hz=0), terminal_size=size, run_before=opened)
