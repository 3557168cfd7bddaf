"""The screen as its readers use it: stories told with keys, a recorded or growing journal, and a clock of our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from core.bench import Delta
from core.control import EngineGone, Reply
from core.events import AnyEvent, Command, ModelStatus, Note, PhaseChanged, Verdict
from core.journal import line_of
from core.journal.format import segment_path
from core.replay import ReplaySource
from core.sources import LiveSource, Source
from tests.support.story import Story, session, write_journal
from tests.support.talking import Talk, call, conversation, result, text, thinking
from tui.app import Answers, SessionApp
from tui.bindings import KEYS, TITLES, Key
from tui.screens.dashboard import Dashboard
from tui.screens.effects import EffectsScreen
from tui.screens.experiment import ExperimentScreen
from tui.screens.home import HomeScreen
from tui.screens.new_session import NewSession
from tui.screens.source import SourceScreen
from tui.screens.sql import SqlScreen
from tui.widgets.curve import Curve
from tui.widgets.device_grid import DeviceGrid
from tui.widgets.effects import Effects
from tui.widgets.experiment_list import ExperimentList
from tui.widgets.log_tail import LogTail
from tui.widgets.schema_list import SchemaList
from tui.widgets.sql_editor import SqlEditor
from tui.widgets.transcript import Transcript
from tui.widgets.virtual_table import VirtualTable

WIDE, NARROW = (120, 40), (80, 24)


class Clock:
    """Seconds that a story moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Engine:
    """Hears commands, and answers once `hears` is set: that it was done, or `refuses`. `fails` is raised instead."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.clients: list[str] = []
        self.hears = asyncio.Event()
        self.hears.set()
        self.refuses = ""
        self.fails: Exception | None = None

    async def send(self, verb: str, arg: str = "", *, client: str = "") -> Reply:
        self.clients.append(client)
        await self.hears.wait()
        if self.fails is not None:
            raise self.fails
        self.heard.append((verb, arg))
        return Reply(not self.refuses, self.refuses or f"{verb} was done")


class Growing:
    """A journal that a story appends to, as an engine would."""

    def __init__(self, folder: Path, events: list[AnyEvent]) -> None:
        self.folder = write_journal(folder, events)
        self.n, self.t_s = len(events), events[-1].t

    def add(self, event: AnyEvent) -> None:
        self.n += 1
        event.n, event.t = self.n, self.t_s
        with segment_path(self.folder, 1).open("ab") as file:
            file.write(line_of(event)[0])


@contextlib.asynccontextmanager
async def on_screen(
    source: Source,
    *,
    size: tuple[int, int] = WIDE,
    commands: Engine | None = None,
    logs: Callable[[str, int], bytes] | None = None,
    answers: Answers | None = None,
    crash_log: Path | None = None,
) -> AsyncIterator[tuple[SessionApp, Pilot[None]]]:
    """The app over a source, read to its end and shown; it ticks only when the story says so."""
    app = SessionApp(source, commands=commands, logs=logs, answers=answers, crash_log=crash_log, ticks_hz=0)
    async with app.run_test(size=size, notifications=True) as pilot:
        await tick(app, pilot)
        yield app, pilot


async def tick(app: SessionApp, pilot: Pilot[None]) -> None:
    app.tick()
    while app.source.behind:
        app.tick()
    await pilot.pause()


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def settled(app: SessionApp, pilot: Pilot[None]) -> None:
    """Wait until commands are answered and logs are read."""
    await app.workers.wait_for_complete()
    await pilot.pause()


async def reads(app: SessionApp, pilot: Pilot[None], *words: str) -> None:
    """Wait until all these words stand on the screen."""
    for _ in range(300):
        if all(word in text_of(app) for word in words):
            return
        await pilot.pause(0.01)
    shown = text_of(app)
    for word in words:
        assert word in shown


async def loses(app: SessionApp, pilot: Pilot[None], words: str) -> None:
    """Wait until these words stand on the screen no more."""
    for _ in range(300):
        if words not in text_of(app):
            return
        await pilot.pause(0.01)
    raise AssertionError(f"{words!r} is still there:\n{text_of(app)}")


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot's waits between keys are long; what a story needs it waits for itself."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001)


def text_of(app: SessionApp) -> str:
    """What stands on the screen, line by line."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def live(folder: Path, events: list[AnyEvent], *, alive: Callable[[], bool] = lambda: True) -> LiveSource:
    return LiveSource(write_journal(folder, events), alive, clock=Clock())


