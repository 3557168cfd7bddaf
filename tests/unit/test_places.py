"""Runs that wait, start elsewhere than was wished for, and lose their place: the books stay right."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.engine.convert import event_of, notice_of
from core.events import (
    Command,
    DeviceLost,
    DeviceSeen,
    ExecutorNotice,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunStarted,
    RunWaiting,
    decode,
    encode,
)
from core.executor import Finished, Notice, Waiting
from core.keyframe import keyframe, restore, state_hash
from core.reduce import apply, fold
from core.state import SessionState
from core.summary import summarise
from tests.support.story import Story

CLASSES = {"a/0": "H100", "a/1": "H100", "b/0": "H100", "b/1": "H200", "c/0": "H200"}
ELSEWHERE = "z/9"


class Cluster:
    """Events of a session whose devices are a cluster's, at seconds of their own."""

    def __init__(self, *devices: str) -> None:
        self.state = SessionState()
        self.events: list = []
        self.t_s = 0.0
        for device in devices or CLASSES:
            self.add(DeviceSeen(device=device, seq=1, cls=CLASSES[device], node=device[0]))

    def add(self, event, after_s: float = 0.0) -> None:
        self.t_s += after_s
        event.n, event.t = len(self.events) + 1, self.t_s
        self.events.append(decode(encode(event)))
        apply(self.state, event)

    def intend(self, run: str, device: str, number: int = 1, after_s: float = 0.0) -> None:
        if self.state.run(run) is None:
            self.add(RunQueued(run=run, exp="e1", seed=1, reason="screen", cls=None), after_s)
        intent = RunIntent(run=run, attempt=f"{run}.{number}", device=device, cls=CLASSES[device])
        self.add(intent)

    def wait(self, run: str, reason: str = "queued", *, held: bool = False, after_s: float = 1.0) -> None:
        known = self.state.now.runs[run]
        waiting = RunWaiting(run=run, attempt=known.attempt, seq=known.seq + 1, reason=reason, held=held)
        self.add(waiting, after_s)

    def start(self, run: str, device: str, after_s: float = 1.0) -> None:
        known = self.state.now.runs[run]
        self.add(RunStarted(run=run, attempt=known.attempt, seq=known.seq + 1, device=device), after_s)

    def progress(self, run: str, frac: float, after_s: float = 1.0) -> None:
        known = self.state.now.runs[run]
        self.add(RunProgress(run=run, attempt=known.attempt, seq=known.seq + 1, step=9, frac=frac, loss=3.0), after_s)

    def finish(self, run: str, outcome: str = "ok", reason: str = "", after_s: float = 1.0) -> None:
        known = self.state.now.runs[run]
        self.add(
            RunFinished(run=run, attempt=known.attempt, seq=known.seq + 1, outcome=outcome, reason=reason),  # type: ignore[arg-type]
            after_s,
        )

    def holders(self) -> dict[str, str | None]:
        return {name: device.run for name, device in self.state.now.devices.items()}


