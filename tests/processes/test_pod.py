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

    def __init__(self, root: Path, source: str, **spec: object) -> None:
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
        (root / "work").mkdir()
        environment = {
            "PATH": str(tools), "AR_ATTEMPT_DIR": str(attempt), "AR_WORK_DIR": str(root / "work"),
            "AR_TERMINATION_LOG": str(self.last_word),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-E", "-s", "-S", "-B", "-m", "executors.pod"], cwd=code, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

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
    ("before", "inside", "code", "outcome"),
    [
        ("pass", "run.report(float('nan'))", 81, "nan"),
        ("raise RuntimeError('boom')", "pass", 1, "crash"),
        ("raise torch.OutOfMemoryError('CUDA out of memory')", "pass", 82, "oom"),
    ],
)
def test_how_a_run_fails_shows_in_its_exit_code_and_last_word(tmp_path, before, inside, code, outcome):
    exit_code, told, printed = Pod(tmp_path, source(before, inside)).end()
    assert (exit_code, told["outcome"]) == (code, outcome), printed
    assert told["reason"]
    assert "val_bpb" not in told


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


def test_a_flood_of_output_is_capped_and_the_result_comes_through(tmp_path):
    code, told, printed = Pod(tmp_path, source(before="print(('x' * 20000 + '\\n') * 1500)")).end()
    assert (code, told["outcome"]) == (0, "ok")
    assert len(printed) < 2_500_000
    assert max(map(len, printed.splitlines())) <= 8300


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