async def test_one_look_shows_curve_devices_reasoning_and_experiments(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20))) as (app, _):
        shown = text_of(app)
    for words in ("● live", "best confirmed", "1 val_bpb", "2 devices 0/4", "3 reasoning", "4 experiments", "×"):
        assert words in shown
    assert "e20" in shown
    assert "limit of hours reached" in shown
    assert "‖" not in shown


async def test_a_narrow_terminal_shows_one_pane_and_tabs(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=9)), size=NARROW) as (app, pilot):
        await reads(app, pilot, "[1 val_bpb]")
        assert "╭─ 3 reasoning" not in text_of(app)
        await press(pilot, "3")
        await reads(app, pilot, "[3 reasoning]")
        await reads(app, pilot, "e9")
        await press(pilot, "4")
        await reads(app, pilot, "[4 experiments]")
        await reads(app, pilot, "e9")
        await pilot.click("PaneTabs", offset=(14, 0))
        await pilot.pause()
        await reads(app, pilot, "[2 devices]")


async def test_a_large_terminal_shows_three_columns_and_the_experiment_under_the_cursor(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20)), size=(200, 60)) as (app, pilot):
        await press(pilot, "4", "j")
        await reads(app, pilot, "1 val_bpb", "3 reasoning", "5 verdicts", "6 e19 ", "hypothesis")
        regions = [app.screen.query_one(f"#{pane}").region for pane in Dashboard.PANES]
        assert len({region.x for region in regions}) == 3
        assert not any(a.overlaps(b) for a in regions for b in regions if a is not b)
        await pilot.resize_terminal(120, 40)
        await loses(app, pilot, "6 e19")
        await press(pilot, "6")
        await reads(app, pilot, "[6 experiment]", "hypothesis")
        await press(pilot, "z")
        await reads(app, pilot, "1 val_bpb", "5 verdicts")


async def test_z_gives_a_pane_all_the_room_and_takes_it_back(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=9))) as (app, pilot):
        await press(pilot, "3", "z")
        await reads(app, pilot, "[3 reasoning]")
        assert app.query_one(Transcript).size.width > 110
        await press(pilot, "z")
        await reads(app, pilot, "╭─ 1 val_bpb")
        assert app.focused is app.query_one(Transcript)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
async def test_the_phase_and_the_last_verdicts_say_why(tmp_path: Path, size: tuple[int, int]) -> None:
    events = session(experiments=9)
    growing = Growing(tmp_path, events)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock()), size=size) as (app, pilot):
        await reads(app, pilot, "opening phase")
        await press(pilot, "5")
        await reads(app, pilot, "opening since", "see what matters")
        verdicts = [event for event in events if isinstance(event, Verdict)]
        await reads(app, pilot, *(f"{event.verdict} {event.exp} " for event in verdicts[-3:]))
        assert f"{verdicts[-4].verdict} {verdicts[-4].exp} " not in text_of(app).partition("5 verdicts")[2]
        growing.add(Verdict(exp="e9", verdict="undecided", delta=-0.001, reason="[b]three more seeds decide[/b]"))
        growing.add(PhaseChanged(phase="refine", why="the gains get small", call="p9"))
        await tick(app, pilot)
        await reads(app, pilot, "refine phase", "refine since", "the gains get small", "[b]three more seeds decide[/b]")
        await press(pilot, "3")
        await reads(app, pilot, "3 reasoning · refine since")


async def test_news_appears_with_the_next_tick(tmp_path: Path) -> None:
    growing = Growing(tmp_path, session(experiments=4))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        growing.add(Note(text="The schedule is worth a look."))
        assert "worth a look" not in text_of(app)
        await tick(app, pilot)
        await reads(app, pilot, "worth a look")


