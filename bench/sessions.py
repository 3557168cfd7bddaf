"""Simulated sessions in this process, at full speed: the real engine, clock, executor and physics."""

from __future__ import annotations

import asyncio
import time
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from unittest import mock

import sim.world.world
from core.bench import Accepted, Bench, Proposal, Rejected, Researcher, Wake
from core.designs import Design
from core.engine.loop import Engine
from core.engine.opening import Opening
from core.engine.recorder import Recorder
from core.events import Limits, SessionStarted, Target
from core.executor import ExecutorConfig
from core.journal import FileOps, Journal
from core.profile import PROFILES
from core.reduce import apply
from core.session import SIMULATED_EPOCH_S
from core.state import SessionState
from core.target import locate_target
from executors.sim import SimExecutor
from sim.artefact import read
from sim.clock import VirtualClock
from sim.surrogate import forecast, loss_at, unmodelled_knobs
from sim.world.outlook import Physics
from sim.world.physics import VOCAB_SIZE

T = TypeVar("T")
PROFILE: Final = PROFILES["cuda"]
HERE: Final = "bench"
FAULTS: Final = "default"


def real_physics() -> Physics:
    """The artefact reader and the surrogate, as a session of the product without torch has them."""
    return Physics(read_setup, forecast, loss_at, unmodelled_knobs, lambda: None)


def read_setup(source: str) -> Any:
    """See sim.artefact.read: of the full-size target."""
    return read(source, seq_len=PROFILE.seq_len, vocab_size=VOCAB_SIZE)


def baseline_source() -> str:
    """The train.py that every session starts from."""
    return (locate_target() / "train.py").read_text()


class Spent(NamedTuple):
    """CPU seconds of a session: of all, and of the researcher alone, without the engine's work on its calls."""

    session_s: float
    researcher_s: float


class _NoReserve(FileOps):
    """A benchmark's journal is thrown away: it needs no room kept for a full disk."""

    def allocate(self, path: Path, length: int) -> None:  # noqa: ARG002
        path.write_bytes(b"r")


def run_session(
    folder: Path,
    researcher: Researcher,
    *,
    gpus: str,
    hours: float,
    seed: int,
    physics: Physics,
    seed_sd_bpb: float | None = None,
    name: str = HERE,
) -> tuple[SessionState, Spent]:
    """Run a session to its end and return its state.

    Args:
        folder: an empty folder for the journal.
        gpus: as `--gpus`; hours: the limit.
        seed: of the world and of the researcher.
        physics: how the world behaves.
        seed_sd_bpb: spread of a file's score over its own seeds; None: the simulator's.
        name: of the researcher, for the journal.
    """
    start_s = time.process_time()
    timed = TimedResearcher(researcher)
    engine = _engine(folder, timed, name, gpus=gpus, hours=hours, seed=seed, physics=physics)
    sd_bpb = seed_sd_bpb if seed_sd_bpb is not None else sim.world.world.SEED_SD_BPB

    async def live() -> None:
        await engine.open()
        await engine.run()

    # The world has one noise; a benchmark's worlds have others.
    with (
        mock.patch.object(sim.world.world, "SEED_SD_BPB", sd_bpb),
        asyncio.Runner(loop_factory=engine.clock.event_loop) as runner,
    ):
        runner.run(live())
    engine.recorder.close()
    return engine.state, Spent(time.process_time() - start_s, timed.spent_s)


