"""Engines for tests, put together from a scripted executor and a researcher, over a real journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from core.bench import Bench, Researcher
from core.clock import RealClock
from core.engine.loop import Engine
from core.engine.opening import Opening
from core.engine.recorder import Recorder
from core.events import AnyEvent, Limits, SessionStarted, Target
from core.journal import FileOps, Journal, scan
from core.reduce import apply
from core.state import SessionState
from tests.support.scripted import ScriptedExecutor

SOURCE = """\
DEPTH = 2
MATRIX_LR = 0.04


def build(vocab_size, seq_len, device):
    return DEPTH


def train(run, model):
    return MATRIX_LR
"""


class NoReserve(FileOps):
    """Tests need no 16 MB beside every journal."""

    def allocate(self, path: Path, length: int) -> None:
        path.write_bytes(b"r")


class Script:
    """A researcher that is a function of the bench."""

    def __init__(self, research: Callable[[Bench], Awaitable[str]]) -> None:
        self._research = research

    async def research(self, bench: Bench) -> str:
        return await self._research(bench)


async def idle(bench: Bench) -> str:
    """A researcher without ideas."""
    return "no ideas"


def started(seed: int = 7, **limits: float) -> SessionStarted:
    """A session's first event."""
    return SessionStarted(
        session="s1",
        name="test",
        seed=seed,
        simulated=False,
        epoch=0.0,
        executor="scripted",
        researcher="script",
        limits=Limits(**limits),
        target=Target(budget_s=20.0, budget_kind="cpu", seq_len=128, eval_tokens=1024, profile="cpu"),
        version="0",
    )


def engine_on(
    folder: Path,
    executor: ScriptedExecutor,
    researcher: Researcher,
    *,
    first: SessionStarted | None = None,
    source: str = SOURCE,
    ops: FileOps | None = None,
) -> Engine:
    """An engine over the journal in a folder, resumed if there is one."""
    state = SessionState()
    journal = Journal(folder, on_event=lambda event: apply(state, event), ops=ops or NoReserve())
    clock = RealClock(state.now.t_s)
    return Engine(
        state, Recorder(journal, state, clock), clock, executor, researcher, Opening(first or started(), source)
    )


async def run_to_end(engine: Engine, timeout_s: float = 20.0) -> SessionState:
    """Run an engine until its session ends."""
    async with asyncio.timeout(timeout_s):
        await engine.open()
        await engine.run()
    engine.recorder.close()
    return engine.state


def events_in(folder: Path) -> list[AnyEvent]:
    """All events of a journal."""
    return [event for event, _ in scan(folder)]
