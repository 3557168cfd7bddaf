"""What goes wrong between a client and the API server: refusals, cut and silent connections, a server that is away."""

from __future__ import annotations

import random
import re
from typing import Final, Literal

import msgspec

What = Literal["status", "drop", "hang", "slow", "cut"]
VERBS: Final = ("get", "list", "watch", "create", "delete", "update", "log")


class Fault(msgspec.Struct):
    """One kind of trouble.

    `status` answers with `code`, `drop` closes the connection, `hang` never answers, `slow` waits `delay_s` real
    seconds, `cut` ends a watch or a log in the middle of a line. It befalls a `share` of the requests whose verb and
    path match, at most `count` times (None: as often).
    """

    what: What
    verb: str = ""
    path: str = ""
    code: int = 503
    reason: str = "ServiceUnavailable"
    message: str = "the server is currently unable to handle the request"
    retry_after_s: int | None = None
    delay_s: float = 1.0
    share: float = 1.0
    count: int | None = None


class Faults:
    """The troubles that are on; `seed` decides which requests they befall."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311  trouble is no secret
        self._on: list[Fault] = []
        self.met = 0

    def add(self, fault: Fault) -> None:
        """Switch one on."""
        self._on.append(fault)

    def clear(self) -> None:
        """Switch all off."""
        self._on.clear()

    def befalls(self, verb: str, path: str) -> Fault | None:
        """The trouble that a request meets, if any."""
        for fault in self._on:
            fits = fault.verb in ("", verb) and re.search(fault.path, path) is not None
            if not fits or fault.count == 0 or self._random.random() >= fault.share:
                continue
            if fault.count is not None:
                fault.count -= 1
            self.met += 1
            return fault
        return None
