"""The scheduler: gives pending pods a node, by priority and age, and tells why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from sim.kubernetes_api import fit, pod_status
from sim.kubernetes_api.objects import (
    GPU,
    TRACE,
    Obj,
    annotation,
    is_leaving,
    is_over,
    name_of,
    namespace_of,
    quantity,
    requests_of,
    uid_of,
    with_spec,
    with_status,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.volumes import missing_claim

BY: Final = "default-scheduler"
_MOST_SHAPES: Final = 64


@dataclass
class _Node:
    """A node as the scheduler sees it: what pods of its cache take of it."""

    obj: Obj
    allocatable: dict[str, float]
    used: dict[str, float] = field(default_factory=dict)
    pods: dict[str, int] = field(default_factory=dict)  # uid -> priority

    def lacks(self, requests: Iterable[tuple[str, float]]) -> str:
        """The resource that there is not enough of."""
        for name, amount in requests:
            if self.used.get(name, 0.0) + amount > self.allocatable.get(name, 0.0) + 1e-9:
                return name
        return ""

    def add(self, requests: Iterable[tuple[str, float]], sign: float) -> None:
        """Count a pod's requests in (1.0) or out (-1.0)."""
        for name, amount in requests:
            self.used[name] = self.used.get(name, 0.0) + sign * amount


@dataclass
class _Pending:
    """A pod without a node."""

    namespace: str
    name: str
    uid: str
    priority: int
    number: int
    shape: fit.Shape
    said: str = ""

    @property
    def rank(self) -> tuple[int, int]:
        return -self.priority, self.number


