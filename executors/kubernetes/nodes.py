"""Which devices a node offers, from what its object says: product, memory, room, and why it cannot be used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from executors.devices import device_class
from executors.kubernetes.quantity import number
from executors.kubernetes.settings import KubeSettings

_SHARE: Final = 0.9
"""Of what a node can allocate, for its runs together: the rest is for daemons."""
TOLERATED_S: Final = 30
"""A node that does not answer loses its pods after this long, not after the usual 300 s."""
_SLICE: Final = re.compile(r"[\w.]+/mig-(?P<profile>\d+g\.\d+gb[\w.+-]*)")

Json = dict[str, Any]


@dataclass(frozen=True)
class NodeDevices:
    """What one node offers. `why_not` says why it takes no run now, where it does not."""

    name: str
    product: str
    cls: str
    count: int
    memory_mb: int
    cpus_each: int
    memory_bytes_each: int
    usable: bool = True
    why_not: str = ""


class Refusal(NamedTuple):
    """A node whose devices are not used at all, and why."""

    name: str
    reason: str


def devices(nodes: Iterable[Json], settings: KubeSettings) -> tuple[list[NodeDevices], list[Refusal]]:
    """The devices of all nodes, by name, and the nodes whose devices would make scores that cannot be compared."""
    found: list[NodeDevices] = []
    refused: list[Refusal] = []
    for node in sorted(nodes, key=lambda node: str(node["metadata"]["name"])):
        if not settings.gpu_resource:
            if (slots := _cpu_slots(node, settings)) is not None:
                found.append(slots)
            continue
        count = int(number(_allocatable(node).get(settings.gpu_resource, 0)))
        name = str(node["metadata"]["name"])
        if count <= 0:
            if mixed := sorted(key for key in _allocatable(node) if key.startswith("nvidia.com/mig-")):
                refused.append(
                    Refusal(name, f"{name} offers slices only ({', '.join(mixed)}): name one as gpu_resource")
                )
            continue
        reason = _refusal(node, settings)
        if reason:
            refused.append(Refusal(name, reason))
        else:
            found.append(_devices_of(node, name, count, settings))
    if any(node.product for node in found):
        # A run without a product could land anywhere: it is fair only where no node says what it has.
        words = f"has no label {settings.product_label}, by which runs are bound to one product"
        refused += [Refusal(node.name, f"{node.name} {words}") for node in found if not node.product]
        found = [node for node in found if node.product]
    return found, refused


def _devices_of(node: Json, name: str, count: int, settings: KubeSettings) -> NodeDevices:
    labels = _labels(node)
    product, memory_mb = labels.get(settings.product_label, ""), _memory_mb(labels, settings)
    whole = int(number(_status(node, "capacity").get(settings.gpu_resource, 0)))
    share = _SHARE / max(count, whole)  # a broken GPU does not enlarge what the others get
    why_not = _why_not(node, settings)
    return NodeDevices(
        name=name,
        product=product,
        cls=class_of(product, memory_mb, settings.gpu_resource),
        count=count,
        memory_mb=memory_mb,
        cpus_each=max(1, int(number(_allocatable(node).get("cpu", 0)) * share)),
        memory_bytes_each=int(number(_allocatable(node).get("memory", 0)) * share),
        usable=not why_not,
        why_not=why_not,
    )


def class_of(product: str, memory_mb: int, gpu_resource: str = "") -> str:
    """The device class of a product as nodes are labelled (`NVIDIA-H100-80GB-HBM3`), named as on one machine."""
    if not product:
        return "GPU"
    part = _SLICE.fullmatch(gpu_resource)
    whole = f"{product}-MIG-{part['profile']}" if part is not None and "-MIG-" not in product else product
    return device_class(whole, memory_mb << 20)


def own_tolerations(settings: KubeSettings) -> list[Json]:
    """The taints that every pod of ours tolerates: those of GPU nodes, and for a while those of nodes that are away."""
    keys = dict.fromkeys(("nvidia.com/gpu", settings.gpu_resource)) if settings.gpu_resource else {}
    gpus = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in keys]
    away = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATED_S}
    return [*gpus, *({"key": f"node.kubernetes.io/{key}"} | away for key in ("not-ready", "unreachable"))]


def _memory_mb(labels: dict[str, str], settings: KubeSettings) -> int:
    key = f"{settings.gpu_resource}.memory" if _SLICE.fullmatch(settings.gpu_resource) else "nvidia.com/gpu.memory"
    return int(number(labels.get(key, 0)))


def _cpu_slots(node: Json, settings: KubeSettings) -> NodeDevices | None:
    name = str(node["metadata"]["name"])
    cpus = number(_allocatable(node).get("cpu", 0)) * _SHARE
    count = min(settings.cpu_slots, int(cpus))
    why_not = _why_not(node, settings)
    if count <= 0:
        return None
    memory = int(number(_allocatable(node).get("memory", 0)) * _SHARE / count)
    return NodeDevices(name, "", "CPU", count, 0, max(1, int(cpus / count)), memory, not why_not, why_not)


def _refusal(node: Json, settings: KubeSettings) -> str:
    """Why the devices of a node are none of ours to use, whatever it does."""
    labels, name = _labels(node), node["metadata"]["name"]
    product = labels.get(settings.product_label, "")
    cls = class_of(product, _memory_mb(labels, settings), settings.gpu_resource)
    if settings.products and not {product, cls} & set(settings.products):
        return f"{name} has {product or 'an unnamed product'}, which was not asked for"
    if any(labels.get(key) != value for key, value in settings.node_selector.items()):
        return f"{name} does not match the node selector"
    shared = product.endswith("-SHARED") or number(labels.get("nvidia.com/gpu.replicas", 1)) > 1
    if shared and not settings.allow_sharing:
        return f"the GPUs of {name} are shared by time: scores would not be comparable (allow_sharing)"
    if "-MIG-" in product and not settings.allow_mig:
        return f"the GPUs of {name} are slices (MIG): scores would not be comparable (allow_mig)"
    return ""


def _why_not(node: Json, settings: KubeSettings) -> str:
    """Why a node takes no run just now."""
    name = node["metadata"]["name"]
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready: Json = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    if ready.get("status") != "True":
        return f"node {name} is not ready" if ready.get("status") == "False" else f"node {name} does not answer"
    if spec.get("unschedulable"):
        return f"node {name} is cordoned"
    tolerations = [*own_tolerations(settings), *settings.tolerations]
    for taint in spec.get("taints") or ():
        hard = taint.get("effect") in ("NoSchedule", "NoExecute")
        if hard and not any(_tolerates(one, taint) for one in tolerations):
            return f"node {name} has the taint {taint.get('key')}, which runs do not tolerate"
    return ""


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get("value", "")


def _labels(node: Json) -> dict[str, str]:
    return node["metadata"].get("labels") or {}


def _allocatable(node: Json) -> dict[str, Any]:
    return _status(node, "allocatable")


def _status(node: Json, amounts: str) -> dict[str, Any]:
    return (node.get("status") or {}).get(amounts) or {}
