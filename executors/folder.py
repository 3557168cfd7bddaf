"""An attempt's folder, where launcher and executor meet: its files, who holds it, how it ended.

Standard library only: it travels with the supervisor.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TRAVELLERS: Final = ("__init__", "confine", "folder", "output", "processes", "sandbox", "scoring", "supervisor")
"""The modules of this package that are copied into an attempt's folder, so that an upgrade cannot break it."""

LOCK_WAIT_S: Final = 1.0


def take(folder: Path) -> bool:
    """Become the attempt's only launcher, for the life of this process.

    Returns False where there is another, or ever was one: an attempt is never executed twice.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    until_s = time.monotonic() + LOCK_WAIT_S
    while not _try_lock(lock):
        # An engine that looks whether somebody is here holds the lock for an instant: do not give up at once.
        if time.monotonic() > until_s:
            return False
        time.sleep(0.01)
    try:
        claim = os.open(folder / "claim", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    pid = os.getpid()
    os.write(claim, json.dumps({"pid": pid, "start_ticks": _start_ticks(pid), "boot_id": _boot_id()}).encode())
    os.close(claim)
    return True


def is_held(folder: Path) -> bool:
    """Whether a launcher lives here now. The kernel frees the lock of a dead one; process ids would lie."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def is_claimed(folder: Path) -> bool:
    """Whether a launcher ever took this attempt."""
    return (folder / "claim").exists()


def watch_launcher(folder: Path) -> int | None:
    """Return a pidfd of the launcher that the claim names, or None where it cannot be had."""
    try:
        claim = json.loads((folder / "claim").read_bytes())
        pidfd = os.pidfd_open(claim["pid"])
    except (OSError, ValueError, KeyError):
        return None
    # Only after the descriptor pins the process can the comparison not be outrun by a reused process id.
    if (_start_ticks(claim["pid"]), _boot_id()) == (claim["start_ticks"], claim["boot_id"]):
        return pidfd
    os.close(pidfd)
    return None


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Write exit.json so that it is whole or not there, also after a power cut."""
    with (folder / "exit.tmp").open("w") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    (folder / "exit.tmp").rename(folder / "exit.json")
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The content of exit.json, or None where the attempt has not ended (or its launcher died)."""
    try:
        result: dict[str, Any] = json.loads((folder / "exit.json").read_bytes())
    except FileNotFoundError:
        return None
    return result


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot (proc(5), stat field 22); -1 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return -1


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
