"""What tests of the simulated cluster share: a clock that is only a heap, and physics that need no train.py."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.clock import Key
from core.executor import AttemptSpec, ExecutorConfig, ExecutorEvent, OpenAttempt
from executors.sim import SimExecutor
from sim.gpus import GpuClass
from sim.model import Cost, Failure, Forecast, Setup
from sim.world.outlook import Physics

BUDGET_S = 300.0
SETUP = Setup(
    depth=8,
    width=512,
    head_dim=128,
    mlp_ratio=4.0,
    window_pattern="SSSL",
    short_window_ratio=0.5,
    rope_base=10_000.0,
    attention_scale=1.0,
    softcap=15.0,
    residual_init=1.0,
    skip_init=0.1,
    total_batch=2**19,
    rows=128,
    embedding_lr=0.6,
    unembedding_lr=0.004,
    matrix_lr=0.04,
    scalar_lr=0.5,
    weight_decay=0.2,
    adam_beta1=0.8,
    adam_beta2=0.95,
    muon_momentum=0.95,
    muon_momentum_start=0.85,
    muon_momentum_ratio=0.3,
    muon_beta2=0.95,
    ns_steps=5,
    warmup_ratio=0.0,
    warmdown_ratio=0.5,
    final_lr_frac=0.0,
    seq_len=2048,
    vocab_size=8192,
)


def read(source: str) -> Setup | Failure:
    """Every file reads alike, but for one that is no Python."""
    return Failure("crash", "SyntaxError: invalid syntax") if source == "unreadable" else SETUP


def forecast_of(failure: Failure | None = None) -> Callable[[Setup, GpuClass, float], Forecast]:
    """A forecast that is the same for every file; faster devices do more steps."""

    def forecast(setup: Setup, gpu: GpuClass, budget_s: float) -> Forecast:
        return Forecast(
            cost=Cost(50_000_000, 2.4e8),
            memory_mb=45_000.0,
            tokens_per_s=1.6e6 * gpu.speed,
            steps=round(953 * gpu.speed * budget_s / BUDGET_S),
            utilisation=0.97,
            val_bpb=0.998,
            bpb_per_ln_steps=-0.059,
            startup_s=20.0,
            score_s=5.0,
            loss_start=9.0,
            loss_end=2.8,
            loss_shape=(),
            failure=failure,
        )

    return forecast


def loss_at(forecast: Forecast, frac: float) -> float:
    """A straight line."""
    return forecast.loss_start + frac * (forecast.loss_end - forecast.loss_start)


def physics(failure: Failure | None = None) -> Physics:
    """Physics of one file, which may fail."""
    return Physics(read, forecast_of(failure), loss_at, lambda _setup: (), lambda: None)


def spec(run: int = 1, attempt: int = 1, device: str = "gpu0", **changes: Any) -> AttemptSpec:
    """An attempt on an H100, intended 1,000 s into the session, when every node has its image."""
    fields: dict[str, Any] = {
        "run": f"r{run}",
        "attempt": f"r{run}.{attempt}",
        "device": device,
        "device_class": "H100-80GB",
        "revision": "a" * 64,
        "source": "DEPTH = 8",
        "seed": run,
        "budget_s": BUDGET_S,
        "intent_t_s": 1_000.0,
    }
    return AttemptSpec(**{**fields, **changes})


class HeapClock:
    """A clock that moves when a test says so (see core.clock.Clock); only what executors use of it."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self._heap: list[tuple[float, Key, int, Callable[..., object], tuple[Any, ...]]] = []
        self._tickets = itertools.count()

    def now(self) -> float:
        return self.now_s

    def touch(self) -> float:
        return self.now_s

    def call_at(self, t_s: float, key: Key, fn: Callable[..., object], *args: Any) -> None:
        heapq.heappush(self._heap, (max(self.now_s, t_s), key, next(self._tickets), fn, args))

    @property
    def next_s(self) -> float | None:
        """When the next instant is, if there is one."""
        return self._heap[0][0] if self._heap else None

    def fire(self) -> None:
        """Let the next instant happen."""
        self.now_s, _, _, fn, args = heapq.heappop(self._heap)
        fn(*args)


class Rig:
    """A simulated executor with a clock of its own, and what it said: (session second, event)."""

    def __init__(
        self,
        gpus: str = "2xH100",
        faults: str = "none",
        *,
        start_s: float = 0.0,
        seed: int = 1,
        failure: Failure | None = None,
    ) -> None:
        self.clock = HeapClock(start_s)
        self.said: list[tuple[float, ExecutorEvent]] = []
        self.executor = SimExecutor(self._config(gpus, faults, seed), lambda: physics(failure))
        self.devices = asyncio.run(self.executor.open(self._take))

    def _config(self, gpus: str, faults: str, seed: int) -> ExecutorConfig:
        return ExecutorConfig(
            session="s",
            session_dir=Path("nowhere"),
            target_dir=Path("nowhere"),
            corpus_dir=None,
            python="python",
            seed=seed,
            clock=self.clock,  # type: ignore[arg-type]
            budget_s=BUDGET_S,
            budget_kind="gpu",
            seq_len=2048,
            eval_tokens=2**20,
            gpus=gpus,
            options={"faults": faults},
        )

    def _take(self, events: Sequence[ExecutorEvent]) -> None:
        self.said += [(self.clock.now(), event) for event in events]

    def start(self, *specs: AttemptSpec) -> None:
        for one in specs:
            asyncio.run(self.executor.start(one))

    def cancel(self, attempt: str, reason: str = "not wanted") -> None:
        asyncio.run(self.executor.cancel(attempt, reason))

    def adopt(self, *known: OpenAttempt, device_seq: dict[str, int] | None = None) -> None:
        asyncio.run(self.executor.adopt(known, device_seq or {device.device: 1 for device in self.devices}))

    def run(self, *, until_s: float = 1e9, events: int = 1_000_000) -> list[tuple[float, ExecutorEvent]]:
        """Fire instants until this second, or until so many events were said in all."""
        while self.clock.next_s is not None and self.clock.next_s <= until_s and len(self.said) < events:
            self.clock.fire()
        return self.said
