"""The launcher against honest and hostile train.py texts: every ending is one outcome with one clear sentence."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pytest

from executors.output import LOG_HEAD_BYTES, LOG_TAIL_BYTES
from tests.support.attempts import (
    BUILD,
    HONEST,
    SEQ_LEN,
    lay_out,
    load_harness,
    make_corpus,
    progress,
    run_supervisor,
    start_supervisor,
    survivors,
    training,
    wait_until,
)

pytestmark = [pytest.mark.processes, pytest.mark.training]

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.fixture
def attempt(tmp_path, corpus):
    """Lay out and run an attempt in a folder of its own; nothing may survive it."""

    def run(source, **changes):
        folder = lay_out(tmp_path / f"r{len(list(tmp_path.iterdir()))}.1", corpus, source, **changes)
        result = run_supervisor(folder, ANTHROPIC_API_KEY="sk-secret")
        assert survivors(folder) == []
        return result, folder

    return run


@pytest.fixture(scope="module")
def honest(tmp_path_factory, corpus):
    """An honest run of 40 steps: its result and its folder."""
    source = training("learn(run, model)")
    folder = lay_out(tmp_path_factory.mktemp("honest") / "r1.1", corpus, source, budget_kind="steps", max_steps=40)
    return run_supervisor(folder), folder


def test_honest_runs_are_scored_alike_and_leave_little(attempt, honest):
    first, folder = honest
    again, _ = attempt(HONEST, budget_kind="steps", max_steps=40)
    assert (first["outcome"], first["reason"], first["steps"]) == ("ok", "", 40)
    assert first["val_bpb"] == again["val_bpb"]
    assert first["checkpoint_sha256"] == again["checkpoint_sha256"]
    assert 0.5 < first["val_bpb"] < 8.0
    assert first["tokens"] == 40 * 4 * SEQ_LEN
    assert first["eval_tokens"] == 3_000 // (SEQ_LEN + 1) * SEQ_LEN
    assert first["tier"] == ("scored" if first["confinement"] != "none" else "unconfined")
    assert first["mem_mb"] > 50
    assert first["params"] == 256 * 16 * 2 + 256
    lines = progress(folder)
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0]["kind"] == "started"
    assert 10 < len(lines) <= 25
    assert lines[-1]["step"] == 40
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"lock", "claim", "spec.json", "progress.log", "output.log", "exit.json", "supervisor.log"}


def test_the_score_is_that_of_an_independent_computation(attempt, corpus):
    # A model whose logits are a fixed table: its bits per byte can be computed without any of our code.
    source = (
        BUILD.replace("nn.Sequential(nn.Embedding(vocab_size, 16), nn.Linear(16, vocab_size))", "Table()")
        + """
class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.table_VV = nn.Parameter(torch.zeros(256, 256))

    def forward(self, tokens_BT):
        return self.table_VV[tokens_BT]

def train(run, model):
    next(run.batches(1))
    with torch.no_grad():
        model.table_VV.copy_(torch.arange(256 * 256).reshape(256, 256) % 97 / 17)
