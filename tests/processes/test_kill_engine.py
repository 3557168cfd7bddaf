"""The engine killed with SIGKILL at random moments of a session with real training: nothing is lost or doubled."""

from __future__ import annotations

import json
import random
import time
from collections import Counter

import pytest

from core.events import CancelRequested, RunFinished, RunIntent, RunQueued, RunStarted, SessionEnded
from core.journal import scan
from core.reduce import fold
from tests.support.engines import end, spawn_engine, tiny_session, until

pytestmark = [pytest.mark.processes, pytest.mark.training]
RUNS = 10
KILLS = 8


def test_kill_minus_nine_loses_nothing_and_runs_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = tiny_session(tmp_path, runs=RUNS)
    rng = random.Random(11)
    acknowledged: list[int] = []
    kills_in_flight = 0
    for _ in range(KILLS):
        process = spawn_engine(folder)
        try:
            until(folder.engine_alive, what="the engine")
            time.sleep(rng.uniform(0.05, 2.5))  # the random moment, not a wait for a state
            ended = process.poll() is not None
        finally:
            end(process)
        events = [event for event, _ in scan(folder.journal_dir)]
        assert [event.n for event in events] == list(range(1, len(events) + 1))
        acknowledged.append(len(events))
        state = fold(events)
        kills_in_flight += any(run.status in ("starting", "running") for run in state.now.runs.values())
        if ended:
            break
    assert acknowledged == sorted(acknowledged)
    assert kills_in_flight >= 3, "the kills never met a run under way: the test shows nothing"

    last = spawn_engine(folder)
    try:
        assert last.wait(timeout=240) == 0, folder.log_path.read_text()
    finally:
        end(last)
    events = [event for event, _ in scan(folder.journal_dir)]
    assert isinstance(events[-1], SessionEnded)
    state = fold(events)
    assert state.now.counts.finished == RUNS
    assert state.now.counts.failed == 0
    for kind, key in ((RunIntent, "attempt"), (RunStarted, "attempt"), (RunFinished, "attempt"), (RunQueued, "run")):
        tally = Counter(getattr(event, key) for event in events if isinstance(event, kind))
        assert set(tally.values()) == {1}, f"{kind.__name__} more than once: {tally}"
    assert not [event for event in events if isinstance(event, CancelRequested) and event.attempt]
    # Every attempt executed once: one claim, one result, and the result in the journal is the one on disk.
    for event in (event for event in events if isinstance(event, RunFinished)):
        told = json.loads((folder.runs_dir / event.attempt / "exit.json").read_text())
        assert told["val_bpb"] == event.val_bpb
        progress = (folder.runs_dir / event.attempt / "progress.log").read_text().splitlines()
        assert sum(json.loads(line)["kind"] == "started" for line in progress) == 1
    # Nothing of ours is left behind.
    assert not folder.engine_alive()
