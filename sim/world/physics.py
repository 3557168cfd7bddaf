"""How a simulated world behaves: the reader of train.py and the surrogate, put together once for every cluster."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from core.executor import ExecutorError
from sim.world.outlook import Physics

VOCAB_SIZE: Final = 8_192
"""That of the tokenizer behind every score that the surrogate was fitted to (Karpathy's prepare.py)."""


def physics(python: str, asked: str, cache_dir: Path, *, seq_len: int, confined: bool) -> Physics:
    """Put the artefact reader and the surrogate together.

    Args:
        python: where a torch may be, which measures structural edits.
        asked: the profiler that the session was begun with; empty: none.
        cache_dir: where it keeps what it measured.
        seq_len: of the target.
        confined: whether a model may write what is run there.

    Raises:
        ExecutorError: the session was begun with a torch that measures structural edits, and it is not there now.
    """
    from sim.artefact import Profiler, read
    from sim.surrogate import forecast, loss_at, unmodelled_knobs

    profiler = Profiler.find(python, cache_dir, confined_only=confined) if asked else None
    found = profiler.kind if profiler is not None else ""
    if found != asked:
        raise ExecutorError(
            f"this session measures structural edits with {asked} of {python}, where there is {found or 'none'} "
            "now: its results would change; put that version back, or start a new session"
        )
    reads = functools.partial(read, seq_len=seq_len, vocab_size=VOCAB_SIZE, profiler=profiler)
    return Physics(reads, forecast, loss_at, unmodelled_knobs, profiler.close if profiler is not None else _nothing)


def _nothing() -> None:
    """What there is to close without a profiler."""
