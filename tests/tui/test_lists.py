"""Finding one's way in much: order, filter and group experiments; search reasoning, logs and sources; copy; save."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from core.events import Note, RevisionAdded, SessionEnded
from core.patching import unified_diff
from core.sources import LiveSource
from tests.support.story import Story, session
from tests.support.talking import conversation, text, thinking
from tests.tui.test_app import NARROW, Clock, Growing, live, loses, on_screen, press, reads, settled, text_of, tick
from tui.app import SessionApp
from tui.screens.experiment import ExperimentScreen
from tui.screens.source import SourceScreen
from tui.widgets.experiment_list import ExperimentList
from tui.widgets.transcript import Transcript


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot's waits between keys are long; what a story needs it waits for itself."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001)


async def found(app: SessionApp, pilot: Pilot[None]) -> Transcript:
    """Wait until the search has seen everything."""
    pane = app.query_one(Transcript)
    for _ in range(500):
        if not pane.searching:
            return pane
        await pilot.pause(0.005)
    raise AssertionError("the search does not end")


async def test_o_sorts_and_the_cursor_stays_on_its_experiment(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20))) as (app, pilot):
        pane = app.query_one(ExperimentList)
        await press(pilot, "4", "j", "j")
        assert pane.cursor_key == "e18"
        for order in ("best first", "Δ", "by status", "most runs first", "4 experiments ━"):
            await press(pilot, "o")
            await reads(app, pilot, order)
            assert pane.cursor_key == "e18"
        await press(pilot, "O")
        await reads(app, pilot, "oldest first")
        assert pane.cursor_key == "e18"


async def test_a_filter_works_while_it_is_typed_and_escape_takes_it_away(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20))) as (app, pilot):
        await press(pilot, "4", *"/kept")
        await reads(app, pilot, "/kept▏ 5 of 20", "4 experiments · 5 of 20 /kept")
        await press(pilot, "space", *"-e1")
        await reads(app, pilot, "4 of 20 /kept -e1")
        await press(pilot, "enter", "j")
        await reads(app, pilot, "4 of 20 /kept -e1")
        assert "▏" not in app.query_one(ExperimentList).border_subtitle
        assert app.source.mode == "live", "the keys that were typed did nothing else"
        await press(pilot, "slash", "ctrl+u", *"zzz")
        await reads(app, pilot, "no experiment fits the filter")
        await press(pilot, "escape")
        await loses(app, pilot, "of 20")
        await press(pilot, *"/kept", "enter", "escape")
        await loses(app, pilot, "of 20")


async def test_keys_that_come_at_once_go_into_the_line_and_nowhere_else(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20))) as (app, pilot):
        pane = app.query_one(ExperimentList)
        await press(pilot, "4")
        for key in ("slash", "d", "e", "p", "q"):
            pilot.app.post_message(_key(key))
        await reads(app, pilot, "/depq▏")
        assert pane.wish.filter.text == "depq"
        assert not pane.wish.grouped
        assert app.is_running


def _key(name: str):
    from textual.events import Key

    return Key("slash", "/") if name == "slash" else Key(name, name)


async def test_d_groups_by_design_and_enter_folds(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20)), size=NARROW) as (app, pilot):
        pane = app.query_one(ExperimentList)
        await press(pilot, "4", "d")
        await reads(app, pilot, "▾ screen (folded Plackett-Burman) · 20 experiments · 41/41 runs")
        await press(pilot, "g", "enter")
        await reads(app, pilot, "▸ screen")
        await loses(app, pilot, "e19")
        assert pane.cursor_key == "design:screen"
        await press(pilot, "enter", "j", "enter")
        await reads(app, pilot, "hypothesis")
        assert isinstance(app.screen, ExperimentScreen)


async def test_news_find_their_place_in_the_order_that_is_on(tmp_path: Path) -> None:
    growing = Growing(tmp_path, session(experiments=6))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await press(pilot, "4", *"/idea", "enter", "o")
        await reads(app, pilot, "0 of 6")
        story = Story()
        proposal = story.events[story.events.index(story.add(Note(text="")))]
        story.propose("an idea", {"DEPTH": "3"}, [0])
        proposal = story.events[-1]
        proposal.exp, proposal.call = "e7", "c7"
        growing.add(proposal)
        await tick(app, pilot)
        await reads(app, pilot, "1 of 7", "an idea")


async def test_searching_the_reasoning_reaches_what_was_said_long_ago(tmp_path: Path) -> None:
    story = Story()
    story.experiment("the baseline, replicated", runs=2)
    story.add(Note(text="A purple thought."))
    for index in range(900):
        story.add(Note(text=f"Thought number {index}."), 1.0)
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "3", *"/purple")
        pane = await found(app, pilot)
        await reads(app, pilot, "/purple▏ 1/1", "A purple thought.")
        assert pane.scroll_offset.y < 50
        await press(pilot, "enter", "G")
        await reads(app, pilot, "Thought number 899.")
        await press(pilot, "n")
        await reads(app, pilot, "A purple thought.", "1/1")
        await press(pilot, "escape")
        await loses(app, pilot, "/purple")
        assert app.is_running


async def test_n_and_shift_n_go_round_all_matches(tmp_path: Path) -> None:
    story = Story()
    for index in range(40):
        story.add(Note(text=f"Thought {index}" + (" on Depth" if index % 10 == 0 else ".")), 1.0)
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "3", *"/depth", "enter")
        await found(app, pilot)
        await reads(app, pilot, "/depth 4/4", "Thought 30 on")
        await press(pilot, "N", "N", "N")
        await reads(app, pilot, "/depth 1/4", "Thought 0 on")
        await press(pilot, "N")
        await reads(app, pilot, "/depth 4/4", "Thought 30 on")
        await press(pilot, "n")
        await reads(app, pilot, "/depth 1/4")
        await press(pilot, *"/dEpth")
        await reads(app, pilot, "nothing found")


async def test_a_match_inside_a_folded_block_unfolds_it(tmp_path: Path) -> None:
    talk = conversation(Story())
    talk.turn(thinking("First I look.\nThen a chartreuse idea comes.\nThen I stop."), text("Done."))
    async with on_screen(live(tmp_path, talk.story.events)) as (app, pilot):
        assert "chartreuse" not in text_of(app)
        await press(pilot, "3", *"/chartreuse", "enter")
        await found(app, pilot)
        await reads(app, pilot, "Then a chartreuse idea comes.", "1/1")


async def test_what_is_said_while_a_search_is_on_is_found_too(tmp_path: Path) -> None:
    growing = Growing(tmp_path, [*session(experiments=3)])
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await press(pilot, "3", *"/teal", "enter")
        await found(app, pilot)
        await reads(app, pilot, "nothing found")
        growing.add(Note(text="Teal is a colour."))
        await tick(app, pilot)
        await found(app, pilot)
        await press(pilot, "n")
        await reads(app, pilot, "/teal 1/1", "Teal is a colour.")


async def test_the_first_block_of_a_long_talk_is_a_key_away(tmp_path: Path) -> None:
    story = Story()
    for index in range(1_000):
        story.add(Note(text=f"Thought number {index}."), 1.0)
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "3", "g")
        await reads(app, pilot, "Thought number 0.")
        await press(pilot, *["pagedown"] * 25)
        await loses(app, pilot, "Thought number 299.")
        for _ in range(100):
            if "Thought number 999." in text_of(app):
                break
            await press(pilot, *["pagedown"] * 10)
        await reads(app, pilot, "Thought number 999.")
        story.add(SessionEnded(reason="enough"))


def revised() -> Story:
    """A session whose revisions are real diffs."""
    story = Story()
    exp = story.propose("the baseline", {}, [0])
    first, second = "A = 1\nB = 2\n", "A = 1\nB = 3\n"
    revision = next(event for event in story.events if isinstance(event, RevisionAdded))
    revision.patch = unified_diff("", first)
    story.finish(story.start(exp, 0, "gpu0", "baseline"), 1.0)
    story.propose("B to 3", {"B": "3"}, [0])
    last = [event for event in story.events if isinstance(event, RevisionAdded)][-1]
    last.patch, last.parent = unified_diff(first, second), revision.revision
    return story


async def test_the_whole_file_of_a_revision_can_be_read_and_taken_home(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, revised().events)) as (app, pilot):
        await press(pilot, "4", "enter", "f")
        await reads(app, pilot, "train.py of e2", "1  A = 1", "2  B = 3")
        assert isinstance(app.screen, SourceScreen)
        await press(pilot, *"/b", "enter")
        await reads(app, pilot, "/b 1/1")
        target = tmp_path / "mine.py"
        for _ in range(2):
            await press(pilot, "w")
            await press(pilot, "ctrl+u", *str(target), "enter")
            await reads(app, pilot, "Saved as" if _ == 0 else "is there already")
        assert target.read_text() == "A = 1\nB = 3\n"
        await press(pilot, "escape", "escape")
        assert isinstance(app.screen, ExperimentScreen)


async def test_brackets_go_from_experiment_to_experiment(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=6))) as (app, pilot):
        await press(pilot, "4", "enter")
        await reads(app, pilot, "1 e6 ")
        await press(pilot, "left_square_bracket")
        await reads(app, pilot, "1 e5 ")
        await press(pilot, "right_square_bracket", "right_square_bracket")
        await reads(app, pilot, "1 e6 ", "There is no experiment further on.")


async def test_a_log_can_be_searched(tmp_path: Path) -> None:
    def log(_attempt: str, _most: int) -> bytes:
        return b"".join(b"step %d loss 3.%d\n" % (n, n) for n in range(300))

    async with on_screen(live(tmp_path, session(experiments=3)), logs=log) as (app, pilot):
        await press(pilot, "4", "enter")
        await settled(app, pilot)
        await press(pilot, "5", *"/step 12", "enter", "N")
        await reads(app, pilot, "/step 12 11/11", "step 129 loss 3.129")
        await press(pilot, "y")
        assert app.clipboard == "step 129 loss 3.129"


async def test_y_copies_what_the_cursor_is_on_and_says_so(tmp_path: Path) -> None:
    story = Story()
    story.experiment("the baseline", runs=2)
    story.add(Note(text="A thought \x1b]52;c;aGFjaw==\x07with\x1b[2J teeth.\nIn two lines."))
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "4", "y")
        assert app.clipboard.startswith("e1  the baseline  ")
        await reads(app, pilot, "copied", "e1 the baseline", "refuses OSC 52")
        await press(pilot, "3", "up", "y")
        assert app.clipboard == "A thought with teeth.\nIn two lines."
        await press(pilot, "5", "y")
        await reads(app, pilot, "There is nothing to copy here.")


async def test_costs_say_how_far_each_limit_is(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=12))) as (app, pilot):
        await press(pilot, "c")
        await reads(app, pilot, "costs and limits", "session time", "of 8 h", "failures in a row", "for each of")
