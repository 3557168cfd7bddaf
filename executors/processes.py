"""The processes of a run, seen from outside: counts what they use, buries what died, kills them all.

Standard library only: it travels with the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from executors.output import LauncherError

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
KILL_CAP_S: Final = 15.0


def children(pid: int) -> list[int]:
    """Process ids of the live (or not yet reaped) children of `pid`; none if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(roots: Iterable[int]) -> list[int]:
    """`roots` and everything below them."""
    found = list(roots)
    for pid in found:
        found += children(pid)
    return found


def resident_mb(pids: Iterable[int]) -> float:
    """Resident memory in MiB, summed over processes: pages that they share count once for each."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 2**20


def memory_limit_mb() -> float:
    """Four fifths of the RAM that this machine or its container has, in MiB: for all slots together."""
    total = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return 0.8 * total / 2**20


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Tree:
    """The trainer's processes: whatever descends from this process and is not spared.

    The supervisor is a subreaper, so a daemonised grandchild ends up below it, too.
    """

    def __init__(self) -> None:
        self.spared: set[int] = set()
        self.peak_mb = 0.0
        self._seen_s: dict[tuple[int, str], float] = {}
        self.cpu_s = 0.0
        self._reaped_before_s = _reaped_cpu_s()

    def pids(self) -> list[int]:
        """The live processes of the tree."""
        return descendants(pid for pid in children(os.getpid()) if pid not in self.spared)

    def sample(self) -> tuple[float, float]:
        """Return (CPU seconds ever used by the tree, resident MiB now).

        A child that was waited for is in its parent's count, or in ours. What can still hide, until syscall
        filters forbid it: children that live and die between two samples under a parent that ignores SIGCHLD
        (nobody is charged for them). The cap on wall time bounds that.
        """
        pids = self.pids()
        counted_s = _reaped_cpu_s() - self._reaped_before_s
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                own, waited = (int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
                counted_s += (own + waited) / TICKS_PER_S
                self._seen_s[pid, fields[19]] = own / TICKS_PER_S
        self.cpu_s = max(self.cpu_s, counted_s, sum(self._seen_s.values()))
        now_mb = resident_mb(pids)
        self.peak_mb = max(self.peak_mb, now_mb)
        return self.cpu_s, now_mb

    def reap(self, keep: subprocess.Popen[bytes] | None) -> None:
        """Bury what died: orphans come to us, and a container has only so many process ids. `keep` is polled."""
        for pid in children(os.getpid()):
            if keep is not None and pid == keep.pid:
                keep.poll()
            elif pid not in self.spared:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def kill(self, keep: subprocess.Popen[bytes] | None) -> None:
        """Kill the tree until nothing is left; `keep` is reaped by its own Popen object.

        Without a pid namespace a process that forks faster than we list could outrun this for a while.
        Raises LauncherError if something survives: then no checkpoint can be called final.
        """
        until_s = time.monotonic() + KILL_CAP_S
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.reap(keep)
            if time.monotonic() > until_s:
                raise LauncherError(f"process {pids[0]} of the run cannot be killed: look at it, then go on")
            time.sleep(0.001)
