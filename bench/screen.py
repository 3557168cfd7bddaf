"""Measures the screen in a pseudo-terminal: first paint, idle cost, and the cost of 16 busy devices at 1 Hz.

Part of `python -m bench`.
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
    """What the screen took: seconds to its first frame and until all events are in it, then its upkeep."""

    first_paint_s: float
    complete_s: float
    bytes_per_s: float
    cpu_percent: float
    rss_mb: float


def measure(journal_dir: Path, events: int, *, seconds: float, each_s: Callable[[], object]) -> Cost:
    """Start the screen in a pty, let it settle, then watch it; `each_s` runs once a second."""
    started_s = time.perf_counter()
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor")
        os.environ.pop("SSH_CONNECTION", None)
        os.execv(sys.executable, [sys.executable, "-c", _CHILD, str(journal_dir)])
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        seen = b""
        while _FIRST_PAINT not in seen:
            seen += os.read(fd, 65536)
        first_paint_s = time.perf_counter() - started_s
        while b"#%d " % events not in seen:
            seen += os.read(fd, 65536)
        complete_s = time.perf_counter() - started_s
        _drain(fd, 2.0)
        cpu_before_s, total = _cpu_s(pid), 0
        begin_s = time.perf_counter()
        while (spent_s := time.perf_counter() - begin_s) < seconds:
            each_s()
            total += _drain(fd, min(1.0, seconds - spent_s))
        spent_s = time.perf_counter() - begin_s
        cpu_s = _cpu_s(pid) - cpu_before_s
        return Cost(first_paint_s, complete_s, total / spent_s, 100 * cpu_s / spent_s, _rss_mb(pid))
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
        self.events = len(self._story.events)

    def __call__(self) -> None:
        before = len(self._story.events)
        self._share += 1
        for run in self._runs:
            self._story.advance(run, self._share)
        for event in self._story.events[before:]:
            self._journal.append(event)
        self._journal.commit()


def costs(seconds: float) -> list[tuple[str, Cost]]:
    """(case, cost) of an idle screen, of an idle one over a long session, and of 16 busy devices."""
    with tempfile.TemporaryDirectory() as folder:
        idle, long = session(experiments=60, devices=16, ended=True), with_runs(1_000, 100_000, ended=True)
        write_journal(Path(folder) / "idle", idle)
        write_journal(Path(folder) / "long", long)
        busy = Busy(Path(folder) / "busy")
        cases: tuple[tuple[str, str, int, Callable[[], object]], ...] = (
            ("idle", "idle, 120x40", len(idle), lambda: None),
            ("long", "idle, 120x40, 100k events", len(long), lambda: None),
            ("busy", "16 busy devices at 1 Hz, 120x40", busy.events, busy),
        )
        return [
            (name, measure(Path(folder) / path, events, seconds=seconds, each_s=each_s))
            for path, name, events, each_s in cases
        ]


def rows(seconds: float) -> list[tuple[str, str, str]]:
    """(what, measured, bar) of every figure here."""
    idle, long, busy = costs(seconds)
    found = [
        ("first painted screen", f"{idle[1].first_paint_s:.2f} s", "< 1.0 s"),
        ("the same with all of 100k events in it, start-up included", f"{long[1].complete_s:.2f} s", ""),
    ]
    bars = ("< 100 B/s, < 1 % CPU", "< 100 B/s, < 1 % CPU", "< 12 kB/s, < 5 % CPU")
    for (name, cost), bar in zip((idle, long, busy), bars, strict=True):
        figures = f"{cost.bytes_per_s:,.0f} B/s, {cost.cpu_percent:.1f} % CPU, {cost.rss_mb:.0f} MB"
        found.append((f"screen {name}", figures, bar))
    return found
