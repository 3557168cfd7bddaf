"""A pod that only seems to train: the simulated world's course of its attempt, told as a pod tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from core.executor import AttemptSpec, Finished, Progress, Started
from sim.kubernetes_api.cluster import PRODUCTS
from sim.kubernetes_api.cluster import World as Place
from sim.kubernetes_api.kubelet import Kubelet
from sim.world.timeline import Timeline
from sim.world.world import World

EXITS: Final[Mapping[str, int]] = {"ok": 0, "crash": 1, "nan": 81, "oom": 82, "timeout": 83, "device_lost": 84}
KINDS: Final = ("drained", "node_lost", "gpu_fault", "evicted", "oomkilled", "admission", "deleted", "image", "hang")
"""Faults of pods beside the world's own, each with a rate per attempt."""
_CLASS: Final = {product: cls for cls, product in PRODUCTS.items()}
_NODE_AWAY_S: Final = 600.0
_OTHER_S: Final = 3.0

Json = dict[str, Any]


class Surrogate:
    """Runs one pod.

    Args:
        place: the cluster's store, time and chance.
        world: what becomes of attempts.
        rates: of each of KINDS.
        kubelet, pod: whose container this is.
        try_number: how often the attempt was tried in this cluster before: a new try draws new faults.
    """

    def __init__(
        self, place: Place, world: World, rates: Mapping[str, float], kubelet: Kubelet, pod: Json, try_number: int
    ) -> None:
        self._place, self._world, self._rates, self._kubelet, self._pod = place, world, rates, kubelet, pod
        self._try = try_number
        self._over = False

    def begin(self) -> None:
        """Take the attempt's files, and its course."""
        if not any(volume["name"] == "attempt" for volume in self._pod["spec"].get("volumes") or ()):
            self._kubelet.running(self._pod)
            self._place.after(_OTHER_S, self._end_other)
            return
        spec = self._spec()
        if spec is None:
            self._kubelet.running(self._pod)
            self._end(87, {"outcome": "infrastructure", "reason": "spec.json cannot be read"})
            return
        self._attempt = spec.attempt.partition("+")[0]
        self._timeline = self._world.timeline(spec)
        fault = self._fault(spec.attempt)
        self._ending_fault = fault
        ending = self._timeline.ending
        if fault == "admission":
            self._kubelet.refuse(
                self._pod,
                "UnexpectedAdmissionError",
                "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy "
                "devices nvidia.com/gpu, which is unexpected",
            )
        elif fault == "image" or ending.outcome == "image":
            self._kubelet.waiting(
                self._pod,
                "ErrImagePull",
                f'failed to pull image "{self._pod["spec"]["containers"][0]["image"]}": the registry did not answer',
            )
            self._place.after(20.0, self._back_off)
        elif ending.outcome == "unschedulable":
            self._place.at(ending.t_s, self._step, 1)
        else:
            self._place.at(self._timeline.t_s(1), self._step, 1)
            if fault:
                share = self._place.chance("fault-when", spec.attempt)
                start_s, end_s = self._timeline.t_s(1), ending.t_s
                self._place.at(start_s + share * max(1.0, end_s - start_s), self._strike, fault)

    def stop(self) -> None:
        self._over = True

    # -- the course

    def _spec(self) -> AttemptSpec | None:
        name = next(v["configMap"]["name"] for v in self._pod["spec"]["volumes"] if v["name"] == "attempt")
        config = self._place.store.get("configmaps", self._pod["metadata"]["namespace"], name)
        node = self._place.store.get("nodes", "", self._pod["spec"]["nodeName"])
        if config is None or node is None:
            return None
        try:
            told = msgspec.json.decode(config["data"]["spec.json"])
            cls = _CLASS[node["metadata"]["labels"]["nvidia.com/gpu.product"]]
            attempt = str(told["attempt"]) + (f"+{self._try}" if self._try else "")
            return AttemptSpec(
                run=str(told["run"]),
                attempt=attempt,
                device=f"{node['metadata']['name']}/{self._slot(node)}",
                device_class=cls,
                revision=str(told["revision"]),
                source=config["data"]["train.py"],
                seed=int(told["seed"]),
                budget_s=float(told["budget_s"]),
                intent_t_s=self._place.clock.now(),
            )
        except (KeyError, TypeError, ValueError, msgspec.DecodeError):
            return None

    def _slot(self, node: Json) -> int:
        """Which GPU of the node this pod has: the lowest that no other pod there has."""
        name, uid = node["metadata"]["name"], self._pod["metadata"]["uid"]
        slots = self._place.slots.setdefault(name, {})
        taken = set(slots.values())
        if uid not in slots:
            slots[uid] = next(index for index in range(64) if index not in taken) % int(
                node["status"]["allocatable"]["nvidia.com/gpu"]
            )
        return slots[uid]

    def _step(self, seq: int) -> None:
        """The attempt's next event."""
        if self._over:
            return
        payload = self._timeline.payload(seq, self._world.physics) if seq < self._timeline.last_seq else None
        if seq == 1:
            self._kubelet.running(self._pod)
            self._line({"kind": "started"}, seq)
        if isinstance(payload, Progress):
            self._line({"kind": "progress", **msgspec.structs.asdict(payload)}, seq)
        if isinstance(payload, Started | Progress):
            self._place.at(self._timeline.t_s(seq + 1), self._step, seq + 1)
        elif (seq == 1 and self._timeline.ending.outcome != "unschedulable") or seq > 1:
            self._finish()
        else:
            self._place.after(30.0, self._finish)

    def _line(self, fields: Json, seq: int) -> None:
        self._kubelet.log(self._pod, msgspec.json.encode({"ar": 1, "seq": seq, **fields}))

    def _finish(self) -> None:
        if self._over or self._ending_fault == "hang":
            return
        ending = self._timeline.ending
        if ending.outcome == "preempted":
            self._kubelet.disrupt(
                self._pod, "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"
            )
        elif ending.outcome in ("infrastructure", "unschedulable"):
            kinds = ("drained", "deleted", "gpu_fault", "unknown")
            self._strike(kinds[int(self._place.chance("infrastructure", self._attempt) * len(kinds))])
        else:
            self._kubelet.log(self._pod, f"{ending.outcome}: {ending.reason or 'done'}".encode())
            self._end(EXITS[ending.outcome], _told(self._timeline, ending.reason))

    def _end_other(self) -> None:
        """A pod that is no attempt's, such as a canary: it would have found what a good node has."""
        if self._over:
            return
        node = self._place.store.get("nodes", "", self._pod["spec"]["nodeName"]) or {"metadata": {"labels": {}}}
        product = node["metadata"]["labels"].get("nvidia.com/gpu.product", "")
        found = {"python": "3.12", "torch": "2.13.0", "gpus": 1, "gpu": f"{product} (simulated)", "landlock": 6}
        attempt = (self._pod["metadata"].get("annotations") or {}).get("autoresearch.dev/attempt", "")
        self._end(0, {"attempt": attempt, "outcome": "ok", "val_bpb": 1.0, "found": found})

    def _end(self, code: int, told: Json) -> None:
        self._over = True
        message = {"ar": 1, "attempt": getattr(self, "_attempt", ""), **told}
        self._kubelet.ended(self._pod, code, msgspec.json.encode(message).decode())

    # -- faults

    def _fault(self, attempt: str) -> str:
        return next(
            (kind for kind in KINDS if self._place.chance(kind, "whether", attempt) < self._rates.get(kind, 0.0)), ""
        )

    def _back_off(self) -> None:
        if not self._over:
            self._kubelet.waiting(
                self._pod, "ImagePullBackOff", f'Back-off pulling image "{self._pod["spec"]["containers"][0]["image"]}"'
            )

    def _strike(self, kind: str) -> None:
        """Something that is not the file's doing befalls the pod."""
        if self._over:
            return
        node = self._pod["spec"]["nodeName"]
        match kind:
            case "drained":
                self._kubelet.disrupt(self._pod, "EvictionByEvictionAPI", "Eviction API: evicting")
            case "deleted":
                self._kubelet.delete(self._pod, 20)
            case "gpu_fault":
                self._end(84, {"outcome": "infrastructure", "reason": "NVRM: Xid 79: GPU has fallen off the bus"})
            case "node_lost":
                self._kubelet.lose_node(node)
                self._place.after(_NODE_AWAY_S, self._kubelet.return_node, node)
            case "evicted":
                self._over = True
                words = 'Usage of EmptyDir volume "work" exceeds the limit "10Gi". '
                self._kubelet.ended(self._pod, 137, status={"reason": "Evicted", "message": words})
            case "oomkilled":
                self._over = True
                self._kubelet.ended(self._pod, 137, "", reason="OOMKilled")
            case "unknown":
                self._over = True
                self._kubelet.ended(
                    self._pod,
                    137,
                    "The container could not be located when the pod was terminated",
                    reason="ContainerStatusUnknown",
                )
            case _:
                return  # image and admission struck before it began; a hang shows at its end


def _told(timeline: Timeline, reason: str) -> Json:
    """What the runner writes as its last word."""
    finished: Finished = timeline.finished(timeline.ending)
    fields = {key: value for key, value in msgspec.structs.asdict(finished).items() if value not in (None, "", 0)}
    fields.pop("corpus", None)
    return fields | {"outcome": finished.outcome, "reason": re.sub(r"\s+", " ", reason)}
