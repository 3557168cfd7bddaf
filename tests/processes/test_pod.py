"""The pod's PID 1 as a real process: it trains, scores, speaks and leaves its last word, as a kubelet would see it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.target import locate_target
from executors import pod as runner
from executors.kubernetes.manifest import POD_TRAVELLERS
from tests.support.engines import tiny_corpus, until

pytestmark = [pytest.mark.processes, pytest.mark.training]

TRAIN = """
import torch
def build(vocab_size, seq_len, device):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(vocab_size, 8), torch.nn.Linear(8, vocab_size))
def train(run, model):
    {before}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x_BT, y_BT in run.batches(2):
        loss = torch.nn.functional.cross_entropy(model(x_BT).flatten(0, 1), y_BT.flatten())
        loss.backward(); optimizer.step(); optimizer.zero_grad()
        {inside}
        run.report(float(loss))
"""


class Pod:
    """A pod's folders, and its process."""

    def __init__(
        self, root: Path, source: str, *, as_pid_1: bool = False, deadline_s: str = "", **spec: object
    ) -> None:
        self.root = root
        corpus = tiny_corpus(root / "data")
        code, attempt = root / "code", root / "attempt"
        (code / "executors").mkdir(parents=True)
        attempt.mkdir()
        package = Path(sys.modules["executors"].__file__ or "").parent
        for name in POD_TRAVELLERS:
            shutil.copyfile(package / f"{name}.py", code / "executors" / f"{name}.py")
        harness = (locate_target() / "harness.py").read_bytes()
        (code / "harness.py").write_bytes(harness)
        (attempt / "train.py").write_text(source)
        told = {
            "attempt": "r1.1", "run": "r1", "revision": "x", "seed": 1, "budget_s": 4.0, "budget_kind": "steps",
            "max_steps": 4, "device": {"kind": "cpu", "index": 0, "name": "CPU", "cls": "CPU"},
            "corpus_dir": str(corpus), "seq_len": 32, "eval_tokens": 512, "startup_cap_s": 60.0, "wall_cap_s": 60.0,
            "python": sys.executable, "sandbox": "auto", "slots": 1,
            "harness_sha256": hashlib.sha256(harness).hexdigest(),
        } | spec  # fmt: skip
        (attempt / "spec.json").write_text(json.dumps(told))
        tools = root / "bin"  # as in a pod: there is no bubblewrap
        tools.mkdir()
        self.last_word = root / "termination-log"
        self.last_word.touch()
        for name in ("work", "cache"):
            (root / name).mkdir()
        environment = {
            "PATH": str(tools), "AR_ATTEMPT_DIR": str(attempt), "AR_WORK_DIR": str(root / "work"),
            "AR_TERMINATION_LOG": str(self.last_word), "AR_CACHE_DIR": str(root / "cache"), "AR_RUN": "1f2e3d4c",
            "AR_DEADLINE_S": deadline_s,
        }  # fmt: skip
        alone = ["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--as-pid-1", "--die-with-parent"]
        command = [sys.executable, "-E", "-s", "-S", "-B", "-m", "executors.pod"]
        if as_pid_1:
            words = [word for pair in environment.items() for word in ("--setenv", *pair)]
            command, environment = [*alone, "--clearenv", *words, "--", *command], {"PATH": os.environ["PATH"]}
        self.process = subprocess.Popen(
            command, cwd=code, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def end(self) -> tuple[int, dict, str]:
        """Its exit code, its last word, and all that it printed."""
        out, _ = self.process.communicate(timeout=120)
        text = self.last_word.read_text()
        return self.process.returncode, json.loads(text) if text else {}, out.decode()


def source(before: str = "pass", inside: str = "pass") -> str:
    return TRAIN.format(before=before, inside=inside)


def test_a_good_run_ends_with_a_score_and_progress_on_the_way(tmp_path):
    code, told, printed = Pod(tmp_path, source(before="print('hello from train')")).end()
    assert code == 0, printed
    assert (told["ar"], told["attempt"], told["outcome"]) == (1, "r1.1", "ok")
    assert 0.5 < told["val_bpb"] < 9
    assert told["confinement"] == "landlock+seccomp"
    assert told["tier"] == "scored"
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith('{"ar"')]
    assert lines[0]["kind"] == "started"
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert "hello from train" in printed


