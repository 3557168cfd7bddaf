"""The virtual clock: instants fire in order and only at rest, whatever the speed; outside inputs find the present."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.clock import RealClock, parse_speed
from sim.clock import VirtualClock


class Wall:
    """Seconds that a test moves by hand."""

    def __init__(self):
        self.s = 100.0

    def __call__(self):
        return self.s


def run_in(clock, main):
    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        return runner.run(asyncio.wait_for(main(), 20))


async def chain(clock, log, ended, *, hops=3):
    """A cascade: each instant wakes a task that hops through the loop and then asks for more."""

    async def follow(name):
        for _ in range(hops):
            await asyncio.sleep(0)
        log.append((clock.now(), name))
        if name == "end":
            ended.set()

    tasks = []

    def wake(name):
        tasks.append(asyncio.get_running_loop().create_task(follow(name)))

    return wake


@given(
    st.lists(
        st.tuples(st.floats(0, 50, allow_nan=False), st.integers(0, 3), st.sampled_from("abc")), min_size=1, max_size=30
    )
)
@settings(max_examples=60, deadline=None)
def test_instants_fire_by_time_then_key_and_what_one_causes_comes_before_the_next(instants):
    clock, log = VirtualClock(), []

    async def main():
        ended = asyncio.Event()
        wake = await chain(clock, log, ended)
        for number, (t_s, tie, name) in enumerate(instants):
            clock.call_at(t_s, (name, tie, number), wake, (round(t_s * 1000) / 1000, name, tie, number))
        clock.call_at(60.0, ("z", 0, 0), wake, "end")
        await ended.wait()

    run_in(clock, main)
    told = [name for _, name in log[:-1]]
    assert told == sorted(told)
    assert len(told) == len(instants)
    assert [t_s for t_s, _ in log[:-1]] == [name[0] for name in told]


@pytest.mark.parametrize("speed", [None, 2000.0])
def test_the_speed_changes_nothing_that_happens(speed):
    clock, log = VirtualClock(5.0, speed=speed), []

    async def main():
        ended = asyncio.Event()

        def step(n):
            log.append((clock.now(), clock.touch(), n))
            if n == 40:
                ended.set()
            else:
                clock.call_at(clock.now() + 7.1234567, ("step", n, 0), step, n + 1)

        clock.call_at(5.0, ("step", 0, 0), step, 0)
        await ended.wait()

    run_in(clock, main)
    assert [round(5.0 + 7.123 * n, 3) for n in range(41)] == [now for now, _, _ in log]
    assert all(now == touched for now, touched, _ in log)


def test_a_paced_clock_waits_and_an_outside_input_finds_the_present():
    wall = Wall()
    clock, seen = VirtualClock(speed=10.0, wall=wall), []

    async def main():
        clock.call_at(100.0, ("far", 0, 0), seen.append, "far")
        clock.call_at(150.0, ("farther", 0, 0), seen.append, "farther")
        await asyncio.sleep(0.005)  # the loop comes to rest: time flows
        wall.s += 4.0
        assert clock.seconds_to_next() == pytest.approx(6.0)
        assert clock.touch() == pytest.approx(40.0)
        wall.s += 30.0  # long held up: the next instant bounds how far an input can find the clock
        assert clock.touch() == 100.0
        clock.call_at(0.0, ("a", 0, 0), seen.append, "past")
        while "far" not in seen:
            await asyncio.sleep(0.001)
        assert seen[0] == "past"
        assert clock.now() == 100.0
        assert clock.seconds_to_next() == pytest.approx(5.0), "it does not rush to catch up"

    run_in(clock, main)


def test_a_thread_that_computes_takes_no_session_time_and_a_live_model_takes_real_time():
    clock, fired = VirtualClock(), []

    async def main():
        clock.call_at(1.0, ("one", 0, 0), fired.append, 1)
        clock.call_at(5000.0, ("later", 0, 0), fired.append, 5000)
        release = threading.Event()
        with clock.hold(live=False):
            waiting = asyncio.get_running_loop().run_in_executor(None, release.wait)
            await asyncio.sleep(0.01)
            assert fired == []
            assert clock.rate == 0.0
            release.set()
            await waiting
        assert clock.now() == 0.0
        with clock.hold(live=True):
            assert clock.rate == 1.0
            await asyncio.sleep(0.03)
        assert fired == []
        assert 0.02 <= clock.now() < 1.0
        while 5000 not in fired:
            await asyncio.sleep(0.001)
        assert fired == [1, 5000]

    run_in(clock, main)


def test_a_pause_freezes_time_and_the_end_of_a_session_stops_it_for_good():
    clock, fired = VirtualClock(), []

    async def main():
        clock.pause()
        clock.call_at(1.0, ("one", 0, 0), fired.append, 1)
        await asyncio.sleep(0.01)
        assert (fired, clock.rate, clock.touch()) == ([], 0.0, 0.0)
        clock.resume()
        while not fired:
            await asyncio.sleep(0.001)
        clock.call_at(2.0, ("two", 0, 0), fired.append, 2)
        clock.stop()
        clock.resume()
        await asyncio.sleep(0.01)
        assert fired == [1]

    run_in(clock, main)


def test_another_speed_holds_from_now_on():
    wall = Wall()
    clock = VirtualClock(speed=10.0, wall=wall)

    async def main():
        clock.call_at(100.0, ("far", 0, 0), lambda: None)
        await asyncio.sleep(0.005)
        wall.s += 1.0
        clock.set_speed(45.0)
        assert clock.now() == pytest.approx(10.0)
        assert clock.seconds_to_next() == pytest.approx(2.0)
        clock.set_speed(None)
        assert clock.seconds_to_next() == 0.0

    run_in(clock, main)


def test_sockets_are_served_while_instants_fire_without_end():
    clock, count = VirtualClock(), 0

    async def main():
        def tick():
            nonlocal count
            count += 1
            clock.call_at(clock.now() + 1.0, ("tick", 0, 0), tick)

        tick()

        async def answer(_reader, writer):
            await asyncio.sleep(0.01)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()

    run_in(clock, main)
    assert count > 1


def test_an_error_at_an_instant_reaches_the_loop():
    clock, caught = VirtualClock(), []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: caught.append(context["exception"]))
        clock.call_at(1.0, ("bad", 0, 0), lambda: 1 / 0)
        while not caught:
            await asyncio.sleep(0.001)

    run_in(clock, main)
    assert isinstance(caught[0], ZeroDivisionError)


@pytest.mark.parametrize(("text", "speed"), [("max", None), ("1", 1.0), ("0.5", 0.5), ("2e3", 2000.0)])
def test_speeds(text, speed):
    assert parse_speed(text) == speed


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "fast", "1x"])
def test_what_is_no_speed(text):
    with pytest.raises(ValueError, match="is no speed"):
        parse_speed(text)


def test_real_time_has_one_speed():
    with pytest.raises(ValueError, match="real time"):
        RealClock().set_speed(2.0)