def check_books(state: SessionState) -> None:
    """What must hold after every event."""
    now = state.now
    held = {name: device.run for name, device in now.devices.items() if device.run is not None}
    assert all(count == 1 for count in Counter(held.values()).values()), f"a run with two devices: {held}"
    for name, run in held.items():
        assert now.runs[run].status in ("starting", "running")
        assert now.runs[run].device == name
    for name in now.free:
        assert now.devices[name].up
        assert name not in held
        assert name not in now.drained
    idle = {name for name, device in now.devices.items() if device.run is None}
    assert idle == set(now.free) | {name for name in idle if not now.devices[name].up or name in now.drained}
    spent_ms = round(1000 * sum(state.idle.spent_s(state).values()))
    assert spent_ms == sum(round(1000 * now.t_s) - round(1000 * device.seen_t_s) for device in now.devices.values())
    for run in now.runs.values():
        assert -1e-6 <= run.allocated_s(now.t_s) <= now.t_s
        assert (run.waiting_t_s is not None) or not (run.waiting or run.held)
        assert run.waiting_t_s is None or run.status == "starting"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_device_has_two_runs_whatever_a_cluster_does(data):
    cluster = Cluster()
    draw, pick = data.draw, st.sampled_from
    for number in range(draw(st.integers(5, 60))):
        now = cluster.state.now
        after_s = draw(pick([0.0, 0.25, 7.0]))
        starting = [run.run for run in now.runs.values() if run.status == "starting"]
        running = [run.run for run in now.runs.values() if run.status == "running"]
        queued = [*now.queue_first, *now.queue]
        match draw(pick(["intend", "intend", "wait", "start", "start", "take", "progress", "finish", "lose", "drain"])):
            case "intend" if now.free:
                run = draw(pick([*queued, f"r{number}"]))
                known = now.runs.get(run)
                device = draw(pick(sorted(now.free)))
                cluster.intend(run, device, 1 + (len(known.attempts) if known else 0), after_s)
            case "wait" if starting:
                cluster.wait(draw(pick(starting)), held=draw(st.booleans()), after_s=after_s)
            case "start" if starting:
                cluster.start(draw(pick(starting)), draw(pick([*CLASSES, ELSEWHERE])), after_s)
            case "take" if running:
                cluster.wait(draw(pick(running)), "preempted", after_s=after_s)
            case "progress" if running:
                cluster.progress(draw(pick(running)), draw(pick([0.0, 0.5, 1.0])), after_s)
            case "finish" if starting or running:
                outcome = draw(pick(["ok", "device_lost", "preempted", "cancelled"]))
                cluster.finish(draw(pick([*starting, *running])), outcome, after_s=after_s)
            case "lose":
                device = draw(pick(sorted(CLASSES)))
                seq = now.devices[device].seq + 1
                seen = DeviceSeen(device=device, seq=seq, cls=CLASSES[device], node=device[0])
                gone = DeviceLost(device=device, seq=seq, reason="gone")
                cluster.add(gone if now.devices[device].up else seen, after_s)
            case "drain":
                verb = draw(pick(["drain", "undrain"]))
                cluster.add(Command(client="c", verb=verb, arg=draw(pick(sorted(CLASSES)))), after_s)
            case _:
                continue
        check_books(cluster.state)
    cut = draw(st.integers(0, len(cluster.events)))
    assert state_hash(fold(cluster.events)) == state_hash(cluster.state)
    whole = fold(cluster.events)
    resumed = fold(cluster.events[cut:], restore(keyframe(fold(cluster.events[:cut])), whole.ledger))
    assert state_hash(resumed) == state_hash(whole)
    assert resumed.idle.spent_s(resumed) == whole.idle.spent_s(whole)


def test_a_run_that_starts_elsewhere_frees_the_device_that_it_wished_for():
    cluster = Cluster("a/0", "b/0")
    cluster.intend("r1", "a/0")
    cluster.start("r1", "b/0")
    assert cluster.holders() == {"a/0": None, "b/0": "r1"}
    assert list(cluster.state.now.free) == ["a/0"]
    cluster.progress("r1", 0.5)
    cluster.finish("r1")
    assert cluster.holders() == {"a/0": None, "b/0": None}
    assert cluster.state.run("r1").device == "b/0"
    check_books(cluster.state)


def test_two_runs_that_have_not_started_swap_their_wishes():
    cluster = Cluster("a/0", "b/0")
    cluster.intend("r1", "a/0")
    cluster.intend("r2", "b/0")
    cluster.start("r1", "b/0")
    assert cluster.holders() == {"a/0": "r2", "b/0": "r1"}
    assert cluster.state.now.runs["r2"].device == "a/0"
    assert not cluster.state.now.free
    cluster.start("r2", "a/0")
    assert cluster.holders() == {"a/0": "r2", "b/0": "r1"}
    check_books(cluster.state)


def test_beside_a_run_that_executes_the_wish_stays_so_that_as_many_are_taken_as_run():
    cluster = Cluster("a/0", "a/1")
    cluster.intend("r1", "a/0")
    cluster.start("r1", "a/0")
    cluster.intend("r2", "a/1")
    cluster.start("r2", "a/0")
    assert cluster.holders() == {"a/0": "r1", "a/1": "r2"}
    cluster.finish("r1")
    assert list(cluster.state.now.free) == ["a/0"]
    check_books(cluster.state)


def test_a_device_that_nobody_knows_leaves_the_wish():
    cluster = Cluster("a/0")
    cluster.intend("r1", "a/0")
    cluster.start("r1", ELSEWHERE)
    assert cluster.holders() == {"a/0": "r1"}
    check_books(cluster.state)


def test_a_run_of_another_class_is_never_given_a_wish_that_does_not_fit_it():
    cluster = Cluster("a/0", "b/1")
    cluster.intend("r1", "a/0")
    cluster.intend("r2", "b/1")
    cluster.start("r1", "b/1")
    assert cluster.holders() == {"a/0": "r1", "b/1": "r2"}
    check_books(cluster.state)


