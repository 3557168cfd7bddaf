"""What an attempt tells people: its log, which can drive no terminal, and the reason why it ended.

Standard library only: it travels with the supervisor.
"""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import Final

LOG_HEAD_BYTES: Final = 2_500_000
LOG_TAIL_BYTES: Final = 2_400_000

_ESCAPES: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    "|(?:\x1b[]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"  # OSC, DCS and the like
    "|\x1b[ -/]*[0-~]?"
)
# Everything invisible or that reorders: C0 and C1 controls, zero width, bidirectional overrides, tags.
_CONTROLS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def clean(text: str) -> str:
    """Strip terminal escapes and control characters, so that a log can never drive a terminal.

    Linear in the length of the text whatever it holds: every pattern above consumes what it looked at.
    """
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))


def sentence(text: str) -> str:
    """One clean line of at most 300 characters, for a reason."""
    return " ".join(clean(text).split())[:300]


class Ended(Exception):
    """The attempt ends without a score.

    Args:
        outcome: its name (see core.executor.Outcome).
        reason: one sentence.
        contract_broken: whether train.py does what it likes but not what it has to.
    """

    def __init__(self, outcome: str, reason: str, *, contract_broken: bool = False) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.contract_broken = contract_broken


class LauncherError(Exception):
    """Our own side cannot run the attempt (outcome `infrastructure`); the text is one sentence."""


class OutputLog:
    """output.log: the head as it comes, the tail at the end, nothing in between, whatever is printed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._head_left = LOG_HEAD_BYTES
        self._partial = b""
        self._tail: collections.deque[bytes] = collections.deque()
        self._tail_bytes = 0
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take what the trainer printed."""
        if self._head_left:
            data = self._partial + data
            cut = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 or (len(data) if len(data) > 1 << 16 else 0)
            self._partial = data[cut:]
            data = self._write_head(data[:cut])
            if not self._head_left:  # what comes next goes behind it
                data, self._partial = data + self._partial, b""
        if data:
            self._tail.append(data)
            self._tail_bytes += len(data)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= LOG_TAIL_BYTES:
            self._dropped += len(self._tail[0])
            self._tail_bytes -= len(self._tail.popleft())

    def finish(self) -> None:
        """Write the tail."""
        rest = b"".join(self._tail) + self._partial
        if self._head_left:
            rest = self._write_head(rest)
        tail = _clean_bytes(rest)[-LOG_TAIL_BYTES:].decode(errors="ignore").encode()
        if dropped := self._dropped + max(0, len(rest) - LOG_TAIL_BYTES):
            self._file.write(f"\n[{dropped} bytes left out]\n".encode())
        self._file.write(tail)
        self._file.close()

    def _write_head(self, data: bytes) -> bytes:
        """Write what still fits the head; return the rest."""
        text = _clean_bytes(data)
        fitting = text[: self._head_left].decode(errors="ignore").encode()  # cuts between characters
        self._file.write(fitting)
        self._head_left = self._head_left - len(text) if len(fitting) == len(text) else 0
        return text[len(fitting) :]


def _clean_bytes(data: bytes) -> bytes:
    return clean(data.decode(errors="replace")).encode(errors="replace")
