"""The command line on real sessions: what works, and one clear sentence with the right exit code where it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.journal import scan
from core.reduce import fold
from core.session import SessionFolder
from tests.support.engines import end, spawn_engine, tiny_corpus, tiny_session, until

pytestmark = pytest.mark.processes
OWN_TARGET = """\
import torch
from torch import nn
from torch.nn import functional as F

RATE = 0.1


def build(vocab_size, seq_len, device):
    return nn.Embedding(vocab_size, vocab_size, device=device)


def train(run, model):
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for inputs, targets in run.batches(4):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.report(loss)
"""
COMMAND = [sys.executable, "-P", "-m", "tui"]


def call(*words: str, home: Path, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AUTORESEARCH_HOME": str(home)}
    return subprocess.run(
        [*COMMAND, *words], env=environment, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failure: no traceback, one line."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def live(home):
    """A session with a live engine whose runs go on for a while."""
    folder = tiny_session(home, steps=100_000, runs=None, name="live")
    process = spawn_engine(folder)
    try:
        until(lambda: (info := folder.engine()) is not None and bool(info.socket), what="the control socket")
        yield folder
    finally:
        if process.poll() is None:
            call("stop", "live", home=home)
        end(process)


def state_of(folder: SessionFolder):
    return fold(event for event, _ in scan(folder.journal_dir))


def test_help_names_every_command_and_usage_errors_exit_with_two(home):
    done = call("--help", home=home)
    assert done.returncode == 0
    for name in ("run", "attach", "replay", "status", "sql", "stop", "doctor"):
        assert name in done.stdout
    assert call("frobnicate", home=home).returncode == 2
    assert call("run", "--hours", "-1", home=home).returncode == 2
    assert call("run", "--budget-seconds", "5", "--budget-steps", "5", home=home).returncode == 2
    assert call("run", "--until-limits", home=home).returncode == 2


def test_without_a_terminal_the_bare_command_says_what_to_run(home):
    done = call(home=home)
    assert done.returncode == 2
    assert "run --executor sim --plain" in sentence(done)


@pytest.mark.parametrize("words", [("status",), ("attach", "--plain"), ("stop",), ("sql", "select 1"), ("resume",)])
def test_no_session_yet(home, words):
    done = call(*words, home=home)
    assert done.returncode == 1
    assert "there is no session" in sentence(done)


def test_an_unknown_session_lists_those_there_are(home):
    tiny_session(home, name="alpha")
    done = call("status", "beta", home=home)
    assert done.returncode == 1
    assert "alpha" in sentence(done)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--executor", "slurm"), 2, "installed are: kubernetes, local"),
        (("--researcher", "oracle"), 2, "builtin"),
        (("--name", "../evil"), 1, "cannot name a session"),
        (("--name", "last"), 1, "cannot name a session"),
        (("--gpus", "three"), 1, "three"),
        (("--gpus", "9999xCPU"), 1, "9999"),
        (("--train-python", "/nowhere/python"), 1, "--train-python"),
        (("--corpus", "/nowhere"), 1, "no prepared corpus"),
        (("--target", "/nowhere"), 1, "/nowhere"),
        (("--program", "/nowhere/page.md"), 1, "/nowhere/page.md cannot be read"),
    ],
)
def test_a_session_that_cannot_begin_says_why_and_leaves_nothing(home, words, code, said):
    if "--corpus" not in words:
        words = (*words, "--corpus", str(tiny_corpus(home / "corpus")))
    done = call("run", "--plain", *words, home=home)
    assert done.returncode == code, done.stderr
    assert said in sentence(done)
    assert not list(home.glob("sessions/*"))


def test_a_python_without_torch_is_named_with_the_way_out(home, tmp_path):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 3\n")
    bare.chmod(0o755)
    done = call("run", "--train-python", str(bare), home=home)
    assert done.returncode == 1
    assert "torch is not installed" in sentence(done)
    assert "--train-python" in done.stderr


def test_a_baseline_that_is_no_python_is_refused_with_its_line(home, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "harness.py").write_text("")
    (target / "train.py").write_text("DEPTH = 2\ndef build(:\n")
    done = call("run", "--target", str(target), "--corpus", str(tiny_corpus(home / "corpus")), home=home)
    assert done.returncode == 1
    assert "train.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_names_a_fix_for_every_failing_row(home, tmp_path):
    done = call("doctor", "--json", home=home)
    assert done.returncode == 0, done.stdout
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    assert rows["core"]["verdict"] == "ok"
    assert rows["corpus"]["verdict"] == "warn"
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\nexit 3\n")
    bare.chmod(0o755)
    done = call("doctor", "--train-python", str(bare), home=home)
    assert done.returncode == 1
    assert "fail  torch" in done.stdout
    assert "→" in done.stdout


def test_prepare_makes_a_corpus_once_and_says_what_is_wrong(home, tmp_path):
    text = tmp_path / "text"
    text.mkdir()
    for i in range(30):
        (text / f"{i}.txt").write_text(f"document {i} says something of its own\n" * 20)
    out = tmp_path / "corpus"
    assert call("prepare", "--source", str(text), "--out", str(out), home=home).returncode == 0
    again = call("prepare", "--source", str(text), "--out", str(out), home=home)
    assert "reused" in again.stderr
    assert json.loads((out / "meta.json").read_text())["documents"] == 30
    done = call("prepare", "--source", str(tmp_path / "nowhere"), "--out", str(out), home=home)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_live_session_is_paused_resumed_hinted_and_stopped(live, home):
    until(lambda: any(run.status == "running" for run in state_of(live).now.runs.values()), what="a running run")
    assert call("pause", home=home).stdout.startswith("live: paused")
    assert "already" in sentence(call("pause", home=home))
    status = json.loads(call("status", "--json", home=home).stdout)
    assert status["state"] == "paused"
    assert status["analysis"]["noise"] == []
    assert call("resume", home=home).returncode == 0
    assert call("hint", "SOFTCAP=20", home=home).returncode == 0
    assert "no open run" in sentence(call("cancel", "r999", home=home))
    assert call("cancel", "r1", home=home).returncode == 0
    until(lambda: bool((run := state_of(live).run("r1")) and run.outcome == "cancelled"), what="the cancelled run")
    assert call("sql", "select count(*) as n from runs", home=home).returncode == 0
    done = call("stop", home=home)
    assert done.returncode == 0, done.stderr
    state = state_of(live)
    assert state.now.ended is not None
    assert not state.now.runs
    verbs = [command.verb for command in state.ledger.commands]
    assert verbs == ["pause", "resume", "hint", "cancel", "stop"]
    assert "has ended" in sentence(call("pause", home=home))
    assert "has ended" in sentence(call("resume", home=home))
    listed = json.loads(call("sessions", "--json", home=home).stdout)
    assert [row["state"] for row in listed] == ["ended"]


def test_two_engines_on_one_session_are_one_too_many(live, home):
    second = spawn_engine(live)
    assert second.wait(timeout=60) == 1
    assert "another engine" in live.log_path.read_text()
    assert live.engine_alive()
    assert call("status", home=home).returncode == 0


def test_ctrl_c_leaves_the_engine_working_and_a_second_one_stops_it(live, home):
    environment = {**os.environ, "AUTORESEARCH_HOME": str(home)}
    watcher = subprocess.Popen(
        [*COMMAND, "attach", "--plain"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert watcher.stdout is not None
        assert watcher.stderr is not None
        assert "Ctrl-C leaves it working" in watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        watcher.stderr.readline()
        assert "stop live" in watcher.stderr.readline()
        assert live.engine_alive()
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(timeout=60) == 130
    finally:
        end(watcher)
    until(lambda: state_of(live).now.ended is not None, what="the end of the session")


def test_a_stale_socket_is_told_from_a_live_engine(home):
    folder = tiny_session(home, runs=4, name="stale")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(folder.socket_path))
    from core.session import EngineInfo

    folder.write(folder.engine_path, EngineInfo(pid=1, socket=str(folder.socket_path), version="0", started_unix_s=0.0))
    assert "no engine works" in sentence(call("pause", home=home))
    assert json.loads(call("status", "--json", home=home).stdout)["state"] == "interrupted"


@pytest.mark.training
def test_an_interrupted_session_is_resumed_and_a_damaged_one_refused(home):
    folder = tiny_session(home, runs=4, name="broken")
    process = spawn_engine(folder)
    until(lambda: len(list(scan(folder.journal_dir))) > 6, what="some events")
    end(process)
    segment = folder.journal_dir / "000001.jsonl"
    whole = segment.read_bytes()

    lines = whole.splitlines(keepends=True)
    segment.write_bytes(b"".join([lines[0], lines[1][:-30] + b"x" + lines[1][-29:], *lines[2:]]))
    done = call("resume", home=home)
    assert done.returncode == 1
    assert f"byte {len(lines[0])}" in sentence(done)
    assert "000001.jsonl" in done.stderr
    assert call("status", home=home).returncode == 1

    segment.write_bytes(whole + b'{"k":"run_progress","run":"r1"' + b"\0" * 50)
    assert call("resume", home=home).returncode == 0
    done = call("attach", "--plain", home=home, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert "4 finished" in done.stdout
    events = [event for event, _ in scan(folder.journal_dir)]
    assert [event.n for event in events] == list(range(1, len(events) + 1))


def test_an_interrupted_session_can_be_stopped_and_its_runs_end_with_it(live, home):
    until(lambda: any(run.status == "running" for run in state_of(live).now.runs.values()), what="a running run")
    engine = live.engine()
    assert engine is not None
    os.kill(engine.pid, signal.SIGKILL)
    until(lambda: not live.engine_alive(), what="the end of the engine")
    done = call("stop", home=home)
    assert done.returncode == 0, done.stderr
    state = state_of(live)
    assert state.now.ended is not None
    assert {run.outcome for run in state.ledger.runs} == {"cancelled"}
    for run in state.ledger.runs:
        if run.attempt:
            assert json.loads((live.runs_dir / run.attempt / "exit.json").read_text())["outcome"] == "cancelled"


def test_a_journal_that_is_gone_is_not_begun_anew(home):
    folder = tiny_session(home, name="lost")
    (folder.runs_dir / "r1.1").mkdir()
    done = call("resume", home=home)
    assert done.returncode == 1
    assert "missing or empty" in sentence(done)
    assert not list(scan(folder.journal_dir))


def test_one_broken_session_folder_does_not_hide_the_others(home):
    tiny_session(home, name="good")
    broken = home / "sessions" / "id-broken"
    (broken / "session.json").mkdir(parents=True)
    done = call("sessions", "--json", home=home)
    assert done.returncode == 0
    rows = {row["session"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == {"good", "id-broken"}
    assert rows["id-broken"]["state"] == "damaged"
    assert call("status", "good", home=home).returncode == 0


@pytest.mark.training
def test_a_target_of_ones_own_needs_only_a_train_py(home, tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "train.py").write_text(OWN_TARGET)
    corpus = tiny_corpus(home / "corpus")
    done = call(
        *("run", "--plain", "--runs", "4", "--budget-steps", "3", "--corpus", str(corpus), "--target", str(target)),
        home=home,
        timeout_s=240,
    )
    assert done.returncode == 0, done.stderr
    assert "4 finished" in done.stdout


@pytest.mark.training
def test_a_plain_session_runs_to_its_limit_and_answers_sql(home):
    corpus = tiny_corpus(home / "corpus")
    done = call(
        *("run", "--plain", "--runs", "4", "--budget-steps", "2", "--corpus", str(corpus), "--seed", "1"),
        home=home,
        timeout_s=240,
    )
    assert done.returncode == 0, done.stderr
    assert "4 finished" in done.stdout
    query = "select revision, count(*), avg(val_bpb) from runs group by all order by 3"
    assert call("sql", query, home=home).returncode == 0
    assert "selec" in sentence(call("sql", "selec 1", home=home))
    assert sentence(call("sql", "drop table runs", home=home))
    status = json.loads(call("status", "--json", home=home).stdout)
    assert status["runs"]["finished"] == 4
    assert status["best"]["baseline"] == status["best"]["confirmed"]
    assert status["gpus"]["total"] >= 1
