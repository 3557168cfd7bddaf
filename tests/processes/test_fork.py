"""`fork` as a person uses it: real engines, simulated, local and killed ones, and every command on what comes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from core.events import RunFinished, SessionForked, SessionStarted
from core.journal import scan
from core.reduce import fold
from core.session import SessionFolder, resolve_session
from tests.support.engines import end, spawn_engine, tiny_session, until

pytestmark = pytest.mark.processes
SMALL = ("--gpus", "5xH100,2xH200", "--hours", "2", "--seed", "5")


def call(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AUTORESEARCH_HOME": str(home)}
    command = [sys.executable, "-m", "tui", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def done(home: Path, *words: str) -> str:
    answer = call(home, *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """A home with a session that has ended, and a fork of its middle that has too."""
    home = tmp_path_factory.mktemp("home")
    done(home, "run", "--executor", "sim", "--name", "parent", *SMALL, "--plain")
    told = done(
        home, "fork", "parent", "--at", "1:00", "--name", "child", "--hint", "MATRIX_LR=0.05", "--rest", "--plain"
    )
    assert "forked from parent: " in told
    assert told.count("in flight when this session was forked") == 7
    return home


@pytest.fixture
def home(simulated, monkeypatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(simulated))
    return simulated


def events_of(folder: SessionFolder):
    return [event for event, _ in scan(folder.journal_dir)]


def test_status_tells_where_it_comes_from_and_its_limits_held(home):
    status = json.loads(done(home, "status", "child", "--json"))
    assert status["fork"]["session"] == "parent"
    assert status["fork"]["seconds"] <= 3600.0
    assert status["state"] == "ended"
    assert 3600.0 < status["seconds"] < 2.05 * 3600.0
    assert status["reason"].endswith("since the fork")
    assert "forked    from parent" in done(home, "status", "child")
    assert json.loads(done(home, "status", "parent", "--json"))["fork"] is None


def test_tables_say_which_runs_are_copies(home):
    query = (
        "select origin, count(*) as n, count(*) filter (where status = 'cancelled') as cancelled from runs group by 1"
    )
    rows = {row["origin"]: row for row in json.loads(done(home, "sql", "-s", "child", "--json", query))}
    first = events_of(resolve_session("child"))[0]
    assert isinstance(first, SessionStarted)
    assert first.fork is not None
    parent = first.fork.origin.session
    assert set(rows) == {parent, None}
    assert rows[parent]["cancelled"] >= 7
    assert rows[None]["n"] > 30
    [row] = json.loads(
        done(home, "sql", "-s", "child", "--json", "select forked_from, forked_n, forked_t_s from sessions")
    )
    assert (row["forked_from"], row["forked_n"]) == (parent, first.fork.n)
    own = "select count(*) as n from runs where origin is null"
    both = json.loads(done(home, "sql", "--all", "--json", own))[0]["n"]
    runs = len(fold(events_of(resolve_session("parent"))).ledger.runs)
    assert both == runs + rows[None]["n"], "over all sessions a run counts once"


def test_other_commands_take_a_fork_as_any_session(home):
    assert "child" in done(home, "compare", "parent", "child")
    assert "child" in done(home, "sessions")
    hinted = "select count(*) as n from experiments where design = 'hint'"
    assert json.loads(done(home, "sql", "-s", "child", "--json", hinted))[0]["n"] == 1


def test_a_fork_of_a_fork_needs_neither_of_those_before(home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    there = tmp_path / "home"
    done(there, "fork", "child", "--at", "80%", "--name", "grandchild", "--runs", "10", "--plain")
    for name in ("parent", "child"):
        shutil.rmtree(
            next(p.parent for p in there.glob("sessions/*/session.json") if f'"name": "{name}"' in p.read_text())
        )
    status = json.loads(done(there, "status", "grandchild", "--json"))
    assert status["state"] == "ended"
    origins = "select origin, count(*) as n from runs group by 1"
    assert len(json.loads(done(there, "sql", "-s", "grandchild", "--json", origins))) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--at-event", "999999"), "cannot be forked from event 999999: it has"),
        (("--at", "soon"), "no moment of a session"),
        (("--at", "1:00", "--at-event", "3"), "exclude each other"),
        (("--rest",), "less than a run is left"),
        (("--rest", "--hours", "1"), "give no others beside it"),
        (("--name", "child"), "there is a session called child already"),
        (("--name", "a b"), "cannot name a session"),
        (("--researcher", "nobody"), "no researcher called 'nobody'"),
        (("--model", "claude-opus-5-5"), "belongs to the Claude researcher"),
        (("--hours", "0"), "--hours"),
    ],
)
def test_what_cannot_be_forked_is_said_in_a_sentence_and_leaves_nothing(home, words, sentence):
    before = sorted(home.glob("sessions/*"))
    answer = call(home, "fork", "parent", *words, "--detach")
    assert answer.returncode in (1, 2)
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr
    assert sorted(home.glob("sessions/*")) == before


def test_a_killed_engine_of_a_fork_is_resumed_to_the_journal_of_one_that_was_not(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "home")
    there = tmp_path / "home"
    monkeypatch.setenv("AUTORESEARCH_HOME", str(there))
    same = ("fork", "parent", "--at", "0:30", "--hours", "1", "--seed", "9")
    done(there, *same, "--plain")
    whole = resolve_session("last")
    made = json.loads(done(there, *same, "--detach", "--json", "--speed", "3000"))
    folder = resolve_session(made["id"])
    start = events_of(folder)[0].fork.n
    for extra in (30, 60):
        until(lambda extra=extra: len(events_of(folder)) > start + extra, what="events of its own")
        os.kill(folder.engine().pid, signal.SIGKILL)
        until(lambda: not folder.engine_alive(), what="the engine's end")
        done(there, "resume", made["session"], "--speed", "3000")
    until(lambda: not folder.engine_alive(), what="the session's end")
    assert [p.read_bytes() for p in sorted(folder.journal_dir.glob("*.jsonl"))] == [
        p.read_bytes() for p in sorted(whole.journal_dir.glob("*.jsonl"))
    ]


def test_a_model_begins_another_conversation_with_money_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    model = ("--researcher", "claude", "--claude-endpoint", "sim", "--max-usd", "3")
    done(tmp_path, "run", "--executor", "sim", "--name", "parent", "--hours", "1", *SMALL[:2], *model, "--plain")
    done(
        tmp_path, "fork", "parent", "--at", "0:40", "--hours", "0.5", "--name", "child", "--hint", "shorter", "--plain"
    )
    state = fold(events_of(resolve_session("child")))
    before, now = state.now.before, state.now.model
    own = state.ledger.epochs[before.epochs :]
    assert (before.epochs, own[0].epoch, own[0].why) == (1, 2, "the session was forked")
    assert own[0].system, "limits are others, so it is told anew what it is"
    assert "forked from another" in own[0].system[-1]["text"] + own[0].system[0]["text"]
    assert 0.0 < before.usd < now.usd
    assert now.usd - before.usd < 3.0
    said = [part.get("text", "") for message in state.conversation() for part in message.content]
    assert any("shorter" in text for text in said)
    status = json.loads(done(tmp_path, "status", "child", "--json"))
    assert status["model"]["cap_usd"] == pytest.approx(3.0 + before.most_usd)
    assert status["fork"]["llm_usd"] == before.usd
    done(tmp_path, "fork", "child", "--researcher", "builtin", "--runs", "5", "--name", "without", "--plain")
    without = fold(events_of(resolve_session("without")))
    assert without.status == "ended"
    assert without.now.model.usd == now.usd, "nobody asks the model any more"
    assert json.loads(done(tmp_path, "status", "without", "--json"))["model"]["status"] == "ended"


@pytest.mark.training
def test_a_local_session_is_forked_while_it_works_and_the_fork_starts_attempts_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    parent = tiny_session(tmp_path, runs=40, name="parent")
    engine = spawn_engine(parent)
    try:
        until(lambda: len(fold(events_of(parent)).ledger.runs) >= 2, what="two runs of the parent")
        done(tmp_path, "fork", "parent", "--name", "child", "--runs", "2", "--detach")
        assert parent.engine_alive(), "the parent is not touched"
    finally:
        end(engine)
    child = resolve_session("child")
    until(lambda: not child.engine_alive(), timeout_s=120.0, what="the child's end")
    events = events_of(child)
    fork = next(event for event in events if isinstance(event, SessionForked))
    state = fold(events)
    assert state.status == "ended"
    finished = Counter(event.attempt for event in events if isinstance(event, RunFinished))
    assert set(finished.values()) == {1}
    own = [run for run in state.ledger.runs if run.intent_t_s is not None and run.intent_t_s >= fork.t and run.attempt]
    assert sum(run.outcome == "ok" for run in own) >= 2
    copied = [run for run in state.ledger.runs if run.outcome == "ok" and run not in own]
    assert len(copied) >= 2
    assert not (child.runs_dir / copied[0].attempt / "claim").exists(), "nothing of the parent's to be adopted"
    assert all((child.runs_dir / run.attempt / "exit.json").exists() for run in own if run.outcome == "ok")
