"""Writing a journal: recovery of a torn tail, group commit, disk-full behaviour, segments."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from core.events import AnyEvent, Event, UnknownEvent
from core.journal.files import RESERVE_BYTES, FileOps
from core.journal.format import START, JournalDamaged, Position, line_of, segment_path
from core.journal.reader import Tail

_SEGMENT_BYTES = 64 * 2**20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskFull(Exception):
    """There is no room for the events that wait; none is lost, `commit` may be called again."""


class JournalBroken(Exception):
    """The disk failed in a way that leaves the file's state unknown: this writer must not go on."""


class Journal:
    """The single writer. The caller holds the session's lock.

    Opening reads the whole journal (each event goes to `on_event`, so that a resumed engine folds it in the
    same pass), cuts a torn tail off into `torn-<n>.bin`, and refuses a journal that is damaged before its end.

    Args:
        folder: the journal's folder, made if missing.
        on_event: called with each event that is already there, in order.
        ops: file operations, replaced by tests.
        segment_bytes: a segment that has reached this size is followed by a new one.

    Raises:
        JournalDamaged: nothing was changed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_event: Callable[[AnyEvent | UnknownEvent], None] | None = None,
        ops: FileOps | None = None,
        segment_bytes: int = _SEGMENT_BYTES,
    ) -> None:
        self._folder = folder
        self._ops = ops if ops is not None else FileOps()
        self._segment_bytes = segment_bytes
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0
        self._broken = False
        self._closed = False
        self.cut_bytes = 0
        """How many bytes of a torn tail opening cut off (they are kept in `torn-<n>.bin`)."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._position = self._recover(on_event)
        self._written = self._position.offset
        self._fd = self._ops.open(segment_path(folder, self._position.segment))
        self._ops.sync_folder(folder)
        self.restore_reserve()

    @property
    def last_n(self) -> int:
        """The number of the last event taken, durable or not."""
        return self._position.n

    @property
    def waiting(self) -> int:
        """How many events are taken but not yet durable."""
        return len(self._buffer)

    def append(self, event: Event) -> None:
        """Take an event: it gets its number now and is durable after the next `commit`.

        Raises:
            JournalBroken: only where a full segment has to be committed first; the event is not taken.
        """
        if self._written + self._buffered_bytes >= self._segment_bytes:
            with contextlib.suppress(DiskFull):  # the segment grows a little longer, until there is room for another
                self.commit()
                self._roll()
        position = self._position
        event.n = position.n + 1
        first = self._written + self._buffered_bytes == 0 and position.segment > 1
        event.prev = position.crc if first else None
        line, crc = line_of(event)
        self._buffer.append(line)
        self._buffered_bytes += len(line)
        self._position = Position(position.segment, self._written + self._buffered_bytes, event.n, crc)

    def commit(self) -> None:
        """Write what waits and make it durable.

        Raises:
            DiskFull: the file is as before, the events still wait.
            JournalBroken: see there.
        """
        if self._broken:
            raise JournalBroken("the journal's disk failed before; end the engine and resume the session")
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        try:
            self._write_all(data)
        except OSError as error:
            self._undo(error)
        try:
            self._ops.sync(self._fd)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the pages: what is on disk is unknown.
            self._broken = True
            raise JournalBroken(f"the journal in {self._folder} could not be synced: {error}") from error
        self._written += len(data)
        self._buffer.clear()
        self._buffered_bytes = 0

    def close(self) -> None:
        """Let go of the file. What waits is not written: commit first."""
        if not self._closed:
            os.close(self._fd)
        self._broken = self._closed = True

    def release_reserve(self) -> bool:
        """Give up the reserve so that a full disk takes a little more; False where it is gone already."""
        try:
            (self._folder / "reserve").unlink()
        except FileNotFoundError:
            return False
        return True

    def restore_reserve(self) -> bool:
        """Allocate the reserve again; False while the disk has no room for it."""
        path = self._folder / "reserve"
        if path.exists() and path.stat().st_size == RESERVE_BYTES:
            return True
        try:
            self._ops.allocate(path, RESERVE_BYTES)
        except OSError:
            path.unlink(missing_ok=True)
            return False
        return True

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        done = 0
        while done < len(data):
            done += self._ops.write_at(self._fd, view[done:], self._written + done)

    def _undo(self, error: OSError) -> None:
        try:
            self._ops.truncate(self._fd, self._written)
        except OSError as worse:
            self._broken = True
            raise JournalBroken(f"the journal in {self._folder} could not be cut back: {worse}") from worse
        if error.errno in _FULL:
            raise DiskFull(f"the disk that holds {self._folder} is full") from error
        self._broken = True
        raise JournalBroken(f"the journal in {self._folder} could not be written: {error}") from error

    def _roll(self) -> None:
        following = self._position.segment + 1
        path = segment_path(self._folder, following)
        try:
            fd = self._ops.open(path)
            self._ops.sync_folder(self._folder)
        except OSError as error:
            # No later segment may stand while this one still grows: readers would take this one for whole.
            path.unlink(missing_ok=True)
            if error.errno in _FULL:
                raise DiskFull(f"the disk that holds {self._folder} is full") from error
            self._broken = True
            raise JournalBroken(f"the journal in {self._folder} cannot go on: {error}") from error
        os.close(self._fd)
        self._fd, self._written = fd, 0
        self._position = Position(following, 0, self._position.n, self._position.crc)

    def _recover(self, on_event: Callable[[AnyEvent | UnknownEvent], None] | None) -> Position:
        tail = Tail(self._folder, START)
        while batch := tail.read():
            if on_event is not None:
                for event, _ in batch:
                    on_event(event)
        self._cut_torn_tail(tail.position)
        return tail.position

    def _cut_torn_tail(self, end: Position) -> None:
        path = segment_path(self._folder, end.segment)
        if any(later.name > path.name for later in self._folder.glob("*.jsonl")):
            raise JournalDamaged(path, end.offset, "a bad or missing part before a later segment")
        if not path.exists() or path.stat().st_size == end.offset:
            return
        with path.open("rb") as file:
            file.seek(end.offset)
            torn = file.read()
        keep = self._folder / f"torn-{end.n:08d}.bin"
        with contextlib.suppress(OSError):  # on a full disk the cut matters more than the keepsake
            keep.write_bytes(torn)
        fd = self._ops.open(path)
        try:
            self._ops.truncate(fd, end.offset)
            self._ops.sync(fd)
        finally:
            os.close(fd)
        self.cut_bytes = len(torn)
