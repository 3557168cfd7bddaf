"""The home screen as people use it: a list that lives, a form that never lets go, deleting only when it is meant."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from textual.pilot import Pilot

from core.executor import ExecutorError
from core.figures import Stamp
from core.session import SessionError
from tests.support.homes import FakeDeeds, FixedSessions, seen
from tui.cli import UserError
from tui.create import Asked
from tui.doctor import Row
from tui.screens.home import HomeApp, HomeChoice, HomeScreen
from tui.screens.new_session import NewSession
from tui.view.form import Facts
from tui.widgets.session_list import SessionList

WIDE, NARROW, TINY = (120, 40), (80, 24), (40, 12)
FACTS = Facts(("local", "sim"), ("builtin", "claude"), planned=("kubernetes",), python="/usr/bin/python3")
NO_TORCH = Row("fail", "torch", "torch is not installed in /usr/bin/python3", "install 'autoresearch-tui[train]' there")
STAMP = Stamp(1, 4096, 1)


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001)


@contextlib.asynccontextmanager
async def at_home(
    sessions: FixedSessions,
    deeds: FakeDeeds | None = None,
    *,
    size: tuple[int, int] = NARROW,
    facts: Facts = FACTS,
    at: str = "",
) -> AsyncIterator[tuple[HomeApp, Pilot[HomeChoice]]]:
    app = HomeApp(sessions, deeds or FakeDeeds(), facts, at=at)
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        yield app, pilot


def text_of(app: HomeApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def reads(app: HomeApp, pilot: Pilot[HomeChoice], *words: str) -> str:
    """Wait until all these words stand on the screen."""
    for _ in range(400):
        shown = text_of(app)
        if all(word in shown for word in words):
            return shown
        await pilot.pause(0.01)
    for word in words:
        assert word in shown
    return shown


async def leaves(app: HomeApp) -> None:
    """Wait until the app has been left with a choice."""
    for _ in range(2000):
        if app.return_value is not None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(text_of(app))


async def gone(app: HomeApp, pilot: Pilot[HomeChoice], word: str) -> None:
    for _ in range(400):
        if word not in text_of(app):
            return
        await pilot.pause(0.01)
    assert word not in text_of(app)


async def press(pilot: Pilot[HomeChoice], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await pilot.pause()


def three() -> FixedSessions:
    return FixedSessions(
        seen("mar7", live=True, ended=False, stamp=STAMP, simulated=True),
        seen("mar6 [b]x[/]", experiments=20, stamp=STAMP),
        seen("mar5", stamp=STAMP, executor="sim", researcher="claude", size=1_200_000_000),
    )


# ---- the list ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
async def test_one_look_shows_every_session_with_its_state_best_size_and_who_works_on_it(size: tuple[int, int]) -> None:
    async with at_home(three(), size=size) as (app, _):
        shown = text_of(app)
        for words in ("mar7", "● running", "mar6 [b]x[/]", "○ ended", "1.2 GB", "sim, claude", "simulated, builtin"):
            assert words in shown
        assert "0.9" in shown
        assert ("of 8 h" in shown) == (size == WIDE)


async def test_enter_opens_a_session_and_space_replays_it() -> None:
    async with at_home(three()) as (app, pilot):
        await press(pilot, "j", "enter")
    assert app.return_value == HomeChoice("id-mar7", "attach")
    async with at_home(three()) as (app, pilot):
        await press(pilot, "j", "j", "space")
    assert app.return_value == HomeChoice("id-mar6 [b]x[/]", "replay")


async def test_who_comes_back_from_a_session_finds_the_cursor_on_it() -> None:
    async with at_home(three(), at="id-mar5") as (app, _):
        assert app.screen.query_one(SessionList).cursor_key == "id-mar5"


async def test_the_row_of_a_session_follows_what_its_engine_does_and_the_cursor_stays_on_it() -> None:
    sessions = three()
    async with at_home(sessions, size=WIDE) as (app, pilot):
        await press(pilot, "j", "j")
        running, *others = sessions.glances
        assert running.summary is not None
        runs = msgspec.structs.replace(running.summary.runs, finished=4711)
        grown = msgspec.structs.replace(running, summary=msgspec.structs.replace(running.summary, runs=runs))
        sessions.become(seen("mar8", stamp=STAMP), grown, *others)
        await reads(app, pilot, "mar8", "4,711", "sessions 4")
        assert app.screen.query_one(SessionList).cursor_key == "id-mar6 [b]x[/]"
        sessions.become(*others[1:])
        await gone(app, pilot, "mar6")


async def test_the_list_is_sorted_otherwise_and_back_and_the_other_way_round() -> None:
    def names(app: HomeApp) -> list[str]:
        return [
            word for line in text_of(app).splitlines() if (word := line.strip("│┃ ").split(" ")[0]).startswith("mar")
        ]

    async with at_home(three()) as (app, pilot):
        await reads(app, pilot, "mar5")
        assert names(app) == ["mar7", "mar6", "mar5"]
        await press(pilot, "o")
        await reads(app, pilot, "by name")
        assert names(app) == ["mar5", "mar6", "mar7"]
        await press(pilot, "O")
        await reads(app, pilot, "by name, reversed")
        assert names(app) == ["mar7", "mar6", "mar5"]
        while "by size" not in text_of(app):
            await press(pilot, "o")
        assert names(app)[0] == "mar5"
        await press(pilot, "o")
        await reads(app, pilot, "by started")


async def test_a_filter_leaves_what_has_all_its_words_and_escape_takes_it_away_before_it_leaves() -> None:
    async with at_home(three()) as (app, pilot):
        await press(pilot, "slash", *"ended cl")
        await reads(app, pilot, "sessions 1", "mar5")
        assert "mar7" not in text_of(app)
        await press(pilot, "enter", "q")
        await reads(app, pilot, "mar7", "sessions 3")
        assert app.return_value is None
        await press(pilot, "escape")
    assert app.return_value is None


async def test_a_damaged_session_is_a_row_that_says_so_and_opening_it_says_why() -> None:
    broken = msgspec.structs.replace(
        seen("mar1"), summary=None, stamp=Stamp(), fault="incomplete", trouble="session.json is missing \x1b[31m[red]x"
    )
    damaged = seen("mar2", fault="damaged", trouble="the journal is damaged in 000001.jsonl at byte 7", stamp=STAMP)
    async with at_home(FixedSessions(broken, damaged)) as (app, pilot):
        await press(pilot, "j")
        shown = await reads(app, pilot, "incomplete", "damaged", "Session.json is missing [red]x")
        assert "\x1b" not in shown
        await press(pilot, "enter")
        assert app.is_running
        await press(pilot, "j")
        await reads(app, pilot, "at byte 7")
        await press(pilot, "enter")
    assert app.return_value == HomeChoice("id-mar2", "attach")


async def test_a_home_that_cannot_be_listed_is_told_in_place() -> None:
    async with at_home(FixedSessions(problem="/nowhere/sessions cannot be listed: Permission denied")) as (app, pilot):
        await reads(app, pilot, "cannot be listed", "new session")


async def test_every_key_of_the_home_screen_is_in_its_help_and_in_the_palette() -> None:
    from tui.bindings import KEYS

    async with at_home(three(), size=(100, 150)) as (app, pilot):
        titles = {command.title for command in app.get_system_commands(app.screen)}
        await press(pilot, "question_mark")
        shown = await reads(app, pilot, "List of sessions")
        for key in KEYS:
            if key.where == "home":
                assert key.says in shown
                assert key.says[0].upper() + key.says[1:] in titles
        assert shown.index("List of sessions") < shown.index("Everywhere")


@pytest.mark.parametrize("size", [(20, 5), (1, 1)])
async def test_a_terminal_of_any_size_does_no_harm(size: tuple[int, int]) -> None:
    async with at_home(three(), size=size) as (app, pilot):
        await press(pilot, "G", "n", "escape", "D", "n")
        await pilot.resize_terminal(*NARROW)
        await reads(app, pilot, "mar7", "mar5")


# ---- deleting and resuming --------------------------------------------------------------------------------------


async def test_deleting_names_the_session_its_size_and_its_runs_and_only_y_does_it() -> None:
    deeds, sessions = FakeDeeds(), three()
    async with at_home(sessions, deeds) as (app, pilot):
        await press(pilot, "G", "D")
        await reads(app, pilot, "Delete session mar5", "finished runs", "1.2 GB")
        await press(pilot, "n")
        assert deeds.asked == []
        deeds.may_go_on.clear()
        await press(pilot, "D", "y")
        await reads(app, pilot, "deleting")
        sessions.become(*sessions.glances[:2])
        deeds.may_go_on.set()
        await reads(app, pilot, "mar5 is deleted")
        assert deeds.asked == ["delete id-mar5"]


async def test_a_session_with_a_live_engine_is_not_deleted() -> None:
    deeds = FakeDeeds()
    async with at_home(three(), deeds) as (app, pilot):
        await press(pilot, "j", "D")
        await reads(app, pilot, "An engine works on mar7", "stop it")
        await press(pilot, "y")
        assert deeds.asked == []
        assert isinstance(app.screen, HomeScreen)


async def test_a_refusal_to_delete_is_a_sentence_and_the_row_stays() -> None:
    deeds = FakeDeeds()
    deeds.refusal = UserError("attempts of session mar5 still run (r3.1)")
    async with at_home(three(), deeds) as (app, pilot):
        await press(pilot, "G", "D", "y")
        await reads(app, pilot, "attempts of session mar5 still run")
        await gone(app, pilot, "deleting")


async def test_resuming_starts_an_engine_and_opens_the_session_or_says_why_not() -> None:
    deeds = FakeDeeds()
    deeds.refusal = SessionError("session mar5 has ended (the limit of 8 h is reached); 'replay' shows it")
    async with at_home(three(), deeds) as (app, pilot):
        await press(pilot, "G", "r")
        await reads(app, pilot, "has ended")
        deeds.refusal = None
        await press(pilot, "r")
        await leaves(app)
    assert deeds.asked == ["resume id-mar5"] * 2
    assert app.return_value == HomeChoice("id-mar5", "attach", started=True)


# ---- the form ---------------------------------------------------------------------------------------------------


async def test_enter_and_enter_again_start_the_simulation() -> None:
    deeds = FakeDeeds()
    async with at_home(FixedSessions(), deeds) as (app, pilot):
        await press(pilot, "enter")
        await reads(app, pilot, "SIMULATED: nothing is trained", "autoresearch-tui run --executor sim")
        await press(pilot, "enter")
        await leaves(app)
    assert deeds.asked == [Asked(executor="sim", watched=True)]
    assert app.return_value == HomeChoice("id-new", "attach", started=True)


async def test_a_choice_that_cannot_work_shows_doctors_reason_and_its_fix() -> None:
    async with at_home(FixedSessions(), FakeDeeds(Row("ok", "python", "3.11"), NO_TORCH)) as (app, pilot):
        await press(pilot, "n")
        assert "torch" not in text_of(app)
        await press(pilot, "right")
        shown = await reads(app, pilot, "× torch: torch is not installed", "install 'autoresearch-tui[train]'")
        assert "3.11" not in shown
        assert "device-hours" in shown
        assert "speed" not in shown
        await press(pilot, "right")
        await reads(app, pilot, "kubernetes is not built yet: this version has local, sim")


async def test_what_is_typed_is_read_as_the_command_line_reads_it() -> None:
    deeds = FakeDeeds()
    async with at_home(FixedSessions(), deeds, size=WIDE) as (app, pilot):
        await press(pilot, "n", "down", "down", *"4xH100", "tab", *"0.5", "down", *"12", "down", *"night")
        await reads(app, pilot, "--gpus 4xH100 --hours 0.5 --runs 12 --name night")
        await press(pilot, "enter")
        await leaves(app)
    assert deeds.asked == [Asked(executor="sim", gpus="4xH100", hours=0.5, runs=12, name="night", watched=True)]


@pytest.mark.parametrize("size", [NARROW, TINY], ids=["narrow", "tiny"])
async def test_a_refusal_stands_beside_its_field_and_the_form_stays(size: tuple[int, int]) -> None:
    deeds = FakeDeeds()
    async with at_home(FixedSessions(), deeds, size=size) as (app, pilot):
        await press(pilot, "n", "down", "down", "down", *"many", "enter")
        await reads(app, pilot, "'many' is not")
        assert app.focused is not None
        assert app.focused.id == "hours"
        await press(pilot, *["backspace"] * 4, "enter")
        await leaves(app)
    assert deeds.asked == [Asked(executor="sim", watched=True)]


@pytest.mark.parametrize(
    ("refusal", "field"),
    [
        (UserError("there is a session called night already", 2, about="name"), "name"),
        (ExecutorError("there is no GPU called H900"), "gpus"),
        (OSError(28, "No space left on device", "/home/ada"), "executor"),
        (RuntimeError("a fault of ours"), "executor"),
    ],
)
async def test_whatever_creating_a_session_meets_is_a_sentence_in_the_form(refusal: Exception, field: str) -> None:
    deeds = FakeDeeds()
    deeds.refusal = refusal
    async with at_home(FixedSessions(), deeds, size=WIDE) as (app, pilot):
        await press(pilot, "n", "enter")
        await app.workers.wait_for_complete()
        said = {RuntimeError: "An error of this program", OSError: "No space left"}.get(type(refusal), str(refusal)[8:])
        await reads(app, pilot, said)
        assert isinstance(app.screen, NewSession)
        assert app.focused is not None
        assert app.focused.id == field
        deeds.refusal = None
        await press(pilot, "enter")
        await leaves(app)
    assert app.return_value == HomeChoice("id-new", "attach", started=True)


async def test_while_it_starts_the_form_says_what_is_done_and_a_second_enter_starts_nothing() -> None:
    deeds = FakeDeeds()
    deeds.may_go_on.clear()
    async with at_home(FixedSessions(), deeds) as (app, pilot):
        await press(pilot, "n", "enter")
        await reads(app, pilot, "preparing the corpus 40%")
        await press(pilot, "enter", "escape")
        assert isinstance(app.screen, NewSession)
        deeds.may_go_on.set()
        await leaves(app)
    assert len(deeds.asked) == 1


async def test_claude_without_a_key_is_offered_simulated_and_says_what_a_real_one_needs() -> None:
    deeds = FakeDeeds()
    async with at_home(FixedSessions(), deeds) as (app, pilot):
        await press(pilot, "n", "down", "right")
        await reads(app, pilot, "SIMULATED model: needs no key", "--claude-endpoint sim")
        await press(pilot, "down", "left")
        await reads(app, pilot, "no key: ANTHROPIC_API_KEY is not set")
        await press(pilot, "right", "right", "enter")
        await reads(app, pilot, "Give the URL of a server")
        assert app.focused is not None
        assert app.focused.id == "url"
        assert deeds.asked == []


async def test_claude_with_a_key_says_that_it_costs_money() -> None:
    async with at_home(FixedSessions(), facts=FACTS._replace(has_key=True)) as (app, pilot):
        await press(pilot, "n", "down", "right")
        await reads(app, pilot, "● Claude API", "real money", "at most $")


async def test_the_form_stays_as_it_was_left() -> None:
    async with at_home(FixedSessions()) as (app, pilot):
        await press(pilot, "n", "down", "down", *"2xH100", "escape")
        assert isinstance(app.screen, HomeScreen)
        await press(pilot, "n")
        await reads(app, pilot, "--gpus 2xH100")


def test_the_home_screen_can_be_made_of_a_real_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line puts together: nothing of it is asked before it is needed."""
    from tui.cli.home import HomeDeeds
    from tui.view.form import facts_of

    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    facts = facts_of({"ANTHROPIC_API_KEY": "sk-ant-not-shown"})
    assert facts.has_key
    assert "not-shown" not in repr(facts)
    assert "kubernetes" in {*facts.planned, *facts.executors}
    with pytest.raises(SessionError, match="cannot be deleted"):
        HomeDeeds().delete("nothing")
