"""Commands from the screen: what is asked first, what became of each, and an engine that does not answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from core.control import EngineSilent
from core.events import CancelRequested, Command, RunFinished, SessionEnded
from core.replay import ReplaySource
from core.sources import LiveSource
from tests.support.story import Story, session, write_journal
from tests.tui.test_app import NARROW, WIDE, Clock, Engine, Growing, on_screen, press, reads, settled, text_of, tick
from tui.acting.orders import SHOWN_S
from tui.app import SessionApp
from tui.screens.dashboard import Dashboard
from tui.view.orders import SILENT_S

EXPERIMENTS, DEVICES = "4", "2"


def at_work() -> list:
    """A session with one run of e2 under way on gpu0, one of e3 on gpu1, both of the design `screen`."""
    story = Story(devices=4, seed=1, progress=2)
    story.experiment("the baseline, replicated", runs=2)
    for title, device in (("deeper", "gpu0"), ("wider", "gpu1")):
        story.start(story.propose(title, {"DEPTH": "12"}, [1]), 1, device)
    return story.events


class Stage:
    """The screen over a journal that goes on, with an engine of the story's own and a clock for its lines."""

    def __init__(self, app: SessionApp, pilot: Pilot[None], engine: Engine, journal: Growing, clock: Clock) -> None:
        self.app, self.pilot, self.engine, self.journal, self.clock = app, pilot, engine, journal, clock

    async def press(self, *keys: str) -> None:
        await press(self.pilot, *keys)

    async def answered(self) -> None:
        await settled(self.app, self.pilot)

    async def told(self, *events) -> None:
        for event in events:
            self.journal.add(event)
        await tick(self.app, self.pilot)

    async def passes(self, seconds: float) -> None:
        self.clock.now_s += seconds
        await tick(self.app, self.pilot)

    async def reads(self, *words: str) -> None:
        await reads(self.app, self.pilot, *words)

    @property
    def text(self) -> str:
        return text_of(self.app)


@contextlib.asynccontextmanager
async def stage(folder: Path, *, size: tuple[int, int] = WIDE, events: list | None = None) -> AsyncIterator[Stage]:
    journal, engine, clock = Growing(folder, events or at_work()), Engine(), Clock()
    async with on_screen(LiveSource(folder, lambda: True, clock=Clock()), commands=engine, size=size) as (app, pilot):
        app.orders.clock = clock
        yield Stage(app, pilot, engine, journal, clock)


def ended(run: str) -> RunFinished:
    return RunFinished(run=run, attempt=f"{run}.1", seq=9, outcome="cancelled")


