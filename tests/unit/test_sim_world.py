"""The simulated world: an attempt's course depends on its key alone, and goes wrong as often as it should."""

import itertools
import math
import statistics

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.executor import Finished, Progress, Started
from sim.faults import parse_faults
from sim.gpus import A100_40, H100, H200
from sim.mix import devices, parse_mix
from sim.model import Failure
from sim.world.outlook import Outlooks, Physics
from sim.world.places import HOST_GAP_BPB, Node
from sim.world.spells import Spells
from sim.world.timeline import Ending
from sim.world.world import REPEAT_SD_BPB, SEED_SD_BPB, THROTTLED_SPEED, World
from tests.support.cluster import BUDGET_S, SETUP, forecast_of, loss_at, physics, spec

MANY = 2_000


def world(faults="none", *, seed=1, gpus="16xH100,2xH200", failure=None):
    return World(seed, devices(parse_mix(gpus)), parse_faults(faults), physics(failure), eval_tokens=2**20)


def at(run, **changes):
    """One of many attempts, spread over all devices of a class."""
    return spec(run, device=f"gpu{run % 16:02d}", **changes)


def share(outcome, faults):
    simulated = world(faults)
    return sum(simulated.timeline(at(run)).ending.outcome == outcome for run in range(1, MANY + 1)) / MANY


# -- one attempt


def events(timeline):
    return [(timeline.t_s(seq), timeline.payload(seq, physics())) for seq in range(1, timeline.last_seq + 1)]


def test_a_run_that_ends_well_reports_what_a_real_one_does():
    (started_s, started), *samples, (ended_s, finished) = events(world().timeline(at(1)))
    assert started == Started("gpu01")
    assert 1_000.0 < started_s < 1_004.0
    assert [payload.frac for _, payload in samples] == [round(0.1 * k, 4) for k in range(1, 11)]
    assert {round(later - sooner, 3) for (sooner, _), (later, _) in itertools.pairwise(samples)} == {30.0}
    assert [payload.step for _, payload in samples] == sorted(payload.step for _, payload in samples)
    assert all(0.9 < payload.util <= 1.0 and payload.mem_mb == 45_000.0 for _, payload in samples)
    assert samples[0][1].loss > samples[-1][1].loss > 2.5
    assert (finished.outcome, finished.tier, finished.confinement) == ("ok", "scored", "simulated")
    assert finished.val_bpb == pytest.approx(0.998, abs=0.005)
    assert BUDGET_S < finished.train_s < BUDGET_S + 1.0
    assert finished.steps == pytest.approx(953, rel=0.05)
    assert finished.tokens == finished.steps * SETUP.total_batch
    assert started_s + finished.startup_s + finished.train_s + finished.score_s == pytest.approx(ended_s)
    assert (finished.params, finished.eval_tokens, finished.mem_mb) == (50_000_000, 2**20, 45_000.0)


@given(
    seed=st.integers(0, 2**31),
    run=st.integers(1, 10**6),
    budget_s=st.sampled_from([1.0, 29.9, 60.0, 300.0, 3_600.0]),
    intent_t_s=st.floats(0.0, 30_000.0).map(lambda t_s: round(t_s, 3)),
    failure=st.none() | st.builds(Failure, st.sampled_from(["crash", "oom", "nan"]), st.just("why"), st.floats(-1, 1)),
    source=st.sampled_from(["DEPTH = 8", "unreadable"]),
)
@settings(max_examples=200, deadline=None)
def test_events_are_in_order_and_end_once_whatever_happens(seed, run, budget_s, intent_t_s, failure, source):
    simulated = world("harsh,preemption=5,device_loss=2", seed=seed, gpus="2xH100", failure=failure)
    one = spec(run, device="gpu1", budget_s=budget_s, intent_t_s=intent_t_s, source=source)
    said = events(simulated.timeline(one))
    times = [t_s for t_s, _ in said]
    assert times == sorted(times)
    assert times[0] >= intent_t_s
    assert times == [round(t_s, 3) for t_s in times]
    payloads = [payload for _, payload in said]
    assert isinstance(payloads[-1], Finished)
    assert not any(isinstance(payload, Finished) for payload in payloads[:-1])
    assert len(payloads) <= 12
    if len(payloads) > 1:
        assert isinstance(payloads[0], Started)
    assert all(isinstance(payload, Progress) for payload in payloads[1:-1])
    assert (payloads[-1].val_bpb is not None) == (payloads[-1].outcome == "ok")
    assert payloads[-1].outcome == "ok" or payloads[-1].reason


