"""The projection process's loop: ingest, publish when due or asked for, end with the session or its engine."""

from __future__ import annotations

import os
import selectors
import time
from pathlib import Path
from typing import Final

from core.projection.ingest import Ingester
from core.projection.store import Store

PUBLISH_EVERY_S: Final = 5.0
"""Wall seconds between snapshots that nobody asked for."""

_IDLE_POLL_S: Final = 1.0
_EAGER_POLL_S: Final = 0.02


class Service:
    """Serves one session until its end, or until `requests` is closed: then the engine is gone.

    Protocol, one line each: `publish N` asks for a snapshot that holds every event up to number N;
    `published M` (M >= N) or `failed <sentence>` answers, in order.

    Args:
        session_dir: the session's folder; the caller holds its projection's lock.
        requests, answers: file descriptors, normally 0 and 1.
    """

    def __init__(self, session_dir: Path, requests: int, answers: int) -> None:
        self._dir = session_dir
        self._requests, self._answers = requests, answers
        self._waiting: list[int] = []
        self._line = b""
        self._engine_gone = False
        self._published_n = 0
        self._published_s = float("-inf")

    def run(self) -> str:
        """Serve; returns why the journal could not be followed to its end, or an empty text.

        Raises:
            OSError, duckdb.Error: the disk is full or broken; what is published stays.
        """
        store = Store(self._dir)
        try:
            ingester = Ingester(self._dir / "journal", store)
            with selectors.DefaultSelector() as selector:
                selector.register(self._requests, selectors.EVENT_READ)
                done = False
                while not done:
                    if selector.select(self._patience_s(ingester.n)):
                        self._receive()
                    done = self._step(ingester, store)
        finally:
            store.close()
        return "" if ingester.damage is None else str(ingester.damage)

    def _step(self, ingester: Ingester, store: Store) -> bool:
        """Ingest and publish as far as it is due; whether nothing is left to do, ever."""
        last_words = self._engine_gone
        due = last_words or self._waiting or time.monotonic() >= self._published_s + PUBLISH_EVERY_S
        if due:
            ingester.ingest()
            # What a store held before this process began may never have been published: hence not "new events".
            if ingester.n > self._published_n:
                store.publish()
                self._published_n, self._published_s = ingester.n, time.monotonic()
        self._answer()
        if ingester.damage is not None:
            self._fail(str(ingester.damage))
            return True
        return last_words or (ingester.ended and self._published_n == ingester.n)

    def _patience_s(self, n: int) -> float:
        """How long to wait for a request before looking at the journal again."""
        if self._waiting or n == 0 or n > self._published_n:
            return _EAGER_POLL_S
        return max(_IDLE_POLL_S, self._published_s + PUBLISH_EVERY_S - time.monotonic())

    def _receive(self) -> None:
        data = os.read(self._requests, 65536)
        self._engine_gone = not data
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            verb, _, number = line.partition(b" ")
            if verb != b"publish" or not number.isdigit():
                raise ValueError(f"a request that is not `publish N`: {line[:80]!r}")
            self._waiting.append(int(number))

    def _answer(self) -> None:
        while self._waiting and self._waiting[0] <= self._published_n:
            self._waiting.pop(0)
            self._say(f"published {self._published_n}")

    def _fail(self, why: str) -> None:
        for _ in self._waiting:
            self._say(f"failed {why}")
        self._waiting.clear()

    def _say(self, line: str) -> None:
        try:
            os.write(self._answers, line.encode() + b"\n")
        except BrokenPipeError:
            self._engine_gone = True