def test_an_attempt_that_lost_its_place_begins_anew_and_its_wait_is_not_allocated():
    cluster = Cluster("a/0")
    cluster.intend("r1", "a/0")
    cluster.wait("r1", "queued behind other teams", after_s=10.0)
    cluster.wait("r1", "image is being fetched", after_s=20.0)
    run = cluster.state.now.runs["r1"]
    assert (run.waiting, run.held, run.waiting_t_s) == ("image is being fetched", False, 10.0)
    cluster.start("r1", "a/0", after_s=30.0)
    assert (run.waiting, run.waiting_t_s, run.waited_s) == ("", None, 50.0)
    cluster.progress("r1", 0.5, after_s=100.0)
    cluster.wait("r1", "preempted by its queue", after_s=1.0)
    assert (run.status, run.frac, run.step, run.curve, run.started_t_s) == ("starting", 0.0, 0, [], None)
    cluster.start("r1", "a/0", after_s=40.0)
    cluster.finish("r1", after_s=100.0)
    now = cluster.state.now
    assert now.t_s == 301.0
    assert now.allocated_s == pytest.approx(301.0 - 50.0 - 40.0)
    assert summarise(cluster.state).cost.gpu_hours == pytest.approx(211.0 / 3600.0)
    assert cluster.state.idle.spent_s(cluster.state)["pending"] == pytest.approx(60.0 + 40.0)
    check_books(cluster.state)


def test_status_says_which_runs_wait_and_what_the_cluster_does():
    cluster = Cluster("a/0", "a/1")
    cluster.intend("r1", "a/0")
    cluster.intend("r2", "a/1")
    cluster.wait("r1", "no image", held=True, after_s=5.0)
    cluster.add(ExecutorNotice(text="the API server does not answer", level="error"), 1.0)
    said = summarise(cluster.state, now_s=10.0)
    [waiting] = said.waiting
    assert (waiting.run, waiting.attempt, waiting.reason) == ("r1", "r1.1", "no image")
    assert (waiting.held, waiting.since_s) == (True, 5.0)
    assert said.notice is not None
    assert (said.notice.text, said.notice.since_s) == ("the API server does not answer", 4.0)
    cluster.add(ExecutorNotice(text=""))
    assert summarise(cluster.state).notice is None


@pytest.mark.parametrize(
    ("devices", "outcomes", "blamed"),
    [
        (("a/0", "b/0", "c/0"), ("device_lost", "infrastructure", "device_lost"), True),
        (("a/0", "a/1", "c/0"), ("device_lost", "device_lost", "device_lost"), False),
        (("a/0", "b/0", "c/0"), ("device_lost", "preempted", "device_lost"), False),
    ],
)
def test_a_run_that_takes_three_nodes_down_is_said_to(devices, outcomes, blamed):
    cluster = Cluster()
    for number, (device, outcome) in enumerate(zip(devices, outcomes, strict=True), 1):
        cluster.intend("r1", device, number)
        cluster.start("r1", device)
        cluster.finish("r1", outcome, "its node stopped answering")
    run = cluster.state.run("r1")
    assert run.status == "finished"
    assert run.failure.endswith("its node stopped answering")
    assert run.failure.startswith("kills its node or its GPU: failed on a, b, c; the last time: ") == blamed


def test_three_nodes_that_never_let_it_start_say_nothing_of_the_run():
    cluster = Cluster()
    for number, device in enumerate(("a/0", "b/0", "c/0"), 1):
        cluster.intend("r1", device, number)
        cluster.finish("r1", "infrastructure", "no room")
    assert cluster.state.run("r1").failure == "no room"


def test_what_the_world_says_is_one_short_line_that_a_journal_can_hold():
    waiting = event_of("r1", "r1.1", 1, Waiting("two\nlines\x1b[31m \ud800 " + "x" * 900, held=True))
    assert isinstance(waiting, RunWaiting)
    assert waiting.reason.startswith("two lines [31m ? xxx")
    assert len(waiting.reason) == 300
    for event in (
        waiting,
        notice_of(Notice("half \udc80")),
        event_of("r1", "r1.1", 2, Finished("crash", reason="\udc80")),
    ):
        event.n, event.t = 1, 0.0
        assert type(decode(encode(event))) is type(event)
    assert event_of("r1", "r1.1", 1, Waiting("")).reason


def test_a_plain_story_has_nothing_to_say_of_waiting():
    assert summarise(fold(Story().events)).waiting == []