def test_a_course_is_the_same_whenever_it_is_asked_for():
    asked = [at(run, revision=str(run % 7) * 64) for run in range(1, 60)]
    forth = {one.attempt: world("harsh").timeline(one) for one in asked}
    simulated = world("harsh")
    back = {one.attempt: simulated.timeline(one) for one in reversed(asked)}
    assert forth == back
    assert {one.attempt: simulated.timeline(one) for one in asked} == back
    assert {one.attempt: world("harsh", seed=2).timeline(one) for one in asked} != back


def test_asking_for_a_mishap_more_leaves_others_where_they_were():
    alone, both = world("none,infrastructure=0.3"), world("none,infrastructure=0.3@0,seed=9,nan=0.3")
    struck = [run for run in range(1, 200) if alone.timeline(at(run)).ending.outcome == "infrastructure"]
    assert len(struck) > 30
    for run in struck:
        ending = both.timeline(at(run)).ending
        assert ending.outcome == "nan" or ending == alone.timeline(at(run)).ending


def test_a_seed_of_its_own_moves_one_kind_only():
    first, second = (world(f"none,infrastructure=0.5,nan=0.5@{seed}") for seed in (1, 2))
    outcomes = [tuple(one.timeline(at(run)).ending.outcome for one in (first, second)) for run in range(1, 300)]
    assert any(a != b for a, b in outcomes)
    assert all("nan" in pair for pair in outcomes if pair[0] != pair[1])


# -- failures of the file


def test_a_file_that_cannot_be_read_crashes_before_training():
    timeline = world().timeline(spec(device="gpu00", source="unreadable"))
    (_, started), (ended_s, finished) = events(timeline)
    assert isinstance(started, Started)
    assert 6.0 <= ended_s - timeline.start_s <= 12.0
    assert (finished.outcome, finished.reason) == ("crash", "SyntaxError: invalid syntax")
    assert (finished.train_s, finished.steps, finished.mem_mb) == (None, None, None)


def test_want_of_memory_shows_after_half_a_minute():
    simulated = world(failure=Failure("oom", "torch.OutOfMemoryError: CUDA out of memory"))
    for run in range(1, 50):
        timeline = simulated.timeline(at(run))
        assert timeline.ending.outcome == "oom"
        startup_s = timeline.train_from_s - timeline.start_s
        assert min(startup_s, 24.0) <= timeline.ending.t_s - timeline.start_s <= min(startup_s, 45.0)
        finished = timeline.finished(timeline.ending)
        assert (finished.train_s, finished.steps, finished.mem_mb) == (None, None, None), "the clock never started"
        assert timeline.last_seq == 2


def test_a_failed_assertion_shows_when_training_would_begin():
    timeline = world(failure=Failure("crash", "AssertionError: no whole number")).timeline(at(1))
    assert timeline.ending == Ending(timeline.train_from_s, "crash", "AssertionError: no whole number")


def test_a_divergence_shows_where_it_happens():
    timeline = world(failure=Failure("nan", "FloatingPointError: the loss is nan", 0.35)).timeline(at(1))
    assert timeline.ending.t_s == pytest.approx(timeline.train_from_s + 0.35 * BUDGET_S)
    finished = timeline.finished(timeline.ending)
    assert finished.train_s == pytest.approx(105.0)
    assert finished.steps == pytest.approx(0.35 * 953, rel=0.05)
    assert timeline.last_seq == 5  # started, 30 s, 60 s, 90 s, finished
    assert finished.val_bpb is None


# -- noise


def scores(simulated, attempts):
    return [simulated.timeline(one).val_bpb for one in attempts]


def test_equal_runs_on_one_host_differ_as_published():
    repeats = [spec(run, device="gpu00", seed=7) for run in range(1, MANY + 1)]
    assert statistics.stdev(scores(world(), repeats)) == pytest.approx(REPEAT_SD_BPB, rel=0.1)


