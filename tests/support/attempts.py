"""Attempts for tests: a tiny corpus, a tiny train.py, and a folder laid out as the local executor does."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from executors import folder as attempt_folder

ROOT = Path(__file__).parents[2]
SEQ_LEN = 32

BUILD = """
import torch
from torch import nn
from torch.nn import functional as F

def build(vocab_size, seq_len, device):
    return nn.Sequential(nn.Embedding(vocab_size, 16), nn.Linear(16, vocab_size))
"""

LEARN = """
def learn(run, model):
    for inputs_BT, targets_BT in run.batches(4):
        loss = F.cross_entropy(model(inputs_BT).flatten(0, 1), targets_BT.flatten())
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 1.0 * parameter.grad
        run.report(loss)
"""

HONEST = BUILD + LEARN + "\n\ndef train(run, model):\n    learn(run, model)\n"


def training(body: str) -> str:
    """A whole train.py whose train() is `body` (one level of indentation is added); it may call learn()."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return f"{BUILD}{LEARN}\n\ndef train(run, model):\n{lines}"


def make_corpus(folder: Path, *, train_tokens: int = 20_000, val_tokens: int = 4_000) -> Path:
    """Write a corpus of words over a few letters with zero separators; returns the folder."""
    folder.mkdir(parents=True)
    rng = random.Random(7)
    words = [bytes(rng.choices(b"abcdefgh", k=rng.randint(2, 6))) for _ in range(40)]
    text = bytearray(b"\0")
    while len(text) < train_tokens + val_tokens:
        text += rng.choice(words) + (b"\0" if rng.random() < 0.02 else b" ")
    (folder / "train.bin").write_bytes(text[:train_tokens])
    (folder / "val.bin").write_bytes(text[train_tokens : train_tokens + val_tokens])
    token_bytes = np.ones(256, np.uint8)
    token_bytes[0] = 0
    (folder / "token_bytes.bin").write_bytes(token_bytes.tobytes())
    meta = {
        "name": "letters", "vocab_size": 256, "dtype": "uint8", "separator": 0, "sha256": "ab" * 32,
        "train_tokens": train_tokens, "val_tokens": val_tokens, "documents": 9,
    }  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def lay_out(folder: Path, corpus: Path, source: str, **changes: Any) -> Path:
    """Write an attempt's folder for the supervisor; `changes` replace fields of spec.json."""
    (folder / "executors").mkdir(parents=True)
    for name in attempt_folder.TRAVELLERS:
        shutil.copyfile(ROOT / "executors" / f"{name}.py", folder / "executors" / f"{name}.py")
    shutil.copyfile(ROOT / "harness.py", folder / "harness.py")
    (folder / "train.py").write_text(source)
    spec = {
        "attempt": "r1.1", "run": "r1", "revision": hashlib.sha256(source.encode()).hexdigest(), "seed": 3,
        "budget_s": 1.0, "budget_kind": "cpu", "max_steps": 0,
        "device": {"kind": "cpu", "index": 0, "name": "CPU", "cls": "CPU"},
        "corpus_dir": str(corpus), "seq_len": SEQ_LEN, "eval_tokens": 3_000,
        "startup_cap_s": 60.0, "wall_cap_s": 90.0, "python": sys.executable, "sandbox": "auto",
        "harness_sha256": hashlib.sha256((ROOT / "harness.py").read_bytes()).hexdigest(),
    }  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec | changes))
    return folder


def start_supervisor(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start the launcher as the local executor does; its words go to supervisor.log."""
    with (folder / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-E", "-s", "-S", "-B", "-m", "executors.supervisor"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def run_supervisor(folder: Path, **environment: str) -> dict[str, Any]:
    """Run the launcher to its end and return exit.json."""
    process = start_supervisor(folder, **environment)
    try:
        process.wait(120)
    finally:
        process.kill()
        process.wait()
    result = attempt_folder.read_result(folder)
    assert result is not None, (folder / "supervisor.log").read_text()
    return result


def progress(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of progress.log so far."""
    path = folder / "progress.log"
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def survivors(mark: Path) -> list[int]:
    """Processes whose environment names the attempt's folder."""
    wanted = f"AUTORESEARCH_ATTEMPT={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], Any], what: str, cap_s: float = 60.0) -> None:
    """Poll until `true()`; fail with `what` after `cap_s`."""
    until_s = time.monotonic() + cap_s
    while not true():
        assert time.monotonic() < until_s, f"{what}: not within {cap_s} s"
        time.sleep(0.02)


def load_harness() -> ModuleType:
    """Import harness.py by path: it travels alone and is no module of ours."""
    spec = importlib.util.spec_from_file_location("harness_under_test", ROOT / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
