"""The status of a pod as a kubelet writes it, from ContainerCreating to its final phase."""

from __future__ import annotations

import hashlib
from typing import Any

from sim.kubernetes_api.objects import Obj, main_container, merged, uid_of, with_condition, with_status

NOT_READY = "ContainersNotReady"


def creating(pod: Obj, now: str, host_ip: str) -> Obj:
    """The kubelet has taken the pod: volumes and image come next."""
    name = main_container(pod)["name"]
    unready = {"reason": NOT_READY, "message": f"containers with unready status: [{name}]"}
    for condition in (
        _condition(pod, "PodReadyToStartContainers", "False", now),
        _condition(pod, "Initialized", "True", now),
        _condition(pod, "Ready", "False", now, **unready),
        _condition(pod, "ContainersReady", "False", now, **unready),
        _condition(pod, "PodScheduled", "True", now),
    ):
        pod = with_condition(pod, condition)
    status = {"waiting": {"reason": "ContainerCreating"}}
    return with_status(
        pod,
        observedGeneration=pod["metadata"].get("generation", 1),
        hostIP=host_ip,
        hostIPs=[{"ip": host_ip}],
        startTime=now,
        containerStatuses=[_container_status(pod, status)],
    )


def sandboxed(pod: Obj, now: str) -> Obj:
    """The pod's volumes and its network are there."""
    return with_condition(pod, _condition(pod, "PodReadyToStartContainers", "True", now))


def waiting(pod: Obj, reason: str, message: str) -> Obj:
    """The container cannot be started, for now."""
    return _with_container(pod, state={"waiting": {"reason": reason, "message": message}})


def running(pod: Obj, now: str, ip: str) -> Obj:
    """The container was started."""
    for kind in ("Ready", "ContainersReady"):
        pod = with_condition(pod, _condition(pod, kind, "True", now))
    image = "sha256:" + hashlib.sha256(main_container(pod)["image"].encode()).hexdigest()
    pod = _with_container(
        pod, state={"running": {"startedAt": now}}, ready=True, imageID=image, containerID=_id(pod), started=True
    )
    return with_status(pod, phase="Running", podIP=ip, podIPs=[{"ip": ip}])


def terminated(pod: Obj, now: str, code: int, reason: str, message: str) -> Obj:
    """The container is over; the pod's phase follows a second later, unless it is being deleted."""
    state = (pod["status"].get("containerStatuses") or [{}])[0].get("state") or {}
    began = state.get("running", {}).get("startedAt")
    if reason == "StartError":
        began = "1970-01-01T00:00:00Z"
    ended: Obj = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now, "containerID": _id(pod)}
    if began is None:
        ended = {"exitCode": code, "reason": reason, "startedAt": None, "finishedAt": None}
    if message:
        ended["message"] = message
    why = "PodCompleted" if code == 0 else "PodFailed"
    for kind in ("Ready", "ContainersReady"):
        pod = with_condition(pod, _condition(pod, kind, "False", now, reason=why))
    return _with_container(pod, state={"terminated": ended}, ready=False, started=False)


def over(pod: Obj, now: str, phase: str, reason: str | None = None, message: str | None = None) -> Obj:
    """The pod has reached its final phase."""
    pod = with_condition(pod, _condition(pod, "PodReadyToStartContainers", "False", now))
    return with_status(pod, phase=phase, reason=reason, message=message)


def rejected(pod: Obj, now: str, reason: str, message: str) -> Obj:
    """The kubelet did not take the pod: nothing of it ever ran."""
    return with_status(pod, phase="Failed", reason=reason, message=f"Pod was rejected: {message}", startTime=now)


def disrupted(pod: Obj, now: str, reason: str, message: str) -> Obj:
    """Somebody takes the pod's place away."""
    return with_condition(pod, _condition(pod, "DisruptionTarget", "True", now, reason=reason, message=message))


def observed(pod: Obj) -> Obj:
    """The kubelet has seen the pod's present generation."""
    generation = pod["metadata"].get("generation", 1)
    conditions = [{**found, "observedGeneration": generation} for found in pod["status"].get("conditions") or ()]
    return with_status(pod, observedGeneration=generation, conditions=conditions)


def scheduled(pod: Obj, now: str) -> Obj:
    """The pod has a node."""
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    return with_condition(pod, condition)


def unschedulable(pod: Obj, now: str, message: str) -> Obj:
    """No node takes the pod, for now."""
    why = {"reason": "Unschedulable", "message": message}
    return with_condition(pod, _condition(pod, "PodScheduled", "False", now, **why))


def not_ready(pod: Obj, now: str) -> Obj:
    """The node life-cycle controller says so of every pod of a node that does not answer."""
    known = next((one for one in pod["status"].get("conditions") or () if one["type"] == "Ready"), None)
    if known is None or known["status"] == "False":
        return pod
    return with_condition(pod, {**known, "status": "False", "lastTransitionTime": now})


def qos_class(pod: Obj) -> str:
    """The quality of service that the requests and limits of a pod's containers give it."""
    guaranteed, any_at_all = True, False
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            any_at_all = any_at_all or name in limits or name in requests
            guaranteed = guaranteed and name in limits and requests.get(name, limits[name]) == limits[name]
    return "Guaranteed" if guaranteed and any_at_all else "Burstable" if any_at_all else "BestEffort"


def _condition(pod: Obj, kind: str, status: str, now: str, **why: str) -> Obj:
    generation = pod["metadata"].get("generation", 1)
    found = {"type": kind, "observedGeneration": generation, "status": status}
    return {**found, "lastProbeTime": None, "lastTransitionTime": now, **why}


def _container_status(pod: Obj, state: Obj) -> Obj:
    container = main_container(pod)
    mounts = [_mount_status(mount) for mount in container.get("volumeMounts") or ()]
    status: Obj = {
        "name": container["name"], "state": state, "lastState": {}, "ready": False, "restartCount": 0,
        "image": container["image"], "imageID": "", "started": False,
    }  # fmt: skip
    return status | ({"volumeMounts": mounts} if mounts else {})


def _mount_status(mount: Obj) -> Obj:
    status = {"name": mount["name"], "mountPath": mount["mountPath"]}
    return status | ({"readOnly": True, "recursiveReadOnly": "Disabled"} if mount.get("readOnly") else {})


def _with_container(pod: Obj, **changes: Any) -> Obj:
    statuses = pod["status"].get("containerStatuses") or [_container_status(pod, {})]
    return with_status(pod, containerStatuses=[merged(statuses[0], changes), *statuses[1:]])


def _id(pod: Obj) -> str:
    return "containerd://" + hashlib.sha256(f"container {uid_of(pod)}".encode()).hexdigest()
