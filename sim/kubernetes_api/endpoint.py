"""The cluster `sim` of a session: a process of its own beside the engine, which finds it again after its own death."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from core.executor import ExecutorError

_START_S: Final = 60.0
_LOOK_S: Final = 0.02
LOCK: Final = "kubernetes.lock"


def ensure(
    folder: Path, gpus: str | None, seed: int, options: Mapping[str, Any], *, start_s: float, speed: float
) -> Path:
    """Have a session's cluster running, and return its kubeconfig.

    Args:
        folder: the session's.
        gpus: a mixture as sim.mix reads it.
        seed: the session's.
        options: of the session: `faults` and `kube_faults`.
        start_s: the session second that it begins with, where it is not there yet.
        speed: session seconds a second.

    Raises:
        ExecutorError: it does not start.
    """
    config = folder / "kubeconfig"
    if _held(folder / LOCK) and config.exists():
        return config
    config.unlink(missing_ok=True)
    words = [
        *(
            "--folder",
            str(folder),
            "--gpus",
            gpus or "",
            "--seed",
            str(seed),
            "--faults",
            str(options.get("faults", "default")),
        ),
        *("--kube-faults", str(options.get("kube_faults", "")), "--start", str(start_s), "--speed", str(speed)),
        *(
            "--cluster-seed",
            str(options.get("cluster_seed", "")),
            "--python",
            str(options.get("profiler_python", sys.executable)),
        ),
        *("--profiler", str(options.get("profiler", ""))),
    ]
    with (folder / "kubernetes.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sim.kubernetes_api", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.endswith(("_KEY", "_TOKEN"))},
        )  # fmt: skip
    until_s = time.monotonic() + _START_S
    while not config.exists():
        if process.poll() is not None or time.monotonic() > until_s:
            raise ExecutorError(f"the simulated cluster did not start; see {folder / 'kubernetes.log'}")
        time.sleep(_LOOK_S)
    return config


def _held(lock: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        fd = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
