"""How seldom a process that folds a journal looks for garbage."""

from __future__ import annotations

import gc

_THRESHOLDS = (100_000, 50, 1_000)


def collect_rarely() -> None:
    """Let Python's collector look at new objects only, and at those seldom.

    A session's state only grows and holds hardly a cycle: the usual thresholds would walk all of it again and again.
    """
    gc.set_threshold(*_THRESHOLDS)
