"""Starts the short-lived processes that deal with SQL, without secrets, and lets another thread end them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any, Final

_ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL")
"""What they inherit: enough to start, no secrets."""


class Stop:
    """Ends the process that a thread waits for, and those it would start next; asked for from any thread, once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self.asked = False
        """Whether the end was asked for."""

    def now(self) -> None:
        """Kill what runs."""
        with self._lock:
            self.asked = True
            if self._process is not None:
                self._process.kill()

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """From now on it is this process that is to be killed; at once, where that was asked for already."""
        with self._lock:
            self._process = process
            if self.asked:
                process.kill()


def run(module: str, request: dict[str, Any], timeout_s: float, stop: Stop) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m module` on a JSON request on its stdin to its end.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout_s` and was killed.
    """
    asked = json.dumps({**request, "parent": os.getpid()}).encode()
    with start(module) as process:
        stop.watch(process)
        try:
            out, err = process.communicate(asked, timeout_s)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess([module], process.returncode, out, err)


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `python -m module` with pipes to all of its ends."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
