"""Carries the journal into the private database, batch by batch, exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from core.journal import JournalDamaged, Tail
from core.journal.reader import Placed
from core.projection.fold import RowFold
from core.projection.lock import projection_lock
from core.projection.store import STORE_NAME, Store

_BATCH: Final = 8_000
"""Events per transaction: enough to make its fixed cost small, few enough to bound memory."""


class Ingester:
    """Reads a session's journal from where the store has got to.

    What is open is not kept in the database but folded again from the journal's start: no second form of
    the state to keep in step. A store that the journal does not lead to is of a journal that lost its end
    (a power cut); it begins anew.
    """

    def __init__(self, journal_dir: Path, store: Store) -> None:
        self._store = store
        self._journal_dir = journal_dir
        self._tail = Tail(journal_dir)
        self._fold = RowFold(journal_dir.parent.name)
        self.damage: JournalDamaged | None = None
        """Why the rest of the journal cannot be read, once that is known."""
        self._catch_up()

    @property
    def n(self) -> int:
        """The number of the last event that the store holds."""
        return self._tail.position.n

    @property
    def ended(self) -> bool:
        """Whether the session's last event is ingested."""
        return self._fold.state.now.ended is not None

    def _catch_up(self) -> None:
        reached = self._store.position()
        while self._tail.position.n < reached.n:
            batch = self._read(min(_BATCH, reached.n - self._tail.position.n))
            if not batch:
                break
            for event, _ in batch:
                self._fold.take(event)
            self._fold.drain_settled()
            self._fold.drain_verdicts()
        if self._tail.position != reached:
            self._store.reset()
            self._tail, self._fold, self.damage = Tail(self._journal_dir), RowFold(self._journal_dir.parent.name), None

    def ingest(self) -> None:
        """Take in all that is whole in the journal."""
        full = True
        # Only up to a batch that is not full: running after an engine that writes as fast would never end.
        while full and (batch := self._read(_BATCH)):
            self._take(batch)
            full = len(batch) == _BATCH

    def ingest_until(self, n: int) -> Iterator[int]:
        """Take in the journal up to event `n`, as far as it goes; yields how far that is, batch by batch."""
        while self.n < n and (batch := self._read(min(_BATCH, n - self.n))):
            self._take(batch)
            yield self.n

    def _take(self, batch: list[Placed]) -> None:
        for event, _ in batch:
            self._fold.take(event)
        self._store.write(self._fold, batch[-1][1])

    def _read(self, limit: int) -> list[Placed]:
        """The next events, up to damage; from then on nothing."""
        if self.damage is not None:
            return []
        try:
            batch = self._tail.read(limit)
        except JournalDamaged:
            batch = []
        self.damage = self._tail.damage
        return batch


def rebuild(session_dir: Path) -> JournalDamaged | None:
    """Make the projection of a session anew from its journal, and publish it.

    Returns the damage that kept it from reaching the journal's end, if any: what is before is published.

    Raises:
        ProjectionBusy: a process is at work on this session's projection.
        OSError: the disk is full or broken.
    """
    with projection_lock(session_dir, wait_s=0.0):
        (session_dir / STORE_NAME).unlink(missing_ok=True)
        store = Store(session_dir)
        try:
            ingester = Ingester(session_dir / "journal", store)
            ingester.ingest()
            store.publish()
        finally:
            store.close()
    return ingester.damage


def cut(session_dir: Path, n: int, into: Path, progress: Callable[[int], None]) -> str:
    """Publish in another folder what the session's database was right after event `n`, and leave the session's own be.

    Args:
        into: an empty folder.
        progress: hears how many events are taken in, now and then.

    Returns why the journal does not lead to event `n`, in a sentence, or an empty text.

    Raises:
        OSError: the disk is full or broken.
    """
    store = Store(into)
    try:
        ingester = Ingester(session_dir / "journal", store)
        for reached in ingester.ingest_until(n):
            progress(reached)
        store.publish()
    finally:
        store.close()
    (into / STORE_NAME).unlink()
    if ingester.damage is not None:
        return str(ingester.damage)
    short = f"the journal in {session_dir} goes up to event #{ingester.n:,} only, not to #{n:,}"
    return short if ingester.n < n else ""
