"""Sources: live, replayed and restored sessions are one and the same fold, and time is what it should be."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import replay
from core.events import AnyEvent, Note, RunFinished, Verdict
from core.journal import line_of
from core.journal.format import segment_path
from core.keyframe import keyframe, restore, state_hash
from core.reduce import fold
from core.replay import History, ReplaySource
from core.sources import LiveSource
from tests.support.story import Story, session, write_journal


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@st.composite
def sessions(draw: st.DrawFn) -> list[AnyEvent]:
    """Sessions of any shape, also with holes: the reducer refuses nothing, so neither may a source."""
    events = session(
        experiments=draw(st.integers(1, 6)),
        devices=draw(st.integers(1, 3)),
        seed=draw(st.integers(0, 3)),
        progress=draw(st.integers(1, 3)),
        ended=draw(st.booleans()),
    )
    holes = draw(st.sets(st.integers(1, len(events) - 1), max_size=10))
    kept = [event for index, event in enumerate(events) if index not in holes]
    for n, event in enumerate(kept, start=1):
        event.n = n
    return kept


@contextlib.contextmanager
def often(every: int) -> Iterator[None]:
    """Keyframes so often that short sessions have many."""
    with (
        mock.patch.object(replay, "KEYFRAME_EVERY", every),
        mock.patch.object(replay, "FRAME_BYTES_PER_EVENT", 10**9),
    ):
        yield


def read_all(source: LiveSource | ReplaySource) -> None:
    source.poll()
    while source.behind:
        source.poll()


def opened(folder: Path, clock: Clock | None = None, **options: bool) -> ReplaySource:
    source = ReplaySource(folder, clock=clock or Clock(), **options)
    read_all(source)
    return source


@settings(max_examples=25, deadline=None)
@given(events=sessions(), every=st.integers(3, 60), cut=st.integers(0, 200), limit=st.integers(1, 50))
def test_live_replayed_and_restored_states_are_equal(events: list[AnyEvent], every: int, cut: int, limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder, often(every):
        journal = write_journal(Path(folder), events, segment_events=37)
        truth = state_hash(fold(events))
        live = LiveSource(journal, lambda: True, clock=Clock())
        while live.poll(limit):
            pass
        assert live.position == len(events)
        assert state_hash(live.state) == truth

        replayed = opened(journal)
        replayed.go_to_end()
        assert state_hash(replayed.state) == truth

        cut = min(cut, len(events))
        frame = keyframe(fold(events[:cut]))
        assert state_hash(fold(events[cut:], restore(frame, live.state.ledger))) == truth


@settings(max_examples=25, deadline=None)
@given(
    events=sessions(),
    every=st.integers(3, 60),
    places=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    by_time=st.booleans(),
)
def test_any_seek_equals_a_fresh_fold(events: list[AnyEvent], every: int, places: list[float], by_time: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, often(every):
        source = opened(write_journal(Path(folder), events, segment_events=41))
        for place in places:
            if by_time:
                source.seek_fraction(place)
                t_s = place * source.span_s
                expected = [event for event in events if event.t <= t_s]
                assert source.now_s == t_s
            else:
                source.seek_event(round(place * len(events)))
                expected = events[: round(place * len(events))]
                assert source.now_s == (expected[-1].t if expected else 0.0)
            assert source.position == len(expected)
            assert state_hash(source.state) == state_hash(fold(expected))


def test_a_poll_reads_no_more_than_its_limit(tmp_path: Path) -> None:
    live = LiveSource(write_journal(tmp_path, session(experiments=3)), lambda: True, clock=Clock())
    assert live.poll(10)
    assert live.position == 10
    assert live.behind


def test_playing_uncovers_events_as_their_time_comes(tmp_path: Path) -> None:
    events = session(experiments=5)
    clock = Clock()
    source = opened(write_journal(tmp_path, events), clock)
    source.speed = 10
    source.play(True)
    clock.now_s += 7.0
    assert source.poll()
    assert source.now_s == pytest.approx(70.0)
    assert source.position == sum(event.t <= source.now_s for event in events)
    source.play(False)
    clock.now_s += 7.0
    assert not source.poll()
    assert source.now_s == pytest.approx(70.0)


def test_playing_ends_at_the_end_and_starts_over_from_there(tmp_path: Path) -> None:
    events = session(experiments=3)
    clock = Clock()
    source = opened(write_journal(tmp_path, events), clock)
    source.play(True)
    clock.now_s += 1e6
    while source.behind or source.playing:
        source.poll(10)
    assert source.position == len(events)
    assert source.now_s == source.span_s
    source.play(True)
    assert (source.position, source.now_s) == (0, 0.0)


def test_the_first_speed_shows_a_session_in_two_minutes(tmp_path: Path) -> None:
    source = opened(write_journal(tmp_path, session(experiments=10, progress=9)))
    assert source.speed is not None
    assert source.span_s / source.speed <= replay.WATCHABLE_S
    source.change_speed(-1)
    assert source.span_s / source.speed > replay.WATCHABLE_S
    for _ in replay.SPEEDS:
        source.change_speed(1)
    assert source.speed == replay.SPEEDS[-1]


@pytest.mark.parametrize(("kind", "event_type"), [("run", RunFinished), ("verdict", Verdict)])
def test_steps_stop_at_each_mark(tmp_path: Path, kind: replay.Mark, event_type: type) -> None:
    events = session(experiments=6)
    source = opened(write_journal(tmp_path, events))
    marks = [event.n for event in events if isinstance(event, event_type)]
    assert len(marks) >= 5
    for n in marks:
        assert source.step(kind, 1)
        assert source.position == n
    assert not source.step(kind, 1)
    for n in reversed(marks[:-1]):
        assert source.step(kind, -1)
        assert source.position == n
    assert not source.step(kind, -1)
    assert source.position == marks[0]


def test_single_steps_go_both_ways_and_hold_time(tmp_path: Path) -> None:
    events = session(experiments=2)
    source = opened(write_journal(tmp_path, events), playing=True)
    source.seek_event(0)
    assert source.step("event", 1)
    assert not source.playing
    assert source.step("event", 1)
    assert source.step("event", -1)
    assert source.position == 1
    assert source.step("event", -1)
    assert not source.step("event", -1)
    source.go_to_end()
    assert not source.step("event", 1)
    assert source.position == len(events)


def test_session_time_flows_while_an_engine_works(tmp_path: Path) -> None:
    clock, alive = Clock(), [True]
    events = Story().events
    live = LiveSource(write_journal(tmp_path, events), lambda: alive[0], clock=clock)
    read_all(live)
    newest_s = events[-1].t
    clock.now_s += 5.0
    live.poll()
    assert live.now_s == pytest.approx(newest_s + 5.0)
    alive[0] = False
    clock.now_s += 5.0
    assert live.poll()
    assert live.mode == "engine gone"
    assert live.now_s == pytest.approx(newest_s + 5.0)
    alive[0] = True
    clock.now_s += 1.0
    assert live.poll()
    assert live.mode == "live"


@pytest.mark.parametrize("why", ["simulated", "ended"])
def test_session_time_stands_where_nothing_moves_it(tmp_path: Path, why: str) -> None:
    clock = Clock()
    story = Story(simulated=why == "simulated")
    if why == "ended":
        story.end()
    live = LiveSource(write_journal(tmp_path, story.events), lambda: True, clock=clock)
    read_all(live)
    clock.now_s += 50.0
    live.poll()
    assert live.now_s == story.events[-1].t


def test_a_live_source_follows_the_journal_but_not_half_a_line(tmp_path: Path) -> None:
    story = Story()
    write_journal(tmp_path, story.events)
    live = LiveSource(tmp_path, lambda: True, clock=Clock())
    read_all(live)
    before = live.position
    line, _ = line_of(story.add(Note(text="a thought")))
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert not live.poll()
        file.write(line[20:])
        file.flush()
    assert live.poll()
    assert live.position == before + 1
    assert live.state.ledger.talk[-1].n == before + 1


def test_a_replay_of_a_growing_session_gets_its_new_end(tmp_path: Path) -> None:
    story = Story()
    write_journal(tmp_path, story.events)
    live = LiveSource(tmp_path, lambda: True, clock=Clock())
    read_all(live)
    held = live.replay()
    assert held.mode == "replay"
    assert held.position == live.position
    line, _ = line_of(story.add(Note(text="a thought")))
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(line)
    held.poll()
    assert held.last == held.position + 1
    held.go_to_end()
    assert held.position == len(story.events)


def test_a_damaged_journal_shows_what_is_before_the_damage(tmp_path: Path) -> None:
    events = session(experiments=8)
    write_journal(tmp_path, events)
    path = segment_path(tmp_path, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[60] = lines[60].replace(b'"k"', b'"K"')
    path.write_bytes(b"".join(lines))
    for limit in (7, 5000):
        live = LiveSource(tmp_path, lambda: True, clock=Clock())
        while not live.problem:
            assert live.poll(limit) or live.problem
        assert live.position == 60
        assert state_hash(live.state) == state_hash(fold(events[:60]))
        assert str(path) in live.problem
        assert not live.behind
        held = live.replay()
        held.seek_event(30)
        assert state_hash(held.state) == state_hash(fold(events[:30]))


def test_a_session_without_events_is_empty_not_an_error(tmp_path: Path) -> None:
    source = opened(tmp_path / "missing")
    assert (source.position, source.last, source.span_s, source.problem) == (0, 0, 0.0, "")
    source.seek_fraction(0.5)
    source.go_to_end()
    assert not source.step("event", 1)


def test_reading_back_costs_at_most_the_events_after_a_keyframe(tmp_path: Path) -> None:
    events = session(experiments=12)
    with often(50):
        history = History(write_journal(tmp_path, events))
        while history.extend(33):
            pass
        for n in range(0, len(events), 7):
            state, position = history.before_event(n)
            assert n - 50 < state.now.n <= n
            assert position.n == state.now.n


def test_keyframes_of_a_large_session_lie_further_apart(tmp_path: Path) -> None:
    folder = write_journal(tmp_path, session(experiments=12, devices=16))
    with mock.patch.object(replay, "KEYFRAME_EVERY", 10):
        history = History(folder)
        while history.extend(33):
            pass
    gaps = {n - history.before_event(n)[0].now.n for n in range(1, history.head.now.n + 1)}
    assert 20 < max(gaps) < history.head.now.n


def test_time_beside_a_replay_never_runs_ahead_of_what_it_shows(tmp_path: Path) -> None:
    events = session(experiments=10)
    clock = Clock()
    source = opened(write_journal(tmp_path, events), clock)
    source.speed = replay.SPEEDS[-1]
    assert source.speed == 10_000
    source.play(True)
    clock.now_s += 1.0
    source.poll(20)
    assert source.behind
    assert (source.position, source.now_s) == (20, events[19].t)
    source.play(False)
    assert not source.behind
    source.change_speed(-1)
    source.play(True)
    source.poll(20)
    assert source.now_s == events[19].t, "what was not shown yet is not skipped"
