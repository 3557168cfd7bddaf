"""The session's append-only log, the only truth: line format, writer, recovery, readers."""

from core.journal.files import RESERVE_BYTES, FileOps
from core.journal.format import START, JournalDamaged, Position, line_of
from core.journal.reader import Tail, scan
from core.journal.writer import DiskFull, Journal, JournalBroken

__all__ = [
    "RESERVE_BYTES",
    "START",
    "DiskFull",
    "FileOps",
    "Journal",
    "JournalBroken",
    "JournalDamaged",
    "Position",
    "Tail",
    "line_of",
    "scan",
]
