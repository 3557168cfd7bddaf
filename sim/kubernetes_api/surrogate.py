"""Pods that only seem to train: an attempt's course in the simulated world, as a pod's log, message and exit code."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from core.executor import AttemptSpec, Finished, Progress
from sim.gpus import GPU_CLASSES, PRODUCTS
from sim.kubernetes_api.mishaps import Mishaps
from sim.kubernetes_api.nodes import Machine
from sim.kubernetes_api.objects import Obj, namespace_of, uid_of
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.work import Container, End, Place, Start
from sim.world.timeline import Ending, Timeline
from sim.world.world import World

EXIT_CODES: Final = {
    "ok": 0, "crash": 1, "nan": 81, "oom": 82, "timeout": 83, "device_lost": 84, "infrastructure": 87, "cancelled": 143,
}  # fmt: skip
"""What the runner in a pod exits with."""
_LOST: Final = End(137, "The container could not be located when the pod was terminated", "ContainerStatusUnknown")
_GPU_DEAD: Final = "Xid 79: the GPU has fallen off the bus"
_CUDA: Final = "CUDA could not be initialised"
_PRESSURE: Final = "disk is under pressure"
_REASON_BYTES: Final = 1_500


class Outside(Protocol):
    """What can be done to a pod from outside its program; by the pod's uid, where it is still there."""

    def disrupt(self, kind: str, uid: str, back_after_s: float) -> None:
        """Let one of the mishaps happen that the cluster or its people do to pods."""


class Attempt(NamedTuple):
    """The attempt that a pod was made for, as its ConfigMap has it."""

    spec: AttemptSpec
    seq_len: int
    eval_tokens: int


