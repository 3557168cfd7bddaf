"""One line of a journal: JSON whose last key is the CRC-32 of all that stands before it."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from core.events import AnyEvent, Event, EventError, UnknownEvent, decode, encode

_TAIL: Final = re.compile(rb',"crc":"([0-9a-f]{8})"\}\Z')
_TAIL_BYTES: Final = len(b',"crc":"00000000"}')
NO_CRC: Final = ""


class Position(NamedTuple):
    """A place between two lines: event `n` ended there, the next begins at `offset` of segment `segment`."""

    segment: int
    offset: int
    n: int
    crc: str = NO_CRC


START: Final = Position(1, 0, 0)


class JournalDamaged(Exception):
    """A journal that must not be written to: the text says where and why."""

    def __init__(self, path: Path, offset: int, why: str) -> None:
        super().__init__(
            f"the journal is damaged in {path} at byte {offset}: {why}; nothing was changed, and events before "
            "this place can still be read"
        )
        self.path, self.offset, self.why = path, offset, why


class BadLine(ValueError):
    """Bytes that are not the next line of a journal; the text says why."""


def segment_path(folder: Path, segment: int) -> Path:
    """`000001.jsonl` and so on."""
    return folder / f"{segment:06d}.jsonl"


def line_of(event: Event) -> tuple[bytes, str]:
    """Encode one event as a line with its newline; returns the line and its checksum in hex."""
    body = encode(event)[:-1]
    crc = f"{zlib.crc32(body):08x}"
    return b'%s,"crc":"%s"}\n' % (body, crc.encode()), crc


def parse_line(line: bytes, position: Position) -> tuple[AnyEvent | UnknownEvent, str]:
    """Check and decode one line (without its newline) that should follow `position`.

    Returns the event and its checksum.

    Raises:
        BadLine: the checksum, the number, the chain to the segment before, or the fields are wrong.
    """
    match = _TAIL.search(line[-_TAIL_BYTES:])
    if match is None:
        raise BadLine("a line without a checksum")
    crc = match.group(1).decode()
    if f"{zlib.crc32(line[:-_TAIL_BYTES]):08x}" != crc:
        raise BadLine("a line whose checksum does not fit")
    try:
        event = decode(line)
    except EventError as error:
        raise BadLine(str(error)) from None
    if event.n != position.n + 1:
        raise BadLine(f"event {event.n} where {position.n + 1} should be")
    if position.offset == 0 and position.segment > 1 and event.prev != position.crc:
        raise BadLine("a segment that does not continue the one before")
    return event, crc
