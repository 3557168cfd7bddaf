"""Devices of a cluster: which there are, who holds them, which nodes are avoided, what gates hold back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import Clock
from core.executor import AttemptSpec, DeviceLost, DeviceSeen, ExecutorError
from executors.kubernetes.attempts import Attempt
from executors.kubernetes.fleet import QUARANTINE_S, Caps, Fleet
from executors.kubernetes.gate import FIRST_S, LONGEST_S, Gates
from executors.kubernetes.nodes import NodeDevices
from sim.clock import VirtualClock


def node(name: str, count: int = 8, product: str = "NVIDIA-H100-80GB-HBM3", why_not: str = "") -> NodeDevices:
    cls = "H200-141GB" if "H200" in product else "H100-80GB"
    return NodeDevices(
        name=name, product=product, cls=cls, count=count, memory_mb=81_559, cpus_each=12,
        memory_bytes_each=100 << 30, usable=not why_not, why_not=why_not,
    )  # fmt: skip


def fleet(tmp_path, clock: Clock | None = None, asked: str | None = None) -> Fleet:
    return Fleet(Caps(asked), clock or VirtualClock(), tmp_path / "nodes.json")


def spec(attempt: str = "r1.1", cls: str = "H100-80GB", device: str = "") -> AttemptSpec:
    run = attempt.partition(".")[0]
    return AttemptSpec(run, attempt, device, cls, "rev", "x = 1\n", 1, 300.0, 0.0)


def test_nodes_become_devices_and_only_changes_are_told(tmp_path):
    ours = fleet(tmp_path)
    first = ours.take_nodes([node("a", 2), node("b", 1, "NVIDIA-H200")])
    assert [name for name, _ in first] == ["a/0", "a/1", "b/0"]
    assert all(isinstance(payload, DeviceSeen) for _, payload in first)
    assert ours.take_nodes([node("a", 2), node("b", 1, "NVIDIA-H200")]) == []
    lost = ours.take_nodes([node("a", 1), node("b", 1, "NVIDIA-H200", why_not="node b is cordoned")])
    assert lost == [
        ("a/1", DeviceLost("node a has fewer GPUs than before")),
        ("b/0", DeviceLost("node b is cordoned")),
    ]
    assert ours.take_nodes([]) == [("a/0", DeviceLost("node a is gone"))]


def test_the_user_caps_the_devices_and_what_was_chosen_stays(tmp_path):
    ours = fleet(tmp_path, asked="3xH100,1xH200")
    ours.take_nodes([node("b", 4), node("c", 2, "NVIDIA-H200")])
    assert [device.device for device in ours.devices] == ["b/0", "b/1", "b/2", "c/0"]
    assert ours.take_nodes([node("a", 4), node("b", 4), node("c", 2, "NVIDIA-H200")]) == []
    changes = ours.take_nodes([node("a", 4), node("c", 2, "NVIDIA-H200")])
    assert Counter(type(payload).__name__ for _, payload in changes) == {"DeviceLost": 3, "DeviceSeen": 3}


def test_a_quota_bounds_the_devices(tmp_path):
    ours = fleet(tmp_path)
    ours.most = 3
    ours.take_nodes([node("a", 8)])
    assert len(ours.devices) == 3


@pytest.mark.parametrize("asked", ["8", "H100", "x", "0.5xH100"])
def test_without_nodes_the_user_has_to_say_which_devices(asked):
    with pytest.raises(ExecutorError, match=r"--gpus|selection"):
        Caps(asked).slots()
    assert [device.device for device in Caps("2xH100-80GB").slots()] == ["h100-80gb/0", "h100-80gb/1"]


def test_a_node_that_fails_twice_is_avoided_for_a_while_and_an_engine_later_remembers(tmp_path):
    clock = VirtualClock()
    ours = fleet(tmp_path, clock)
    ours.take_nodes([node("a", 1), node("b", 1), node("c", 1)])
    assert not ours.ended("a", blamed=True)
    assert ours.ended("a", blamed=True)
    assert ours.quarantined == ["a"]
    assert [name for name, _ in ours.again()] == ["a/0"]
    later = fleet(tmp_path, clock)
    later.take_nodes([node("a", 1), node("b", 1), node("c", 1)])
    assert [device.device for device in later.devices] == ["b/0", "c/0"]
    assert fleet(tmp_path, VirtualClock(QUARANTINE_S + 1)).quarantined == []


def test_a_healthy_node_of_eight_meets_a_fault_now_and_then(tmp_path):
    clock = VirtualClock()
    ours = fleet(tmp_path, clock)
    ours.take_nodes([node("a"), node("b"), node("c")])
    for number in range(64):
        clock._now_s += 40.0
        assert not ours.ended("a", blamed=number % 9 == 8)
    assert ours.quarantined == []
    for _ in range(8):  # one GPU of it breaks: what lands there fails at once
        clock._now_s += 10.0
        ours.ended("a", blamed=True)
    assert ours.quarantined == ["a"]


def test_where_most_nodes_fail_no_node_is_blamed(tmp_path):
    ours = fleet(tmp_path)
    ours.take_nodes([node("a", 1), node("b", 1)])
    for name in ("a", "a", "b", "b"):
        ours.ended(name, blamed=True)
    assert ours.quarantined == []


@given(st.lists(st.tuples(st.sampled_from(["place", "free"]), st.integers(0, 9), st.sampled_from("abc")), max_size=60))
@settings(max_examples=60)
def test_no_device_is_held_twice_as_long_as_its_node_has_one_left(tmp_path_factory, steps):
    ours = fleet(tmp_path_factory.mktemp("fleet"))
    ours.take_nodes([node("a", 3), node("b", 3), node("c", 3)])
    held: dict[str, str] = {}
    for what, number, name in steps:
        attempt = f"r{number}.1"
        if what == "free":
            ours.free(attempt)
            held.pop(attempt, None)
        elif sum(device.startswith(f"{name}/") for other, device in held.items() if other != attempt) < 3:
            held[attempt] = ours.place(attempt, name, "H100-80GB", "a/0")
            assert held[attempt].startswith(f"{name}/")
    assert len(set(held.values())) == len(held)


def test_a_closed_gate_lets_one_probe_through_and_opens_for_all_behind_it():
    clock, woken = VirtualClock(), []
    gates = Gates(clock, lambda: woken.append(clock.now()))
    keys = [("image", "")]
    assert gates.held("r1.1", keys) == ""
    gates.shut("image", "", "no such image", "r1.1")
    assert gates.held("r2.1", keys) == "no such image"
    clock._now_s = FIRST_S
    assert gates.held("r2.1", keys) == ""
    assert gates.held("r3.1", keys) == "no such image"
    assert gates.reasons == ["no such image"]
    assert gates.passed("r2.1")
    assert gates.held("r3.1", keys) == ""
    assert not gates.passed("r3.1")


def test_probes_that_fail_come_less_and_less_often():
    clock = VirtualClock()
    gates = Gates(clock, lambda: None)
    keys, waits = [("image", "")], []
    gates.shut("image", "", "no such image", "r9.1")
    for number in range(8):
        from_s = clock.now()
        while gates.held(f"r{number}.1", keys):
            clock._now_s += 10.0
        waits.append(clock.now() - from_s)
        gates.shut("image", "", "no such image", f"r{number}.1")
    assert waits[0] == FIRST_S
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_S


def test_a_place_on_a_node_does_not_open_what_only_a_running_pod_has_passed():
    clock = VirtualClock()
    gates = Gates(clock, lambda: None)
    keys = [("image", ""), ("no_such_node", "H100-80GB")]
    for kind, what in keys:
        gates.shut(kind, what, f"fault of {kind}", "r1.1")
    clock._now_s = FIRST_S
    assert gates.held("r2.1", keys) == ""
    assert gates.passed("r2.1", ("no_such_node",))
    assert gates.reasons == ["fault of image"]
    assert gates.passed("r2.1")
    assert gates.reasons == []


def test_a_probe_that_is_gone_makes_room_for_the_next():
    clock = VirtualClock()
    gates = Gates(clock, lambda: None)
    gates.shut("policy", "", "refused", "r0.1")
    clock._now_s = FIRST_S
    assert gates.held("r1.1", [("policy", "")]) == ""
    assert gates.drop("r1.1")
    assert gates.held("r2.1", [("policy", "")]) == ""


def test_an_attempt_numbers_its_events_by_what_happened():
    attempt = Attempt(spec(), "ar-1-r1-a1")
    numbers = []
    for _ in range(200):
        number = attempt.next_waiting()
        if number is None:
            break
        numbers.append(number)
        attempt.told = number
    assert numbers == list(range(1, 100))
    attempt.begin_life()
    assert attempt.next_waiting() == 1001
    later = Attempt(spec(), "ar-1-r1-a1")
    later.resume(1104, started=True)
    assert later.life == 1
    assert later.ever_started


def test_the_objects_of_a_job_that_was_taken_back_are_nobody_s():
    attempt = Attempt(spec(), "ar-1-r1-a1")
    job = {"metadata": {"name": "ar-1-r1-a1", "uid": "one"}}
    pod = {"metadata": {"name": "ar-1-r1-a1-x", "uid": "p", "ownerReferences": [{"uid": "one"}]}}
    attempt.take("jobs", "ADDED", job)
    assert not attempt.is_gone
    attempt.old.add("one")
    attempt.forget_objects()
    assert attempt.is_old(job)
    assert attempt.is_old(pod)
    assert attempt.is_gone
