"""Simulated sessions in this process: the real engine, clock and researcher, on physics that cost nothing."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from pathlib import Path

import msgspec

from core.bench import Bench, Proposal, Researcher
from core.engine.loop import Engine
from core.engine.opening import Opening
from core.engine.recorder import Recorder
from core.events import BASELINE, Limits, SessionStarted, Target
from core.executor import ExecutorConfig
from core.journal import FileOps, Journal
from core.patching import read_constants
from core.reduce import apply
from core.researchers.builtin import BuiltinResearcher
from core.state import SessionState
from core.target import locate_target
from executors.sim import SimExecutor
from sim.clock import VirtualClock
from sim.gpus import GpuClass
from sim.model import Failure, Forecast, Setup
from sim.world.outlook import Physics
from tests.support.cluster import SETUP, forecast_of
from tests.support.sessions import NoReserve

BEST = {"matrix_lr": 0.03, "scalar_lr": 0.3, "weight_decay": 0.1, "embedding_lr": 1.0, "warmdown_ratio": 0.7}


NATS_PER_BPB = 2.85


class Scatter:
    """A researcher that scatters constants far and wide, and allows that clear losers are stopped early.

    It keeps nothing to itself: a call that is known is answered from the journal.
    """

    async def research(self, bench: Bench) -> str:
        for number in itertools.count():
            rng = random.Random(number)
            constants = {name.upper(): f"{best * math.exp(rng.gauss(0.0, 0.8)):.3g}" for name, best in BEST.items()}
            del constants["WARMDOWN_RATIO"]
            proposal = Proposal(
                base=BASELINE,
                title=f"scatter {number}",
                hypothesis="",
                design="scatter",
                constants=constants,
                stoppable=True,
            )
            await bench.propose([proposal], call=f"scatter:{number}", rationale="")
            await bench.wait(queue_below=len(bench.state.now.devices))
        raise AssertionError("numbers end")


def _read(source: str) -> Setup | Failure:
    constants = read_constants(source)
    if constants["DEPTH"].value != 8:
        return Failure("oom", "torch.OutOfMemoryError: CUDA out of memory")
    knobs = {name: float(constants[name.upper()].value) for name in BEST}
    return msgspec.structs.replace(SETUP, **knobs)


def _forecast(setup: Setup, gpu: GpuClass, budget_s: float) -> Forecast:
    bowl = sum(math.log((getattr(setup, name) + 0.01) / best) ** 2 for name, best in BEST.items())
    val_bpb = 0.97 + 0.008 * bowl
    return msgspec.structs.replace(
        forecast_of()(setup, gpu, budget_s), val_bpb=val_bpb, loss_end=NATS_PER_BPB * val_bpb
    )


def _loss_at(forecast: Forecast, frac: float) -> float:
    """From twice the final loss to the final loss: what a run is worth shows early."""
    return forecast.loss_end * (2.0 - frac)


PHYSICS = Physics(_read, _forecast, _loss_at, lambda _setup: (), lambda: None)


def simulated_engine(
    folder: Path,
    *,
    gpus: str = "4xH100,H200",
    hours: float = 1.5,
    limits: Limits | None = None,
    faults: str = "default",
    speed: float | None = None,
    seed: int = 1,
    cluster_seed: int | None = None,
    researcher: Researcher | None = None,
    ops: FileOps | None = None,
) -> Engine:
    """An engine on the journal in a folder, begun or resumed."""
    state = SessionState()
    journal = Journal(folder / "journal", on_event=lambda event: apply(state, event), ops=ops or NoReserve())
    clock = VirtualClock(state.now.t_s, speed=speed)
    config = ExecutorConfig(
        session="s",
        session_dir=folder,
        target_dir=folder,
        corpus_dir=None,
        python="",
        seed=seed,
        clock=clock,
        budget_s=300.0,
        budget_kind="gpu",
        seq_len=2048,
        eval_tokens=2**20,
        gpus=gpus,
        options={"faults": faults, "cluster_seed": cluster_seed},
    )
    first = SessionStarted(
        session="sim",
        name="sim",
        seed=seed,
        simulated=True,
        epoch=0.0,
        executor="sim",
        researcher="builtin",
        limits=limits or Limits(hours=hours),
        target=Target(budget_s=300.0, budget_kind="gpu", seq_len=2048, eval_tokens=2**20, profile="cuda"),
        version="0",
    )
    source = (locate_target() / "train.py").read_text()
    return Engine(
        state,
        Recorder(journal, state, clock, wall=None),
        clock,
        SimExecutor(config, lambda: PHYSICS),
        researcher or BuiltinResearcher(),
        Opening(first, source),
    )


def run_simulated(engine: Engine, timeout_s: float = 60.0) -> SessionState:
    """Run an engine in its clock's own event loop until the session ends."""

    async def live() -> None:
        async with asyncio.timeout(timeout_s):
            await engine.open()
            await engine.run()

    with asyncio.Runner(loop_factory=engine.clock.event_loop) as runner:
        runner.run(live())
    engine.recorder.close()
    return engine.state


def journal_bytes(folder: Path) -> bytes:
    """All segments of a session's journal, one after the other."""
    return b"".join(path.read_bytes() for path in sorted((folder / "journal").glob("*.jsonl")))
