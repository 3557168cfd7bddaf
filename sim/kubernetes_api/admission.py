"""What a namespace allows: quotas, PodSecurity, priority classes, and what a user may do at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sim.kubernetes_api.status import Refused
from sim.kubernetes_api.store import Store

Json = dict[str, Any]
Rule = tuple[str, str, str]
"""(verb, group, resource with subresource); `*` is any."""

DEPLOYED: Final[frozenset[Rule]] = frozenset(
    {
        *((verb, "batch", "jobs") for verb in ("create", "get", "list", "watch", "delete")),
        *((verb, "", "pods") for verb in ("get", "list", "watch", "delete")),
        ("get", "", "pods/log"),
        *((verb, "", "configmaps") for verb in ("create", "get", "list", "delete")),
        *((verb, "", "events") for verb in ("list", "watch")),
        *(
            (verb, "", kind)
            for kind in ("resourcequotas", "limitranges", "persistentvolumeclaims")
            for verb in ("get", "list")
        ),
        *((verb, "", "nodes") for verb in ("get", "list", "watch")),
        *((verb, "scheduling.k8s.io", "priorityclasses") for verb in ("get", "list")),
        *((verb, "kueue.x-k8s.io", "localqueues") for verb in ("get", "list", "watch")),
        ("get", "", "namespaces"),
    }
)
"""What deploy/ grants."""


def may(rules: Iterable[Rule], verb: str, group: str, resource: str) -> bool:
    """Whether rules allow something."""
    return any(rule[0] in ("*", verb) and rule[1] in ("*", group) and rule[2] in ("*", resource) for rule in rules)


def forbidden(user: str, verb: str, group: str, resource: str, namespace: str, name: str = "") -> Refused:
    """403, as role-based access words it."""
    full = f"{resource}.{group}" if group else resource
    where = f' in API group "{group}"' + (f' in the namespace "{namespace}"' if namespace else " at the cluster scope")
    named = f' "{name}"' if name else ""
    text = f'{full}{named} is forbidden: User "{user}" cannot {verb} resource "{resource}"{where}'
    return Refused(403, "Forbidden", text, full, name)


def check_job(store: Store, namespace: str, obj: Json) -> None:
    """The quota of objects. Raises Refused."""
    for quota in store.list("resourcequotas", namespace):
        hard = (quota.get("spec") or {}).get("hard") or {}
        limit = hard.get("count/jobs.batch")
        used = len(store.list("jobs", namespace))
        if limit is not None and used >= int(limit):
            name = obj["metadata"].get("name", "")
            text = (
                f'jobs.batch "{name}" is forbidden: exceeded quota: {quota["metadata"]["name"]}, requested: '
                f"count/jobs.batch=1, used: count/jobs.batch={used}, limited: count/jobs.batch={limit}"
            )
            raise Refused(403, "Forbidden", text, "jobs.batch", name)


def admit_pod(store: Store, pod: Json) -> None:
    """What keeps a pod from being made. Raises Refused."""
    namespace, name = (
        pod["metadata"]["namespace"],
        pod["metadata"].get("name") or pod["metadata"]["generateName"] + "xxxxx",
    )
    if broken := security(store, namespace, pod["spec"]):
        raise Refused(
            403,
            "Forbidden",
            f'pods "{name}" is forbidden: violates PodSecurity "restricted:latest": {broken}',
            "pods",
            name,
        )
    wanted = pod["spec"].get("priorityClassName")
    if wanted and store.get("priorityclasses", "", wanted) is None:
        raise Refused(
            403, "Forbidden", f'pods "{name}" is forbidden: no PriorityClass with name {wanted} was found', "pods", name
        )
    for quota in store.list("resourcequotas", namespace):
        for key, limit in ((quota.get("spec") or {}).get("hard") or {}).items():
            resource = key.removeprefix("requests.")
            if not key.startswith("requests.") or "/" not in resource:
                continue
            asks = _asked(pod["spec"], resource)
            used = sum(_asked(one["spec"], resource) for one in store.list("pods", namespace) if not over(one))
            if asks and used + asks > int(limit):
                text = (
                    f'pods "{name}" is forbidden: exceeded quota: {quota["metadata"]["name"]}, '
                    f"requested: {key}={asks}, "
                    f"used: {key}={used}, limited: {key}={limit}"
                )
                raise Refused(403, "Forbidden", text, "pods", name)


def security(store: Store, namespace: str, spec: Json) -> str:
    """How a pod violates PodSecurity `restricted`, where its namespace enforces that; empty where it does not."""
    place = store.get("namespaces", "", namespace) or {}
    labels: Mapping[str, str] = (place.get("metadata") or {}).get("labels") or {}
    if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
        return ""
    broken = [f"host namespaces ({key}=true)" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    outer = spec.get("securityContext") or {}
    for container in spec.get("containers") or ():
        own, name = container.get("securityContext") or {}, container.get("name")
        if own.get("allowPrivilegeEscalation") is not False:
            broken.append(
                f'allowPrivilegeEscalation != false (container "{name}" must set '
                "securityContext.allowPrivilegeEscalation=false)"
            )
        if (own.get("capabilities") or {}).get("drop") != ["ALL"]:
            broken.append(
                f'unrestricted capabilities (container "{name}" must set securityContext.capabilities.drop=["ALL"])'
            )
        if not (own.get("runAsNonRoot") or outer.get("runAsNonRoot")):
            broken.append(
                f'runAsNonRoot != true (pod or container "{name}" must set securityContext.runAsNonRoot=true)'
            )
        if not (own.get("seccompProfile") or outer.get("seccompProfile")):
            broken.append(f'seccompProfile (pod or container "{name}" must set securityContext.seccompProfile.type)')
    broken += [
        f'restricted volume types (volume "{v["name"]}" uses restricted volume type "hostPath")'
        for v in spec.get("volumes") or ()
        if "hostPath" in v
    ]
    return ", ".join(broken)


def over(pod: Json) -> bool:
    """Whether a pod needs nothing any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _asked(spec: Json, resource: str) -> int:
    return sum(int(((one.get("resources") or {}).get("requests") or {}).get(resource, 0)) for one in spec["containers"])
