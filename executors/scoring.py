"""Score a dead trainer's checkpoint: seal it, let a model server answer, let the scorer judge.

Standard library only: it travels with the supervisor. A second, fresh server with causality probes
belongs beside the first one here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from executors.output import Ended, LauncherError
from executors.processes import descendants, resident_mb
from executors.sandbox import Sandbox

CHECKPOINT: Final = "checkpoint.safetensors"  # as harness.CHECKPOINT
CHECKPOINT_CAP_BYTES: Final = 2 << 30
LOOK_S: Final = 0.2
SERVER_END_CAP_S: Final = 10.0
WIRE_DTYPE: Final = {"cpu": "float32", "cuda": "float16"}

# As harness.SERVER_EXIT: a model server has seen validation text, so it may say nothing but its exit status.
SERVER_ENDS: Final = {
    10: ("crash", "the model server failed: build() or the model raises when it runs from the checkpoint"),
    11: ("oom", "the model server ran out of memory"),
    12: ("crash", "the checkpoint does not fit the model that build() makes when it is called again"),
    13: ("crash", "the model's output does not have the shape (batch, seq_len, vocab_size)"),
}
BREAKS_CONTRACT: Final = frozenset({12, 13})


def seal(path: Path) -> str:
    """Return the SHA-256 of the checkpoint; nobody is left who could change it. Raises Ended."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Ended("crash", f"the checkpoint cannot be read: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > CHECKPOINT_CAP_BYTES:
            raise Ended("crash", f"the checkpoint is no plain file below {CHECKPOINT_CAP_BYTES >> 20} MiB")
        return hashlib.file_digest(file, "sha256").hexdigest()


class Scoring:
    """The model server and the scorer of one attempt.

    Args:
        spec: the attempt's spec.json.
        meta: the corpus's meta.json.
        sandbox: starts the roles.
        memory_limit_mb: what the server may keep resident, MiB.
    """

    def __init__(
        self, spec: Mapping[str, Any], meta: Mapping[str, Any], sandbox: Sandbox, memory_limit_mb: float
    ) -> None:
        self._spec = spec
        self._sandbox = sandbox
        self._memory_limit_mb = memory_limit_mb
        self._shape = {
            "vocab_size": meta["vocab_size"],
            "seq_len": spec["seq_len"],
            "logits_dtype": WIRE_DTYPE[spec["device"]["kind"]],
        }
        self._corpus = {"corpus_dir": spec["corpus_dir"], "corpus_dtype": meta["dtype"]}
        self._server: subprocess.Popen[bytes] | None = None
        self._pipes: tuple[int, int] = (-1, -1)  # the scorer's ends: tokens to write, logits to read

    def start_server(self) -> subprocess.Popen[bytes]:
        """Start the model server if it is not there; it imports torch while the trainer finishes.

        Safe before the trainer's end: it loads neither train.py nor checkpoint until the first request.
        """
        if self._server is not None:
            return self._server
        tokens_r, tokens_w = os.pipe()
        logits_r, logits_w = os.pipe()
        with contextlib.suppress(OSError):
            fcntl.fcntl(logits_r, fcntl.F_SETPIPE_SZ, 1 << 20)
        config = {
            "train_py": self._sandbox.path("train.py"),
            "checkpoint": self._sandbox.path(f"out/{CHECKPOINT}"),
            "tokens_fd": tokens_r,
            "logits_fd": logits_w,
            "seed": self._spec["seed"],
            "device": self._spec["device"]["kind"],
        }
        fds = [tokens_r, logits_w]
        self._server = self._sandbox.start_role(
            "serve", config | self._shape, fds=fds, output=subprocess.DEVNULL, writable=False
        )
        for fd in fds:
            os.close(fd)
        self._pipes = (tokens_w, logits_r)
        return self._server

    def score(self, check_cancel: Callable[[], None]) -> dict[str, Any]:
        """Return {val_bpb, eval_tokens}. Raises Ended (also what `check_cancel` raises) or LauncherError."""
        server = self.start_server()
        config = {
            "tokens_fd": self._pipes[0],
            "logits_fd": self._pipes[1],
            "eval_tokens": self._spec["eval_tokens"],
            # A CPU slot is one core; a GPU's 8 G logits (1 Mi tokens x 8,192) take one core 20 s.
            "threads": 1 if self._spec["device"]["kind"] == "cpu" else min(16, os.cpu_count() or 1),
        }
        scorer = self._sandbox.start_scorer(config | self._corpus | self._shape, self._pipes)
        for fd in self._pipes:
            os.close(fd)
        self._wait(scorer, server, check_cancel)
        said, _ = scorer.communicate()
        if scorer.returncode != 0:
            raise LauncherError(f"the scorer ended with status {scorer.returncode}: see supervisor.log")
        answer = json.loads(said)
        if answer.get("error") == "nan":
            raise Ended("nan", "the model's logits are not finite")
        if answer.get("error") == "server":
            raise _server_end(server)
        return {"val_bpb": answer["val_bpb"], "eval_tokens": answer["tokens"]}

    def _wait(
        self,
        scorer: subprocess.Popen[bytes],
        server: subprocess.Popen[bytes],
        check_cancel: Callable[[], None],
    ) -> None:
        """Return when the scorer has ended; bound the server's time and memory until then."""
        cap_s = max(60.0, 2 * self._spec["budget_s"])
        until_s = time.monotonic() + cap_s
        watch = os.pidfd_open(scorer.pid)
        try:
            while not select.select([watch], [], [], LOOK_S)[0]:
                check_cancel()
                if time.monotonic() > until_s:
                    raise Ended("timeout", f"scoring took longer than {cap_s:.0f} s")
                if resident_mb(descendants([server.pid])) > self._memory_limit_mb:
                    raise Ended("oom", f"the model server used more than {self._memory_limit_mb:.0f} MiB")
        finally:
            os.close(watch)


def _server_end(server: subprocess.Popen[bytes]) -> Ended:
    """Name the outcome of a model server that went away: its status is all that it may tell."""
    try:
        status = server.wait(SERVER_END_CAP_S)
    except subprocess.TimeoutExpired:
        return Ended("crash", "the model server closed its pipe without an answer")
    if status in {-signal.SIGKILL, 128 + signal.SIGKILL}:
        return Ended("oom", "the model server was killed from outside, most likely for want of memory")
    outcome, reason = SERVER_ENDS.get(status, ("crash", f"the model server ended with status {status}"))
    return Ended(outcome, reason, contract_broken=status in BREAKS_CONTRACT)