@pytest.mark.parametrize(
    ("before", "inside", "spec", "code", "outcome", "words"),
    [
        ("pass", "run.report(float('nan'))", {}, 81, "nan", "nan"),
        ("raise RuntimeError('boom')", "pass", {}, 1, "crash", "boom"),
        ("raise torch.OutOfMemoryError('CUDA out of memory')", "pass", {}, 82, "oom", "CUDA out of memory"),
        ("pass", "pass", {"slots": 500}, 82, "oom", "MiB of memory"),
        ("pass", "while True: pass", {"budget_kind": "cpu", "budget_s": 0.5}, 83, "timeout", "0.5 CPU seconds"),
        ("import os; os._exit(0)", "pass", {}, 86, "crash", "before there was a checkpoint"),
        ("pass", "pass", {"harness_sha256": "0"}, 87, "infrastructure", "harness.py is not the one"),
    ],
    ids=["nan", "crash", "oom", "own-memory", "budget", "contract", "our-side"],
)
def test_how_a_run_fails_shows_in_its_exit_code_and_last_word(tmp_path, before, inside, spec, code, outcome, words):
    exit_code, told, printed = Pod(tmp_path, source(before, inside), **spec).end()
    assert (exit_code, told["outcome"]) == (code, outcome), printed
    assert words in told["reason"]
    assert "val_bpb" not in told


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="a process id of its own needs bubblewrap here")
def test_as_the_first_process_of_its_container_it_scores_and_ends_when_told(tmp_path):
    for name in ("scored", "ended"):
        (tmp_path / name).mkdir()
    code, told, printed = Pod(tmp_path / "scored", source(), as_pid_1=True).end()
    assert (code, told.get("outcome")) == (0, "ok"), printed
    pod = Pod(tmp_path / "ended", source(inside="import time; time.sleep(0.2)"), as_pid_1=True, max_steps=1000)
    log = tmp_path / "ended" / "work" / "r1.1" / "progress.log"
    until(lambda: log.exists() and b"progress" in log.read_bytes(), what="training")
    (first,) = _children(pod.process.pid)
    os.kill(first, signal.SIGTERM)
    code, told, _ = pod.end()
    assert (code, told["outcome"]) == (143, "terminated")


def test_orphans_of_the_trainer_are_buried_while_it_goes_on(tmp_path):
    orphans = (
        "import os, time\n"
        "    for _ in range(20):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n"
        "            if os.fork() == 0: time.sleep(0.2)\n"
        "            os._exit(0)\n"
        "        os.waitpid(child, 0)\n"
        "    time.sleep(0.5); print('all orphaned', flush=True)"
    )
    pod = Pod(
        tmp_path, source(before=orphans, inside="time.sleep(0.5)").replace("import torch", "import time, torch", 1)
    )
    log = tmp_path / "work" / "r1.1" / "output.log"
    until(lambda: log.exists() and b"all orphaned" in log.read_bytes(), what="orphans")
    until(lambda: not [pid for pid in _children(pod.process.pid) if _is_dead(pid)], what="their burial")
    assert pod.process.poll() is None, "the trainer was still at work"
    assert pod.end()[1]["outcome"] == "ok"


def test_the_pod_s_own_deadline_ends_it_with_a_result(tmp_path):
    code, told, _ = Pod(tmp_path, source(inside="import time; time.sleep(60)"), deadline_s="4").end()
    assert (code, told["outcome"], told["reason"]) == (83, "timeout", "the pod's 4 s were over")


def test_a_runner_that_hangs_is_ended_by_its_own_watch(monkeypatch):
    ended: list[tuple[dict, int]] = []
    monkeypatch.setattr(runner, "finish", lambda result, code: ended.append((result, code)))
    monkeypatch.setattr(runner, "END_CAP_S", 0.01)
    before = signal.getsignal(signal.SIGTERM)
    try:
        runner.Deadline("r1.1", 0.01)
        until(lambda: bool(ended), what="the end")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended == [({"attempt": "r1.1", "outcome": "timeout", "reason": "the pod's 0.01 s were over; it hung"}, 83)]