async def test_enter_on_an_experiment_shows_it_in_full_and_escape_goes_back(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=5))) as (app, pilot):
        await press(pilot, "4", "j", "enter")
        assert isinstance(app.screen, ExperimentScreen)
        wanted = ("1 e4", "hypothesis", "bits per byte against", "+++ train.py", "r9", "no logs")
        await reads(app, pilot, *wanted)
        await press(pilot, "escape")
        assert isinstance(app.screen, Dashboard)


async def test_enter_on_a_point_of_the_curve_opens_its_experiment(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=5))) as (app, pilot):
        await press(pilot, "1", "b", "enter")
        assert isinstance(app.screen, ExperimentScreen)


async def test_enter_on_a_busy_device_opens_what_it_works_on(tmp_path: Path) -> None:
    story = Story()
    story.start(story.propose("at work", {}, [0]), 0, "gpu1", "baseline")
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "2", "enter")
        assert isinstance(app.screen, Dashboard)
        await press(pilot, "l", "enter")
        assert isinstance(app.screen, ExperimentScreen)


async def test_the_log_of_the_chosen_run_is_read_in_a_worker_and_made_harmless(tmp_path: Path) -> None:
    asked: list[str] = []

    def logs(attempt: str, limit: int) -> bytes:
        asked.append(attempt)
        if attempt == "r3.1":
            raise FileNotFoundError(attempt)
        return f"step 1 of {attempt}\n\x1b[2J\x1b]0;owned\x07val_bpb: 0.1 [red]\n".encode()

    async with on_screen(live(tmp_path, session(experiments=1)), logs=logs) as (app, pilot):
        await press(pilot, "4", "enter")
        await settled(app, pilot)
        assert asked == ["r3.1"]
        await reads(app, pilot, "this attempt has no log")
        await press(pilot, "2", "j")
        await tick(app, pilot)
        await settled(app, pilot)
        assert asked == ["r3.1", "r2.1"]
        await reads(app, pilot, "5 log of r2.1")
        await reads(app, pilot, "val_bpb: 0.1 [red]")
        assert "owned" not in text_of(app)
        assert "\x1b" not in text_of(app)


async def test_a_growing_log_is_read_again_and_its_end_stays_in_view(tmp_path: Path) -> None:
    story, clock, times = Story(), Clock(), [0]
    story.start(story.propose("at work", {}, [0]), 0, "gpu0", "baseline")

    def logs(_attempt: str, _limit: int) -> bytes:
        times[0] += 1
        return b"".join(b"line %d\n" % index for index in range(50 * times[0]))

    source = LiveSource(write_journal(tmp_path, story.events), lambda: True, clock=clock)
    async with on_screen(source, logs=logs) as (app, pilot):
        await press(pilot, "4", "enter")
        await settled(app, pilot)
        await reads(app, pilot, "line 49")
        clock.now_s += 10.0
        await tick(app, pilot)
        await settled(app, pilot)
        await reads(app, pilot, "line 99")
        assert app.screen.query_one(LogTail).scroll_offset.y > 50


async def test_space_holds_a_live_screen_and_e_goes_back_to_live(tmp_path: Path) -> None:
    growing = Growing(tmp_path, session(experiments=4))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await press(pilot, "space")
        await reads(app, pilot, "▶ replay")
        growing.add(Note(text="Meanwhile, elsewhere."))
        await tick(app, pilot)
        assert "Meanwhile" not in text_of(app)
        await press(pilot, "comma", "comma", "H")
        held = app.source.position
        assert held < growing.n - 2
        await reads(app, pilot, f"#{held} of {growing.n}")
        await press(pilot, "E")
        await reads(app, pilot, "● live")
        await reads(app, pilot, "Meanwhile")


