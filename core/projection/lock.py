"""One process at a time works on a session's projection."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.1


class ProjectionBusy(RuntimeError):
    """Another process is at work on the projection; the text is one sentence for the user."""


@contextlib.contextmanager
def projection_lock(session_dir: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the session's projection, waiting at most `wait_s` for a process that is about to end.

    Raises:
        ProjectionBusy: it does not end in time.
    """
    fd = os.open(session_dir / "projection.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline_s = time.monotonic() + wait_s
        while not _taken(fd):
            if time.monotonic() >= deadline_s:
                raise ProjectionBusy(
                    f"another process is at work on the projection of {session_dir}: "
                    "it ends with the session's engine; stop the session first"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(fd)


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