"""
    )
    result, _ = attempt(source)
    val = (corpus / "val.bin").read_bytes()[:3_000]
    bits = text_bytes = 0.0
    for start in range(0, len(val) - SEQ_LEN, SEQ_LEN + 1):
        for here, target in zip(val[start : start + SEQ_LEN], val[start + 1 : start + SEQ_LEN + 1], strict=True):
            row = [(here * 256 + token) % 97 / 17 for token in range(256)]
            if target != 0:
                bits += math.log2(math.fsum(math.exp(logit) for logit in row)) - row[target] / math.log(2)
                text_bytes += 1
    assert result["val_bpb"] == pytest.approx(bits / text_bytes, abs=1e-6)


@pytest.mark.parametrize(
    ("source", "outcome", "words"),
    [
        ("def build(:\n", "crash", "SyntaxError: invalid syntax (train.py, line 1)"),
        ("x = 1\n", "crash", "train.py has no function build()"),
        (training("model.missing()"), "crash", "'Sequential' object has no attribute 'missing' (train.py, line"),
        (training("next(run.batches(2)); run.report(float('nan'))"), "nan", "the loss is nan at step 1"),
        (training("for _ in run.batches(2): raise MemoryError('no more')"), "oom", "MemoryError: no more"),
        (training("import os; next(run.batches(2)); os._exit(0)"), "crash", "before there was a checkpoint"),
        (training("import os; os.abort()"), "crash", "SIGABRT"),
        (training("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), "oom", "want of memory"),
        (training("import sys; sys.exit('bye')"), "crash", "SystemExit: bye"),
        (training("pass"), "crash", "without taking a batch"),
        (
            training("for _ in run.batches(2):\n    while True: pass"),
            "timeout",
            "train() had not returned when the",
        ),
    ],
    ids=[
        "syntax",
        "no-build",
        "exception",
        "nan",
        "oom",
        "no-checkpoint",
        "abort",
        "killed",
        "exit",
        "idle",
        "loop",
    ],
)
def test_a_run_that_fails_says_why(attempt, source, outcome, words):
    result, _ = attempt(source)
    assert result["outcome"] == outcome
    assert words in result["reason"]
    assert result["val_bpb"] is None


def test_an_endless_import_is_cut_at_the_cap_on_start_up(attempt):
    result, _ = attempt("while True: pass\n", startup_cap_s=1.0)
    assert result["outcome"] == "timeout"
    assert result["reason"] == "train.py was still being imported after 1 s of start-up"
    assert result["train_s"] is None


def test_an_idle_run_is_cut_at_the_cap_on_wall_time(attempt):
    result, _ = attempt(training("next(run.batches(1)); import time; time.sleep(1000)"), wall_cap_s=1.0)
    assert result["outcome"] == "timeout"
    assert result["reason"].startswith("1 s of wall time passed with 0.")


@pytest.mark.parametrize(
    ("body", "outcome", "words"),
    [
        ("learn(run, model)\nmodel[0].weight.data[:] = float('inf')", "nan", "logits are not finite"),
        ("learn(run, model)\ndel model[1]", "crash", "does not fit the model"),
    ],
    ids=["nan-logits", "other-model"],
)
def test_a_checkpoint_that_cannot_be_scored_says_why(attempt, body, outcome, words):
    result, _ = attempt(training(body), budget_kind="steps", max_steps=2)
    assert (result["outcome"], result["val_bpb"]) == (outcome, None)
    assert words in result["reason"]


def test_a_model_server_may_say_only_a_class(attempt):
    source = (
        HONEST.replace("nn.Embedding(vocab_size, 16)", "Leak(vocab_size, 16)")
        + """
class Leak(nn.Embedding):
    def forward(self, tokens_BT):
        if not torch.is_grad_enabled():
            print("validation text:", bytes(tokens_BT.flatten().tolist()), flush=True)
            raise RuntimeError(bytes(tokens_BT.flatten().tolist()).decode())
        return super().forward(tokens_BT)