async def test_time_is_right_after_a_live_screen_was_held(tmp_path: Path) -> None:
    story, clock = Story(), Clock()
    growing = Growing(tmp_path, story.events)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=clock)) as (app, pilot):
        await press(pilot, "space")
        clock.now_s += 60.0
        growing.t_s += 60.0
        growing.add(Note(text="Meanwhile, elsewhere."))
        await tick(app, pilot)
        clock.now_s += 3.0
        await press(pilot, "E")
        await tick(app, pilot)
        assert app.source.now_s == pytest.approx(growing.t_s + 3.0)


async def test_on_an_experiment_each_pane_has_its_number(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=5)), size=NARROW) as (app, pilot):
        await press(pilot, "4", "enter")
        for key, words in (("1", "hypothesis"), ("2", "seed"), ("3", "100%"), ("4", "+++ train.py"), ("5", "no logs")):
            await press(pilot, key)
            await reads(app, pilot, words)


async def test_a_replay_plays_by_its_clock_and_obeys_its_keys(tmp_path: Path) -> None:
    clock = Clock()
    source = ReplaySource(write_journal(tmp_path, session(experiments=12)), playing=True, clock=clock)
    async with on_screen(source) as (app, pilot):
        assert source.speed is not None
        speed = source.speed
        clock.now_s += 10.0
        await tick(app, pilot)
        assert source.now_s == pytest.approx(10.0 * speed)
        await reads(app, pilot, f"▶ {speed}x")
        await press(pilot, "space", "greater_than_sign")
        await reads(app, pilot, f"‖ {source.speed}x")
        assert source.speed > speed
        await press(pilot, "right_curly_bracket")
        assert source.state.ledger.verdicts
        await press(pilot, "L")
        later = source.now_s
        await press(pilot, "H")
        assert source.now_s < later
        await press(pilot, "E")
        assert source.position == source.last
        await pilot.click("#replay", offset=(12, 0))
        await pilot.pause()
        assert source.now_s < later / 2


async def test_an_experiment_that_a_replay_leaves_behind_says_so(tmp_path: Path) -> None:
    source = ReplaySource(write_journal(tmp_path, session(experiments=5)), clock=Clock())
    async with on_screen(source) as (app, pilot):
        await press(pilot, "E", "4", "enter")
        source.seek_event(3)
        await tick(app, pilot)
        await reads(app, pilot, "not proposed yet")
        await press(pilot, "E")
        await reads(app, pilot, "hypothesis")


async def test_commands_reach_the_engine_and_its_answer_the_reader(tmp_path: Path) -> None:
    engine, growing = Engine(), Growing(tmp_path, session(experiments=3))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock()), commands=engine) as (app, pilot):
        await press(pilot, "p")
        await settled(app, pilot)
        await reads(app, pilot, "… pause: pause was done")
        growing.add(Command(client=engine.clients[0], verb="pause"))
        await tick(app, pilot)
        await reads(app, pilot, "● paused", "✓ pause")
        await press(pilot, "p")
        await settled(app, pilot)
        assert engine.heard == [("pause", ""), ("resume", "")]
        await reads(app, pilot, "… resume: resume was done")


async def test_while_a_hint_is_typed_keys_are_letters(tmp_path: Path) -> None:
    engine = Engine()
    async with on_screen(live(tmp_path, session(experiments=3)), commands=engine) as (app, pilot):
        await press(pilot, "i", *"qpz", "comma", "space", "1", "Q")
        assert app.screen.query_one(Input).value == "qpz, 1Q"
        await press(pilot, "enter")
        await settled(app, pilot)
        assert engine.heard == [("hint", "qpz, 1Q")]
        await press(pilot, "i", "x", "escape")
        assert isinstance(app.screen, Dashboard)
        assert len(engine.heard) == 1


async def test_stopping_asks_first(tmp_path: Path) -> None:
    engine = Engine()
    async with on_screen(live(tmp_path, session(experiments=3)), commands=engine) as (app, pilot):
        await press(pilot, "Q", "n")
        assert engine.heard == []
        await press(pilot, "Q")
        await reads(app, pilot, "for good")
        await press(pilot, "y")
        await settled(app, pilot)
        assert engine.heard == [("stop", "now")]


