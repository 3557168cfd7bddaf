"""The few file operations a journal needs, in one place so that tests can make each of them fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 16 * 2**20
"""Kept allocated beside the journal: given up when the disk is full, so that running work can be recorded."""


class FileOps:
    """The operating system's own operations."""

    def open(self, path: Path) -> int:
        """Open for writing, made if missing, for this user alone."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write_at(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of the bytes at an offset; returns how many."""
        return os.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Make the file's bytes and length durable."""
        os.fdatasync(fd)

    def truncate(self, fd: int, length: int) -> None:
        """Cut the file to a length."""
        os.ftruncate(fd, length)

    def sync_folder(self, folder: Path) -> None:
        """Make names in a folder durable."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def allocate(self, path: Path, length: int) -> None:
        """Make a file of real, allocated bytes."""
        fd = self.open(path)
        try:
            os.posix_fallocate(fd, 0, length)
        finally:
            os.close(fd)
