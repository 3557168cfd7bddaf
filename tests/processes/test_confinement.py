"""What a trainer can do beside training, under each confinement: nothing, tried for real from inside a run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from executors import confine
from executors.sandbox import Interpreter, Place, Sandbox, inspect_interpreter
from tests.support.attempts import lay_out, make_corpus, run_supervisor, training

pytestmark = [pytest.mark.processes, pytest.mark.training]

ATTACKS = """
import json, os, resource, signal, socket, ctypes
seen = {}
def attack(name, deed):
    try:
        deed()
    except OSError as error:
        seen[name] = "refused"
    else:
        seen[name] = "DONE"
libc = ctypes.CDLL(None, use_errno=True)
def ptrace(pid):
    if libc.ptrace(16, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "")
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
def spawn():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
victims = [victim, os.getppid()] if os.getppid() != 0 else [victim]
attack("validation data", lambda: open(corpus + "/val.bin", "rb").read(1))
attack("training data before its time", lambda: open(corpus + "/train.bin", "rb").read(1))
attack("last word", lambda: open(last_word, "w"))
attack("last word, emptied", lambda: os.truncate(last_word, 0))
attack("own spec", lambda: open(attempt + "/spec.json").read())
attack("own progress", lambda: open(attempt + "/progress.log", "a"))
attack("own code", lambda: open(train_py, "a"))
attack("other attempt", lambda: os.listdir(other))
attack("other attempt, planted", lambda: open(other + "/out/x", "w"))
attack("socket by path", lambda: connect(control))
attack("network", lambda: socket.create_connection(("127.0.0.1", 9), 1))
for pid in victims:
    attack("memory", lambda: open(f"/proc/{pid}/mem", "r+b"))
    attack("environment", lambda: open(f"/proc/{pid}/environ", "rb").read(1))
    attack("trace", lambda: ptrace(pid))
    attack("kill", lambda: os.kill(pid, signal.SIGKILL))
    attack("limits", lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0)))
    attack("priority", lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
attack("spawn (allowed)", spawn)
attack("file of its own (allowed)", lambda: open(out + "/mine", "w").write("x"))
print(json.dumps(seen))
learn(run, model)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("data") / "corpus")


@pytest.mark.parametrize("confinement", ["landlock+seccomp", "bwrap+landlock+seccomp"])
def test_a_trainer_reaches_nothing_but_its_own(tmp_path, corpus, confinement):
    if confine.probe() or (confinement.startswith("bwrap") and shutil.which("bwrap") is None):
        pytest.skip(f"this machine has no {confinement}")
    runs = tmp_path / "runs"
    (runs / "r2.1" / "out").mkdir(parents=True)
    last_word = tmp_path / "termination-log"
    last_word.write_text("ours")
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(tmp_path / "s"))
    control.listen()
    attempt = runs / "r1.1"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        known = {
            "corpus": str(corpus), "last_word": str(last_word), "attempt": str(attempt), "other": str(runs / "r2.1"),
            "control": str(tmp_path / "s"), "victim": victim.pid,
        }  # fmt: skip
        names = [f"{name} = {value!r}" for name, value in known.items()]
        own = ["out = run._config.out_dir", "train_py = run._config.train_py"]
        body = "\n".join([*names, *own, ATTACKS])
        lay_out(attempt, corpus, training(body), budget_kind="steps", max_steps=2)
        path = os.environ["PATH"] if confinement.startswith("bwrap") else "/nowhere"
        result = run_supervisor(attempt, PATH=path)
        assert victim.poll() is None, "a process of ours was killed"
        victim.communicate(b"\n")
    control.close()
    log = (attempt / "output.log").read_text()
    assert (result["outcome"], result["confinement"], result["tier"]) == ("ok", confinement, "scored"), log
    seen = json.loads(log.splitlines()[0])
    assert len(seen) > 15
    assert {name for name, end in seen.items() if end == "DONE"} == {"spawn (allowed)", "file of its own (allowed)"}
    assert last_word.read_text() == "ours"
    assert list((runs / "r2.1" / "out").iterdir()) == []


def test_the_strongest_confinement_that_works_is_taken(tmp_path, corpus):
    if confine.probe():
        pytest.skip("this machine has no Landlock")
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    folder = lay_out(tmp_path / "r1.1", corpus, training("learn(run, model)"), budget_kind="steps", max_steps=2)
    result = run_supervisor(folder, PATH=f"{broken.parent}:/usr/bin:/bin")
    assert (result["outcome"], result["confinement"]) == ("ok", "landlock+seccomp")


def test_a_corpus_in_the_interpreter_s_own_folder_stays_hidden(tmp_path, monkeypatch):
    if confine.probe():
        pytest.skip("this machine has no Landlock")
    attempt, home = tmp_path / "r1.1", tmp_path / "python"
    for name in ("out", "tmp", "tmp-serve"):
        (attempt / name).mkdir(parents=True)
    shown, hidden = home / "lib" / "x", home / "share" / "corpus" / "val.bin"
    for path in (shown, hidden):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    tell = f"import os\nprint(os.access({str(home)!r}, 0))\nfor path in {[str(shown), str(hidden)]!r}:\n"
    tell += "    try:\n        open(path)\n        print('shown')\n    except OSError:\n        print('hidden')\n"
    (attempt / "harness.py").write_text(tell)
    monkeypatch.setenv("PATH", "/nowhere")
    real = inspect_interpreter(sys.executable)
    python = Interpreter(real.executable, (*real.folders, str(home)))
    sandbox = Sandbox(attempt, python, {"kind": "cpu", "index": 0}, 1, "auto", [hidden.parent], Place())
    assert sandbox.confinement == "landlock+seccomp"
    role = sandbox.start_role("train", {}, fds=(), output=subprocess.PIPE, writable=True)
    said, _ = role.communicate(timeout=30)
    assert said.split() == [b"True", b"shown", b"hidden"]