def test_what_was_compiled_outlives_the_run_and_what_a_model_server_saw_does_not(tmp_path):
    leak = """
class Leak(torch.nn.Embedding):
    def forward(self, tokens):
        if not torch.is_grad_enabled():
            folders = [CACHE, "/dev/shm", "/tmp", os.environ["TMPDIR"], os.path.dirname(os.environ["TMPDIR"]) + "/tmp"]
            for folder in folders:
                try:
                    open(folder + "/leak-of-r1.1", "wb").write(bytes(tokens.flatten().tolist()))
                except OSError:
                    pass
        return super().forward(tokens)
"""
    shared = tmp_path / "cache" / "1f2e3d4c" / "CPU"
    text = source(before="open(os.environ['TRITON_CACHE_DIR'] + '.kernel', 'w').write('x')")
    text = text.replace("torch.nn.Embedding(", "Leak(").replace(
        "import torch\n", f"import os, torch\nCACHE = {str(shared)!r}\n{leak}", 1
    )
    code, told, printed = Pod(tmp_path, text).end()
    assert (code, told["outcome"]) == (0, "ok"), printed
    assert (shared / "triton.kernel").read_text() == "x"
    found = [path for folder in (tmp_path, Path("/dev/shm"), Path("/tmp")) for path in folder.glob("leak-of-r1.1")]
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("leak-of-r1.1")]
    assert found == []
    assert left == ["work/r1.1/tmp-serve/leak-of-r1.1"], "its own folder, which goes with the pod"


def test_a_trainer_can_neither_forge_a_result_nor_speak_for_the_runner_nor_read_the_targets(tmp_path):
    forged = json.dumps({"ar": 1, "seq": 999, "kind": "progress", "step": 1, "frac": 1.0})
    targets = ((str(tmp_path / "termination-log"), "w"), (str(tmp_path / "data" / "val.bin"), "rb"))
    deeds = (
        f"print({forged!r})\n"
        "    import os\n"
        f"    for path, mode in {targets!r}:\n"
        "        try:\n            open(path, mode)\n        except OSError as error:\n"
        "            print('refused', os.path.basename(path))\n        else:\n            print('DONE', path)\n"
    )
    code, told, printed = Pod(tmp_path, source(before=deeds)).end()
    assert (code, told["outcome"]) == (0, "ok"), printed
    assert "refused termination-log" in printed
    assert "refused val.bin" in printed
    assert "DONE" not in printed
    assert max(json.loads(line)["seq"] for line in printed.splitlines() if line.startswith('{"ar"')) < 100


def test_a_flood_of_output_is_capped_and_its_end_and_the_result_come_through(tmp_path):
    flood = "print(('x' * 20000 + '\\n') * 1500); raise RuntimeError('after the flood')"
    code, told, printed = Pod(tmp_path, source(before=flood)).end()
    assert (code, told["outcome"]) == (1, "crash")
    assert len(printed) < 2_100_000
    assert "bytes left out]" in printed
    assert "RuntimeError: after the flood" in printed.splitlines()[-1]
    assert max(map(len, printed.splitlines())) <= 8192


def test_a_log_that_nobody_reads_stops_neither_the_run_nor_its_end(tmp_path):
    pod = Pod(tmp_path, source(before="print(('x' * 20000 + '\\n') * 1500)"))
    assert pod.process.wait(60) == 0
    assert json.loads(pod.last_word.read_text())["outcome"] == "ok"
    pod.end()


def test_missing_data_is_nobody_s_score(tmp_path):
    code, told, _ = Pod(tmp_path, source(), corpus_dir=str(tmp_path / "nowhere")).end()
    assert (code, told["outcome"]) == (85, "infrastructure")
    assert "prepare --kubernetes" in told["reason"]


def test_told_to_end_it_ends_at_once_and_leaves_no_process(tmp_path):
    pod = Pod(tmp_path, source(inside="import time; time.sleep(0.2)"), max_steps=1000, budget_s=1000.0)
    log = tmp_path / "work" / "r1.1" / "progress.log"
    until(lambda: log.exists() and b"progress" in log.read_bytes(), what="training")
    pod.process.send_signal(signal.SIGTERM)
    code, told, _ = pod.end()
    assert (code, told["outcome"]) == (143, "terminated")
    assert "val_bpb" not in told
    mark = str(tmp_path / "work").encode()
    left = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and mark in _command(entry)]
    assert left == []


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes() if int(entry.name) != os.getpid() else b""
    except OSError:
        return b""


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