def test_seeds_differ_as_assumed():
    seeds = [spec(run, device="gpu00") for run in range(1, MANY + 1)]
    expected = math.hypot(SEED_SD_BPB, REPEAT_SD_BPB)
    assert statistics.stdev(scores(world(), seeds)) == pytest.approx(expected, rel=0.1)


def test_a_retry_keeps_the_luck_of_its_seed():
    simulated = world()
    first, second = scores(simulated, [spec(attempt=1, device="gpu00"), spec(attempt=2, device="gpu01")])
    assert 0.0 < abs(first - second) < 8 * REPEAT_SD_BPB


def test_hosts_stand_on_two_levels_and_differ_in_speed():
    nodes = [Node(seed, "h100-01", parse_faults("none")) for seed in range(MANY)]
    levels = sorted({node.offset_bpb for node in nodes})
    assert len(levels) == 2
    assert levels[1] - levels[0] == pytest.approx(HOST_GAP_BPB)
    assert statistics.fmean(node.offset_bpb for node in nodes) == pytest.approx(0.0, abs=4e-5)
    assert statistics.stdev(math.log(node.speed) for node in nodes) == pytest.approx(0.008, rel=0.1)


def test_a_faster_place_does_more_steps_and_scores_lower():
    simulated = world(gpus="1000xH100")
    timelines = [simulated.timeline(spec(1, device=f"gpu{k:03d}", seed=1)) for k in range(0, 1000, 8)]
    slow, fast = min(timelines, key=lambda one: one.speed), max(timelines, key=lambda one: one.speed)
    gap = -0.059 * math.log(fast.speed / slow.speed)
    assert fast.finished(fast.ending).steps > slow.finished(slow.ending).steps
    assert fast.val_bpb - slow.val_bpb == pytest.approx(gap, abs=HOST_GAP_BPB + 8 * REPEAT_SD_BPB)
    assert statistics.linear_regression(
        [math.log(one.speed) for one in timelines], [one.val_bpb for one in timelines]
    ).slope == pytest.approx(-0.059, abs=0.015)


# -- what goes wrong


@pytest.mark.parametrize(
    ("faults", "outcome", "expected"),
    [
        ("none", "ok", 1.0),
        ("none,infrastructure=0.05", "infrastructure", 0.05),
        ("none,image=0.05", "image", 0.05),
        ("none,unschedulable=0.05", "unschedulable", 0.05),
        ("none,nan=0.05", "nan", 0.05),
        ("none,oom=0.05", "oom", 0.05),
        ("none,crash=0.05", "crash", 0.05),
        ("none,preemption=1", "preempted", 1 - math.exp(-325 / 3600)),
        ("none,oom=1", "oom", 1.0),
    ],
)
def test_each_fault_happens_at_its_rate(faults, outcome, expected):
    sd = math.sqrt(expected * (1 - expected) / MANY)
    assert share(outcome, faults) == pytest.approx(expected, abs=4.5 * sd)


def test_devices_are_lost_at_their_rate_and_take_their_attempts_along():
    simulated = world("none,device_loss=1", gpus="1000xH100")
    lost = [
        simulated.timeline(spec(k + 1, device=f"gpu{k:03d}", intent_t_s=3_000.0)).ending.outcome == "device_lost"
        for k in range(1000)
    ]
    assert sum(lost) / 1000 == pytest.approx(1 - math.exp(-327 / 3600), abs=0.04)
    spells = [simulated.outages[f"gpu{k:03d}"].nth(0) for k in range(1000)]
    assert statistics.fmean(spell.from_s for spell in spells) == pytest.approx(3_600, rel=0.15)
    assert min(spell.to_s - spell.from_s for spell in spells) >= 300.0
    assert statistics.fmean(spell.to_s - spell.from_s for spell in spells) == pytest.approx(1_800, rel=0.15)


def test_an_attempt_ends_with_its_device():
    simulated = world("none,device_loss=30", gpus="1xH100")
    from_s = simulated.outages["gpu0"].nth(0).from_s
    timeline = simulated.timeline(spec(device="gpu0", intent_t_s=round(from_s - 0.5, 3)))
    assert (timeline.ending.t_s, timeline.ending.outcome, timeline.last_seq) == (from_s, "device_lost", 1)