async def test_q_leaves_and_asks_nothing_of_the_engine(tmp_path: Path) -> None:
    engine = Engine()
    async with on_screen(live(tmp_path, session(experiments=3)), commands=engine) as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running or app._exit
    assert engine.heard == []


async def test_with_the_engine_gone_the_screen_says_so_and_r_resumes(tmp_path: Path) -> None:
    engine, alive = Engine(), [False]
    source = live(tmp_path, session(experiments=3), alive=lambda: alive[0])
    async with on_screen(source, commands=engine) as (app, pilot):
        await reads(app, pilot, "○ engine gone")
        await reads(app, pilot, "Press r to resume")
        await press(pilot, "r", "n")
        engine.fails = OSError("the engine did not start")
        await press(pilot, "r", "y")
        await settled(app, pilot)
        await reads(app, pilot, "✗ resume: the engine did not start")
        engine.fails = None
        await press(pilot, "r", "y")
        await settled(app, pilot)
        assert engine.heard == [("resume", "")]


async def test_a_recording_has_no_engine_to_ask(tmp_path: Path) -> None:
    source = ReplaySource(write_journal(tmp_path, session(experiments=3, ended=True)), clock=Clock())
    async with on_screen(source) as (app, pilot):
        for key in ("p", "r", "i", "Q"):
            await press(pilot, key)
            assert isinstance(app.screen, Dashboard)
        await reads(app, pilot, "there is no engine to ask")


async def test_a_damaged_journal_is_shown_up_to_the_damage_with_the_place(tmp_path: Path) -> None:
    path = segment_path(write_journal(tmp_path, session(experiments=6)), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[80] = lines[80].replace(b'"k"', b'"K"')
    path.write_bytes(b"".join(lines))
    async with on_screen(LiveSource(tmp_path, lambda: False, clock=Clock())) as (app, pilot):
        await reads(app, pilot, "journal damaged")
        await reads(app, pilot, "The journal is damaged in")
        assert app.source.position == 80


async def test_help_lists_every_key_of_the_table(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=3)), size=(100, 280)) as (app, pilot):
        await press(pilot, "question_mark")
        shown = text_of(app)
        assert all(key.says in shown for key in KEYS)
        assert shown.index("Curve") < shown.index("best run") < shown.index("Everywhere")
        await press(pilot, "escape")
        assert isinstance(app.screen, Dashboard)


async def test_every_command_of_the_palette_can_be_called(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=3))) as (app, _):
        commands = list(app.get_system_commands(app.screen))
        titles = {command.title for command in commands}
        wanted = {_named(key) for key in KEYS if key.where not in _ELSEWHERE}
        assert titles == wanted
        await next(command for command in commands if command.title == "One event back").callback()
        assert app.source.mode == "replay"


_ELSEWHERE = {"home", "form", "experiment", "source", "effects", "view", "sql", "query", "schema"}
"""Places that are not on the first screen of a session."""


def _named(key: Key) -> str:
    """A key's action in the palette."""
    says = key.says if key.where in ("everywhere", "terminal", "time", "panes") else f"{TITLES[key.where]}: {key.says}"
    return says[0].upper() + says[1:]


def test_every_key_of_the_table_has_its_action() -> None:
    owners = {
        "everywhere": SessionApp,
        "terminal": SessionApp,
        "time": SessionApp,
        "panes": Dashboard,
        "curve": Curve,
        "devices": DeviceGrid,
        "reasoning": Transcript,
        "experiments": ExperimentList,
        "table": VirtualTable,
        "find": Transcript,
        "effects": Effects,
        "view": EffectsScreen,
        "experiment": ExperimentScreen,
        "source": SourceScreen,
        "sql": SqlScreen,
        "query": SqlEditor,
        "schema": SchemaList,
        "home": HomeScreen,
        "form": NewSession,
    }
    for key in KEYS:
        assert hasattr(owners[key.where], f"action_{key.action.partition('(')[0]}")
    assert len({key.id for key in KEYS}) == len({(key.where, key.action) for key in KEYS}) == len(KEYS)


