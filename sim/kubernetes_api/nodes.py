"""The machines of the cluster, and the Node objects that speak of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from core.executor import Device
from sim.gpus import GPU_CLASSES, PRODUCTS
from sim.kubernetes_api.objects import GPU, Obj, with_meta, with_spec, with_status
from sim.kubernetes_api.store import Store

CPUS_PER_GPU: Final = 24
MEMORY_GI_PER_GPU: Final = 230
DISK_GI: Final = 3_500
MOST_PODS: Final = 110
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
GPU_TAINT: Final = {"key": GPU, "value": "present", "effect": "NoSchedule"}
"""As most managed clusters set on nodes with GPUs, so that nothing else lands there."""


class Machine:
    """One machine with its devices, which go by their place in it from 0.

    `devices` are the ids by which the simulated world knows them. `alive`: its kubelet answers; `removed`: it is no
    part of the cluster any more.
    """

    def __init__(self, name: str, cls: str, devices: Sequence[str]) -> None:
        self.name, self.cls, self.devices = name, cls, list(devices)
        digest = hashlib.sha256(name.encode()).digest()
        self.ip = f"10.88.{digest[0]}.{digest[1] % 254 + 1}"
        self.alive, self.down, self.shutting_down, self.removed = True, False, False, False
        self.since_s = 0.0  # when `alive` last changed
        self.broken: set[int] = set()
        self._taken: dict[int, str] = {}

    @property
    def free_count(self) -> int:
        """How many working devices no pod holds."""
        return sum(at not in self._taken and at not in self.broken for at in range(len(self.devices)))

    @property
    def taken(self) -> Mapping[int, str]:
        """Which pod (uid) holds which device."""
        return self._taken

    def take(self, uid: str, count: int) -> tuple[int, ...] | None:
        """Give a pod this many devices, the first free ones; None where there are not so many."""
        free = [at for at in range(len(self.devices)) if at not in self._taken and at not in self.broken]
        if len(free) < count:
            return None
        for at in free[:count]:
            self._taken[at] = uid
        return tuple(free[:count])

    def release(self, uid: str) -> None:
        """Take a pod's devices back."""
        self._taken = {at: holder for at, holder in self._taken.items() if holder != uid}

    def holder(self, at: int) -> str | None:
        """The uid of the pod that holds a device."""
        return self._taken.get(at)


class Machines:
    """All machines. `no_registry` names those that cannot fetch images."""

    def __init__(self, devices: Sequence[Device]) -> None:
        found: dict[str, list[Device]] = {}
        for device in devices:
            found.setdefault(device.node, []).append(device)
        self._machines = {name: Machine(name, own[0].cls, [one.device for one in own]) for name, own in found.items()}
        self.no_registry: set[str] = set()

    def __iter__(self) -> Iterator[Machine]:
        return iter(self._machines.values())

    def get(self, name: str) -> Machine | None:
        """The machine of this name."""
        return self._machines.get(name)

    def __getitem__(self, name: str) -> Machine:
        return self._machines[name]


def node_object(machine: Machine, now: str) -> Obj:
    """The Node of a machine that has just registered, with the labels of NVIDIA's feature discovery."""
    count, gpu = len(machine.devices), GPU_CLASSES[machine.cls]
    product = PRODUCTS[machine.cls]
    labels = {
        "kubernetes.io/hostname": machine.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.memory": str(gpu.memory_mb), "nvidia.com/gpu.replicas": "1",
        "nvidia.com/mig.strategy": "single",
    }  # fmt: skip
    capacity = {
        "cpu": str(CPUS_PER_GPU * count), "memory": f"{MEMORY_GI_PER_GPU * count}Gi",
        "ephemeral-storage": f"{DISK_GI}Gi", "pods": str(MOST_PODS), GPU: str(count),
    }  # fmt: skip
    ready = "kubelet is posting ready status"
    pressures = [
        _condition(f"{what}Pressure", "False", now, f"KubeletHasSufficient{what}", f"kubelet has sufficient {said}")
        for what, said in (("Memory", "memory available"), ("PID", "PID available"))
    ]
    disk = _condition("DiskPressure", "False", now, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    return {
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": machine.name, "labels": labels},
        "spec": {"taints": [GPU_TAINT]},
        "status": {
            "capacity": capacity, "allocatable": dict(capacity),
            "conditions": [*pressures, disk, _condition("Ready", "True", now, "KubeletReady", ready)],
            "addresses": [
                {"type": "InternalIP", "address": machine.ip}, {"type": "Hostname", "address": machine.name},
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.2", "osImage": "simulated", "architecture": "amd64"},
        },
    }  # fmt: skip


class NodeObjects:
    """Writes what becomes of machines into their Node objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, machine: Machine) -> None:
        """Add the Node, or leave the one that is there."""
        if self._store.get("nodes", "", machine.name) is None:
            self._store.create("nodes", node_object(machine, self._store.now_text()))

    def show_devices(self, machine: Machine) -> None:
        """Offer only devices that work."""
        node = self._store.get("nodes", "", machine.name)
        if node is not None:
            working = str(len(machine.devices) - len(machine.broken))
            self._store.update("nodes", with_status(node, allocatable={**node["status"]["allocatable"], GPU: working}))

    def set_ready(self, machine: Machine, *, ready: bool) -> None:
        """Ready, or unknown because the kubelet has been silent for too long, with the taints of that."""
        node = self._store.get("nodes", "", machine.name)
        if node is None:
            return
        now = self._store.now_text()
        status, reason, said = ("True", "KubeletReady", "kubelet is posting ready status")
        if not ready:
            status, reason, said = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
        conditions = [
            _condition(one["type"], status, now, reason, said)
            if one["type"] == "Ready"
            else {**one, **({} if ready else {"status": "Unknown", "reason": reason, "message": said})}
            for one in node["status"]["conditions"]
        ]
        taints = [taint for taint in node["spec"].get("taints") or () if taint["key"] != UNREACHABLE]
        if ready:
            fresh = {one["type"]: one for one in node_object(machine, now)["status"]["conditions"]}
            conditions = [fresh[one["type"]] for one in conditions]
        else:
            taints += [
                {"key": UNREACHABLE, "effect": effect, "timeAdded": now} for effect in ("NoSchedule", "NoExecute")
            ]
        self._store.update("nodes", with_spec(with_status(node, conditions=conditions), taints=taints))

    def cordon(self, machine: Machine, *, on: bool) -> None:
        """Let no new pods land there, or let them again."""
        node = self._store.get("nodes", "", machine.name)
        if node is not None:
            taints = [taint for taint in node["spec"].get("taints") or () if taint["key"] != UNSCHEDULABLE]
            taints += [{"key": UNSCHEDULABLE, "effect": "NoSchedule"}] if on else []
            self._store.update("nodes", with_spec(node, unschedulable=True if on else None, taints=taints))

    def relabel(self, machine: Machine, **labels: str) -> None:
        """Set labels of the Node; underscores stand for themselves."""
        node = self._store.get("nodes", "", machine.name)
        if node is not None:
            self._store.update("nodes", with_meta(node, labels={**node["metadata"]["labels"], **labels}))


def _condition(kind: str, status: str, now: str, reason: str, message: str) -> Obj:
    return {
        "type": kind, "status": status, "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": reason,
        "message": message,
    }  # fmt: skip
