"""Deleting from the command line: what works is refused, what is meant is gone, asking needs somebody to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.session import SessionFolder
from executors.folder import take
from tests.support.engines import end, spawn_engine, until
from tests.support.homes import add_session
from tests.support.story import session

pytestmark = pytest.mark.processes

SIMULATED = ("run", "--executor", "sim", "--gpus", "2xH100", "--seed", "1", "--name", "live")


def call(home: Path, *words: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "tui", *words],
        env={**os.environ, "AUTORESEARCH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    return tmp_path


def test_a_live_session_is_refused_and_one_that_was_stopped_is_deleted_with_its_figures_known(home):
    assert call(home, *SIMULATED, "--speed", "10", "--detach").returncode == 0
    [path] = (home / "sessions").iterdir()
    folder = SessionFolder(path)
    try:
        until(folder.engine_alive, what="the engine")
        [row] = json.loads(call(home, "sessions", "--json").stdout)
        assert (row["live"], row["state"], row["simulated"]) == (True, "running", True)
        done = call(home, "delete", "live", "--yes")
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "'autoresearch-tui stop live' ends it first" in done.stderr
        assert folder.config().name == "live"
    finally:
        call(home, "stop", "live")
    assert not folder.engine_alive()
    assert folder.figures_path.exists(), "the engine keeps its figures when it ends"
    [row] = json.loads(call(home, "sessions", "--json").stdout)
    assert (row["live"], row["state"], row["trouble"]) == (False, "ended", "")
    assert row["runs"]["submitted"] > 0
    assert row["bytes"] > 0
    done = call(home, "delete", "live", "--yes")
    assert done.returncode == 0, done.stderr
    assert "live is deleted" in done.stdout
    assert list((home / "sessions").iterdir()) == []


def test_a_killed_engine_leaves_figures_to_be_read_and_the_session_can_be_deleted(home):
    assert call(home, *SIMULATED, "--speed", "10", "--detach").returncode == 0
    [path] = (home / "sessions").iterdir()
    folder = SessionFolder(path)
    info = folder.engine()
    assert info is not None
    os.kill(info.pid, 9)
    until(lambda: not folder.engine_alive(), what="the end of the engine")
    [row] = json.loads(call(home, "sessions", "--json").stdout)
    assert row["state"] == "interrupted"
    again = spawn_engine(folder)
    try:
        until(folder.engine_alive, what="the second engine")
        assert call(home, "delete", "live", "--yes").returncode == 1
    finally:
        end(again)
    assert call(home, "delete", folder.path.name, "--yes").returncode == 0
    assert list((home / "sessions").iterdir()) == []


def test_deleting_asks_and_without_a_terminal_needs_yes(home):
    add_session(home, "mar5", session(experiments=3, ended=True))
    done = call(home, "delete", "mar5")
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert call(home, "delete").returncode == 2
    done = call(home, "delete", "nobody", "--yes")
    assert done.returncode == 1
    assert "mar5" in done.stderr
    assert len(list((home / "sessions").iterdir())) == 1


def test_attempts_that_outlive_their_engine_keep_their_session(home):
    folder = add_session(home, "mar5", session(experiments=3))
    attempt = folder.runs_dir / "r3.1"
    attempt.mkdir()
    assert take(attempt)  # this process stands for a launcher
    done = call(home, "delete", "mar5", "--yes")
    assert done.returncode == 1
    assert "attempts of session mar5 still run (r3.1)" in done.stderr
    assert folder.path.exists()


def test_damaged_sessions_are_listed_with_what_is_wrong_and_can_be_deleted(home):
    add_session(home, "good", session(experiments=3, ended=True))
    half = add_session(home, "half")
    half.meta_path.unlink()
    done = call(home, "sessions")
    assert done.returncode == 0
    assert "incomplete" in done.stdout
    assert "session.json is missing" in done.stderr
    rows = {row["session"]: row for row in json.loads(call(home, "sessions", "--json").stdout)}
    assert rows["good"]["state"] == "ended"
    assert rows["id-half"]["state"] == "incomplete"
    assert "session.json is missing" in rows["id-half"]["trouble"]
    assert rows["good"].keys() == rows["id-half"].keys()
    assert call(home, "delete", "id-half", "--yes").returncode == 0
    assert [path.name for path in (home / "sessions").iterdir()] == ["id-good"]