async def test_the_reasoning_follows_its_end_until_one_scrolls_up(tmp_path: Path) -> None:
    growing = Growing(tmp_path, session(experiments=30))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        pane = app.query_one(Transcript)
        await press(pilot, "3")
        assert pane.scroll_offset.y == pane.max_scroll_y > 0
        await press(pilot, *["up"] * 30)
        growing.add(Note(text="News at the end."))
        await tick(app, pilot)
        assert "News at the end" not in text_of(app)
        await press(pilot, "G")
        await reads(app, pilot, "News at the end")
        growing.add(Note(text="And more of it."))
        await tick(app, pilot)
        await reads(app, pilot, "And more of it")


async def test_a_proposal_is_a_card_that_unfolds(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=2))) as (app, pilot):
        await press(pilot, "3", "g")
        await reads(app, pilot, "◆ phase noise: nothing can be compared")
        await press(pilot, "j")
        await reads(app, pilot, "▸ e1")
        assert "lowers val_bpb" not in text_of(app)
        await press(pilot, "enter")
        await reads(app, pilot, "▾ e1")
        await reads(app, pilot, "lowers val_bpb")
        await press(pilot, "enter", "o")
        assert isinstance(app.screen, ExperimentScreen)


async def test_a_long_talk_opens_at_its_end_and_loads_more_at_its_top(tmp_path: Path) -> None:
    story = Story()
    for index in range(700):
        story.add(Note(text=f"thought {index}"))
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        pane = app.query_one(Transcript)
        assert pane.virtual_size.height == 300
        await reads(app, pilot, "thought 699")
        await press(pilot, "3")
        pane.scroll_to(y=0, animate=False)
        await pilot.pause()
        await pilot.pause()
        assert pane.virtual_size.height == 600
        await reads(app, pilot, "thought 400")


@pytest.mark.parametrize("size", [(1, 1), (10, 2), (20, 5), (40, 11), (80, 24), (200, 60)])
async def test_no_size_is_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    async with on_screen(live(tmp_path, session(experiments=6)), size=size) as (app, pilot):
        await press(pilot, "1", "2", "3", "4", "z", "enter", "z", "escape", "question_mark", "escape")
        assert isinstance(app.screen, Dashboard)


async def test_a_storm_of_resizes_leaves_everything_in_place(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=20))) as (app, pilot):
        await reads(app, pilot, "val_bpb", "devices busy")
        before = text_of(app).splitlines()[:20]
        for width, height in ((20, 5), (80, 24), (200, 60), (99, 12), (100, 11), (40, 40), (1, 1), WIDE):
            await pilot.resize_terminal(width, height)
        await tick(app, pilot)
        await reads(app, pilot, *before)
        assert text_of(app).splitlines()[:20] == before


async def test_text_from_outside_is_shown_as_it_is_never_obeyed(tmp_path: Path) -> None:
    evil = "[bold red]x[/] \x1b]0;owned\x07\x1b[2J{0} [@click=app.quit]y[/]"
    story = Story()
    story.experiment(evil, crash=True)
    story.experiment(evil)
    story.add(Note(text=evil))
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        for keys in (["3"], ["4", "enter"]):
            await press(pilot, *keys)
            await reads(app, pilot, "[bold red]x[/]")
            assert "\x1b" not in text_of(app)
            assert "owned" not in text_of(app)


async def test_a_failure_of_the_screen_names_the_file_with_the_details(tmp_path: Path) -> None:
    source = live(tmp_path / "journal", session(experiments=2))
    crash_log = tmp_path / "logs" / "screen.log"

    async def fail() -> None:
        async with on_screen(source, crash_log=crash_log) as (app, pilot):
            app.call_later(lambda: 1 / 0)
            await pilot.pause()

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert "ZeroDivisionError" in crash_log.read_text()


async def test_the_table_keeps_its_row_while_new_ones_arrive(tmp_path: Path) -> None:
    story = Story()
    for _ in range(4):
        story.experiment()
    growing = Growing(tmp_path, list(story.events))
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await press(pilot, "4", "j")
        table = app.query_one("#experiments", VirtualTable)
        assert table.cursor_key == "e3"
        before = len(story.events)
        story.propose("one more", {}, [0])
        for event in story.events[before:]:
            growing.add(event)
        await tick(app, pilot)
        await reads(app, pilot, "one more")
        assert table.cursor_key == "e3"


