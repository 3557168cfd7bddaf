"""The kubelets: start pods that were given a node, run them, end them, and die with their node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from sim.kubernetes_api.admission import over
from sim.kubernetes_api.cluster import World

_STOP_S: Final = 1.0
"""How long the runner needs to end its children after SIGTERM."""
_STARTS_S: Final = 0.4
"""From a node to a running container with a warm image (measured: 0.55 s from creation on)."""
_MOUNT_RETRY_S: Final = 2.0
NODE_GRACE_S: Final = 50.0
"""Until a silent node is called NotReady (kube-controller-manager's node-monitor-grace-period since 1.32)."""
_USUAL_TOLERATION_S: Final = 300.0

Json = dict[str, Any]


class Container(Protocol):
    """What a pod's container does. It calls the kubelet back: `running`, `ended` and the like."""

    def begin(self) -> None:
        """Start: the volumes are there."""

    def stop(self) -> None:
        """SIGTERM came, or the pod was killed: do nothing more."""


class Kubelet:
    """All nodes' agents.

    Args:
        world: see there.
        container: makes what a pod runs.
    """

    def __init__(self, world: World, container: Callable[[Kubelet, Json], Container]) -> None:
        self._world, self._make = world, container
        self._containers: dict[str, Container] = {}
        self.dead: set[str] = set()
        world.store.subscribe(self._on_change)

    # -- starting

    def bound(self, pod: Json) -> None:
        """A pod was given one of our nodes."""
        self._world.after(
            _STARTS_S / 2, self._mount, pod["metadata"]["uid"], pod["metadata"]["namespace"], pod["metadata"]["name"]
        )

    def _mount(self, uid: str, namespace: str, name: str) -> None:
        pod = self._pod(uid, namespace, name)
        if pod is None or pod["metadata"].get("deletionTimestamp") or pod["spec"]["nodeName"] in self.dead:
            return
        if not (pod.get("status") or {}).get("startTime"):
            waiting = {"waiting": {"reason": "ContainerCreating"}}
            pod = (
                self._status(
                    pod,
                    phase="Pending",
                    startTime=self._world.store.now_text(),
                    containerStatuses=[self._container(pod, waiting)],
                )
                or pod
            )
        missing = self._missing(pod)
        if missing:
            self._world.event(pod, "Pod", "FailedMount", missing, "kubelet")
            self._world.after(_MOUNT_RETRY_S, self._mount, uid, namespace, name)
            return
        self._world.after(_STARTS_S / 2, self._begin, uid, namespace, name)

    def _missing(self, pod: Json) -> str:
        store, namespace = self._world.store, pod["metadata"]["namespace"]
        for volume in pod["spec"].get("volumes") or ():
            failed = f'MountVolume.SetUp failed for volume "{volume["name"]}"'
            if "configMap" in volume and store.get("configmaps", namespace, volume["configMap"]["name"]) is None:
                return f'{failed} : configmap "{volume["configMap"]["name"]}" not found'
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and store.get("persistentvolumeclaims", namespace, claim) is None:
                return f'{failed} : persistentvolumeclaim "{claim}" not found'
        return ""

    def _begin(self, uid: str, namespace: str, name: str) -> None:
        pod = self._pod(uid, namespace, name)
        if pod is None or pod["metadata"].get("deletionTimestamp") or pod["spec"]["nodeName"] in self.dead:
            return
        container = self._containers[uid] = self._make(self, pod)
        deadline_s = pod["spec"].get("activeDeadlineSeconds")
        if deadline_s is not None:
            self._world.after(float(deadline_s), self._overdue, uid, namespace, name)
        container.begin()

    # -- what containers say

    def waiting(self, pod: Json, reason: str, message: str) -> None:
        """The container does not start, for a reason such as ErrImagePull."""
        current = self._current(pod)
        if current is not None:
            self._status(
                current,
                containerStatuses=[self._container(current, {"waiting": {"reason": reason, "message": message}})],
            )
            self._world.event(current, "Pod", "Failed", f"Error: {reason}", "kubelet")

    def running(self, pod: Json) -> None:
        """The container runs."""
        current = self._current(pod)
        if current is None:
            return
        self._world.logs.begin(pod["metadata"]["uid"])
        state = {"running": {"startedAt": self._world.store.now_text()}}
        conditions = self._world.condition(current, "Ready", "True")
        self._status(
            current,
            phase="Running",
            conditions=conditions,
            containerStatuses=[self._container(current, state, ready=True)],
        )

    def log(self, pod: Json, line: bytes) -> None:
        """The container printed a line."""
        self._world.logs.add(pod["metadata"]["uid"], self._world.store.now_text(micro=True), line)

    def ended(
        self, pod: Json, code: int, message: str = "", reason: str = "", status: Mapping[str, Any] | None = None
    ) -> None:
        """The container is over; `status` is more of the pod's own, such as its reason."""
        self._containers.pop(pod["metadata"]["uid"], None)
        current = self._current(pod)
        if current is None or over(current):
            return
        self._world.logs.end(pod["metadata"]["uid"])
        known = _first_container(current)
        started = (known.get("state") or {}).get("running", {}).get("startedAt")
        last = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": started,
            "finishedAt": self._world.store.now_text(),
            "containerID": f"simulated://{pod['metadata']['uid']}",
        }
        if message:
            last["message"] = message
        phase = "Succeeded" if code == 0 else "Failed"
        done = self._status(
            current,
            **{"phase": phase, "containerStatuses": [self._container(current, {"terminated": last})], **(status or {})},
        )
        if done is not None and done["metadata"].get("deletionTimestamp"):
            self._world.after(0.1, self._remove, done)

    def refuse(self, pod: Json, reason: str, message: str) -> None:
        """A pod fails without a container: its node could not take it, or put it out."""
        container = self._containers.pop(pod["metadata"]["uid"], None)
        if container is not None:
            container.stop()
        current = self._current(pod)
        if current is not None and not over(current):
            self._world.logs.end(pod["metadata"]["uid"])
            self._status(current, phase="Failed", reason=reason, message=message)

    # -- ending

    def delete(self, pod: Json, grace_s: int) -> None:
        """End a pod within its grace, or take it away at once."""
        meta = pod["metadata"]
        current = self._pod(meta["uid"], meta["namespace"], meta["name"])
        if current is None:
            return
        if grace_s == 0 or not current["spec"].get("nodeName") or over(current):
            self._remove(current)
            return
        marked = self._world.store.mark_deleted("pods", meta["namespace"], meta["name"], grace_s)
        if marked is None or current["metadata"].get("deletionTimestamp") or current["spec"]["nodeName"] in self.dead:
            return
        self._world.event(marked, "Pod", "Killing", "Stopping container trainer", "kubelet")
        self._world.after(min(_STOP_S, grace_s), self._stopped, marked)

    def disrupt(self, pod: Json, reason: str, message: str) -> None:
        """End a pod as the cluster does, with its reason."""
        current = self._current(pod)
        if current is None or over(current):
            return
        conditions = self._world.condition(current, "DisruptionTarget", "True", reason, message)
        told = self._status(current, conditions=conditions)
        if told is not None:
            self.delete(told, int(told["spec"].get("terminationGracePeriodSeconds", 30)))

    def _stopped(self, pod: Json) -> None:
        container = self._containers.get(pod["metadata"]["uid"])
        current = self._current(pod)
        if current is None:
            return
        if container is not None:
            container.stop()
        if over(current):
            self._remove(current)
        elif "running" in _first_container(current).get("state", {}):
            self.ended(current, 143, '{"ar":1,"outcome":"terminated"}')
        else:
            self._containers.pop(pod["metadata"]["uid"], None)
            self._remove(current)

    def _overdue(self, uid: str, namespace: str, name: str) -> None:
        pod = self._pod(uid, namespace, name)
        if pod is None or over(pod) or pod["spec"]["nodeName"] in self.dead:
            return
        container = self._containers.get(uid)
        if container is not None:
            container.stop()
        self.ended(pod, 143, "", reason="Error")
        last = self._pod(uid, namespace, name)
        if last is not None:
            self._status(
                last,
                phase="Failed",
                reason="DeadlineExceeded",
                message="Pod was active on the node longer than the specified deadline",
            )

    def _remove(self, pod: Json) -> None:
        meta = pod["metadata"]
        container = self._containers.pop(meta["uid"], None)
        if container is not None:
            container.stop()
        known = self._world.store.get("pods", meta["namespace"], meta["name"])
        if known is not None and known["metadata"]["uid"] == meta["uid"]:
            self._world.store.remove("pods", meta["namespace"], meta["name"])
        self._world.logs.forget(meta["uid"])

    # -- nodes

    def lose_node(self, name: str) -> None:
        """A node falls silent; its pods go on being shown as they were."""
        self.dead.add(name)
        for uid, _ in self._on(name):
            container = self._containers.pop(uid, None)
            if container is not None:
                container.stop()
        self._world.after(NODE_GRACE_S, self._call_lost, name)

    def return_node(self, name: str) -> None:
        """A node is back; what ran on it is not."""
        self.dead.discard(name)
        known = self._world.store.get("nodes", "", name)
        if known is None:
            return
        taints = [one for one in known["spec"].get("taints") or () if not one["key"].startswith("node.kubernetes.io/")]
        conditions = self._world.condition(known, "Ready", "True", "KubeletReady")
        self._world.store.update(
            "nodes",
            {
                **known,
                "spec": {**known["spec"], "taints": taints},
                "status": {**known["status"], "conditions": conditions},
            },
        )
        for _, pod in self._on(name):
            if pod["metadata"].get("deletionTimestamp"):
                self._remove(pod)
            elif not over(pod):
                self.ended(
                    pod,
                    137,
                    "The container could not be located when the pod was terminated",
                    reason="ContainerStatusUnknown",
                )

    def _call_lost(self, name: str) -> None:
        known = self._world.store.get("nodes", "", name)
        if known is None or name not in self.dead:
            return
        taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
        conditions = self._world.condition(
            known, "Ready", "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status."
        )
        spec = {
            **known["spec"],
            "taints": [*(known["spec"].get("taints") or ()), taint, {**taint, "effect": "NoSchedule"}],
        }
        self._world.store.update(
            "nodes", {**known, "spec": spec, "status": {**known["status"], "conditions": conditions}}
        )
        for _, pod in self._on(name):
            mine = [one for one in pod["spec"].get("tolerations") or () if one.get("key") == taint["key"]]
            after_s = float(mine[0].get("tolerationSeconds", _USUAL_TOLERATION_S)) if mine else _USUAL_TOLERATION_S
            self._world.after(after_s, self._give_up, name, pod)

    def _give_up(self, node: str, pod: Json) -> None:
        if node in self.dead:
            self.disrupt(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")

    # -- helpers

    def _on_change(self, kind: str, what: str, obj: Json) -> None:
        if kind == "nodes" and what == "DELETED":
            for _, pod in self._on(obj["metadata"]["name"]):
                self.disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
                self._remove(pod)

    def _on(self, node: str) -> list[tuple[str, Json]]:
        return [
            (pod["metadata"]["uid"], pod)
            for pod in self._world.store.list("pods")
            if pod["spec"].get("nodeName") == node
        ]

    def _current(self, pod: Json) -> Json | None:
        meta = pod["metadata"]
        return self._pod(meta["uid"], meta["namespace"], meta["name"])

    def _pod(self, uid: str, namespace: str, name: str) -> Json | None:
        pod = self._world.store.get("pods", namespace, name)
        return pod if pod is not None and pod["metadata"]["uid"] == uid else None

    def _status(self, pod: Json, **parts: Any) -> Json | None:
        return self._world.store.change("pods", pod, status={**(pod.get("status") or {}), **parts})

    def _container(self, pod: Json, state: Mapping[str, Any], *, ready: bool = False) -> Json:
        one = pod["spec"]["containers"][0]
        return {
            "name": one["name"],
            "image": one["image"],
            "ready": ready,
            "restartCount": 0,
            "started": ready,
            "state": dict(state),
        }


def _first_container(pod: Json) -> Json:
    """The status of a pod's container; empty where it has none yet."""
    found: Json = next(iter((pod.get("status") or {}).get("containerStatuses") or ()), {})
    return found