def test_a_throttled_node_is_slower_for_a_while():
    share_of_time = 0.2
    simulated, calm = world(f"none,throttling={share_of_time}"), world()
    ratios = []
    for run in range(1, MANY + 1):
        one = at(run, intent_t_s=1_000.0 * run)
        ratios.append(round(simulated.timeline(one).speed / calm.timeline(one).speed, 6))
    assert set(ratios) == {1.0, THROTTLED_SPEED}
    assert ratios.count(THROTTLED_SPEED) / MANY == pytest.approx(share_of_time, abs=0.06)


def test_slow_pending_and_image_pulls_delay_the_start():
    slow, pulling = world("none,slow_pending=0.2"), world("none,image_pull=1")
    waits_s = [slow.timeline(at(run)).start_s - 1_000.0 for run in range(1, MANY + 1)]
    beyond_s = [wait_s for wait_s in waits_s if wait_s > 3.0]
    assert len(beyond_s) / MANY == pytest.approx(0.2, abs=0.045)
    assert statistics.fmean(beyond_s) == pytest.approx(92.0, rel=0.2)
    first = pulling.timeline(at(1, intent_t_s=0.0)).start_s
    assert 120.0 < first < 244.0
    assert 1_000.0 < pulling.timeline(at(1)).start_s < 1_004.0


# -- the parts below


@given(st.lists(st.floats(0.0, 1e5), min_size=1, max_size=20), st.integers(0, 1000))
def test_spells_are_the_same_in_whatever_order_they_are_asked_for(times, seed):
    def made():
        return Spells(3_000.0, 60.0, 600.0, seed, "thing")

    together = made()
    for t_s in times:
        alone = made()
        assert together.covers(t_s) == alone.covers(t_s)
        assert together.first_from(t_s) == alone.first_from(t_s) >= t_s
    drawn = [together.nth(k) for k in range(10)]
    assert all(a.from_s < a.to_s <= b.from_s for a, b in itertools.pairwise(drawn))


def test_a_thing_without_bad_spells_has_none():
    calm = Spells(math.inf, 60.0, 600.0, 1, "thing")
    assert calm.first_from(1e9) == math.inf
    assert not calm.covers(1e9)
    assert calm.nth(3).to_s == math.inf


@pytest.mark.parametrize(
    ("read", "properties", "gpu", "note"),
    [
        ((), (), H100, ""),
        (("build changed: quality not modelled",), (), H100, "build changed: quality not modelled"),
        ((), ("smear", "MLP_RATIO = 8"), H200, "quality not modelled: smear; MLP_RATIO = 8"),
        (
            ("build changed: quality not modelled",),
            ("smear",),
            A100_40,
            "build changed: quality not modelled; quality not modelled: smear; the speed of A100-40GB is assumed",
        ),
    ],
)
def test_a_score_says_what_it_leaves_out(read, properties, gpu, note):
    setup = msgspec.structs.replace(SETUP, unmodelled=read)
    outlooks = Outlooks(Physics(lambda _source: setup, forecast_of(), loss_at, lambda _setup: properties, lambda: None))
    assert outlooks.of("a", "text", gpu, BUDGET_S).note == note


def test_a_budget_that_no_published_run_had_is_said():
    outlooks = Outlooks(Physics(lambda _source: SETUP, forecast_of(), loss_at, lambda _setup: (), lambda: None))
    assert outlooks.of("a", "text", H100, 60.0).note == "measured at 300 s, carried over to 60 s by a law"


def test_a_revision_is_looked_at_once_per_class_and_forgotten_in_the_end():
    looks = []

    def counted(source):
        looks.append(source)
        return SETUP

    outlooks = Outlooks(Physics(counted, forecast_of(), loss_at, lambda _setup: (), lambda: None))
    first = outlooks.of("a", "text", H100, BUDGET_S)
    assert outlooks.of("a", "text", H100, BUDGET_S) is first
    assert outlooks.of("a", "text", H200, BUDGET_S) != first
    assert len(looks) == 2
    for k in range(5_000):
        outlooks.of(str(k), "text", H100, BUDGET_S)
    assert outlooks.of("a", "text", H100, BUDGET_S) == first
    assert len(looks) == 5_003