# ---- a model at work --------------------------------------------------------------------------------------------


class Speech:
    """What a model says just now, at a story's word. `gone` ends it as a dying engine does."""

    def __init__(self) -> None:
        self.queues: list[asyncio.Queue[Delta | None]] = []

    async def __call__(self) -> AsyncIterator[Delta]:
        self.queues.append(asyncio.Queue())
        while (piece := await self.queues[-1].get()) is not None:
            yield piece
        raise EngineGone("the engine is gone")

    async def say(self, pilot: Pilot[None], *pieces: Delta | None) -> None:
        while not self.queues:
            await pilot.pause(0.01)
        for piece in pieces:
            self.queues[-1].put_nowait(piece)
        await pilot.pause()


def talking() -> Story:
    """A session whose model has taken two turns."""
    story = Story()
    story.experiment("the baseline, replicated", runs=2)
    conversation(story)
    return story


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
async def test_a_tool_card_unfolds_to_its_result(tmp_path: Path, size: tuple[int, int]) -> None:
    async with on_screen(live(tmp_path, talking().events), size=size) as (app, pilot):
        await press(pilot, "3", "z")
        await reads(
            app, pilot, "~ thinking · The curve is steep.", "I begin with depth.", "▸ submit_experiments 2 runs"
        )
        assert "grid: DEPTH" not in text_of(app)
        row = next(y for y, line in enumerate(text_of(app).split("\n")) if "▸ submit_experiments" in line)
        await pilot.click(offset=(8, row))
        await pilot.pause()
        await reads(app, pilot, "▾ submit_experiments", "grid: DEPTH=8,10", "result:", "e3 queued as r3")
        await press(pilot, "enter")
        await reads(app, pilot, "▸ submit_experiments 2 runs: A")
        assert "grid: DEPTH" not in text_of(app)


async def test_a_result_that_comes_closes_its_card_and_stays_where_the_reader_is(tmp_path: Path) -> None:
    story = talking()
    talk = Talk(story)
    talk.epoch, talk.requests = 1, 2
    talk.turn(call("query_runs", {"sql": "from leaderboard"}, tool_id="toolu_9"))
    growing = Growing(tmp_path, story.events)
    growing.t_s = story.t_s
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await reads(app, pilot, "query_runs … from leaderboard")
        talk.told(result("no such table\nas that", tool_id="toolu_9", is_error=True))
        growing.add(story.events[-1])
        await tick(app, pilot)
        await reads(app, pilot, "× query_runs failed: no such table")
        assert "query_runs …" not in text_of(app)


async def test_a_card_says_how_many_runs_it_made_as_soon_as_they_are_proposed(tmp_path: Path) -> None:
    story = talking()
    talk = Talk(story)
    talk.epoch, talk.requests = 1, 2
    talk.turn(call("submit_experiments", {"hypothesis": "Wider."}, tool_id="toolu_9"))
    growing = Growing(tmp_path, story.events)
    growing.t_s = story.t_s
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock())) as (app, pilot):
        await reads(app, pilot, "▸ submit_experiments … Wider.")
        before = len(story.events)
        talk.propose("toolu_9", ["WIDTH=8", "WIDTH=10", "WIDTH=12"])
        for event in story.events[before:]:
            growing.add(event)
        await tick(app, pilot)
        await reads(app, pilot, "▸ submit_experiments 3 runs: Wider.", "WIDTH=12")
        assert text_of(app).count("submit_experiments 3 runs") == 1


