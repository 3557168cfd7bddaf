"""The scheduler: gives pending pods a node that fits, in the order they came, or says why none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sim.kubernetes_api.admission import over
from sim.kubernetes_api.cluster import GPU, World

_PLACE_S: Final = 0.02

Json = dict[str, Any]


class Scheduler:
    """Keeps what each node has left, so that placing a pod looks at nodes and at no other pod.

    Args:
        world: see there.
        bound: called with a pod that has got its node.
    """

    def __init__(self, world: World, bound: Callable[[Json], None]) -> None:
        self._world, self._bound = world, bound
        self._pending: dict[tuple[str, str], None] = {}
        self._used: Counter[str] = Counter()  # GPUs by node
        self._holds: dict[str, tuple[str, int]] = {}  # a pod's uid to its node and GPUs
        self._awake = False
        self.peak = 0
        world.store.subscribe(self._on_change)

    def in_use(self) -> int:
        """GPUs that pods hold now."""
        return sum(self._used.values())

    def _on_change(self, kind: str, what: str, obj: Json) -> None:
        if kind == "nodes":
            self._wake()
        if kind != "pods":
            return
        key = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        if what == "DELETED" or over(obj):
            self._pending.pop(key, None)
            self._release(obj["metadata"]["uid"])
        elif what == "ADDED" and not obj["spec"].get("nodeName"):
            self._pending[key] = None
            self._wake()

    def _release(self, uid: str) -> None:
        held = self._holds.pop(uid, None)
        if held is not None:
            self._used[held[0]] -= held[1]
            self._wake()

    def _wake(self) -> None:
        if not self._awake and self._pending:
            self._awake = True
            self._world.after(_PLACE_S, self._place_all)

    def _place_all(self) -> None:
        self._awake = False
        nodes = list(self._world.store.values("nodes").values())
        free = {node["metadata"]["name"]: self._free(node) for node in nodes}
        told: dict[str, str] = {}
        for key in list(self._pending):
            pod = self._world.store.get("pods", *key)
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                self._pending.pop(key, None)
                continue
            kind = repr((pod["spec"].get("affinity"), pod["spec"].get("nodeSelector"), _gpus(pod)))
            if kind in told:  # one just like it did not fit
                self._refuse(pod, told[kind])
                continue
            chosen, why = self._choose(pod, nodes, free)
            if chosen is None:
                told[kind] = why
                self._refuse(pod, why)
            else:
                free[chosen] -= _gpus(pod)
                self._bind(pod, chosen)

    def _free(self, node: Json) -> int:
        return int(node["status"]["allocatable"].get(GPU, 0)) - self._used[node["metadata"]["name"]]

    def _choose(self, pod: Json, nodes: list[Json], free: dict[str, int]) -> tuple[str | None, str]:
        """A node for a pod, the emptiest first; or why there is none, as the real scheduler words it."""
        reasons: Counter[str] = Counter()
        fitting: list[tuple[int, str]] = []
        for node in nodes:
            name = node["metadata"]["name"]
            why = _unfit(pod, node)
            if why:
                reasons[why] += 1
            elif free[name] < _gpus(pod):
                reasons[f"Insufficient {GPU}"] += 1
            else:
                fitting.append((-free[name], name))
        if fitting:
            return min(fitting)[1], ""
        parts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        none = f"preemption: 0/{len(nodes)} nodes are available: {len(nodes)} Preemption is not helpful for scheduling."
        return None, f"0/{len(nodes)} nodes are available: {parts}. {none}"

    def _bind(self, pod: Json, node: str) -> None:
        meta = pod["metadata"]
        self._pending.pop((meta["namespace"], meta["name"]), None)
        self._used[node] += _gpus(pod)
        self._holds[meta["uid"]] = (node, _gpus(pod))
        self.peak = max(self.peak, self.in_use())
        conditions = self._world.condition(pod, "PodScheduled", "True")
        bound = self._world.store.change(
            "pods",
            pod,
            spec={**pod["spec"], "nodeName": node},
            status={**(pod.get("status") or {}), "conditions": conditions},
        )
        if bound is not None:
            self._world.event(
                pod,
                "Pod",
                "Scheduled",
                f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}",
                "default-scheduler",
            )
            self._bound(bound)

    def _refuse(self, pod: Json, why: str) -> None:
        known: Json = next(
            (one for one in (pod.get("status") or {}).get("conditions") or () if one["type"] == "PodScheduled"), {}
        )
        if known.get("message") == why:
            return
        conditions = self._world.condition(pod, "PodScheduled", "False", "Unschedulable", why)
        self._world.store.change("pods", pod, status={**(pod.get("status") or {}), "conditions": conditions})
        self._world.event(pod, "Pod", "FailedScheduling", why, "default-scheduler")


def _gpus(pod: Json) -> int:
    return sum(int(((one.get("resources") or {}).get("limits") or {}).get(GPU, 0)) for one in pod["spec"]["containers"])


def _unfit(pod: Json, node: Json) -> str:
    """Why a node can never take a pod as it stands; empty where it could, had it room."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    wants = any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items())
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if affinity and not any(_matches(term, labels) for term in affinity.get("nodeSelectorTerms") or ()):
        wants = True
    if wants:
        return "node(s) didn't match Pod's node affinity/selector"
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not any(
            _tolerates(one, taint) for one in spec.get("tolerations") or ()
        ):
            return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
    return ""


def _matches(term: Json, labels: dict[str, str]) -> bool:
    for wanted in term.get("matchExpressions") or ():
        value, values = labels.get(wanted["key"]), wanted.get("values") or []
        good = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
            "Gt": value is not None and value.isdecimal() and int(value) > int(values[0]) if values else False,
            "Lt": value is not None and value.isdecimal() and int(value) < int(values[0]) if values else False,
        }[wanted["operator"]]
        if not good:
            return False
    return True


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return bool(toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", ""))
