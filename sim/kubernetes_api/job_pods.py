"""The pod that a Job stands for, and what the Job's failure policy makes of a pod's end."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from sim import draws
from sim.kubernetes_api import pod_status
from sim.kubernetes_api.objects import TRACKING, Obj, condition, name_of, namespace_of, uid_of
from sim.kubernetes_api.store import Store

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Of which Kubernetes makes the ends of generated names."""
_BASE_LENGTH: Final = 58


class Ruling(NamedTuple):
    """What a rule of the policy says: fail the Job (with these words), do not count the pod, or count it."""

    action: Literal["FailJob", "Ignore", "Count"]
    message: str = ""


def pod_of(job: Obj, number: int, seed: int) -> Obj:
    """The pod of a Job, as the controller asks for it; `number` counts a Job's pods from 0."""
    template = job["spec"]["template"]
    base = f"{name_of(job)}-"[:_BASE_LENGTH]
    key = int(draws.uniform(seed, "pod-name", namespace_of(job), name_of(job), number) * len(_LETTERS) ** 5)
    suffix = "".join(_LETTERS[key // len(_LETTERS) ** place % len(_LETTERS)] for place in range(5))
    metadata: Obj = {
        "name": base + suffix, "generateName": base, "namespace": namespace_of(job),
        "labels": dict(template["metadata"].get("labels") or {}),
        "ownerReferences": [
            {
                "apiVersion": "batch/v1", "kind": "Job", "name": name_of(job), "uid": uid_of(job), "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "finalizers": [TRACKING],
    }  # fmt: skip
    if template["metadata"].get("annotations"):
        metadata["annotations"] = dict(template["metadata"]["annotations"])
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": dict(template["spec"])}


def defaulted(store: Store, pod: Obj) -> Obj:
    """The pod with what the API server fills in: account, priority, requests from limits, tolerations, status."""
    spec = {"serviceAccountName": "default", "serviceAccount": "default", **pod["spec"]}
    found = store.get("priorityclasses", "", spec.get("priorityClassName", ""))
    spec["priority"] = found["value"] if found is not None else 0
    spec["preemptionPolicy"] = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
    spec["containers"] = [_with_requests(container) for container in spec["containers"]]
    tolerations = list(spec.get("tolerations") or ())
    known = {toleration.get("key") for toleration in tolerations}
    tolerations += [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
        if key not in known
    ]
    spec["tolerations"] = tolerations
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    pod = {**pod, "spec": spec}
    return {**pod, "status": {"phase": "Pending", "qosClass": pod_status.qos_class(pod)}}


def ruling(job: Obj, pod: Obj) -> Ruling:
    """What the Job's podFailurePolicy says of a failed pod; without a rule for it, it counts."""
    rules = (job["spec"].get("podFailurePolicy") or {}).get("rules") or ()
    for index, rule in enumerate(rules):
        why = _matched(rule, pod)
        if why:
            said = f"{why} matching {rule['action']} rule at index {index}"
            return Ruling(rule["action"], said)
    return Ruling("Count")


def _matched(rule: Obj, pod: Obj) -> str:
    where = f"{namespace_of(pod)}/{name_of(pod)}"
    for wanted in rule.get("onPodConditions") or ():
        found = condition(pod, wanted["type"])
        if found is not None and found["status"] == wanted.get("status", "True"):
            return f"Pod {where} has condition {wanted['type']}"
    codes = rule.get("onExitCodes")
    if codes is None:
        return ""
    for status in pod["status"].get("containerStatuses") or ():
        ended = (status.get("state") or {}).get("terminated")
        if ended is None or ended["exitCode"] == 0 or codes.get("containerName", status["name"]) != status["name"]:
            continue
        if (ended["exitCode"] in codes["values"]) == (codes["operator"] == "In"):
            return f"Container {status['name']} for pod {where} failed with exit code {ended['exitCode']}"
    return ""


def _with_requests(container: Obj) -> Obj:
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    if not limits:
        return container
    return {**container, "resources": {**resources, "requests": {**limits, **(resources.get("requests") or {})}}}
