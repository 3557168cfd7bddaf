"""Which devices a cluster's nodes offer to a session, what an attempt gets beside its device, and which are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from core.executor import Device
from executors.devices import device_class
from executors.kubernetes import quantity
from executors.kubernetes.manifest import Resources, tolerations
from executors.kubernetes.settings import KubeSettings

SHARE: Final = 0.9
"""What of a node its attempts may take: the rest belongs to the system's own pods and daemons."""
_MIG_RESOURCE: Final = re.compile(r"(?P<vendor>[\w.]+)/mig-(?P<profile>\d+g\.\d+gb[\w.+-]*)")


class NodeDevices(msgspec.Struct, frozen=True):
    """A node that attempts can run on: `count` devices of one class, named `<node>/0` and on."""

    node: str
    product: str
    cls: str
    count: int
    memory_mb: int
    resources: Resources

    def devices(self) -> list[Device]:
        """The devices as the session knows them."""
        return [Device(f"{self.node}/{k}", self.cls, self.node, self.memory_mb) for k in range(self.count)]


class Refusal(msgspec.Struct, frozen=True):
    """A node whose devices are left out, with the reason as the end of a sentence; `count`: how many it has."""

    node: str
    reason: str
    count: int = 0


def devices(nodes: Sequence[Mapping[str, Any]], settings: KubeSettings) -> tuple[list[NodeDevices], list[Refusal]]:
    """What the nodes offer, by name; nodes that have no such devices and never had are in neither list."""
    found: list[NodeDevices] = []
    refused: list[Refusal] = []
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        seen = _look(node, settings)
        if isinstance(seen, NodeDevices):
            found.append(seen)
        elif seen is not None:
            refused.append(seen)
    return found, refused


def products(found: Sequence[NodeDevices]) -> dict[str, str]:
    """Which product stands for each class; the most frequent one where a class has several."""
    counts: dict[str, dict[str, int]] = {}
    for node in found:
        of_class = counts.setdefault(node.cls, {})
        of_class[node.product] = of_class.get(node.product, 0) + node.count
    return {cls: max(sorted(of_class), key=lambda name: of_class[name]) for cls, of_class in sorted(counts.items())}


def resources(found: Sequence[NodeDevices], product: str) -> Resources | None:
    """What an attempt on this product gets: the least of its nodes, so that it fits any and is timed alike on all."""
    shares = [node.resources for node in found if node.product == product]
    if not shares:
        return None
    return Resources(min(share.cpus for share in shares), min(share.memory_mb for share in shares))


def _look(node: Mapping[str, Any], settings: KubeSettings) -> NodeDevices | Refusal | None:
    name = str(node["metadata"]["name"])
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    status = node.get("status") or {}
    allocatable, capacity = status.get("allocatable") or {}, status.get("capacity") or {}
    if not settings.gpu_resource:
        return _cpu_node(node, name, allocatable, settings)
    count, whole = _count(allocatable, settings.gpu_resource), _count(capacity, settings.gpu_resource)
    slices = sum(_count(allocatable, key) for key in allocatable if _MIG_RESOURCE.fullmatch(key))
    if not (count or whole or slices):
        return None
    product = labels.get(settings.product_label, "")
    reason = _sharing(settings, labels, product) or _mig(settings, product, count, slices)
    if not reason and not product:
        reason = (
            f"has no label {settings.product_label}, by which an attempt is bound to one product: install NVIDIA's GPU "
            "feature discovery, or set product_label"
        )
    if not reason and not count:
        reason = f"has no working device: its device plugin offers 0 of {whole}"
    cls, memory_mb = _class(settings, labels, product)
    if not reason and settings.products and not {product, cls} & set(settings.products):
        reason = f"has {product} ({cls}), which is not among the products asked for"
    reason = reason or _unusable(node, settings)
    if reason:
        return Refusal(name, reason, count or slices)
    share = _share(allocatable, max(count, whole), settings)
    return NodeDevices(name, product, cls, count, memory_mb, share)