class Scheduler:
    """Pods of one shape wait in one line, so that an event costs a look at each line, not at each pod.

    `held_back` says of a pod why it is to stay pending, whatever is free; empty for none.
    """

    def __init__(
        self,
        store: Store,
        recorder: Recorder,
        timings: Timings,
        held_back: Callable[[Obj], str],
        preempt: Callable[[Obj, Obj], None],
    ) -> None:
        self._store, self._recorder, self._timings = store, recorder, timings
        self._held_back, self._preempt = held_back, preempt
        self._steps = Steps(store.clock, "kube-scheduler")
        self._nodes: dict[str, _Node] = {}
        self._lines: dict[str, dict[str, _Pending]] = {}
        self._fits: dict[str, dict[str, str]] = {}  # shape -> node -> obstacle
        self._bound: dict[str, tuple[str, fit.Shape, tuple[str, str]]] = {}
        self._pending: dict[str, _Pending] = {}
        self._number = 0
        self._due = False
        self._news = False
        self.peak_gpus = 0
        for node in store.list("nodes"):
            self._see_node("ADDED", node)
        store.subscribe(self._see)

    def close(self) -> None:
        """Place no more pods."""
        self._steps.close()

    def gpus_in_use(self) -> int:
        """GPUs that pods hold which are not over."""
        return round(sum(node.used.get(GPU, 0.0) for node in self._nodes.values()))

    # -- what the store tells

    def _see(self, kind: str, change: str, obj: Obj) -> None:
        if kind == "nodes":
            self._see_node(change, obj)
        elif kind == "pods" and not annotation(obj, TRACE):
            self._see_pod(change, obj)

    def _see_node(self, change: str, obj: Obj) -> None:
        name = name_of(obj)
        for fits in self._fits.values():
            fits.pop(name, None)
        known = self._nodes.get(name)
        if change == "DELETED":
            self._nodes.pop(name, None)
        else:
            allocatable = {key: quantity(value) for key, value in obj["status"]["allocatable"].items()}
            if known is None:
                self._nodes[name] = _Node(obj, allocatable)
            else:
                known.obj, known.allocatable = obj, allocatable
        self._news = True
        self._soon()

    def _see_pod(self, change: str, pod: Obj) -> None:
        uid = uid_of(pod)
        if change == "DELETED" or is_over(pod):
            self._leave(uid)
            self._unbind(uid)
        elif pod["spec"].get("nodeName"):
            self._leave(uid)
            if uid not in self._bound:
                self._bind_in_cache(uid, pod["spec"]["nodeName"], self._shape(pod), pod)
        elif is_leaving(pod):
            self._leave(uid)
        elif uid not in self._pending and not pod["spec"].get("schedulingGates"):
            self._number += 1
            shape = self._shape(pod)
            priority = int(pod["spec"].get("priority", 0))
            one = _Pending(namespace_of(pod), name_of(pod), uid, priority, self._number, shape)
            self._pending[uid] = one
            self._lines.setdefault(shape.key, {})[uid] = one
            self._soon(self._timings.bind_s)

    def _shape(self, pod: Obj) -> fit.Shape:
        return fit.shape_of(pod, requests_of(pod))

    def _leave(self, uid: str) -> None:
        one = self._pending.pop(uid, None)
        if one is not None:
            line = self._lines[one.shape.key]
            del line[uid]
            if not line:
                del self._lines[one.shape.key]

    def _bind_in_cache(self, uid: str, node_name: str, shape: fit.Shape, pod: Obj) -> None:
        node = self._nodes.get(node_name)
        if node is not None:
            node.add(shape.requests.items(), 1.0)
            node.pods[uid] = int(pod["spec"].get("priority", 0))
            self._bound[uid] = (node_name, shape, (namespace_of(pod), name_of(pod)))
            self.peak_gpus = max(self.peak_gpus, self.gpus_in_use())

    def _unbind(self, uid: str) -> None:
        if uid not in self._bound:
            return
        node_name, shape, _ = self._bound.pop(uid)
        node = self._nodes.get(node_name)
        if node is not None:
            node.add(shape.requests.items(), -1.0)
            node.pods.pop(uid, None)
            self._soon()

    # -- placing

    def _soon(self, delay_s: float | None = None) -> None:
        if self._pending and not self._due:
            self._due = True
            self._steps.after(self._timings.reschedule_s if delay_s is None else delay_s, self._round)

    def _round(self) -> None:
        """Place what can be placed: line by line until its first pod does not fit, by rank across lines."""
        self._due = False
        for key in sorted(self._lines, key=lambda key: min(one.rank for one in self._lines[key].values())):
            full = ""
            for one in sorted(self._lines[key].values(), key=lambda one: one.rank):
                if full and one.said and not self._news:
                    break  # the rest of this line was told so already
                full = self._try(one, full)
        self._news = False

    def _try(self, one: _Pending, full: str) -> str:
        """Place a pod, or tell why not; returns why pods of its shape cannot be placed now, or nothing."""
        pod = self._store.get("pods", one.namespace, one.name)
        if pod is None or uid_of(pod) != one.uid:
            return full
        held = self._held_back(pod) or missing_claim(self._store, pod)
        if held:
            total = len(self._nodes)
            self._tell(one, pod, held if "not found" in held else f"0/{total} nodes are available: {held}.")
            return full
        if not full:
            node = self._best(one.shape)
            if node is not None:
                self._place(one, pod, node)
                return ""
            full = self._why(one)
        self._tell(one, pod, full)
        if one.priority > 0 or any(one.priority > least for least in self._least_priorities()):
            self._make_room(one, pod)
        return full

    def _obstacles(self, shape: fit.Shape) -> dict[str, str]:
        found = self._fits.pop(shape.key, {})
        self._fits[shape.key] = found  # to the end: the shape asked for least recently stands first
        if len(self._fits) > _MOST_SHAPES:
            del self._fits[next(iter(self._fits))]
        for name, node in self._nodes.items():
            if name not in found:
                found[name] = fit.obstacle(shape, node.obj)
        return found

    def _best(self, shape: fit.Shape) -> _Node | None:
        """The node with most free GPUs of those that fit, so that work is spread; the first by name of equals."""
        best: _Node | None = None
        most = -1.0
        for name, why in self._obstacles(shape).items():
            node = self._nodes[name]
            free = node.allocatable.get(GPU, 0.0) - node.used.get(GPU, 0.0)
            if not why and free > most and not node.lacks(shape.requests.items()):
                best, most = node, free
        return best

    def _place(self, one: _Pending, pod: Obj, node: _Node) -> None:
        now, name = self._store.now_text(), name_of(node.obj)
        self._leave(one.uid)
        self._bind_in_cache(one.uid, name, one.shape, pod)
        bound = self._store.update("pods", pod_status.scheduled(with_spec(pod, nodeName=name), now))
        said = f"Successfully assigned {one.namespace}/{one.name} to {name}"
        self._recorder.say(bound, "Scheduled", said, by=BY)

    def _why(self, one: _Pending) -> str:
        reasons, helps = [], []
        for name, why in self._obstacles(one.shape).items():
            node = self._nodes[name]
            lacks = "" if why else node.lacks(one.shape.requests.items())
            reasons.append(why or f"Insufficient {lacks}")
            too_small = lacks and one.shape.requests[lacks] > node.allocatable.get(lacks, 0.0)
            never = bool(why) or bool(too_small)
            helps.append(
                "Preemption is not helpful for scheduling" if never else "No preemption victims found for incoming pod"
            )
        total = len(self._nodes)
        return (
            f"0/{total} nodes are available: {fit.summary(reasons)}. no new claims to deallocate, "
            f"preemption: 0/{total} nodes are available: {fit.summary(helps)}."
        )

    def _tell(self, one: _Pending, pod: Obj, message: str) -> None:
        if one.said == message:
            return
        one.said = message
        told = self._store.update("pods", pod_status.unschedulable(pod, self._store.now_text(), message))
        self._recorder.say(told, "FailedScheduling", message, by=BY, warning=True)

    # -- preemption

    def _least_priorities(self) -> Iterable[int]:
        return (min(node.pods.values()) for node in self._nodes.values() if node.pods)

    def _make_room(self, one: _Pending, pod: Obj) -> None:
        """Take the places of as few pods of lower priority as it needs, on the first node where that helps."""
        if pod["spec"].get("preemptionPolicy") == "Never" or pod["status"].get("nominatedNodeName"):
            return
        for name, why in sorted(self._obstacles(one.shape).items()):
            if why:
                continue
            victims = self._victims(self._nodes[name], one)
            if victims:
                current = self._store.get("pods", one.namespace, one.name) or pod
                self._store.update("pods", with_status(current, nominatedNodeName=name))
                for victim in victims:
                    self._preempt(victim, pod)
                return

    def _victims(self, node: _Node, one: _Pending) -> list[Obj]:
        chosen: list[Obj] = []
        freed: dict[str, float] = {}
        for uid in sorted(node.pods, key=lambda uid: (node.pods[uid], uid)):
            if node.pods[uid] >= one.priority:
                break
            _, shape, where = self._bound[uid]
            victim = self._store.get("pods", *where)
            if victim is not None:
                chosen.append(victim)
            for name, amount in shape.requests.items():
                freed[name] = freed.get(name, 0.0) + amount
            short = [
                name
                for name, amount in one.shape.requests.items()
                if node.used.get(name, 0.0) - freed.get(name, 0.0) + amount > node.allocatable.get(name, 0.0) + 1e-9
            ]
            if not short:
                return [pod for pod in chosen if not is_leaving(pod)]
        return []