def _engine(
    folder: Path, researcher: Researcher, name: str, *, gpus: str, hours: float, seed: int, physics: Physics
) -> Engine:
    state = SessionState()
    journal = Journal(folder / "journal", on_event=lambda event: apply(state, event), ops=_NoReserve())
    clock = VirtualClock(0.0, speed=None)
    config = ExecutorConfig(
        session=HERE, session_dir=folder, target_dir=folder, corpus_dir=None, python="", seed=seed, clock=clock,
        budget_s=PROFILE.budget_s, budget_kind="gpu", seq_len=PROFILE.seq_len, eval_tokens=PROFILE.eval_tokens,
        gpus=gpus, options={"faults": FAULTS},
    )  # fmt: skip
    target = Target(
        budget_s=PROFILE.budget_s,
        budget_kind="gpu",
        seq_len=PROFILE.seq_len,
        eval_tokens=PROFILE.eval_tokens,
        profile=PROFILE.name,
    )
    first = SessionStarted(
        session=HERE, name=HERE, seed=seed, simulated=True, epoch=SIMULATED_EPOCH_S, executor="sim", researcher=name,
        limits=Limits(hours=hours), target=target, version="0", until_limits=True,
    )  # fmt: skip
    executor = SimExecutor(config, lambda: physics)
    recorder = Recorder(journal, state, clock, wall=None)
    return Engine(state, recorder, clock, executor, researcher, Opening(first, baseline_source()))


class TimedResearcher:
    """A researcher whose CPU time is counted: its own steps, less what the engine does inside its calls."""

    def __init__(self, researcher: Researcher) -> None:
        self._researcher = researcher
        self._own_s = self._bench_s = 0.0

    @property
    def spent_s(self) -> float:
        """CPU seconds so far."""
        return self._own_s - self._bench_s

    async def research(self, bench: Bench) -> str:
        return await _timed(self._researcher.research(_TimedBench(bench, self._count_bench)), self._count_own)

    def _count_own(self, spent_s: float) -> None:
        self._own_s += spent_s

    def _count_bench(self, spent_s: float) -> None:
        self._bench_s += spent_s


class _TimedBench:
    """A bench that counts the CPU time of its calls. What it does not name goes to the bench as it is."""

    def __init__(self, bench: Bench, count: Callable[[float], None]) -> None:
        self._bench, self._count = bench, count
        self.state = bench.state

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bench, name)

    async def propose(self, batch: Sequence[Proposal], *, call: str, rationale: str) -> list[Accepted | Rejected]:
        return await _timed(self._bench.propose(batch, call=call, rationale=rationale), self._count)

    async def wait(
        self,
        *,
        queue_below: int | None = None,
        settled_above: int | None = None,
        heard_above: int | None = None,
        until_s: float | None = None,
    ) -> Wake:
        waiting = self._bench.wait(
            queue_below=queue_below, settled_above=settled_above, heard_above=heard_above, until_s=until_s
        )
        return await _timed(waiting, self._count)

    async def confirm(self, exp: str, *, seeds: int, device_class: str | None, call: str) -> None:
        return await _timed(self._bench.confirm(exp, seeds=seeds, device_class=device_class, call=call), self._count)

    async def cancel(self, exp: str, reason: str, *, call: str) -> None:
        return await _timed(self._bench.cancel(exp, reason, call=call), self._count)

    async def read_code(self, ref: str) -> str:
        return await _timed(self._bench.read_code(ref), self._count)

    async def note(self, text: str, *, call: str) -> None:
        return await _timed(self._bench.note(text, call=call), self._count)

    async def declare(self, design: Design, *, call: str) -> None:
        return await _timed(self._bench.declare(design, call=call), self._count)

    async def phase(self, name: str, why: str, *, call: str) -> None:
        return await _timed(self._bench.phase(name, why, call=call), self._count)


@types.coroutine
def _timed(work: Coroutine[Any, Any, T], count: Callable[[float], None]) -> Generator[Any, Any, T]:
    """Drive a coroutine, counting the CPU seconds of each of its steps."""
    sent: Any = None
    error: BaseException | None = None
    while True:
        start_s = time.process_time()
        try:
            passed = work.throw(error) if error is not None else work.send(sent)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            count(time.process_time() - start_s)
        try:
            sent, error = (yield passed), None
        except BaseException as raised:  # noqa: BLE001  handed on into the coroutine
            sent, error = None, raised