async def test_an_answer_grows_on_the_screen_and_is_replaced_by_what_was_recorded(tmp_path: Path) -> None:
    story, speech = talking(), Speech()
    talk = Talk(story)
    talk.epoch, talk.requests = 1, 2
    req = talk.ask()
    growing = Growing(tmp_path, story.events)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock()), answers=speech) as (app, pilot):
        await reads(app, pilot, "◆ thinking 0 s", "thinking 0 s")
        await speech.say(pilot, Delta(req, "thinking", "Depth helps, \x1b[2Jso"))
        assert "Depth helps" not in text_of(app)
        await tick(app, pilot)
        await reads(app, pilot, "thinking · Depth helps, so")
        await speech.say(pilot, Delta(req, "text", "Width is"), Delta(req, "text", " next."))
        await speech.say(pilot, Delta(req, "tool", "submit_experiments"), Delta(req, "input", '{"base"'))
        await tick(app, pilot)
        await reads(app, pilot, "Width is next.", "submit_experiments … (7 characters so far)")
        talk.answer(thinking("Depth helps, so width is next."), text("Width is next, said in full."), req=req)
        growing.t_s = story.t_s
        growing.add(story.events[-1])
        await tick(app, pilot)
        await reads(app, pilot, "Width is next, said in full.", "~ thinking · Depth helps, so width")
        assert "characters so far" not in text_of(app)


async def test_a_screen_that_looks_at_the_past_shows_no_answer_of_today(tmp_path: Path) -> None:
    story, speech = talking(), Speech()
    talk = Talk(story)
    talk.epoch, talk.requests = 1, 2
    req = talk.ask()
    async with on_screen(live(tmp_path, story.events), answers=speech) as (app, pilot):
        await speech.say(pilot, Delta(req, "text", "today"), None)
        await tick(app, pilot)
        await reads(app, pilot, "today")
        await press(pilot, "space")
        await reads(app, pilot, "▶ replay")
        assert "today" not in text_of(app)
        await press(pilot, *(["comma"] * 12))
        await reads(app, pilot, "submit_experiments")


async def test_a_backoff_counts_down(tmp_path: Path) -> None:
    story, clock = talking(), Clock()
    story.add(ModelStatus(status="backoff", why="overloaded (529)", until_s=story.t_s + 42.0))
    source = LiveSource(write_journal(tmp_path, story.events), lambda: True, clock=clock)
    async with on_screen(source, size=NARROW) as (app, pilot):
        await press(pilot, "3")
        await reads(app, pilot, "! backoff, again in 0:42", "backoff: overloaded (529)", "asked again in 0:42")
        clock.now_s += 10.0
        await tick(app, pilot)
        await reads(app, pilot, "! backoff, again in 0:32", "asked again in 0:32")


async def test_a_refusal_is_said_in_words(tmp_path: Path) -> None:
    story = talking()
    talk = Talk(story)
    talk.epoch, talk.requests = 1, 2
    talk.fail("refusal", "it could help to build a competing model", req=talk.ask(), category="frontier_llm")
    story.add(ModelStatus(status="refused", why="the model declined; a person decides"))
    async with on_screen(live(tmp_path, story.events)) as (app, pilot):
        await press(pilot, "3", "z")
        wanted = "× the model declined to answer (frontier_llm): it could help to build a competing model"
        await reads(app, pilot, wanted, "× refused", "refused: the model declined; a person decides")


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
async def test_c_shows_what_the_model_costs(tmp_path: Path, size: tuple[int, int]) -> None:
    story = talking()
    talk = Talk(story)
    talk.epoch, talk.requests, talk.messages = 1, 2, 9
    growing = Growing(tmp_path, story.events)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock()), size=size) as (app, pilot):
        await press(pilot, "c")
        await reads(app, pilot, "costs", "claude-opus-5-5, simulated model", "2 answers", "$0.10", "90.0%", "per kept")
        talk.turn(text("more"))
        growing.t_s = story.t_s
        for event in story.events[-3:]:
            growing.add(event)
        await tick(app, pilot)
        await reads(app, pilot, "3 answers", "$0.15")
        await press(pilot, "escape")
        assert isinstance(app.screen, Dashboard)


async def test_c_without_a_model_says_so(tmp_path: Path) -> None:
    async with on_screen(live(tmp_path, session(experiments=3))) as (app, pilot):
        await press(pilot, "c")
        await reads(app, pilot, "this researcher costs nothing", "device-hours")