def _cpu_node(
    node: Mapping[str, Any], name: str, allocatable: Mapping[str, Any], settings: KubeSettings
) -> NodeDevices | Refusal | None:
    """A node as slots of CPUs; nodes that nobody may use (a control plane's) are not worth a word."""
    cpus = max(1, settings.cpus)
    count = int(float(_amount(allocatable, "cpu")) * SHARE / cpus)
    reason = _unusable(node, settings)
    if reason:
        return Refusal(name, reason, count)
    if not count:
        return None
    memory_mb = int(_amount(allocatable, "memory") / 2**20 * 9 / 10 / count)
    asked = quantity.mib(settings.memory) if settings.memory else memory_mb
    return NodeDevices(name, "", "CPU", count, 0, Resources(cpus, asked))


def _share(allocatable: Mapping[str, Any], gpus: int, settings: KubeSettings) -> Resources:
    """An equal share of the node for each of its GPUs, in whole CPUs: broken ones do not enlarge the others'."""
    cpus = int(float(_amount(allocatable, "cpu")) * SHARE / gpus)
    memory_mb = int(_amount(allocatable, "memory") / 2**20 * 9 / 10 / gpus)
    asked = quantity.mib(settings.memory) if settings.memory else memory_mb
    return Resources(settings.cpus or max(1, cpus), max(1, asked))


def _class(settings: KubeSettings, labels: Mapping[str, str], product: str) -> tuple[str, int]:
    mig = _MIG_RESOURCE.fullmatch(settings.gpu_resource)
    key = f"{settings.gpu_resource}.memory" if mig else "nvidia.com/gpu.memory"
    text = labels.get(key, "")
    memory_mb = int(text) if text.isdigit() else 0
    full = f"{product}-MIG-{mig['profile']}" if mig and "-MIG-" not in product else product
    return device_class(full, memory_mb << 20), memory_mb


def _sharing(settings: KubeSettings, labels: Mapping[str, str], product: str) -> str:
    replicas = labels.get("nvidia.com/gpu.replicas", "1")
    shared = product.endswith("-SHARED") or (replicas.isdigit() and int(replicas) > 1)
    if not shared or settings.allow_sharing:
        return ""
    times = f" ({replicas} pods on each)" if replicas not in ("", "0", "1") else ""
    return f"shares its GPUs{times}: scores would not be comparable (allow_sharing: true takes them all the same)"


def _mig(settings: KubeSettings, product: str, count: int, slices: int) -> str:
    named = _MIG_RESOURCE.fullmatch(settings.gpu_resource) is not None
    if settings.allow_mig:
        if not count and slices:
            return f"offers its {slices} MIG slices under names of their own: set gpu_resource to one of them"
        return ""
    if "-MIG-" in product or named or (slices and not count):
        return (
            "has GPUs cut into slices (MIG): scores would not be comparable (allow_mig: true takes them all the same)"
        )
    return ""


def _unusable(node: Mapping[str, Any], settings: KubeSettings) -> str:
    """Why no pod of ours can be placed on the node now; "" if one can."""
    ready = [item for item in (node.get("status") or {}).get("conditions") or [] if item.get("type") == "Ready"]
    if not ready or ready[0].get("status") != "True":
        reason = ready[0].get("reason", "") if ready else ""
        return "is not ready" + (f" ({reason})" if reason else "")
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return "is cordoned (kubectl uncordon allows pods again)"
    labels = node["metadata"].get("labels") or {}
    for key, value in settings.node_selector.items():
        if labels.get(key) != value:
            return f"does not have {key}={value}, which node_selector asks for"
    ours = tolerations(settings)
    for taint in spec.get("taints") or []:
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not any(_tolerates(item, taint) for item in ours):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"has the taint {taint.get('key')}{value}:{taint['effect']}, which is not among the tolerations"
    return ""


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    """As the scheduler decides it: an empty effect or key of a toleration fits any."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    exists = toleration.get("operator") == "Exists"
    if not toleration.get("key"):
        return exists
    if toleration["key"] != taint.get("key"):
        return False
    return exists or (toleration.get("value") or "") == (taint.get("value") or "")


def _count(amounts: Mapping[str, Any], key: str) -> int:
    return int(_amount(amounts, key))


def _amount(amounts: Mapping[str, Any], key: str) -> Any:
    """A quantity of a node's status; 0 where it is absent or unreadable."""
    try:
        return quantity.parse(amounts.get(key, "0"))
    except ValueError:
        return quantity.parse("0")