"""
    )
    result, folder = attempt(source, budget_kind="steps", max_steps=2)
    assert result["outcome"] == "crash"
    assert result["reason"] == "the model server failed: build() or the model raises when it runs from the checkpoint"
    assert "validation" not in (folder / "output.log").read_text()
    assert "validation" not in (folder / "supervisor.log").read_text()


def test_endless_prints_are_capped_and_do_not_stop_the_clock(attempt):
    source = training(
        "import os, sys\nnext(run.batches(1))\nprint('the first line', flush=True)\n"
        "while True:\n    os.write(1, b'x' * 99 + b'\\n' + bytes(range(256)) * 4000)"
    )
    result, folder = attempt(source, budget_s=2.0)
    assert result["outcome"] == "timeout"
    assert "when the budget of 2 CPU seconds was spent" in result["reason"]
    log = (folder / "output.log").read_text()
    assert log.startswith("the first line\n")
    size = (folder / "output.log").stat().st_size
    assert LOG_HEAD_BYTES < size <= LOG_HEAD_BYTES + LOG_TAIL_BYTES + 100
    left_out = int(log.partition("\n[")[2].partition(" bytes left out]")[0])
    assert left_out > 100_000_000
    assert result["mem_mb"] < 2_000


def test_a_forged_score_and_terminal_escapes_do_nothing(attempt, honest):
    body = (
        "learn(run, model)\n"
        "print('val_bpb: 0.1')\n"
        'print(\'{"kind": "done", "val_bpb": 0.1}\')\n'
        "print('\\x1b]0;owned\\x07\\x1b[2J\\x1b[31mred\\x1b[0m \\u202eabc\\x9b5m \\x00\\x08end')\n"
    )
    forged, folder = attempt(training(body), budget_kind="steps", max_steps=40)
    assert forged["val_bpb"] == honest[0]["val_bpb"] > 0.5
    lines = (folder / "output.log").read_text().splitlines()
    assert lines[0] == "val_bpb: 0.1"
    assert lines[-1] == "red abc end"


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_nothing_a_daemon_does_after_the_deadline_counts(attempt, sandbox):
    # A grandchild that left its session and ignores signals waits for the trainer to die, then writes.
    source = training("""
import os, signal, time
next(run.batches(1))
trainer = os.getpid()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        print('daemon', flush=True)
        while os.path.exists(f'/proc/{trainer}') and ') Z' not in open(f'/proc/{trainer}/stat').read():
            time.sleep(0.001)
        open(run._config.out_dir + '/checkpoint.safetensors', 'wb').write(b'late')
        time.sleep(1000)
    os._exit(0)
while True:
    pass
""")
    result, folder = attempt(source, sandbox=sandbox)
    assert "daemon" in (folder / "output.log").read_text()
    assert result["outcome"] == "timeout"
    assert "no checkpoint" in result["reason"]
    assert result["checkpoint_sha256"] is None
    assert result["confinement"] == ("none" if sandbox == "none" else result["confinement"])


def test_children_count_against_the_budget(attempt):
    source = training("""
import os
next(run.batches(1))
for _ in range(3):
    if os.fork() == 0:
        while True:
            pass
import time
time.sleep(1000)
""")
    result, _ = attempt(source, budget_s=1.5)
    assert result["outcome"] == "timeout"
    assert "budget of 1.5 CPU seconds" in result["reason"]
    assert 1.5 <= result["train_s"] < 3.0


@needs_bwrap
def test_the_sandbox_hides_corpus_keys_network_and_our_files(attempt, corpus):
    source = training(f"""
import os, socket, json
seen = {{}}
def attack(name, act):
    try:
        seen[name] = str(act())
    except Exception as error:
        seen[name] = type(error).__name__
