"""What the cluster as a whole does to a session, in one sentence: told when it changes, taken back when it is over."""

from __future__ import annotations

from typing import Final, Literal

from core.executor import Emit, ExecutorEvent, Notice

Level = Literal["info", "warning", "error"]
SUBJECT: Final = "executor"
_RANK: Final[dict[Level, int]] = {"info": 0, "warning": 1, "error": 2}


class Notices:
    """Keeps one sentence per source and tells the gravest of them, of equal ones the newest.

    Args:
        emit: takes the events; nothing is told before `begin`.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._said: dict[str, tuple[str, Level]] = {}
        self._told = ("", "info")
        self._live = False

    def begin(self) -> None:
        """The engine listens now."""
        self._live = True
        self._tell()

    def say(self, source: str, text: str, level: Level) -> None:
        """Say something about a source, instead of what was said of it before; an empty text takes that back."""
        self._said.pop(source, None)
        if text:
            self._said[source] = (text, level)
        self._tell()

    def _tell(self) -> None:
        text, level = max(reversed(self._said.values()), key=lambda said: _RANK[said[1]], default=("", "info"))
        if self._live and (text, level) != self._told:
            self._told = (text, level)
            self._emit([ExecutorEvent(SUBJECT, 0, Notice(text, level))])
