"""The living part of the simulated cluster: what controllers, nodes and pods share, and how it is put together."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from core.clock import Clock
from core.executor import Device
from sim import draws
from sim.gpus import GPU_CLASSES
from sim.kubernetes_api.store import Store

NAMESPACE: Final = "autoresearch"
PRODUCTS: Final[Mapping[str, str]] = {
    "H100-80GB": "NVIDIA-H100-80GB-HBM3",
    "H200-141GB": "NVIDIA-H200",
    "A100-40GB": "NVIDIA-A100-SXM4-40GB",
    "A100-80GB": "NVIDIA-A100-SXM4-80GB",
    "L40S-48GB": "NVIDIA-L40S",
    "RTX-4090-24GB": "NVIDIA-GeForce-RTX-4090",
    "B200-180GB": "NVIDIA-B200",
}
"""How NVIDIA's feature discovery labels the products of our device classes."""
GPU: Final = "nvidia.com/gpu"

Json = dict[str, Any]


class Logs:
    """What pods printed, and who waits for more of it."""

    def __init__(self) -> None:
        self._lines: dict[str, list[tuple[str, bytes]]] = {}
        self._ended: set[str] = set()
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    def begin(self, uid: str) -> None:
        """A pod's container has started."""
        self._lines.setdefault(uid, [])

    def add(self, uid: str, time: str, line: bytes) -> None:
        """It printed a line. Times of one log differ, so that a reader can tell how far it got."""
        lines = self._lines.setdefault(uid, [])
        if lines and time <= lines[-1][0]:
            stem, digits = lines[-1][0][:-1].rsplit(".", 1)
            time = f"{stem}.{int(digits) + 1:0{len(digits)}d}Z"
        lines.append((time, line))
        self._wake(uid)

    def end(self, uid: str) -> None:
        """It prints no more."""
        self._ended.add(uid)
        self._wake(uid)

    def forget(self, uid: str) -> None:
        """Its pod is gone."""
        self.end(uid)
        self._lines.pop(uid, None)

    def lines(self, uid: str) -> list[tuple[str, bytes]] | None:
        return self._lines.get(uid)

    def ended(self, uid: str) -> bool:
        return uid in self._ended

    async def more(self, uid: str, seen: int) -> None:
        if self.ended(uid) or len(self._lines.get(uid, ())) > seen:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(uid, []).append(waiter)
        await waiter

    def _wake(self, uid: str) -> None:
        for waiter in self._waiters.pop(uid, ()):
            if not waiter.done():
                waiter.set_result(None)


class World:
    """What every part of the cluster can use: objects, time, chance, and the writing of events.

    Args:
        store, clock: see there.
        seed: decides all chance, by key.
    """

    def __init__(self, store: Store, clock: Clock, seed: int) -> None:
        self.store, self.clock, self.seed = store, clock, seed
        self.logs = Logs()
        self.slots: dict[str, dict[str, int]] = {}  # by node: which GPU a pod (by uid) has
        self._tickets = itertools.count()

    def after(self, delay_s: float, work: Callable[..., object], *args: Any) -> None:
        """Do something so many seconds of the cluster's time later."""
        self.clock.call_at(self.clock.now() + delay_s, ("kubernetes", 0, next(self._tickets)), work, *args)

    def at(self, t_s: float, work: Callable[..., object], *args: Any) -> None:
        """Do something at a second of the cluster's time."""
        self.clock.call_at(t_s, ("kubernetes", 0, next(self._tickets)), work, *args)

    def chance(self, *key: int | str) -> float:
        """A number between 0 and 1 that depends on nothing but the seed and the key."""
        return draws.uniform(self.seed, *key)

    def event(self, about: Json, kind: str, reason: str, message: str, component: str) -> None:
        """Write an Event about an object; the same again counts up the first."""
        meta = about["metadata"]
        name = f"{meta['name']}.{abs(hash((reason, message))) % 16**10:010x}"
        known = self.store.get("events", meta.get("namespace", NAMESPACE), name)
        if known is not None:
            self.store.update("events", {**known, "count": known["count"] + 1, "lastTimestamp": self.store.now_text()})
            return
        involved = {
            "kind": kind,
            "namespace": meta.get("namespace", ""),
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": "batch/v1" if kind == "Job" else "v1",
        }
        normal = reason in (
            "Scheduled",
            "Pulling",
            "Pulled",
            "Created",
            "Started",
            "SuccessfulCreate",
            "Completed",
            "Killing",
            "Suspended",
            "Resumed",
        )
        self.store.create(
            "events",
            {
                "kind": "Event", "apiVersion": "v1",
                "metadata": {"name": name, "namespace": meta.get("namespace") or NAMESPACE},
                "involvedObject": involved, "reason": reason, "message": message, "source": {"component": component},
                "firstTimestamp": self.store.now_text(), "lastTimestamp": self.store.now_text(), "count": 1,
                "type": "Normal" if normal else "Warning",
            },
        )  # fmt: skip

    def condition(self, obj: Json, kind: str, status: str, reason: str = "", message: str = "") -> list[Json]:
        """An object's conditions with one of them set."""
        known = [one for one in (obj.get("status") or {}).get("conditions") or () if one["type"] != kind]
        fresh: Json = {"type": kind, "status": status, "lastTransitionTime": self.store.now_text()}
        fresh |= {"reason": reason} if reason else {}
        fresh |= {"message": message} if message else {}
        return [*known, fresh]


def furnish(store: Store, devices: Sequence[Device]) -> None:
    """Put the namespace, its claim, its priority class and the nodes of some devices into a store."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted", "kubernetes.io/metadata.name": NAMESPACE}
    store.create(
        "namespaces",
        {
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": {"name": NAMESPACE, "labels": restricted},
            "status": {"phase": "Active"},
        },
    )
    claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "20Gi"}}}
    store.create(
        "persistentvolumeclaims",
        {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            "metadata": {"name": "autoresearch-data", "namespace": NAMESPACE},
            "spec": claim,
            "status": {"phase": "Bound"},
        },
    )
    store.create(
        "priorityclasses",
        {
            "kind": "PriorityClass",
            "apiVersion": "scheduling.k8s.io/v1",
            "metadata": {"name": "autoresearch-experiment"},
            "value": -100,
            "preemptionPolicy": "Never",
        },
    )
    for name in dict.fromkeys(device.node for device in devices):
        mine = [device for device in devices if device.node == name]
        store.create("nodes", node(name, mine[0].cls, len(mine), store.now_text()))


def node(name: str, cls: str, count: int, now: str) -> Json:
    """A node with so many GPUs of a class, as NVIDIA's device plugin and feature discovery leave it."""
    gpu = GPU_CLASSES[cls]
    amounts = {
        "cpu": str(16 * count),
        "memory": f"{200 * count}Gi",
        "ephemeral-storage": "3500Gi",
        "pods": "110",
        GPU: str(count),
    }
    labels = {
        "kubernetes.io/hostname": name, "nvidia.com/gpu.product": PRODUCTS[cls], "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(gpu.memory_mb), "nvidia.com/gpu.replicas": "1",
        "nvidia.com/mig.strategy": "single",
    }  # fmt: skip
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": now}
    info = {"kubeletVersion": "v1.36.2"}
    return {
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready], "nodeInfo": info},
    }  # fmt: skip
