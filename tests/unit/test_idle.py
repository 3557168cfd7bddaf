"""Why devices are idle: every device-second has one use, and the cause that held at that time."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import (
    CancelRequested,
    Command,
    DeviceLost,
    DeviceSeen,
    LimitHit,
    Limits,
    ResearchEnded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunStarted,
    SessionStarted,
    Target,
)
from core.idle import CAUSES, IdleFold, cause_now
from core.keyframe import keyframe, restore
from core.reduce import apply, fold
from core.state import SessionState
from core.summary import summarise
from tests.support.messy import Messy
from tests.support.snapshots import ask, published
from tests.support.story import session

H100, H200 = "H100-80GB", "H200-141GB"


class Told:
    """A session told event by event, at given seconds."""

    def __init__(self, **devices: str) -> None:
        self.events: list = []
        target = Target(budget_s=300.0, budget_kind="gpu", seq_len=1, eval_tokens=1, profile="cuda")
        self.at(
            0,
            SessionStarted(
                session="s",
                name="s",
                seed=1,
                simulated=True,
                epoch=0.0,
                executor="sim",
                researcher="builtin",
                limits=Limits(),
                target=target,
                version="0",
            ),
        )
        for device, cls in devices.items():
            self.at(0, DeviceSeen(device=device, seq=1, cls=cls, node="n"))

    def at(self, t_s: float, *events) -> None:
        for event in events:
            event.n, event.t = len(self.events) + 1, t_s
            self.events.append(event)

    def queue(self, t_s: float, run: str, cls: str | None = None) -> None:
        self.at(t_s, RunQueued(run=run, exp="e1", seed=1, reason="screen", cls=cls))

    def place(self, t_s: float, run: str, device: str, cls: str = H100, number: int = 1) -> None:
        self.at(t_s, RunIntent(run=run, attempt=f"{run}.{number}", device=device, cls=cls))

    def start(self, t_s: float, run: str, device: str, number: int = 1) -> None:
        self.at(t_s, RunStarted(run=run, attempt=f"{run}.{number}", seq=1, device=device))

    def progress(self, t_s: float, run: str, frac: float, seq: int = 2) -> None:
        self.at(t_s, RunProgress(run=run, attempt=f"{run}.1", seq=seq, step=1, frac=frac))

    def finish(self, t_s: float, run: str, outcome: str = "ok", number: int = 1, **seconds: float) -> None:
        end = RunFinished(run=run, attempt=f"{run}.{number}", seq=99, outcome=outcome, **seconds)  # type: ignore[arg-type]
        self.at(t_s, end)

    def spent(self, t_s: float | None = None) -> dict[str, float]:
        state = fold(self.events)
        return state.idle.spent_s(state, t_s)


# ---- what holds for any events ----------------------------------------------------------------------------------


def slowly(events) -> tuple[SessionState, Counter[str]]:
    """The fold, and device-milliseconds without a run by cause, counted device by device at each step of time."""
    state, spent = SessionState(), Counter()
    for event in events:
        passed_ms = round(max(0.0, event.t) * 1000) - round(state.now.t_s * 1000)
        for device in state.now.devices.values() if passed_ms > 0 else ():
            if device.run is None:
                spent[cause_now(state, device.cls) if device.up else "down"] += passed_ms
            else:
                spent["run"] += passed_ms
        apply(state, event)
    return state, spent


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 300), devices=st.integers(1, 6))
def test_each_device_second_has_exactly_one_use_in_any_session(seed, count, devices):
    messy = Messy(seed, devices=devices)
    messy.draw(count)
    events = messy.end()
    seen_ms: dict[str, int] = {}
    spells: dict[str, list] = {}
    told = IdleFold(on_spell=lambda spell: spells.setdefault(spell.device, []).append(spell))
    state = SessionState(idle=told)
    for event in events:
        apply(state, event)
        for device in state.now.devices:
            seen_ms.setdefault(device, round(state.now.t_s * 1000))
    for spell in told.open_spells():
        spells.setdefault(spell.device, []).append(spell)
    end_ms = round(state.now.t_s * 1000)
    for device, from_ms in seen_ms.items():
        for spell in spells.get(device, ()):
            assert spell.from_ms == from_ms < spell.to_ms
            from_ms = spell.to_ms
        assert from_ms == end_ms
    spent_ms = {use: round(1000 * seconds) for use, seconds in state.idle.spent_s(state).items()}
    assert sum(spent_ms.values()) == sum(end_ms - from_ms for from_ms in seen_ms.values())
    by_use: Counter[str] = Counter()
    for spell in itertools.chain.from_iterable(spells.values()):
        by_use[spell.use] += spell.to_ms - spell.from_ms
    assert by_use == spent_ms


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 300))
def test_the_cause_is_the_one_that_held_at_that_time(seed, count):
    events = Messy(seed).draw(count)
    state, expected = slowly(events)
    spent = {use: round(1000 * seconds) for use, seconds in state.idle.spent_s(state).items()}
    of_runs = ("pending", "image", "start-up", "training", "scoring")
    for cause in {*spent, *expected} - {*of_runs, "run"}:
        assert spent.get(cause, 0) == expected[cause]
    # A free device that a queued run fits is as good as pending.
    assert sum(spent.get(use, 0) for use in of_runs) == expected["run"] + expected["pending"]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 250), cut=st.integers(0, 250), plausible=st.booleans())
def test_a_keyframe_holds_it(seed, count, cut, plausible):
    events = session(seed=seed % 50, experiments=6) if plausible else Messy(seed).draw(count)
    whole, first = fold(events), fold(events[:cut])
    resumed = fold(events[cut:], restore(keyframe(first), whole.ledger))
    assert resumed.idle.book == whole.idle.book
    assert resumed.queued == whole.queued


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(20, 250))
def test_the_table_says_the_same(seed, count):
    events = Messy(seed).draw(count)
    state = fold(events)
    with tempfile.TemporaryDirectory() as name:
        folder = published(Path(name), events)
        told = dict(ask(folder, "select cause, sum(to_t_s - from_t_s) from idle group by all"))
        overlaps = "select count(*) from idle a join idle b on a.device = b.device and a.from_t_s < b.to_t_s"
        touching = f"{overlaps} and b.from_t_s < a.to_t_s and a.from_t_s <> b.from_t_s"
        unmerged = "select * from idle a join idle b on (a.device, a.cause, a.to_t_s, a.device_class) = "
        assert ask(folder, touching) == [(0,)]
        assert ask(folder, unmerged + "(b.device, b.cause, b.from_t_s, b.device_class)") == []
    idle = {cause: seconds for cause, seconds in state.idle.spent_s(state).items() if cause in CAUSES}
    assert told == pytest.approx(idle)


def test_times_that_no_clock_shows_are_taken_too():
    told = Told(gpu0=H100)
    told.queue(1e300, "r1")
    told.place(1e301, "r1", "gpu0")
    assert math.isfinite(sum(told.spent(1e308).values()))


# ---- causes, one by one -----------------------------------------------------------------------------------------


def test_an_attempt_is_pending_starts_up_trains_and_is_scored():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.place(2, "r1", "gpu0")
    told.start(5, "r1", "gpu0")
    told.finish(340, "r1", startup_s=30.0, train_s=300.0, score_s=4.5)
    told.at(341, ResearchEnded(reason="done"))
    assert told.spent() == {
        "pending": 5.0,
        "start-up": 30.0,
        "training": 300.5,
        "scoring": 4.5,
        "researcher thinking": 1.0,
    }


def test_an_attempt_under_way_is_told_apart_by_its_reports():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.place(0, "r1", "gpu0")
    assert told.spent(3) == {"pending": 3.0}
    told.start(5, "r1", "gpu0")
    assert told.spent(20) == {"pending": 5.0, "start-up": 15.0}
    told.progress(65, "r1", 0.1)
    assert told.spent(70) == {"pending": 5.0, "start-up": 30.0, "training": 35.0}
    told.progress(335, "r1", 1.0, seq=3)
    assert told.spent(337) == {"pending": 5.0, "start-up": 30.0, "training": 300.0, "scoring": 2.0}


def test_a_crash_before_training_is_start_up_and_one_later_is_not():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.place(0, "r1", "gpu0")
    told.start(1, "r1", "gpu0")
    told.finish(41, "r1", "oom")
    told.queue(41, "r2")
    told.place(41, "r2", "gpu0")
    told.start(42, "r2", "gpu0")
    told.finish(172, "r2", "crash", startup_s=30.0, train_s=100.0)
    assert told.spent() == {"pending": 2.0, "start-up": 70.0, "training": 100.0}


def test_an_image_that_does_not_come_is_told_from_a_full_cluster():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.place(0, "r1", "gpu0")
    told.finish(90, "r1", "image")
    told.place(90, "r1", "gpu0", number=2)
    told.finish(150, "r1", "unschedulable", number=2)
    assert told.spent() == {"image": 90.0, "pending": 60.0}


def test_an_attempt_that_ended_while_no_engine_looked_is_laid_back_from_its_end():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.place(0, "r1", "gpu0")
    told.start(200, "r1", "gpu0")
    told.finish(200, "r1", startup_s=20.0, train_s=150.0, score_s=5.0)
    assert told.spent() == {"pending": 25.0, "start-up": 20.0, "training": 150.0, "scoring": 5.0}


def test_a_queue_that_runs_dry_is_told_from_a_researcher_who_has_everything():
    told = Told(gpu0=H100, gpu1=H100)
    told.queue(10, "r1")
    told.place(10, "r1", "gpu0")
    told.start(10, "r1", "gpu0")
    told.finish(50, "r1", startup_s=0.0, train_s=40.0)
    told.at(60, ResearchEnded(reason="done"))
    told.at(65, ResearchEnded(reason="done"))
    assert told.spent() == {
        "researcher thinking": 40.0,  # both until second 10, both from 50 to 60
        "empty queue": 40.0,  # one of them while the other works
        "training": 40.0,
        "research ended": 10.0,
    }


def test_runs_that_are_pinned_elsewhere_leave_a_device_idle_for_that_reason():
    told = Told(gpu0=H100, gpu1=H200)
    told.queue(0, "r1", H100)
    told.queue(0, "r2", H100)
    told.place(0, "r1", "gpu0")
    told.finish(100, "r1")
    told.place(100, "r2", "gpu0")
    told.at(130, CancelRequested(run="r2", attempt="r2.1", reason="no"))
    assert told.spent() == {"no fitting run": 100.0, "pending": 130.0, "empty queue": 30.0}


def test_limits_pauses_stops_and_losses():
    told = Told(gpu0=H100)
    told.queue(0, "r1")
    told.at(0, Command(client="c", verb="pause"))
    told.at(10, Command(client="c", verb="resume"), LimitHit(limit="disk", detail="full"))
    told.at(30, DeviceLost(device="gpu0", seq=2, reason="Xid 79"))
    told.at(70, DeviceSeen(device="gpu0", seq=3, cls=H100, node="n"), LimitHit(limit="disk", detail="", cleared=True))
    told.at(71, Command(client="c", verb="stop"))
    assert told.spent(73.5) == {"paused": 10.0, "limit": 20.0, "down": 40.0, "pending": 1.0, "stopping": 2.5}


def test_the_summary_accounts_for_all_of_it():
    state = fold(session(experiments=9, ended=True))
    gpus = summarise(state).gpus
    assert gpus.device_s == pytest.approx(4 * state.now.t_s)
    shares = gpus.training_share + gpus.scoring_share + sum(gpus.idle.values()) / gpus.device_s
    assert shares == pytest.approx(1.0)
    assert set(gpus.idle) <= set(CAUSES)
    assert msgspec.to_builtins(gpus)["idle"]["start-up"] > 0
