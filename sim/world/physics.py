"""The artefact reader and the surrogate put together: how the world behaves, for whoever simulates attempts."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from core.executor import ExecutorError
from sim.world.outlook import Physics

VOCAB_SIZE: Final = 8_192
"""That of the tokenizer behind every score that the surrogate was fitted to (Karpathy's prepare.py)."""


def physics(*, seq_len: int, python: str, profiler_kind: str, cache_dir: Path, confined: bool) -> Physics:
    """Make the physics; the parts are imported here, so that who does not need them does not pay for them.

    Args:
        seq_len: tokens in a sequence.
        python: the interpreter whose torch measures structural edits.
        profiler_kind: the torch that has to be there for that, as the session was begun with it; empty: none.
        cache_dir: keeps what was measured.
        confined: files under study may be anybody's, so they run only confined.

    Raises:
        ExecutorError: the session was begun with a torch that is not there now.
    """
    from sim.artefact import Profiler, read
    from sim.surrogate import forecast, loss_at, unmodelled_knobs

    profiler = Profiler.find(python, cache_dir, confined_only=confined) if profiler_kind else None
    found = profiler.kind if profiler is not None else ""
    if found != profiler_kind:
        raise ExecutorError(
            f"this session measures structural edits with {profiler_kind} of {python}, where there is "
            f"{found or 'none'} now: its results would change; put that version back, or start a new session"
        )
    reads = functools.partial(read, seq_len=seq_len, vocab_size=VOCAB_SIZE, profiler=profiler)
    return Physics(reads, forecast, loss_at, unmodelled_knobs, profiler.close if profiler is not None else _nothing)


def _nothing() -> None:
    """What there is to close without a profiler."""
