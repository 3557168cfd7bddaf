"""Real sessions with real engine processes, as small as they can be: a tiny model, few steps, a tiny corpus."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from core.events import Limits
from core.session import SessionConfig, SessionFolder, create_session
from core.target import copy_target, locate_target

OVERRIDES = {
    "DEPTH": 1,
    "ASPECT_RATIO": 16,
    "HEAD_DIM": 16,
    "TOTAL_BATCH_SIZE": 64,
    "DEVICE_BATCH_SIZE": 2,
}
SEQ_LEN = 32


def until(condition: Callable[[], bool], timeout_s: float = 60.0, what: str = "the state") -> None:
    """Wait for a state, looking often; fail with what was waited for."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.01)


def tiny_corpus(folder: Path) -> Path:
    """A byte corpus of a few kilobytes, in the form that prepare.py writes."""
    folder.mkdir(parents=True)
    text = (b"the quick brown fox jumps over the lazy dog. " * 200)[:8192]
    (folder / "train.bin").write_bytes(text)
    (folder / "val.bin").write_bytes(text[:4096])
    (folder / "token_bytes.bin").write_bytes(bytes([0] + [1] * 255))
    meta = {
        "name": "tiny",
        "vocab_size": 256,
        "dtype": "uint8",
        "separator": 0,
        "sha256": "0" * 64,
        "train_tokens": 8192,
        "val_tokens": 4096,
        "documents": 1,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def tiny_session(root: Path, *, steps: int = 2, runs: int | None = 12, name: str = "tiny") -> SessionFolder:
    """A session on the real target with a tiny profile; AUTORESEARCH_HOME must point to `root`."""
    corpus = root / "corpora" / "tiny"
    if not corpus.exists():
        tiny_corpus(corpus)
    config = SessionConfig(
        session=f"id-{name}",
        name=name,
        created_unix_s=time.time(),
        seed=3,
        executor="local",
        researcher="builtin",
        limits=Limits(runs=runs),
        target_dir="",
        corpus_dir=str(corpus),
        corpus_sha256="0" * 64,
        python=sys.executable,
        budget_s=float(steps),
        budget_kind="steps",
        seq_len=SEQ_LEN,
        eval_tokens=512,
        profile="tiny",
        overrides=dict(OVERRIDES),
        gpus="2xCPU" if len(os.sched_getaffinity(0)) >= 2 else "1xCPU",
        version="test",
    )
    return create_session(config, lambda path: copy_target(locate_target(), path))


def spawn_engine(folder: SessionFolder) -> subprocess.Popen[bytes]:
    """Start an engine as `run` does, without waiting for it."""
    with folder.log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "core.engine", str(folder.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder.path,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that a test started, if it still is there."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()