async def test_i_cancel_an_experiment_and_see_it_sent_under_way_and_done(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.engine.hears.clear()
        await on.press(EXPERIMENTS, "X")
        await on.reads("Cancel e3?", "y  e3 wider: 1 run, 1 under way", "time lost", "d  design screen: 2 runs")
        assert on.engine.clients == []
        await on.press("y")
        await on.reads("… cancel e3: sent")
        on.engine.hears.set()
        await on.answered()
        await on.reads("… cancel e3: cancel was done")
        assert on.engine.heard == [("cancel", "e3")]
        cancel = Command(client=on.engine.clients[0], verb="cancel", arg="e3")
        await on.told(cancel, CancelRequested(run="r4", attempt="r4.1", reason="cancelled by command"))
        await on.reads("◐ cancel e3: 1 run is ending")
        await on.told(ended("r4"))
        await on.reads("✓ cancel e3: done, the runs have ended")
        await on.passes(SHOWN_S - 1)
        await on.reads("✓ cancel e3")
        await on.passes(2)
        assert "✓ cancel e3" not in on.text


async def test_i_cancel_the_whole_design_of_what_the_cursor_is_on(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press(EXPERIMENTS, "X", "d")
        await on.answered()
        assert on.engine.heard == [("cancel", "design:screen")]


async def test_i_cancel_the_run_on_a_device_or_think_better_of_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press(DEVICES, "X")
        await on.reads("r3 of e2: on gpu0")
        await on.press("escape", "X", "n")
        assert on.engine.clients == []
        await on.press("X", "y")
        await on.answered()
        assert on.engine.heard == [("cancel", "r3")]


async def test_from_an_experiment_i_cancel_its_run_or_all_of_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press(EXPERIMENTS, "enter")
        await on.reads("1 e3 wider")
        await on.press("X")
        await on.reads("Cancel e3?")
        await on.press("n", "2", "X")
        await on.reads("Cancel r4?")
        await on.press("y")
        await on.answered()
        assert on.engine.heard == [("cancel", "r4")]
        await on.reads("cancel r4")


async def test_without_a_cursor_i_name_what_to_cancel_and_names_are_completed(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press("1", "X")
        await on.reads("Cancel which run, experiment or design?", "e3  e2  screen")
        await on.press("s", "c")
        await on.pilot.pause(0.05)
        await on.press("right")
        assert on.app.screen.query_one(Input).value == "screen"
        await on.press("enter")
        await on.reads("Cancel screen?", "y  design screen: 2 runs")
        await on.press("y")
        await on.answered()
        assert on.engine.heard == [("cancel", "screen")]
        await on.press("1", "X", *"e99", "enter")
        await on.reads("✗ cancel e99: there is no open run, experiment or design 'e99'")
        assert len(on.engine.heard) == 1


async def test_i_drain_a_device_watch_its_run_end_and_give_it_back(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press(DEVICES, "d")
        await on.reads("Drain gpu0? gpu0 gets no new run; r3 goes on to the")
        await on.press("y")
        await on.answered()
        assert on.engine.heard == [("drain", "gpu0")]
        await on.told(Command(client=on.engine.clients[0], verb="drain", arg="gpu0"))
        await on.reads("◐ drain gpu0: r3 to the end, then it is free")
        await on.told(ended("r3"))
        await on.reads("✓ drain gpu0: drained, nothing runs there")
        await on.press("d")
        await on.answered()
        assert on.engine.heard[1:] == [("undrain", "gpu0")]


async def test_a_drain_that_is_taken_back_before_the_run_ended_does_not_claim_an_empty_device(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press(DEVICES, "d", "y")
        await on.answered()
        await on.told(Command(client=on.engine.clients[0], verb="drain", arg="gpu0"))
        await on.press("d")
        await on.answered()
        await on.told(Command(client=on.engine.clients[1], verb="undrain", arg="gpu0"))
        await on.reads("✓ drain gpu0: it was given back", "✓ undrain gpu0")


async def test_over_the_palette_i_drain_a_node_by_name(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        titles = {command.title: command for command in on.app.get_system_commands(on.app.screen)}
        await titles["Drain a device, or give it back, by name"].callback()
        await on.reads("Which device is to be drained, or given back?", "node:node0")
        await on.press(*"node", "colon", *"node0", "enter")
        await on.reads("Drain node:node0?", "nothing new starts")
        await on.press("y")
        await on.answered()
        assert on.engine.heard == [("drain", "node:node0")]


async def test_i_stop_now_or_let_the_runs_finish_and_the_screen_waits_with_me(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press("Q")
        await on.reads(
            "End the session for good?", "y  now: 2 runs under way are cancelled", "f  let 2 runs under way finish"
        )
        await on.press("f")
        await on.answered()
        assert on.engine.heard == [("stop", "finish")]
        await on.told(Command(client=on.engine.clients[0], verb="stop", arg="finish"))
        await on.reads("◐ stop, runs finish: waits for 2 runs to end")
        await on.told(ended("r3"))
        await on.reads("waits for 1 run to end")
        await on.told(ended("r4"), SessionEnded(reason="stopped by command"))
        await on.reads("✓ stop, runs finish: the session has ended")
        await on.press("Q")
        await on.reads("✗ stop: the session has ended")


async def test_a_pause_tells_what_goes_on_until_nothing_does(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press("p")
        await on.answered()
        await on.told(Command(client=on.engine.clients[0], verb="pause"))
        await on.reads("◐ pause: 2 runs go on, nothing new starts")
        await on.told(ended("r3"), ended("r4"))
        await on.reads("✓ pause: paused, nothing runs")


async def test_what_the_engine_refuses_says_why(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.engine.refuses = "the researcher has ended its work"
        await on.press("i", *"hello", "enter")
        await on.answered()
        await on.reads("✗ hint: the researcher has ended its work")


async def test_an_engine_that_falls_silent_leaves_the_keys_alive_and_a_repetition_safe(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.engine.hears.clear()
        await on.press("p")
        await on.reads("… pause: sent")
        await on.passes(SILENT_S)
        await on.reads("… pause: no answer yet, still waiting")
        await on.press("p")
        assert len(on.engine.clients) == 1, "what waits for its answer is not sent again"
        await on.press("space")
        assert on.app.source.mode == "replay"
        await on.press("E")
        on.engine.fails = EngineSilent("the engine does not answer")
        on.engine.hears.set()
        await on.answered()
        await on.reads("✗ pause: the engine does not answer")
        on.engine.fails = None
        await on.press("p")
        await on.answered()
        first, second = on.engine.clients
        assert first == second, "a repetition of what may have been heard is the same command"
        await on.told(Command(client=first, verb="pause"))
        await on.reads("◐ pause: 2 runs go on")


async def test_a_command_that_was_given_up_and_is_obeyed_after_all_says_so(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        on.engine.fails = EngineSilent("the engine does not answer")
        await on.press("i", "x", "enter")
        await on.answered()
        await on.reads("✗ hint")
        await on.told(Command(client=on.engine.clients[0], verb="hint", arg="x"))
        await on.reads("✓ hint")


async def test_esc_puts_the_lines_away_and_never_more_than_three_stand(tmp_path: Path) -> None:
    async with stage(tmp_path, size=NARROW) as on:
        for word in ("one", "two", "three", "four"):
            await on.press("i", *word, "enter")
            await on.answered()
        assert on.text.count("hint: hint was done") == 3
        await on.press("escape")
        assert "hint was done" not in on.text
        assert isinstance(on.app.screen, Dashboard)


async def test_in_the_past_i_am_told_to_go_live_first(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.press("comma", EXPERIMENTS, "X")
        await on.reads("✗ cancel: what is shown is in the past: press E to go live first")
        await on.press(DEVICES, "d")
        await on.reads("✗ drain: what is shown is in the past")
        await on.press("E", EXPERIMENTS, "X")
        await on.reads("Cancel e3?")


async def test_a_recording_has_nothing_to_cancel_or_drain(tmp_path: Path) -> None:
    source = ReplaySource(write_journal(tmp_path, session(experiments=3, ended=True)), clock=Clock())
    async with on_screen(source) as (app, pilot):
        await press(pilot, "E", EXPERIMENTS, "X", DEVICES, "d")
        await reads(app, pilot, "✗ cancel: this is a recording", "✗ drain: this is a recording")


async def test_names_of_runs_and_devices_cannot_style_a_question(tmp_path: Path) -> None:
    story = Story(devices=1, seed=1, progress=2)
    story.experiment("the baseline, replicated", runs=1)
    story.start(story.propose("[red]bold[/]\x1b[31m", {"DEPTH": "12"}, [1]), 1, "gpu0")
    async with stage(tmp_path, events=story.events) as on:
        await on.press(EXPERIMENTS, "X")
        await on.reads("e2 [red]bold[/]: 1 run")
