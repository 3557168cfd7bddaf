"""What the engine and every executor promise each other: devices, attempts, their events and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from core.clock import Clock

Outcome = Literal[
    "ok",
    "crash",
    "oom",
    "nan",
    "timeout",
    "cancelled",
    "pruned",
    "preempted",
    "device_lost",
    "unschedulable",
    "image",
    "infrastructure",
]

OWN_OUTCOMES: Final[frozenset[str]] = frozenset({"ok", "crash", "oom", "nan", "timeout", "cancelled", "pruned"})
"""Outcomes that are the revision's doing or ours: they end the run."""

WORLD_OUTCOMES: Final[frozenset[str]] = frozenset(
    {"preempted", "device_lost", "unschedulable", "image", "infrastructure"}
)
"""Outcomes that are the world's doing: the run gets another attempt, never a mark against its revision."""


class Device(msgspec.Struct, frozen=True):
    """One GPU or CPU slot. `memory_mb` is 0 where it does not bound a run (CPU slots share the RAM)."""

    device: str
    cls: str
    node: str
    memory_mb: int = 0


class AttemptSpec(msgspec.Struct, frozen=True):
    """One execution of a run, as the engine orders it.

    Where a cluster places, `device` is a wish, and `Started` says where it is; `source` is the text of the
    revision's `train.py`; `budget_s` counts training seconds on a GPU and process CPU seconds on a CPU slot.
    """

    run: str
    attempt: str
    device: str
    device_class: str
    revision: str
    source: str
    seed: int
    budget_s: float
    intent_t_s: float


class OpenAttempt(msgspec.Struct, frozen=True):
    """An attempt that the journal says is not ended, with the last event number seen of it (0: none)."""

    spec: AttemptSpec
    last_seq: int
    started: bool


class Started(msgspec.Struct, frozen=True, tag_field="kind", tag="started"):
    """The attempt is executing, on `device`: where a cluster places, that need not be the one of its order."""

    device: str


class Waiting(msgspec.Struct, frozen=True, tag_field="kind", tag="waiting"):
    """Why the attempt does not execute yet, or not any more where its place was taken back: one short sentence.

    `held`: it is kept back until a person, or the cluster, mends something.
    """

    reason: str
    held: bool = False


class Progress(msgspec.Struct, frozen=True, tag_field="kind", tag="progress"):
    """A sample of a running attempt. `frac` is the spent share of the budget, `util` a share of 1."""

    step: int
    frac: float
    loss: float | None = None
    util: float | None = None
    mem_mb: float | None = None


class Finished(msgspec.Struct, frozen=True, tag_field="kind", tag="finished"):
    """The end of an attempt. `val_bpb` is there only for `ok`; missing data is never a score.

    `reason` says why it did not end well, `note` what a reader of its score must know.
    """

    outcome: Outcome
    val_bpb: float | None = None
    tier: str | None = None
    confinement: str | None = None
    probes: int = 0
    train_s: float | None = None
    startup_s: float | None = None
    score_s: float | None = None
    steps: int | None = None
    tokens: int | None = None
    mem_mb: float | None = None
    params: int | None = None
    eval_tokens: int | None = None
    corpus: str | None = None
    reason: str = ""
    note: str = ""


class NeverStarted(msgspec.Struct, frozen=True, tag_field="kind", tag="never_started"):
    """Only from `adopt`: nothing of this attempt ever ran; the engine starts the same attempt again."""


class DeviceSeen(msgspec.Struct, frozen=True, tag_field="kind", tag="device_seen"):
    """A device appeared, or is back."""

    cls: str
    node: str
    memory_mb: int = 0


class DeviceLost(msgspec.Struct, frozen=True, tag_field="kind", tag="device_lost"):
    """A device is gone, with the reason in words."""

    reason: str


class Notice(msgspec.Struct, frozen=True, tag_field="kind", tag="notice"):
    """What befalls the executor as a whole, in one sentence; an empty one says that it is over.

    The subject of such an event is `executor`.
    """

    text: str
    level: Literal["info", "warning", "error"] = "info"


Payload = Started | Waiting | Progress | Finished | NeverStarted | DeviceSeen | DeviceLost | Notice


class ExecutorEvent(msgspec.Struct, frozen=True):
    """One thing an executor saw. `subject` is an attempt (`r34.2`) or a device; `seq` counts from 1 per subject."""

    subject: str
    seq: int
    payload: Payload


class ExecutorConfig(msgspec.Struct, frozen=True):
    """What an executor needs to know of its session.

    `target_dir` holds harness.py; `corpus_dir` the prepared tokens; `python` is the interpreter that has
    torch; `gpus` is the user's device selection (None: all there are); `options` belongs to one executor.
    """

    session: str
    session_dir: Path
    target_dir: Path
    corpus_dir: Path | None
    python: str
    seed: int
    clock: Clock
    budget_s: float
    budget_kind: Literal["cpu", "gpu", "steps"]
    seq_len: int
    eval_tokens: int
    gpus: str | None = None
    sandbox: Literal["auto", "none"] = "auto"
    options: Mapping[str, Any] = {}


Emit = Callable[[Sequence[ExecutorEvent]], None]


class ExecutorError(Exception):
    """An executor cannot do what was asked; the text is one sentence for the user."""


class Executor(Protocol):
    """Where runs happen. Every method may be called again after a crash of the engine: all are idempotent."""

    external: bool
    """True: attempts outlive the engine, so an intent must be durable before `start`."""

    async def open(self, emit: Emit) -> list[Device]:
        """Find the devices. Raises ExecutorError. `emit` is called synchronously, from the engine's loop."""

    async def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; a second call with the same attempt id does nothing."""

    async def adopt(self, open_attempts: Sequence[OpenAttempt], device_seq: Mapping[str, int]) -> None:
        """Settle each open attempt as exactly one of running, ended, never started, lost; then report on.

        Events up to `last_seq` of an attempt (and `device_seq` of a device) were recorded: they are skipped.
        """

    async def cancel(self, attempt: str, reason: str) -> None:
        """Ask an attempt to end as `cancelled`; its Finished event follows. Unknown or ended: nothing."""

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:
        """The last bytes of what an attempt printed; none where it printed nothing, or nothing is kept."""

    async def release(self, attempt: str) -> None:
        """The end of an attempt is durable in the journal: what the world still keeps of it may be cleaned up.

        Called for external executors only. An engine that dies before calls it never: `adopt` cleans up what is
        neither open nor new.
        """

    async def close(self, *, kill: bool) -> None:
        """Let go. With `kill` every attempt is ended first; without, attempts of an external executor go on."""


class ExecutorFactory(Protocol):
    """What the entry-point group `autoresearch_tui.executors` names."""

    def __call__(self, config: ExecutorConfig) -> Executor:
        """Make the executor; cheap, no side effect."""


class ClusterFactory(Protocol):
    """What the entry-point group `autoresearch_tui.clusters` names: clusters that need no machines."""

    def __call__(
        self, folder: Path, gpus: str | None, seed: int, options: Mapping[str, Any], *, start_s: float, speed: float
    ) -> Path:
        """Have a session's cluster running and return its kubeconfig. Raises ExecutorError.

        Args:
            folder, seed, gpus, options: of the session.
            start_s: the session second that it begins with, where it is not there yet.
            speed: session seconds a second.
        """