class Surrogate:
    """The program of one pod (see sim.kubernetes_api.work.Work).

    Args:
        pod, place: what runs where, on `machine`.
        world_of: gives the simulated world for a sequence length and a number of scored tokens.
        fate: tells the pods of one attempt apart, which meet different things: empty for the first.
    """

    def __init__(
        self, store: Store, pod: Obj, place: Place, machine: Machine, world_of: Callable[[int, int], World],
        mishaps: Mishaps, outside: Outside, fate: str = "",
    ) -> None:  # fmt: skip
        self._store, self._pod, self._place, self._machine = store, pod, place, machine
        self._world_of, self._mishaps, self._outside = world_of, mishaps, outside
        self._fate = fate
        self._steps = Steps(store.clock, "kube-work")
        self._container: Container | None = None
        self._timeline: Timeline | None = None
        self._attempt: Attempt | None = None
        self._said = 0
        self._late_s = 0.0

    # -- Work

    def refused(self) -> bool:
        return self._mishaps.befalls("admission", self._job)

    def plan(self) -> Start:
        self._attempt = read_attempt(self._store, self._pod, self._place, self._machine, self._fate)
        now_s = self._store.clock.now()
        if self._attempt is None:
            return Start(now_s, now_s)
        spec = self._attempt.spec
        world = self._world_of(self._attempt.seq_len, self._attempt.eval_tokens)
        timeline = self._timeline = world.timeline(spec)
        image = timeline.ending.outcome == "image" or self._mishaps.befalls("image", self._job)
        return Start(timeline.start_s, world.image_ready_s(spec.device), "image" if image else "")

    def begin(self, container: Container) -> None:
        self._container = container
        if self._timeline is None or self._attempt is None:
            self._begin_without_attempt(container)
            return
        self._late_s = max(0.0, self._store.clock.now() - self._timeline.start_s)
        self._say("started")
        for sample in range(2, self._timeline.last_seq):
            self._steps.at(self._timeline.t_s(sample) + self._late_s, self._progress, sample)
        self._plan_mishaps(self._timeline)
        if not self._mishaps.befalls("hang", self._job):
            self._steps.at(self._timeline.ending.t_s + self._late_s, self._finish, self._timeline.ending)

    def end(self) -> None:
        if self._container is not None:
            self._container.print("told to end (SIGTERM)")
            self._steps.after(0.12, self._exit, End(143))

    def kill(self) -> None:
        self._steps.close()

    # -- the course

    @property
    def _job(self) -> str:
        """What the draws of this pod's mishaps are keyed by."""
        owners = self._pod["metadata"].get("ownerReferences") or [self._pod["metadata"]]
        return str(owners[0]["name"]) + self._fate

    def _begin_without_attempt(self, container: Container) -> None:
        """A pod that was made for no attempt: a canary says what it finds, any other just ends after a while."""
        annotations = self._pod["metadata"].get("annotations") or {}
        seconds = float(annotations.get("fake/seconds", 3.0))
        message = ""
        if "-c" in (container.pod["spec"]["containers"][0].get("command") or ()):
            message = json.dumps({"ar": 1, "canary": self._canary()})
            container.print(message)
        self._steps.after(seconds, self._exit, End(int(annotations.get("fake/exit", 0)), message))

    def _canary(self) -> dict[str, Any]:
        product = PRODUCTS[self._machine.cls].replace("-", " ") if self._place.slots else None
        memory_mb = GPU_CLASSES[self._machine.cls].memory_mb if self._place.slots else 0
        return {
            "python": "3.12.11", "uid": 1000, "node": self._machine.name, "torch": "2.13.0", "numpy": "2.3.4",
            "gpu": product, "gpu_memory_mb": memory_mb, "data": ["meta.json", "train.bin", "val.bin"], "meta": True,
            "writable": ["/work", "/tmp", "/dev/shm"], "landlock": 5,  # noqa: S108 (names of a pod's volumes)
        }  # fmt: skip

    def _say(self, kind: str, **fields: Any) -> None:
        self._said += 1
        assert self._container is not None
        self._container.print(json.dumps({"ar": 1, "seq": self._said, "kind": kind, **fields}))

    def _progress(self, sample: int) -> None:
        assert self._timeline is not None
        assert self._attempt is not None
        world = self._world_of(self._attempt.seq_len, self._attempt.eval_tokens)
        payload = self._timeline.payload(sample, world.physics)
        assert isinstance(payload, Progress)
        fields = msgspec.structs.asdict(payload)
        self._say("progress", **fields)

    def _finish(self, ending: Ending) -> None:
        assert self._timeline is not None
        if ending.outcome == "preempted":
            return self._outside.disrupt("preemption", uid_of(self._pod), 0.0)
        if ending.outcome == "infrastructure" and _PRESSURE in ending.reason:
            return self._outside.disrupt("pressure", uid_of(self._pod), 0.0)
        if ending.outcome == "infrastructure" and _CUDA not in ending.reason:
            return self._exit(_LOST)
        outcome = "device_lost" if ending.outcome == "infrastructure" else ending.outcome
        shifted = Ending(ending.t_s, outcome, ending.reason)
        return self._exit(End(EXIT_CODES.get(outcome, 1), self._message(self._timeline.finished(shifted))))

    def _message(self, finished: Finished) -> str:
        """The pod's termination message."""
        assert self._attempt is not None
        fields: Mapping[str, Any] = {
            key: value for key, value in msgspec.structs.asdict(finished).items() if value is not None
        }
        gpu = {"name": PRODUCTS[self._machine.cls].replace("-", " ")}
        body = {"ar": 1, "attempt": self._attempt.spec.attempt.removesuffix(self._fate), **fields, "gpu": gpu}
        body["reason"] = str(body.get("reason", ""))[:_REASON_BYTES]
        body["note"] = str(body.get("note", ""))[:500]
        return json.dumps({key: value for key, value in body.items() if value not in (None, "")})

    def _exit(self, end: End) -> None:
        self._steps.close()
        assert self._container is not None
        self._container.exit(end)

    # -- mishaps

    def _plan_mishaps(self, timeline: Timeline) -> None:
        now_s = self._store.clock.now()
        length_s = max(1.0, timeline.ending.t_s + self._late_s - now_s)
        for kind in ("preemption", "eviction", "node_lost", "partition", "pressure", "disk", "deleted"):
            if self._mishaps.befalls(kind, self._job):
                back_s = self._mishaps.share(kind, self._job, "back")
                after_s = 120.0 + 480.0 * back_s if kind == "node_lost" else 30.0 + 170.0 * back_s
                at_s = self._mishaps.share(kind, self._job) * length_s
                self._steps.after(at_s, self._outside.disrupt, kind, uid_of(self._pod), round(after_s, 3))
        broken = self._message(timeline.finished(Ending(now_s, "device_lost", _GPU_DEAD)))
        for kind, end in (
            ("gpu_fault", End(84, broken)),
            ("oom_killed", End(137, reason="OOMKilled")),
            ("container_lost", _LOST),
        ):
            if self._mishaps.befalls(kind, self._job):
                self._steps.after(self._mishaps.share(kind, self._job) * length_s, self._exit, end)


def read_attempt(store: Store, pod: Obj, place: Place, machine: Machine, fate: str = "") -> Attempt | None:
    """The attempt of a pod, from the ConfigMap that it mounts as `attempt`; None for a pod that has none."""
    for volume in pod["spec"].get("volumes") or ():
        if volume["name"] != "attempt" or "configMap" not in volume:
            continue
        found = store.get("configmaps", namespace_of(pod), volume["configMap"]["name"])
        data = (found or {}).get("data") or {}
        try:
            told = json.loads(data["spec.json"])
            device = machine.devices[place.slots[0]] if place.slots else machine.devices[0]
            spec = AttemptSpec(
                run=str(told["run"]), attempt=str(told["attempt"]) + fate, device=device, device_class=machine.cls,
                revision=str(told["revision"]), source=str(data["train.py"]), seed=int(told["seed"]),
                budget_s=float(told["budget_s"]), intent_t_s=place.since_s,
            )  # fmt: skip
            if not math.isfinite(spec.budget_s):
                return None
            return Attempt(spec, int(told["seq_len"]), int(told["eval_tokens"]))
        except (KeyError, TypeError, ValueError):
            return None
    return None
