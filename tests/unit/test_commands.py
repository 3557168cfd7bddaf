"""What a person can tell an engine to do with runs and devices: what is refused, what is answered, what survives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from core.control import Request
from core.engine.commands import promise, refusal, still_going
from core.events import CancelRequested, Command, DeviceLost, DeviceSeen, RunIntent, RunQueued
from core.executor import AttemptSpec, Finished
from core.keyframe import keyframe, restore, state_hash
from core.reduce import apply, fold
from core.state import SessionState
from core.summary import summarise
from tests.support.scripted import ScriptedExecutor, scored
from tests.support.sessions import Script, engine_on, events_in, idle, run_to_end
from tests.unit.test_engine import idea, world


def asks(verb: str, arg: str = "", client: str = "c") -> Request:
    return Request(verb, arg, client)


def order(verb: str, arg: str = "", client: str = "cli-1") -> Command:
    return Command(client=client, verb=verb, arg=arg)


FOUR = {"cpu0": "CPU", "cpu1": "CPU", "cpu2": "CPU", "big0": "BIG"}


async def test_a_drained_device_gets_no_new_run_what_runs_there_ends_and_it_can_be_given_back(tmp_path):
    async def research(bench):
        held = engine.state.now.devices["cpu0"].run
        assert held is not None, "nothing ran there: the test shows nothing"
        engine.take(order("drain", "cpu0"))
        executor.end(f"{held}.1", scored(2.0))
        executor.end("r2.1", scored(2.0))
        await bench.wait(settled_above=3)
        on.extend(spec.device for spec in executor.started[2:])
        assert engine.state.run(held).outcome == "ok"
        engine.take(order("undrain", "cpu0", "cli-2"))
        await bench.propose([idea(), idea(constants={"DEPTH": "4"})], call="c1", rationale="")
        await bench.wait(settled_above=5)
        return "done"

    on: list[str] = []
    executor = ScriptedExecutor(lambda spec: None if spec.attempt in ("r1.1", "r2.1") else world({})(spec))
    engine = engine_on(tmp_path, executor, Script(research))
    state = await run_to_end(engine)
    assert on == ["cpu1", "cpu1"]
    assert "cpu0" in {spec.device for spec in executor.started[4:]}
    assert state.now.drained == {}
    assert state_hash(fold(events_in(tmp_path))) == state_hash(state)


async def test_a_drain_outlives_the_engine_that_was_told(tmp_path):
    async def told_and_gone(bench):
        engine.take(order("drain", "cpu1"))
        raise RuntimeError("killed")

    engine = engine_on(tmp_path, ScriptedExecutor(lambda spec: None), Script(told_and_gone))
    with pytest.raises(RuntimeError):
        await run_to_end(engine)
    engine.recorder.close()
    again = ScriptedExecutor(world({}))
    state = await run_to_end(engine_on(tmp_path, again, Script(idle)))
    assert list(state.now.drained) == ["cpu1"]
    assert {spec.device for spec in again.started if spec.attempt not in ("r1.1", "r2.1")} == {"cpu0"}
    assert summarise(state).gpus.drained == ["cpu1"]


async def test_runs_for_a_class_that_is_drained_wait_and_the_session_with_them(tmp_path):
    async def research(bench):
        await bench.wait(settled_above=7)
        engine.take(order("drain", "class:BIG"))
        await bench.confirm("e1", seeds=1, device_class="BIG", call="c1")
        return "no ideas"  # the session may not end on what a person holds back

    def later() -> None:
        assert engine.state.now.research_ended is not None
        waited.append(engine.state.now.ended is None and "r9" in engine.state.now.runs)
        engine.take(order("undrain", "big0", "cli-2"))

    waited: list[bool] = []
    engine = engine_on(tmp_path, ScriptedExecutor(world({}), FOUR), Script(research))
    with engine.woken(lambda: _once(engine, waited, later)):
        state = await run_to_end(engine)
    assert waited == [True]
    run = state.run("r9")
    assert run is not None
    assert (run.device, run.outcome) == ("big0", "ok")


def _once(engine, waited, later) -> None:
    if engine.state.now.research_ended is not None and not waited and not engine.state.flying:
        later()


async def test_cancelling_a_design_cancels_all_its_open_runs_and_no_others(tmp_path):
    async def research(bench):
        await bench.wait(settled_above=3)
        ideas = [idea(constants={"DEPTH": str(depth)}) for depth in (3, 4, 5)]
        other = [idea(constants={"MATRIX_LR": "0.03"}), idea(constants={"MATRIX_LR": "0.05"})]
        await bench.propose([structs.replace(one, design="grid") for one in ideas], call="c1", rationale="")
        await bench.propose(other, call="c2", rationale="")
        said.append(refusal(engine.state, asks("cancel", "grids")))
        said.append(promise(engine.state, asks("cancel", "grid")))
        engine.take(order("cancel", "grid"))
        said.append(refusal(engine.state, asks("cancel", "grid")))
        await bench.wait(settled_above=8)
        return "done"

    said: list[str] = []

    def outcome(spec: AttemptSpec) -> Finished | None:
        return None if "DEPTH = 2" not in spec.source else world({})(spec)

    engine = engine_on(tmp_path, ScriptedExecutor(outcome), Script(research))
    state = await run_to_end(engine)
    assert said[0] == "there is no open run, experiment or design 'grids'"
    assert said[1] == "grid: 3 runs are being cancelled (2 under way, 1 queued)"
    assert said[2] == "grid is being cancelled already"
    cancelled = {run.exp for run in state.ledger.runs if run.outcome == "cancelled"}
    assert cancelled == {"e2", "e3", "e4"}
    assert all(state.ledger.runs_of[exp][0].outcome == "ok" for exp in ("e5", "e6"))


async def test_a_cancel_killed_before_it_was_obeyed_means_what_was_open_when_it_was_recorded(tmp_path, monkeypatch):
    async def research(bench):
        await bench.wait(settled_above=3)
        await bench.propose([idea()], call="c1", rationale="")
        monkeypatch.setattr(engine, "settle", lambda: None)  # journalled, and killed before anything was decided
        engine.take(order("cancel", "e2"))
        raise RuntimeError("killed")

    def outcome(spec: AttemptSpec) -> Finished | None:
        return None if "DEPTH = 3" in spec.source else world({})(spec)

    engine = engine_on(tmp_path, ScriptedExecutor(outcome), Script(research))
    with pytest.raises(RuntimeError):
        await run_to_end(engine)
    engine.recorder.close()
    assert not [event for event in events_in(tmp_path) if isinstance(event, CancelRequested)]

    async def one_more_seed(bench):
        await bench.confirm("e2", seeds=1, device_class=None, call="c2")
        await bench.wait(settled_above=5)
        return "done"

    again = ScriptedExecutor(lambda spec: None if spec.attempt == "r5.1" else world({})(spec))
    state = await run_to_end(engine_on(tmp_path, again, Script(one_more_seed)))
    assert [run.outcome for run in state.ledger.runs_of["e2"]] == ["cancelled", "ok"]


async def test_a_researchers_cancel_that_is_repeated_after_a_crash_spares_what_was_queued_since(tmp_path):
    async def research(bench):
        await bench.wait(settled_above=3)
        await bench.propose([idea()], call="c1", rationale="")
        await bench.cancel("e2", "a mistake", call="c2")
        await bench.confirm("e2", seeds=1, device_class=None, call="c3")
        await bench.cancel("e2", "a mistake", call="c2")
        await bench.wait(settled_above=5)
        return "done"

    engine = engine_on(
        tmp_path,
        ScriptedExecutor(lambda spec: None if spec.attempt == "r5.1" else world({})(spec)),
        Script(research),
    )
    state = await run_to_end(engine)
    assert [run.outcome for run in state.ledger.runs_of["e2"]] == ["cancelled", "ok"]


def _state(*events) -> SessionState:
    state = SessionState()
    for number, event in enumerate(events, start=1):
        event.n, event.t = number, float(number)
        apply(state, event)
    return state


def _devices() -> list[DeviceSeen]:
    nodes = {"gpu0": "a", "gpu1": "a", "gpu2": "b", "gpu3": "b"}
    return [
        DeviceSeen(device=name, seq=1, cls="X" if name != "gpu3" else "Y", node=node) for name, node in nodes.items()
    ]


def test_what_cannot_be_drained_is_refused_with_what_there_is():
    state = _state(*_devices(), order("drain", "gpu1"))
    assert refusal(state, asks("drain", "gpu9")) == "there is no device 'gpu9'; there are: gpu0, gpu1, gpu2, gpu3"
    assert refusal(state, asks("drain", "gpu1")) == "gpu1 is drained already"
    assert refusal(state, asks("undrain", "gpu0")) == "gpu0 is not drained"
    assert refusal(state, asks("drain", "node:c")).startswith("there is no device 'node:c'")
    assert refusal(state, asks("drain", "node:a")) == ""
    assert refusal(state, asks("undrain", "node:a")) == ""


def test_a_drain_says_what_goes_on_and_what_it_leaves_without_a_device():
    run = [
        RunQueued(run="r1", exp="e1", seed=1, reason="screen"),
        RunIntent(run="r1", attempt="r1.1", device="gpu0", cls="X"),
    ]
    state = _state(*_devices(), *run)
    assert promise(state, asks("drain", "gpu0")) == "gpu0 gets no new run; r1 goes on to the end"
    assert promise(state, asks("drain", "class:Y")) == (
        "gpu3 gets no new run; runs for Y wait until it is given back with undrain"
    )
    all_but_one = _state(*_devices(), order("drain", "class:X"))
    assert "nothing new starts anywhere" in promise(all_but_one, asks("drain", "gpu3"))
    assert promise(all_but_one, asks("undrain", "class:X")) == "gpu0, gpu1, gpu2 take new runs again"


def test_a_drained_device_that_was_lost_and_is_back_stays_drained():
    state = _state(
        *_devices(),
        order("drain", "node:b"),
        DeviceLost(device="gpu2", seq=2),
        DeviceSeen(device="gpu2", seq=3, cls="X", node="b"),
    )
    assert list(state.now.free) == ["gpu0", "gpu1"]
    assert state.serving == 2
    assert state.idle.spent_s(state, 16.0)["drained"] > 10.0


_NAMES = st.sampled_from(["gpu0", "gpu3", "node:a", "class:X", "e1", "r1", "d1", "gpu9", ""])
_COMMANDS = st.tuples(st.sampled_from(["drain", "undrain", "cancel", "pause", "resume"]), _NAMES)


@given(st.lists(_COMMANDS, max_size=12), st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_any_commands_fold_alike_from_any_keyframe_and_free_devices_are_never_drained(commands, cut):
    queued = [RunQueued(run=f"r{number}", exp="e1", seed=number, reason="screen") for number in (1, 2)]
    events = [*_devices(), *queued, RunIntent(run="r1", attempt="r1.1", device="gpu0", cls="X")]
    events += [order(verb, arg, f"c{number}") for number, (verb, arg) in enumerate(commands)]
    state = _state(*events)
    assert not set(state.now.free) & set(state.now.drained)
    assert all(state.now.devices[name].run is None for name in state.now.free)
    for verb, arg in commands:
        if refusal(state, asks(verb, arg)) == "":
            assert promise(state, asks(verb, arg))
    head = _state(*events[:cut])
    again = restore(keyframe(head), head.ledger)
    for event in events[cut:]:
        apply(again, event)
    assert state_hash(again) == state_hash(state)
    assert sum(state.idle.spent_s(state, 40.0).values()) == pytest.approx(sum(40.0 - t for t in (1, 2, 3, 4)))


def test_a_name_that_is_several_things_means_the_run_then_the_experiment():
    state = _state(*_devices(), RunQueued(run="r1", exp="e1", seed=1, reason="screen"))
    assert [run.run for run in still_going(state, "r1")] == ["r1"]
    assert still_going(state, "") == []
