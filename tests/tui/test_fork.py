"""Going to a named moment, and forking from the one on show, as readers do it."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, Static

from core.replay import ReplaySource
from core.session import SessionError
from core.sources import LiveSource
from tests.support.story import Story, session, write_journal
from tui.app import SessionApp
from tui.screens.fork import ForkForm
from tui.view.fork import ForkWish, fork_view, wish_problem


class Forker:
    """Notes what is asked of it; `fails` is what it complains of."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[ForkWish] = []
        self.fails = fails

    async def fork(self, wish: ForkWish) -> None:
        if self.fails:
            raise SessionError(self.fails)
        self.asked.append(wish)


def replaying(folder: Path, forks: Forker | None = None) -> tuple[SessionApp, ReplaySource]:
    source = ReplaySource(write_journal(folder, session(experiments=40, devices=4)), clock=lambda: 0.0)
    while source.poll() and source.behind:
        pass
    return SessionApp(source, forks=forks, ticks_hz=0), source


def said(app: SessionApp) -> str:
    return " ".join(note.message for note in app._notifications)


@pytest.mark.parametrize(
    ("moment", "fits"),
    [
        ("#100", lambda source: source.position == 100),
        ("50%", lambda source: source.now_s == pytest.approx(source.span_s / 2)),
        ("0:05", lambda source: source.now_s == 300.0),
        ("0:05:30", lambda source: source.now_s == 330.0),
        ("90s", lambda source: source.now_s == 90.0),
        ("r3", lambda source: source.state.run("r3").status == "finished"),
        ("e7", lambda source: source.state.ledger.experiments[-1].exp == "e7"),
        ("99:00", lambda source: source.position == source.last),
    ],
)
async def test_a_reader_goes_to_a_moment(tmp_path, moment, fits):
    app, source = replaying(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        source.seek_event(3)
        await pilot.press("T")
        app.screen.query_one(Input).value = moment
        await pilot.press("enter")
        await pilot.pause()
        assert fits(source)
        assert not said(app)


async def test_a_reader_goes_back_by_minutes_from_where_they_are(tmp_path):
    app, source = replaying(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        source.seek_time(900.0)
        for text, second in (("-10m", 300.0), ("+1m", 360.0), ("-9h", 0.0)):
            await pilot.press("T")
            app.screen.query_one(Input).value = text
            await pilot.press("enter")
            await pilot.pause()
            assert source.now_s == second


@pytest.mark.parametrize("moment", ["[red]soon", "r99999", "e99999", "3", "r", "#", "1:99", "-", "%"])
async def test_what_is_no_moment_is_said(tmp_path, moment):
    app, source = replaying(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        source.seek_event(50)
        await pilot.press("T")
        app.screen.query_one(Input).value = moment
        await pilot.press("enter")
        await pilot.pause()
        assert source.position == 50
        assert ("no moment of a session" in said(app)) or ("there is no " in said(app))


async def test_a_live_session_is_held_at_the_moment(tmp_path):
    live = LiveSource(write_journal(tmp_path, session(experiments=20, devices=4)), lambda: True, clock=lambda: 0.0)
    app = SessionApp(live, ticks_hz=0)
    async with app.run_test(size=(120, 40)) as pilot:
        while live.poll():
            pass
        await pilot.press("T")
        app.screen.query_one(Input).value = "#40"
        await pilot.press("enter")
        await pilot.pause()
        assert app.source.mode == "replay"
        assert app.source.position == 40
        await pilot.press("E")
        assert app.source is live


async def test_a_reader_forks_with_a_hint_and_limits_from_the_moment_on_show(tmp_path):
    forks = Forker()
    app, source = replaying(tmp_path, forks)
    async with app.run_test(size=(80, 24)) as pilot:
        source.seek_event(100)
        source.playing = True
        await pilot.press("F")
        await pilot.pause()
        assert isinstance(app.screen, ForkForm)
        assert not source.playing, "the moment stays on show"
        await pilot.press(*"MUON=1", "tab", *"zwei", "enter")
        await pilot.pause()
        assert "no number of hours" in str(app.screen.query_one("#problem", Static).visual)
        app.screen.query_one("#hours", Input).value = "2"
        await pilot.press("enter")
        await pilot.pause()
    assert forks.asked == [ForkWish(n=100, hint="MUON=1", hours="2")]
    assert app.return_code == 0


async def test_what_keeps_a_fork_from_being_made_is_said_and_the_screen_stays(tmp_path):
    app, source = replaying(tmp_path, Forker("the disk is full [of eels]"))
    async with app.run_test(size=(120, 40)) as pilot:
        source.seek_event(100)
        await pilot.press("F")
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert "[of eels]" in said(app)
        await pilot.press("F")
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert app.is_running
        assert not isinstance(app.screen, ForkForm)


async def test_there_is_nothing_to_fork_before_the_first_event(tmp_path):
    app, source = replaying(tmp_path, Forker())
    async with app.run_test(size=(120, 40)) as pilot:
        source.seek_event(0)
        await pilot.press("F")
        await pilot.pause()
        assert "Nothing has happened yet" in said(app)


def test_the_form_tells_what_becomes_of_runs_in_flight(tmp_path):
    source = LiveSource(write_journal(tmp_path, Story(devices=4).events), lambda: True)
    source.poll()
    view = fork_view(source)
    assert view is not None
    assert not any("in flight" in line for line in view.lines)
    _, replay = replaying(tmp_path / "later")
    flying = next(n for n in range(60, 200) if replay.seek_event(n) or replay.state.in_flight)
    replay.seek_event(flying)
    view = fork_view(replay)
    assert view is not None
    assert any(f"{len(replay.state.in_flight)} run" in line for line in view.lines)
    assert view.hours == "8"


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "1e99", "vier", "[b]1"])
def test_amounts_that_are_none(hours):
    assert "no number of hours" in wish_problem(ForkWish(n=1, hours=hours))
    assert not wish_problem(ForkWish(n=1, hours="0.5", runs="20"))
    assert "no number of runs" in wish_problem(ForkWish(n=1, runs="1.5"))
