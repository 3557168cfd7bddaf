"""A cluster on the screen: a sentence while it has trouble, devices that say what their runs wait for."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.events import ExecutorNotice, RunWaiting
from core.replay import ReplaySource
from core.sources import LiveSource
from tests.support.story import Story
from tests.tui.test_app import (
    NARROW,
    WIDE,
    Clock,
    Growing,
    _fast_pilot,  # noqa: F401 - an autouse fixture
    loses,
    on_screen,
    press,
    reads,
    text_of,
    tick,
)

AWAY = "no answer [b]for 40 s[/b]"


def story() -> Story:
    told = Story(devices=4)
    exp = told.propose("the baseline", {}, [1, 2])
    for number in (1, 2):
        run = told.start(exp, number, f"gpu{number}")
        told.advance(run, 1)
    return told


def waiting(run: str, reason: str, *, held: bool) -> RunWaiting:
    return RunWaiting(run=run, attempt=f"{run}.1", seq=2000, reason=reason, held=held)


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["narrow", "wide"])
async def test_trouble_of_the_cluster_stands_there_until_it_is_over_live_and_in_replay(tmp_path: Path, size) -> None:
    told = story()
    growing = Growing(tmp_path, told.events)
    async with on_screen(LiveSource(growing.folder, lambda: True, clock=Clock()), size=size) as (app, pilot):
        await press(pilot, "2")
        assert "! cluster" not in text_of(app)
        growing.add(waiting("r1", "the image cannot be had", held=True))
        growing.add(waiting("r2", "queued behind others", held=False))
        growing.add(ExecutorNotice(text=AWAY, level="error"))
        await tick(app, pilot)
        await reads(app, pilot, "! cluster", "1 run held", "has trouble", "[b]for 40 s[/b]")
        await reads(app, pilot, "held: the image cannot be had", "waits: queued behind others")
        growing.add(ExecutorNotice(text=""))
        await tick(app, pilot)
        await loses(app, pilot, "has trouble")
    source = ReplaySource(growing.folder, clock=Clock())
    async with on_screen(source, size=size) as (app, pilot):
        await press(pilot, "2")
        source.seek_event(source.last - 1)
        await tick(app, pilot)
        await reads(app, pilot, "! cluster", "has trouble", "held: the image cannot be had")
        source.seek_event(source.last)
        await tick(app, pilot)
        await loses(app, pilot, "has trouble")
        await press(pilot, "3")
        await reads(app, pilot, "the cluster is well again")
