"""Small readings and changes of Kubernetes objects as plain dictionaries; nothing handed in is ever changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

Obj = dict[str, Any]

GPU: Final = "nvidia.com/gpu"
TRACKING: Final = "batch.kubernetes.io/job-tracking"
"""The finalizer by which the Job controller keeps a pod until it has counted it."""
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
TRACE: Final = "fake/trace"
"""The annotation of a Job that names a recording which it replays (see trace.py), and of its pods."""

_QUANTITY: Final = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)")
_SCALE: Final = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}  # fmt: skip


def quantity(value: object) -> float:
    """A Kubernetes quantity (`100m`, `64Mi`, 1) as a number; 0 for what is none."""
    found = _QUANTITY.fullmatch(str(value))
    return float(found[1]) * _SCALE.get(found[2], 0.0) if found is not None else 0.0


def rfc3339(t_s: float) -> str:
    """A moment since 1970 as Kubernetes writes it in metadata: whole seconds."""
    return datetime.fromtimestamp(int(t_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(t_s: float) -> str:
    """A moment since 1970 as Kubernetes writes a MicroTime."""
    return datetime.fromtimestamp(t_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def name_of(obj: Obj) -> str:
    """The name of an object."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Obj) -> str:
    """The namespace of an object; empty for one that belongs to the whole cluster."""
    return str(obj["metadata"].get("namespace", ""))


def uid_of(obj: Obj) -> str:
    """The uid of an object."""
    return str(obj["metadata"]["uid"])


def annotation(obj: Obj, key: str) -> str:
    """An annotation of an object; empty where it has none of this name."""
    return str((obj["metadata"].get("annotations") or {}).get(key, ""))


def owners(obj: Obj) -> list[str]:
    """The uids of an object's owners."""
    return [str(owner["uid"]) for owner in obj["metadata"].get("ownerReferences", ())]


def with_meta(obj: Obj, **changes: object) -> Obj:
    """The object with other metadata; None takes a field away."""
    return {**obj, "metadata": merged(obj["metadata"], changes)}


def with_spec(obj: Obj, **changes: object) -> Obj:
    """The object with another spec; None takes a field away."""
    return {**obj, "spec": merged(obj.get("spec") or {}, changes)}


def with_status(obj: Obj, **changes: object) -> Obj:
    """The object with another status; None takes a field away."""
    return {**obj, "status": merged(obj.get("status") or {}, changes)}


def merged(fields: Mapping[str, Any], changes: Mapping[str, object]) -> Obj:
    """Fields with changes; None takes a field away."""
    return {key: value for key, value in {**fields, **changes}.items() if value is not None}


def condition(obj: Obj, kind: str) -> Obj | None:
    """The condition of this type in an object's status."""
    for found in obj.get("status", {}).get("conditions") or ():
        if found["type"] == kind:
            return dict(found)
    return None


def is_true(obj: Obj, kind: str) -> bool:
    """Whether an object's condition of this type holds."""
    return (condition(obj, kind) or {}).get("status") == "True"


def with_condition(obj: Obj, changed: Obj) -> Obj:
    """The object with one condition replaced, in its place, or added at the end.

    A condition whose status stays the same keeps the time at which that status began.
    """
    conditions = list(obj.get("status", {}).get("conditions") or ())
    for at, found in enumerate(conditions):
        if found["type"] == changed["type"]:
            if found["status"] == changed["status"]:
                changed = {**changed, "lastTransitionTime": found.get("lastTransitionTime")}
            conditions[at] = changed
            break
    else:
        conditions.append(changed)
    return with_status(obj, conditions=conditions)


def is_over(pod: Obj) -> bool:
    """Whether a pod has reached one of its final phases."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def is_leaving(obj: Obj) -> bool:
    """Whether somebody asked for an object's deletion."""
    return "deletionTimestamp" in obj["metadata"]


def is_finished(job: Obj) -> bool:
    """Whether a Job has its last condition."""
    return is_true(job, "Complete") or is_true(job, "Failed")


def requests_of(pod: Obj) -> dict[str, float]:
    """What a pod's containers request together, by resource; a limit alone is also the request."""
    total: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources") or {}
        for name, value in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
            total[name] = total.get(name, 0.0) + quantity(value)
    return total


def tolerates(tolerations: Iterable[Obj], taint: Obj) -> Obj | None:
    """The toleration that a taint meets first, if there is one."""
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("key") not in (None, "", taint["key"]):
            continue
        if toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == taint.get("value", ""):
            return toleration
    return None


def main_container(pod: Obj) -> Obj:
    """The container whose end is the pod's end: the first."""
    return dict(pod["spec"]["containers"][0])