attack('corpus', lambda: open({str(corpus / "val.bin")!r}, 'rb').read(9))
processes = [name for name in os.listdir('/proc') if name.isdigit()]
attack('keys', lambda: [p for p in processes if b'ANTHROPIC' in open(f'/proc/{{p}}/environ', 'rb').read()])
attack('own', lambda: open({str(Path("/attempt/train.py"))!r}, 'a'))
attack('harness', lambda: open('/attempt/harness.py', 'a'))
attack('host', lambda: socket.create_connection(('127.0.0.1', 9), 1))
attack('etc', lambda: open('/etc/passwd').read())
attack('tmp', lambda: os.listdir('/tmp'))
attack('processes', lambda: 1 < len(processes) < 6)
print(json.dumps(seen))
learn(run, model)
""")
    result, folder = attempt(source, budget_kind="steps", max_steps=2)
    if not result["confinement"].startswith("bwrap"):
        pytest.skip("bubblewrap does not work here")
    seen = json.loads((folder / "output.log").read_text())
    here = Path(sys.prefix).parts
    tmp = [here[2]] if here[1] == "tmp" else []  # an environment below /tmp has to stay visible
    # Without the filters inside, bubblewrap's own namespaces leave nothing to be found or reached.
    filtered = "seccomp" in result["confinement"]
    assert seen.pop("keys") == ("PermissionError" if filtered else "[]")
    assert seen.pop("host") == ("PermissionError" if filtered else "ConnectionRefusedError")
    assert seen == {
        "corpus": "FileNotFoundError", "own": "OSError", "harness": "OSError", "etc": "FileNotFoundError",
        "tmp": str(tmp), "processes": "True",
    }  # fmt: skip
    assert (result["outcome"], result["tier"]) == ("ok", "scored")


def test_without_a_sandbox_the_tier_says_so_and_keys_stay_out(attempt):
    source = training("import os; print('KEY' in ''.join(os.environ)); learn(run, model)")
    result, folder = attempt(source, budget_kind="steps", max_steps=2, sandbox="none")
    assert (result["outcome"], result["tier"], result["confinement"]) == ("ok", "unconfined", "none")
    assert (folder / "output.log").read_text() == "False\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"python": "/nowhere/python"}, "the Python /nowhere/python does not run"),
        ({"corpus_dir": "/nowhere"}, "there is no whole corpus in /nowhere: run `autoresearch-tui prepare`"),
        ({"harness_sha256": "0"}, "harness.py is not the one that the session recorded"),
        ({"eval_tokens": 9}, "is shorter than one sequence of 32 tokens"),
    ],
    ids=["python", "corpus", "harness", "short"],
)
def test_faults_of_our_own_are_the_infrastructure(attempt, changes, words):
    result, _ = attempt(HONEST, **changes)
    assert result["outcome"] == "infrastructure"
    assert words in result["reason"]


def test_a_python_without_torch_is_named(attempt, tmp_path):
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nshift 2; exec {sys.base_prefix}/bin/python3 -I -S "$@"\n')
    bare.chmod(0o755)
    result, _ = attempt(HONEST, python=str(bare))
    assert result["outcome"] == "infrastructure"
    assert result["reason"].startswith(f"torch is not installed in {bare}: install it there")


def test_cancel_ends_a_run_with_the_reason_given(tmp_path, corpus):
    folder = lay_out(tmp_path / "r1.1", corpus, HONEST, budget_s=60.0)
    process = start_supervisor(folder)
    wait_until(lambda: len(progress(folder)) > 1, "the first step")
    (folder / "cancel").write_text("a better idea\x1b[2J")
    process.wait(30)
    result = load_result(folder)
    assert (result["outcome"], result["reason"], result["val_bpb"]) == ("cancelled", "a better idea", None)
    assert result["steps"] >= 1
    assert survivors(folder) == []


def test_a_second_launcher_leaves_at_once(tmp_path, corpus):
    folder = lay_out(tmp_path / "r1.1", corpus, HONEST, budget_kind="steps", max_steps=300)
    first = start_supervisor(folder)
    wait_until((folder / "claim").exists, "the claim")
    second = start_supervisor(folder)
    assert second.wait(30) == 0
    assert first.poll() is None
    first.wait(60)
    assert sum(line["kind"] == "started" for line in progress(folder)) == 1
    assert load_result(folder)["outcome"] == "ok"


def test_a_launcher_told_to_end_reports_that(tmp_path, corpus):
    folder = lay_out(tmp_path / "r1.1", corpus, HONEST, budget_s=60.0)
    process = start_supervisor(folder)
    wait_until(lambda: len(progress(folder)) > 1, "the first step")
    process.terminate()
    process.wait(30)
    result = load_result(folder)
    assert result["outcome"] == "infrastructure"
    assert "SIGTERM" in result["reason"]
    assert survivors(folder) == []


def load_result(folder):
    return json.loads((folder / "exit.json").read_text())


def test_the_two_sides_agree_on_names():
    harness = load_harness()
    from executors import scoring, supervisor

    assert set(scoring.SERVER_ENDS) == set(harness.SERVER_EXIT.values())
    assert harness.CHECKPOINT == scoring.CHECKPOINT
    assert harness.PROGRESS_LINES == supervisor.PROGRESS_LINES
