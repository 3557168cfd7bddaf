"""Measure a changed `train.py` without data or device, in one warm, confined process that has torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import msgspec

from core.patching.outline import Outline
from sim.model import Cost, Failure

ANSWER_CAP_S: Final = 180.0
"""For importing torch on a busy machine, and the worker's own limits on one file."""
CACHE_VERSION: Final = 1
SHAPES: Final = frozenset(
    {"DEPTH", "ASPECT_RATIO", "HEAD_DIM", "MLP_RATIO", "WINDOW_PATTERN", "SHORT_WINDOW_RATIO", "TOTAL_BATCH_SIZE",
     "DEVICE_BATCH_SIZE", "NS_STEPS", "POLAR_EXPRESS"}
)  # fmt: skip
RATES: Final = frozenset(
    {"ROPE_BASE", "ATTENTION_SCALE", "SOFTCAP", "RESIDUAL_INIT", "SKIP_INIT", "EMBEDDING_LR", "UNEMBEDDING_LR",
     "MATRIX_LR", "SCALAR_LR", "WEIGHT_DECAY", "ADAM_BETAS", "MUON_MOMENTUM", "MUON_MOMENTUM_START",
     "MUON_MOMENTUM_RATIO", "MUON_BETA2", "WARMUP_RATIO", "WARMDOWN_RATIO", "FINAL_LR_FRAC", "LOG_LINES"}
)  # fmt: skip
"""They change no shape: one measurement serves all their values (but of another type, or 0)."""


class Profile(msgspec.Struct, frozen=True):
    """What a file's own code says: its cost, and its constants as they are once it is loaded."""

    cost: Cost
    constants: dict[str, Any]


class Profiler:
    """One process that has torch, started at the first measurement; `close` ends it.

    The files it runs are a researcher's. They see the machine's files read-only, no network and no other process
    where bubblewrap works (`confinement` "bwrap"); elsewhere only hard limits hold: no file can be written, CPU and
    memory are capped ("limits"). The environment is empty in both cases.

    `kind` names what measures, for the session's configuration: simulated results depend on whether there is one.
    """

    def __init__(self, python: str, cache_dir: Path, kind: str) -> None:
        self.kind = kind
        self.confinement = ""
        self._python = python
        self._cache_dir = cache_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._known: dict[str, dict[str, Any]] = {}

    @classmethod
    def find(cls, python: str, cache_dir: Path) -> Profiler | None:
        """Return a profiler that runs `python`, None where it has no torch. Measurements are kept in `cache_dir`."""
        command = [python, "-I", "-c", "from importlib.metadata import version; print(version('torch'))"]
        try:
            done = subprocess.run(command, env=_environment(), capture_output=True, timeout=60, check=True, text=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return cls(python, cache_dir, f"torch {done.stdout.strip()}")

    def profile(self, source: str, known: Outline, *, seq_len: int, vocab_size: int) -> Profile | Failure | None:
        """Measure a file, or say how loading, building or stepping it fails; None where neither can be told.

        Blocks: about 2 s for the first new structure, 0.6 s for each further structure or shape, 0 for a known one.
        """
        key = self._key(known, seq_len, vocab_size)
        answer = self._known.get(key)
        if answer is None:
            answer = self._load(key)
        if answer is None:
            names = [*known.template.names, *known.template.unsettable]
            answer = self._ask({"source": source, "seq_len": seq_len, "vocab_size": vocab_size, "names": names})
            self._save(key, answer)
        self._known[key] = answer
        if "outcome" in answer:
            return Failure(answer["outcome"], answer["reason"])
        if "params" not in answer:
            return None
        unsettable = {name: answer["constants"].get(name) for name in known.template.unsettable}
        constants = {name: _tupled(value) for name, value in unsettable.items() if name in answer["constants"]}
        return Profile(Cost(answer["params"], answer["flops_per_token"]), constants)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _key(self, known: Outline, seq_len: int, vocab_size: int) -> str:
        parts: list[Any] = [CACHE_VERSION, self.kind, seq_len, vocab_size, *known.template.pieces]
        for name, value in zip(known.template.names, known.values, strict=True):
            parts.append([name, type(value).__name__, value == 0 if name in RATES else repr(value)])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _load(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self._cache_dir / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _save(self, key: str, answer: dict[str, Any]) -> None:
        """Keep a measurement; a cache that cannot be written costs time, nothing else."""
        with contextlib.suppress(OSError):
            self._cache_dir.mkdir(parents=True, exist_ok=True)
            unfinished = self._cache_dir / f"{key}.{os.getpid()}"
            unfinished.write_text(json.dumps(answer))
            unfinished.replace(self._cache_dir / f"{key}.json")

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request to the worker and wait for its answer; a worker that hangs or dies is replaced."""
        worker = self._worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(json.dumps(request).encode() + b"\n")
            worker.stdin.flush()
            if select.select([worker.stdout], [], [], ANSWER_CAP_S)[0]:
                answer = json.loads(worker.stdout.readline())
                if isinstance(answer, dict):
                    return answer
        except (OSError, ValueError):
            pass
        self.close()
        return {}

    def _worker(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            script = str(Path(__file__).with_name("profile_worker.py"))
            command = [self._python, "-I", "-B", script]
            bwrap = _confine()
            self.confinement = "bwrap" if bwrap else "limits"
            self._process = subprocess.Popen(
                [*bwrap, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,
            )
        return self._process


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }


def _confine() -> list[str]:
    """Return the bubblewrap command that leaves a process nothing but reading; empty where it does not work."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return []
    command = [bwrap, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    command += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/var/tmp", "--"]  # noqa: S108 - a private one, which torch wants
    try:
        done = subprocess.run([*command, "true"], env=_environment(), capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return command if done.returncode == 0 else []


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
