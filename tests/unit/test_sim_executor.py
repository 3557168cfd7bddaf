"""The simulated executor: events in order, one end each, and a later engine that goes on as if nothing had been."""

import asyncio
from collections import Counter

import pytest

from core.executor import DeviceLost, DeviceSeen, ExecutorError, Finished, OpenAttempt, Started
from sim.model import Failure
from tests.support.cluster import Rig, spec

HARSH = "harsh,preemption=3,device_loss=4"
SPECS = [spec(run, device=f"gpu{run % 2}", intent_t_s=150.0 * run) for run in range(1, 13)]


def open_attempts(said, specs):
    """What the journal would know of these attempts after these events."""
    last = {one.attempt: 0 for one in specs}
    started, ended = set(), set()
    for _, event in said:
        if event.subject in last:
            last[event.subject] = event.seq
            started |= {event.subject} if isinstance(event.payload, Started) else set()
            ended |= {event.subject} if isinstance(event.payload, Finished) else set()
    return [OpenAttempt(one, last[one.attempt], one.attempt in started) for one in specs if one.attempt not in ended]


def device_seq(said, rig):
    known = {device.device: 1 for device in rig.devices}
    for _, event in said:
        if event.subject in known:
            known[event.subject] = event.seq
    return known


def a_session(faults=HARSH, *, until_s=5_000.0):
    rig = Rig(faults=faults)
    rig.adopt()
    rig.start(*SPECS)
    return rig, rig.run(until_s=until_s)


def test_every_attempt_reports_in_order_and_ends_once():
    _, said = a_session()
    times = [t_s for t_s, _ in said]
    assert times == sorted(times)
    by_subject = {}
    for _, event in said:
        by_subject.setdefault(event.subject, []).append(event)
    for one in SPECS:
        events = by_subject[one.attempt]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [isinstance(event.payload, Finished) for event in events] == [False] * (len(events) - 1) + [True]
    outcomes = Counter(event.payload.outcome for _, event in said if isinstance(event.payload, Finished))
    assert len(outcomes) >= 2
    assert outcomes["ok"] >= 2


def test_the_same_seed_gives_the_same_session():
    assert a_session()[1] == a_session()[1]


def test_a_later_engine_goes_on_at_any_event_as_if_nothing_had_been():
    _, whole = a_session()
    assert sum(isinstance(event.payload, DeviceLost) for _, event in whole) >= 2
    assert len(whole) > 60
    for cut in range(len(whole) + 1):
        seen = whole[:cut]
        later = Rig(faults=HARSH, start_s=seen[-1][0] if seen else 0.0)
        later.adopt(*open_attempts(seen, SPECS), device_seq=device_seq(seen, later))
        assert later.said == []  # nothing before the engine has settled
        assert seen + later.run(until_s=5_000.0) == whole


def test_a_device_is_lost_and_back_with_its_attempt_in_between():
    rig = Rig("1xH100", "none,device_loss=6")
    rig.adopt()
    lost_s = rig.executor._world.outages["gpu0"].nth(0).from_s
    rig.start(spec(device="gpu0", intent_t_s=round(lost_s - 100.0, 3)))
    said = [(t_s, event) for t_s, event in rig.run(until_s=lost_s + 7_200.0) if t_s >= lost_s]
    assert said[0] == (lost_s, said[0][1])
    assert (said[0][1].subject, said[0][1].seq) == ("gpu0", 2)
    assert isinstance(said[0][1].payload, DeviceLost)
    assert said[1][0] == lost_s
    assert (said[1][1].subject, said[1][1].payload.outcome) == ("r1.1", "device_lost")
    assert isinstance(said[2][1].payload, DeviceSeen)
    assert said[2][1].payload == DeviceSeen("H100-80GB", "h100-01", 81_559)
    assert said[2][1].seq == 3


def test_a_cancelled_attempt_ends_at_once_and_once():
    rig = Rig()
    rig.adopt()
    rig.start(spec())
    rig.run(until_s=1_100.0)
    before = list(rig.said)
    assert 2 <= len(before) < 11
    rig.clock.now_s = 1_111.5
    rig.cancel("r1.1")
    rig.cancel("r1.1")
    rig.cancel("r9.9")
    assert rig.said == before
    (ended_s, event) = rig.run()[-1]
    assert len(rig.said) == len(before) + 1
    assert (ended_s, event.seq, event.payload.outcome) == (1_111.5, len(before) + 1, "cancelled")
    assert event.payload.reason == "not wanted"
    assert event.payload.train_s == pytest.approx(1_111.5 - 1_000.0 - 22.0, abs=10.0)
    assert event.payload.val_bpb is None


def test_a_cancel_that_a_later_engine_passes_on_ends_it_at_the_same_instant():
    def cancelled(rig):
        rig.cancel("r1.1")
        return rig.run()

    rig = Rig()
    rig.adopt()
    rig.start(spec())
    seen = list(rig.run(events=4))
    later = Rig(start_s=seen[-1][0])
    later.adopt(*open_attempts(seen, [spec()]))
    assert seen + cancelled(later) == cancelled(rig)


def test_an_attempt_that_is_cancelled_before_it_starts_never_trained():
    rig = Rig()
    rig.adopt()
    rig.start(spec())
    rig.cancel("r1.1")
    ((_, event),) = rig.run()
    assert (event.seq, event.payload.outcome, event.payload.train_s) == (1, "cancelled", None)


def test_starting_and_adopting_again_changes_nothing():
    rig = Rig()
    rig.adopt()
    rig.start(spec(), spec())
    rig.adopt(OpenAttempt(spec(), 0, False))
    assert len(rig.run()) == 12


def test_nothing_is_kept_of_what_has_ended():
    rig, _ = a_session("default", until_s=50_000.0)
    assert rig.executor._courses == {}


@pytest.mark.parametrize("kill", [True, False])
def test_letting_go(kill):
    rig = Rig()
    rig.adopt()
    rig.start(spec(1), spec(2, device="gpu1"))
    asyncio.run(rig.executor.close(kill=kill))
    outcomes = [event.payload.outcome for _, event in rig.said]
    assert outcomes == (["cancelled", "cancelled"] if kill else [])
    assert len(rig.run()) == len(outcomes)


def test_a_failing_file_fails_with_its_own_words():
    rig = Rig(failure=Failure("crash", "AssertionError: 131072 tokens a step is no whole number of 128 rows"))
    rig.adopt()
    rig.start(spec())
    finished = rig.run()[-1][1].payload
    assert finished.outcome == "crash"
    assert finished.reason.startswith("AssertionError: 131072")


@pytest.mark.parametrize(("gpus", "faults"), [("3xV100", "none"), ("", "none"), ("H100", "lightning=1")])
def test_what_cannot_be_simulated_is_refused_before_anything_starts(gpus, faults):
    with pytest.raises(ExecutorError):
        Rig(gpus, faults)
