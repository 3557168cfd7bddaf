"""The devices' projection: what each one runs, and in words why it does not."""

from __future__ import annotations

import pytest

from core.events import (
    CancelRequested,
    Command,
    DeviceLost,
    DeviceSeen,
    LimitHit,
    ResearchEnded,
    RunProgress,
    RunQueued,
    SessionEnded,
)
from tests.support.runs import Session
from tui.view.devices import Made, devices_view


@pytest.fixture
def session():
    session = Session()
    session.propose("e1", "the\x1b[0m baseline")
    return session


def rows(session, now_s=None, **options):
    view = devices_view(session.state, session.t_s if now_s is None else now_s, **options)
    return {row.device: row for row in view.rows}


def test_a_running_device_shows_its_run(session):
    session.start("e1", "gpu1", losses=(3.0, 2.5, 2.0, 1.5))
    row = rows(session)["gpu1"]
    assert (row.status, row.run, row.exp, row.frac, row.util, row.loss) == ("scoring", "r1", "e1", 1.0, 0.9, 1.5)
    assert row.curve == (3.0, 2.5, 2.0, 1.5)
    assert row.words == "the baseline"
    assert devices_view(session.state, 0.0).busy == 1


def test_a_run_goes_through_starting_running_and_cancelling(session):
    session.start("e1")
    assert rows(session)["gpu0"].status == "running"
    session.add(CancelRequested(run="r1", attempt="r1.1", reason="not wanted"))
    assert rows(session)["gpu0"].words == "cancelling: not wanted"
    session.run("e1", 1.0, "gpu1")
    assert rows(session)["gpu1"].status == "free"


def test_devices_are_grouped_by_class_in_the_order_they_were_seen():
    session = Session({"a": "X", "b": "Y", "c": "X"})
    assert [row.device for row in devices_view(session.state, 0.0).rows] == ["a", "c", "b"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (None, "free: queue empty, the researcher is thinking"),
        (ResearchEnded(reason="nothing left"), "free: queue empty, the researcher has ended"),
        (Command(client="c", verb="pause"), "free: paused"),
        (Command(client="c", verb="stop"), "free: session is stopping"),
        (LimitHit(limit="runs", detail="12 runs are done"), "free: limit: 12 runs are done"),
        (SessionEnded(reason="done"), "free: session ended"),
        (SessionEnded(reason="broken", failed=True), "free: session failed"),
        (RunQueued(run="r1", exp="e1", seed=1, reason="screen"), "free: starting a run"),
    ],
)
def test_a_free_device_says_why(session, event, words):
    if event is not None:
        session.add(event)
    assert rows(session)["gpu0"].words == words


def test_a_queue_for_another_class_is_named(session):
    session.add(RunQueued(run="r1", exp="e1", seed=1, reason="screen", cls="H200-141GB"))
    found = rows(session)
    assert found["gpu0"].words == "free: queue holds only runs for H200-141GB"
    assert found["gpu2"].words == "free: starting a run"


def test_a_queue_for_a_class_that_is_drained_says_so(session):
    session.add(RunQueued(run="r1", exp="e1", seed=1, reason="screen", cls="H200-141GB"))
    session.add(Command(client="c1", verb="drain", arg="class:H200-141GB"))
    assert rows(session)["gpu0"].words == "free: queue holds only runs for H200-141GB (drained)"


def test_without_an_engine_that_is_the_reason_unless_the_session_ended(session):
    session.add(RunQueued(run="r1", exp="e1", seed=1, reason="screen"))
    assert rows(session, engine_alive=False)["gpu0"].words.startswith("free: no engine is running")
    session.add(SessionEnded(reason="done"))
    assert rows(session, engine_alive=False)["gpu0"].words == "free: session ended"


def test_idle_times_change_once_a_minute(session):
    assert rows(session, 59.9) == rows(session, 0.0)
    assert rows(session, 61.0)["gpu0"].words == "free 1m: queue empty, the researcher is thinking"
    assert rows(session, 61.0) == rows(session, 119.0)
    assert rows(session, 7500.0)["gpu0"].words.startswith("free 2h5m:")


def test_a_lost_device_says_what_happened_and_comes_back(session):
    session.add(DeviceLost(device="gpu0", seq=2, reason="Xid 79\x07"))
    row = rows(session)["gpu0"]
    assert (row.status, row.words) == ("lost", "lost: Xid 79")
    session.add(DeviceSeen(device="gpu0", seq=3, cls="H100-80GB", node="node0"))
    assert rows(session)["gpu0"].status == "free"


def test_equal_states_give_equal_views(session):
    session.start("e1", losses=(3.0,))
    assert devices_view(session.state, 5.0) == devices_view(session.state, 6.0)


def test_what_was_made_before_spares_work_and_changes_nothing(session):
    made = Made()

    def same(now_s):
        view = devices_view(session.state, now_s, made=made)
        assert view == devices_view(session.state, now_s)
        return view

    first = same(0.0)
    assert same(30.0) is first
    assert same(61.0).rows[0].words.startswith("free 1m:")
    assert same(0.0) == first
    session.start("e1", "gpu1", losses=(3.0, 2.5))
    running = same(0.0)
    session.add(RunProgress(run="r1", attempt="r1.1", seq=9, step=9, frac=0.9, loss=2.4))
    assert same(0.0).rows[1].loss == 2.4
    assert same(0.0).rows[0] is running.rows[0]
    session.add(CancelRequested(run="r1", attempt="r1.1", reason="not wanted"))
    assert same(0.0).rows[1].words == "cancelling: not wanted"
    session.add(DeviceLost(device="gpu1", seq=2, reason="Xid 79"))
    assert (same(0.0).rows[1].status, same(0.0).rows[1].words) == ("lost", "lost: Xid 79")
    session.add(SessionEnded(reason="done"))
    assert same(0.0).rows[0].words == "free: session ended"
    assert devices_view(session.state, 0.0, engine_alive=False, made=made) == same(0.0)


def test_devices_of_a_node_stand_together_within_their_class():
    session = Session({})
    for name, cls, node in (("a", "X", "n1"), ("b", "Y", "n1"), ("c", "X", "n2"), ("d", "X", "n1")):
        session.add(DeviceSeen(device=name, seq=1, cls=cls, node=node))
    assert [row.device for row in devices_view(session.state, 0.0).rows] == ["a", "d", "c", "b"]


def test_memory_and_the_name_the_session_knows_come_along(session):
    session.add(DeviceSeen(device="gpu\x1b[0m9", seq=1, cls="X", node="n", memory_mb=81_559))
    row = devices_view(session.state, 0.0).rows[-1]
    assert (row.device, row.key, row.memory_mb) == ("gpu9", "gpu\x1b[0m9", 81_559)


def test_a_drained_device_ends_what_it_has_and_then_takes_no_run(session):
    session.add(Command(client="c1", verb="drain", arg="gpu0"))
    session.add(Command(client="c2", verb="drain", arg="gpu1"))
    session.start("e1", "gpu1", losses=(3.0,))
    found = rows(session)
    assert (found["gpu0"].status, found["gpu0"].words) == ("drained", "drained: takes no run")
    assert (found["gpu1"].status, found["gpu1"].run) == ("draining", "r1")
    assert found["gpu2"].status == "free"
    session.add(DeviceLost(device="gpu0", seq=2, reason="Xid 79"))
    assert rows(session)["gpu0"].status == "lost"
