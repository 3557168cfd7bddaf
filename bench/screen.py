"""Measures the screen in a pseudo-terminal: first paint, idle cost, and the cost of 16 busy devices at 1 Hz.

Run: python -m bench.screen [seconds]. Bars: DESIGN section 9.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core.journal import Journal
from tests.support.story import Story, session, with_runs, write_journal

_CHILD = """
import sys
from pathlib import Path
from tui.app import run_app
from core.sources import LiveSource
sys.exit(run_app(LiveSource(Path(sys.argv[1]), lambda: True), crash_log=Path(sys.argv[1]) / "crash.log"))
"""
_FIRST_PAINT = b"val_bpb"


class Cost(NamedTuple):
    """What the screen took: seconds to its first frame, then bytes and CPU per second, and memory."""

    first_paint_s: float
    bytes_per_s: float
    cpu_percent: float
    rss_mb: float


def measure(journal_dir: Path, *, seconds: float, columns: int, lines: int, each_s: Callable[[], object]) -> Cost:
    """Start the screen in a pty, let it settle, then watch it; `each_s` runs once a second."""
    started_s = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.environ.pop("SSH_CONNECTION", None)
        os.execv(sys.executable, [sys.executable, "-c", _CHILD, str(journal_dir)])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        seen = b""
        while _FIRST_PAINT not in seen:
            seen += os.read(fd, 65536)
        first_paint_s = time.perf_counter() - started_s
        _drain(fd, 3.0)
        cpu_before_s, total = _cpu_s(pid), 0
        begin_s = time.perf_counter()
        while (spent_s := time.perf_counter() - begin_s) < seconds:
            each_s()
            total += _drain(fd, min(1.0, seconds - spent_s))
        spent_s = time.perf_counter() - begin_s
        cpu_s = _cpu_s(pid) - cpu_before_s
        return Cost(first_paint_s, total / spent_s, 100 * cpu_s / spent_s, _rss_mb(pid))
    finally:
        os.kill(pid, signal.SIGTERM)
        _drain(fd, 0.5)
        os.waitpid(pid, 0)
        os.close(fd)


def _drain(fd: int, seconds: float) -> int:
    """Read for so long; returns how many bytes came."""
    total, end_s = 0, time.perf_counter() + seconds
    while (left_s := end_s - time.perf_counter()) > 0:
        if select.select([fd], [], [], left_s)[0]:
            try:
                total += len(os.read(fd, 65536))
            except OSError:
                return total
    return total


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Busy:
    """Appends one progress sample of each of 16 devices a second, as a working session does."""

    def __init__(self, journal_dir: Path) -> None:
        self._story = Story(devices=16, progress=200)
        exp = self._story.propose("the baseline, replicated", {}, range(16))
        self._runs = [self._story.start(exp, seed, f"gpu{seed}", "baseline") for seed in range(16)]
        write_journal(journal_dir, self._story.events)
        self._journal = Journal(journal_dir)
        self._share = 0

    def __call__(self) -> None:
        before = len(self._story.events)
        self._share += 1
        for run in self._runs:
            self._story.advance(run, self._share)
        for event in self._story.events[before:]:
            self._journal.append(event)
        self._journal.commit()


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with tempfile.TemporaryDirectory() as folder:
        idle = write_journal(Path(folder) / "idle", session(experiments=60, devices=16, ended=True))
        long = write_journal(Path(folder) / "long", with_runs(1_000, 100_000))
        busy_dir = Path(folder) / "busy"
        busy = Busy(busy_dir)
        print("case                      first paint s   bytes/s   CPU %   RSS MB")
        for name, path, each_s in (
            ("idle 120x40", idle, lambda: None),
            ("idle, 100k events", long, lambda: None),
            ("16 busy at 1 Hz 120x40", busy_dir, busy),
        ):
            cost = measure(path, seconds=seconds, columns=120, lines=40, each_s=each_s)
            numbers = (
                f"{cost.first_paint_s:13.2f} {cost.bytes_per_s:9.0f} {cost.cpu_percent:7.1f} {cost.rss_mb:8.0f}"
            )
            print(f"{name:<25} {numbers}")


if __name__ == "__main__":
    main()
