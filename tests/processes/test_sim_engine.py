"""Simulated sessions as a person runs them: equal seeds, kill -9 at random moments, bad input, and what is said."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.events import RunFinished
from core.journal import scan
from core.session import SessionFolder, all_sessions
from tests.support.engines import end, spawn_engine, until

pytestmark = pytest.mark.processes
PROGRAM = Path(sys.executable).parent / "autoresearch-tui"
KILLS = 6


def call(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AUTORESEARCH_HOME": str(home)}
    return subprocess.run([str(PROGRAM), *words], env=environment, capture_output=True, text=True, timeout=120)


def simulate(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return call(home, "run", "--executor", "sim", "--seed", "5", "--plain", *words)


def only_session(home: Path, monkeypatch) -> SessionFolder:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(home))
    [folder] = all_sessions()
    return folder


def journal(folder: SessionFolder) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.journal_dir.glob("*.jsonl")))


SMALL = ("--gpus", "5xH100,2xH200", "--hours", "2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a session told, and the home that it is in."""
    home = tmp_path_factory.mktemp("undisturbed")
    return simulate(home, *SMALL), home


def test_a_session_from_an_empty_home_ends_well_and_says_that_it_is_simulated(undisturbed, monkeypatch):
    told, home = undisturbed
    assert told.returncode == 0, told.stderr
    assert "SIMULATED" in told.stdout
    status = json.loads(call(home, "status", "--json").stdout)
    assert status["simulated"] is True
    assert status["state"] == "ended"
    assert status["runs"]["finished"] > 100
    assert status["gpus"]["occupancy"] > 0.95
    rows = call(
        home, "sql", "--json", "select distinct simulated, tier, confinement from runs where val_bpb > 0"
    ).stdout
    assert json.loads(rows) == [{"simulated": True, "tier": "scored", "confinement": "simulated"}]
    assert "simulated" in call(home, "sessions").stdout


def test_it_needs_no_torch_and_no_corpus(undisturbed):
    told, home = undisturbed
    assert "preparing" not in told.stdout + told.stderr
    assert not (home / "corpora").exists()
    script = "import sys, executors.sim, sim.clock, sim.surrogate, sim.artefact; print('torch' in sys.modules)"
    probe = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert probe.stdout.strip() == "False"


def test_the_same_twice_gives_identical_journals_also_in_one_home(undisturbed, monkeypatch):
    _, home = undisturbed
    again = simulate(home, *SMALL)
    assert again.returncode == 0, again.stderr
    monkeypatch.setenv("AUTORESEARCH_HOME", str(home))
    first, second = all_sessions()
    assert first.config().name != second.config().name
    assert journal(first) == journal(second)


def killed_at_work(folder: SessionFolder, rng: random.Random) -> int:
    """Let an engine write something, kill it a random moment later; returns how long the journal is then."""
    before = len(journal(folder))
    process = spawn_engine(folder)
    try:
        until(lambda: len(journal(folder)) > before or process.poll() is not None, what="progress")
        time.sleep(rng.uniform(0.0, 0.3))  # the random moment, not a wait for a state
        assert process.poll() is None, "the session ended before it was killed often enough"
    finally:
        end(process)
    return len(journal(folder))


def test_killed_at_random_moments_it_ends_exactly_as_if_undisturbed(undisturbed, tmp_path, monkeypatch):
    _, whole_home = undisturbed
    monkeypatch.setenv("AUTORESEARCH_HOME", str(whole_home))
    expected = journal(all_sessions()[0])
    started = call(tmp_path, "run", "--executor", "sim", "--seed", "5", "--detach", "--speed", "2000", *SMALL)
    assert started.returncode == 0, started.stderr
    folder = only_session(tmp_path, monkeypatch)
    info = folder.engine()
    assert info is not None
    rng = random.Random(3)
    os.kill(info.pid, 9)
    until(lambda: not folder.engine_alive(), what="the engine to be gone")
    sizes = [killed_at_work(folder, rng) for _ in range(KILLS)]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0] > 0
    told = call(tmp_path, "resume", "--speed", "max")
    assert told.returncode == 0, told.stderr
    until(lambda: not folder.engine_alive(), what="the end of the session")
    assert journal(folder) == expected
    finished = [event.attempt for event, _ in scan(folder.journal_dir) if isinstance(event, RunFinished)]
    assert len(finished) == len(set(finished))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--gpus", "13xH100,"), 2, "a part of it is empty"),
        (("--gpus", "0xH100"), 2, "a count begins at 1"),
        (("--gpus", "4xTPU"), 2, "knows no `TPU`"),
        (("--gpus", "2000xH100"), 2, "more than 1,024"),
        (("--faults", "preemption=-1"), 2, "0 or more"),
        (("--faults", "gremlins"), 2, "does not know 'gremlins'"),
        (("--seed", str(2**63)), 2, "is not in the range"),
        (("--seed", "-1"), 2, "is not in the range"),
        (("--hours", "nan"), 2, "is not a number"),
        (("--hours", "inf"), 2, "range"),
        (("--budget-seconds", "nan"), 2, "is not a number"),
        (("--seed", "-1"), 2, "range"),
        (("--speed", "0"), 2, "is no speed"),
        (("--speed", "fast"), 2, "is no speed"),
        (("--budget-steps", "5"), 2, "mean nothing in a simulated session"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_leaves_no_session(tmp_path, words, code, said):
    told = simulate(tmp_path, *words)
    assert told.returncode == code
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.glob("sessions/*"))


def test_options_of_the_simulation_are_refused_elsewhere(tmp_path):
    told = call(tmp_path, "run", "--plain", "--speed", "max")
    assert (told.returncode, "add --executor sim" in told.stderr) == (2, True)


@pytest.mark.parametrize(
    ("edit", "outcome", "said"),
    [
        (("DEPTH = 8", "DEPTH = 10**9"), "oom", "memory"),
        (("ADAM_BETAS = (0.8, 0.95)", "ADAM_BETAS = (1.8, 0.95)"), "crash", "Invalid beta parameter"),
        (("HEAD_DIM = 128", "HEAD_DIM = 0"), "crash", "ZeroDivisionError"),
        (("DEVICE_BATCH_SIZE = 128", "DEVICE_BATCH_SIZE = 96"), "crash", "must be a multiple of"),
        (("DEPTH = 8", "DEPTH = 24"), "oom", "memory"),
    ],
)
def test_a_baseline_that_cannot_run_fails_as_a_real_one_and_ends_the_session(tmp_path, edit, outcome, said):
    target = tmp_path / "target"
    target.mkdir()
    source = (Path(__file__).parents[2] / "train.py").read_text()
    assert edit[0] in source
    (target / "train.py").write_text(source.replace(*edit))
    told = simulate(tmp_path / "home", "--target", str(target), *SMALL)
    assert told.returncode == 1
    assert f" {outcome}" in told.stdout
    assert said in told.stdout


def test_resume_sets_the_speed_of_a_session_that_runs(tmp_path, monkeypatch):
    started = call(tmp_path, "run", "--executor", "sim", "--seed", "5", "--detach", "--speed", "1", *SMALL)
    assert started.returncode == 0, started.stderr
    folder = only_session(tmp_path, monkeypatch)
    told = call(tmp_path, "resume", "--speed", "max")
    assert told.returncode == 0, told.stderr
    assert "as fast as this machine can" in told.stdout
    until(lambda: not folder.engine_alive(), what="the end of the session")
    assert json.loads(call(tmp_path, "status", "--json").stdout)["state"] == "ended"
