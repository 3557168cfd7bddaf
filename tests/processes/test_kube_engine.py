"""Whole sessions on a simulated Kubernetes cluster, through real sockets: kill -9, faults, an API that is away."""

from __future__ import annotations

import json
import random
import time

import pytest

from tests.support.engines import end, spawn_engine, until
from tests.support.kube import audit, begin, call, events_of, left_in, request

pytestmark = pytest.mark.processes
KILLS = 5
SMALL = ("--gpus", "6xH100,2xH200", "--speed", "240")


def settled(folder) -> int:
    return len([event for event in events_of(folder) if type(event).__name__ == "RunFinished"])


def stop_engine(folder) -> None:
    info = folder.engine()
    assert info is not None
    import os
    import signal

    os.kill(info.pid, signal.SIGKILL)
    until(lambda: not folder.engine_alive(), what="the engine's death")


def test_a_session_from_an_empty_home_goes_all_the_way_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = begin(tmp_path, *SMALL, "--runs", "24", "--faults", "none")
    until(lambda: not folder.engine_alive(), timeout_s=120, what="the end")
    state = audit(folder)
    assert state.now.ended is not None
    assert state.now.counts.finished == 24, state.now.counts
    status = json.loads(call(tmp_path, "status", "--json").stdout)
    assert status["simulated"] is True
    assert status["executor"] == "kubernetes"
    assert left_in(folder) == {"jobs": [], "pods": [], "configmaps": []}
    rows = json.loads(
        call(tmp_path, "sql", "--json", "select distinct device_class from runs where val_bpb > 0").stdout
    )
    assert {row["device_class"] for row in rows} == {"H100-80GB", "H200-141GB"}


def test_killed_at_random_moments_nothing_is_lost_doubled_or_leaked(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = begin(tmp_path, *SMALL, "--runs", "40", "--faults", "default")
    rng = random.Random(7)
    in_flight = 0
    for _ in range(KILLS):
        before = len(events_of(folder))
        until(lambda before=before: len(events_of(folder)) > before + 5, what="progress")
        time.sleep(rng.uniform(0.0, 0.4))  # the random moment, not a wait for a state
        stop_engine(folder)
        in_flight += bool(audit(folder).in_flight)
        process = spawn_engine(folder)
        try:
            until(lambda process=process: folder.engine_alive() or process.poll() is not None, what="the next engine")
            assert process.poll() is None
        except BaseException:
            end(process)
            raise
    assert in_flight >= 3, "the kills never met a run under way: the test shows nothing"
    until(lambda: not folder.engine_alive(), timeout_s=180, what="the end")
    state = audit(folder)
    assert state.now.ended is not None
    counts = state.now.counts
    assert counts.started == 40
    assert counts.finished + counts.failed + counts.stopped == 40, "a run that began was lost"
    assert counts.finished >= 30
    assert left_in(folder) == {"jobs": [], "pods": [], "configmaps": []}


def test_an_api_that_is_away_costs_no_run(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = begin(tmp_path, *SMALL, "--runs", "24", "--faults", "none")
    until(lambda: settled(folder) >= 4, what="the first results")
    request(folder, "/sim/faults", {"away_s": 5.0})
    until(lambda: not folder.engine_alive(), timeout_s=120, what="the end")
    state = audit(folder)
    assert state.now.counts.finished == 24, state.now.counts
    assert left_in(folder) == {"jobs": [], "pods": [], "configmaps": []}


def test_a_stopped_session_leaves_no_gpu_burning(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    folder = begin(tmp_path, *SMALL, "--hours", "8", "--faults", "none")
    until(lambda: len(left_in(folder)["pods"]) >= 8, what="a busy cluster")
    told = call(tmp_path, "stop", "last")
    assert told.returncode == 0, told.stderr
    until(lambda: not folder.engine_alive(), timeout_s=120, what="the end")
    assert left_in(folder) == {"jobs": [], "pods": [], "configmaps": []}
    assert audit(folder).now.ended is not None
