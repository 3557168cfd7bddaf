"""What is created in the cluster, as plain dictionaries: Jobs, ConfigMaps and the canary; the same bytes every time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import executors
from core.executor import AttemptSpec, ExecutorError
from executors import folder
from executors.kubernetes import names, overlay, quantity
from executors.kubernetes.canary import PROGRAM
from executors.kubernetes.settings import KubeSettings

CODE_DIR: Final = "/autoresearch/code"
ATTEMPT_DIR: Final = "/autoresearch/attempt"
DATA_DIR: Final = "/data"
CACHE_DIR: Final = "/cache"
TERMINATION_LOG: Final = "/dev/termination-log"
CONFIGMAP_CAP_BYTES: Final = 900 << 10
"""The API server takes at most 1 MiB of values (measured); the rest is for what surrounds them."""
OWN_EXIT_CODES: Final = (81, 82, 83, 84, 85, 86, 87)
"""What the runner in the pod exits with when it knows why."""
MODULES: Final = tuple(sorted({*folder.TRAVELLERS, "confine", "pod"}))
"""The modules of `executors` that travel into the pod."""
UNREACHABLE_S: Final = 30
"""How long a pod stays bound to a node that went away; Kubernetes' own default is 300."""
CANARY_S: Final = 120
"""Pod-level deadline of a canary once it runs, beyond the allowance for pulling the image."""
_LOG_MIB: Final = 1024


class Resources(msgspec.Struct, frozen=True):
    """What one attempt may use beside its device: whole CPUs, MiB of memory."""

    cpus: int
    memory_mb: int


class TooLarge(ExecutorError):
    """A ConfigMap would not fit: the revision's own doing (outcome `crash`)."""


def job(
    spec: AttemptSpec,
    session: str,
    settings: KubeSettings,
    *,
    product: str,
    resources: Resources,
    avoid_nodes: Sequence[str],
    spec_json_sha: str,
    wall_cap_s: float,
) -> dict[str, Any]:
    """The Job of one attempt.

    Args:
        spec: the attempt.
        session: the session's id.
        settings: the cluster's.
        product: the value of the product label that the attempt is pinned to; "" to pin none (CPU pods).
        resources: CPUs and memory, as requests and as limits.
        avoid_nodes: host names of nodes that are in quarantine.
        spec_json_sha: `spec_sha256` of the attempt's ConfigMap, to tell our own Job from another one of that name.
        wall_cap_s: seconds that training may take by the wall clock, at most.

    Raises:
        ExecutorError: the overlay of the settings cannot be applied.
    """
    name = names.job_name(session, spec.attempt)
    labels = names.labels(session, spec.attempt)
    annotations = {
        **settings.annotations,
        names.SPEC_ANNOTATION: spec_json_sha,
        names.SESSION_ANNOTATION: session,
        names.ATTEMPT_ANNOTATION: spec.attempt,
    }
    volumes = [
        _code_volume(session),
        {"name": "attempt", "configMap": {"name": name, "defaultMode": 0o444}},
        *_shared_volumes(settings),
    ]
    mounts = [
        {"name": "code", "mountPath": CODE_DIR, "readOnly": True},
        {"name": "attempt", "mountPath": ATTEMPT_DIR, "readOnly": True},
        *_shared_mounts(settings),
    ]
    command = [settings.python, "-E", "-s", "-S", "-B", "-m", "executors.pod"]
    container = _container(settings, command, resources, mounts) | {"workingDir": CODE_DIR}
    deadline_s = int(settings.startup_s + wall_cap_s + settings.grace_s)
    body = _job(name, labels, annotations, _pod_spec(settings, container, volumes, deadline_s), settings)
    body = overlay.apply(body, settings.overlay, settings.gpu_resource)
    return _pinned(body, settings, product, avoid_nodes)


def attempt_configmap(spec: AttemptSpec, session: str, spec_json: str, *, job_uid: str) -> dict[str, Any]:
    """The ConfigMap of one attempt, which goes when its Job goes. Raises TooLarge."""
    name = names.job_name(session, spec.attempt)
    annotations = {
        names.SPEC_ANNOTATION: spec_sha256(spec_json, spec.source),
        names.SESSION_ANNOTATION: session,
        names.ATTEMPT_ANNOTATION: spec.attempt,
    }
    body = _configmap(
        name, names.labels(session, spec.attempt), annotations, {"train.py": spec.source, "spec.json": spec_json}
    )
    # Without blockOwnerDeletion, which some clusters allow only to those who may change a Job's finalizers.
    body["metadata"]["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job_uid}]
    return body


def check_size(spec: AttemptSpec, spec_json: str) -> None:
    """Refuse a `train.py` that no ConfigMap can hold, before anything is created. Raises TooLarge."""
    _check_size({"train.py": spec.source, "spec.json": spec_json})


def code_configmap(session: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The ConfigMap with what every attempt of a session runs (see `code_files`). Raises TooLarge."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\0".encode())
    annotations = {names.SPEC_ANNOTATION: digest.hexdigest(), names.SESSION_ANNOTATION: session}
    return _configmap(names.code_name(session), names.code_labels(session), annotations, files)


def code_files(harness: Path) -> dict[str, str]:
    """Read what travels: the session's harness.py and our modules. Raises OSError."""
    package = Path(executors.__file__).parent
    modules = {f"{name}.py": (package / f"{name}.py").read_text(encoding="utf-8") for name in MODULES}
    return modules | {"harness.py": harness.read_text(encoding="utf-8")}


def spec_sha256(spec_json: str, source: str) -> str:
    """The identity of what an attempt executes: its spec.json and its train.py."""
    return hashlib.sha256(f"{spec_json}\0{source}".encode()).hexdigest()


def canary(
    settings: KubeSettings, session: str, *, product: str, resources: Resources, number: int = 0
) -> dict[str, Any]:
    """A Job that tells whether attempts can work: the attempts' pod, but a program of ours that looks around.

    Its termination message is one JSON object (see canary.py).

    Args:
        settings: the cluster's.
        session: what stands for a session in its name and labels, e.g. `doctor-` and some random letters.
        product: the product to try; "" for any node.
        resources: as for attempts.
        number: tells the canaries of one caller apart.

    Raises:
        ExecutorError: the overlay of the settings cannot be applied.
    """
    attempt = f"r0.{number}"
    annotations = {
        **settings.annotations, names.SESSION_ANNOTATION: session, names.ATTEMPT_ANNOTATION: attempt,
    }  # fmt: skip
    command = [settings.python, "-E", "-s", "-B", "-c", PROGRAM]
    container = _container(settings, command, resources, _shared_mounts(settings))
    pod = _pod_spec(settings, container, _shared_volumes(settings), settings.startup_s + CANARY_S)
    body = _job(names.job_name(session, attempt), names.labels(session, attempt), annotations, pod, settings)
    body = overlay.apply(body, settings.overlay, settings.gpu_resource)
    return _pinned(body, settings, product, ())


# ---------------------------------------------------------------------------------------------------- parts


def _job(
    name: str, labels: dict[str, str], annotations: dict[str, str], pod: dict[str, Any], settings: KubeSettings
) -> dict[str, Any]:
    kueue = {
        "kueue.x-k8s.io/queue-name": settings.queue,
        "kueue.x-k8s.io/priority-class": settings.queue_priority,
        "kueue.x-k8s.io/max-exec-time-seconds": str(settings.max_exec_time_s or ""),
    }
    queueing = {key: value for key, value in kueue.items() if value and settings.queue}
    metadata: dict[str, Any] = {"name": name, "labels": labels | queueing, "annotations": dict(annotations)}
    if settings.namespace:
        metadata["namespace"] = settings.namespace
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "backoffLimit": 0,  # Retries are ours, with a name of their own: Kubernetes' would blur budget and logs.
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": _failure_policy(),
            "ttlSecondsAfterFinished": settings.ttl_s,
            "template": {"metadata": {"labels": dict(labels), "annotations": dict(annotations)}, "spec": pod},
        },
    }


def _failure_policy() -> dict[str, Any]:
    """Not for retries: it makes the Job say why it failed, which then survives the pod and our own restart."""
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    codes = {"containerName": names.CONTAINER, "operator": "In", "values": list(OWN_EXIT_CODES)}
    return {
        "rules": [{"action": "FailJob", "onPodConditions": [disrupted]}, {"action": "FailJob", "onExitCodes": codes}]
    }


def _pod_spec(
    settings: KubeSettings, container: dict[str, Any], volumes: list[dict[str, Any]], deadline_s: int
) -> dict[str, Any]:
    """A pod that PodSecurity `restricted` admits. The deadline is the pod's: a Job's would delete pod and log."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": deadline_s,
        "terminationGracePeriodSeconds": settings.term_grace_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": _tolerations(settings),
        "containers": [container],
        "volumes": volumes,
    }
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if settings.runtime_class:
        spec["runtimeClassName"] = settings.runtime_class
    if not settings.host_users:
        spec["hostUsers"] = False
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return spec


def tolerations(settings: KubeSettings) -> list[dict[str, Any]]:
    """The taints that our pods tolerate: those of GPU nodes, and what the user added."""
    ours = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    return [ours, *(dict(toleration) for toleration in settings.tolerations)]


def _tolerations(settings: KubeSettings) -> list[dict[str, Any]]:
    gone = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_S}
    keys = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    return [*tolerations(settings), *({"key": key} | gone for key in keys)]


def _container(
    settings: KubeSettings, command: list[str], resources: Resources, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Requests equal limits: of guaranteed quality with whole CPUs, so that timing is steady."""
    amounts = {
        "cpu": str(resources.cpus),
        "memory": f"{resources.memory_mb}Mi",
        "ephemeral-storage": settings.ephemeral_storage or _ephemeral(settings),
    }
    if settings.gpu_resource:
        amounts[settings.gpu_resource] = "1"
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": settings.image,
        "command": command,
        "env": [_field("AR_NODE", "spec.nodeName"), _field("AR_POD_UID", "metadata.uid")],
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
        },
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if settings.image_pull_policy:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _ephemeral(settings: KubeSettings) -> str:
    """A pod's disk is its emptyDirs and its logs: a limit below their sum would evict before a volume is full."""
    return f"{quantity.mib(settings.tmp) + quantity.mib(settings.work) + _LOG_MIB}Mi"


def _code_volume(session: str) -> dict[str, Any]:
    items = [{"key": f"{name}.py", "path": f"executors/{name}.py"} for name in MODULES]
    items.append({"key": "harness.py", "path": "harness.py"})
    return {"name": "code", "configMap": {"name": names.code_name(session), "defaultMode": 0o444, "items": items}}


def _shared_volumes(settings: KubeSettings) -> list[dict[str, Any]]:
    """What attempts and canaries have in common: the data, and room to write."""
    kind, _, rest = settings.data.partition(":")
    data: dict[str, Any] = {"name": "data"}
    if kind == "pvc":
        data["persistentVolumeClaim"] = {"claimName": rest.partition("/")[0], "readOnly": True}
    else:
        data["image"] = {"reference": rest, "pullPolicy": "IfNotPresent"}
    volumes = [
        data,
        {"name": "work", "emptyDir": {"sizeLimit": settings.work}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}},
        {"name": "tmp", "emptyDir": {"sizeLimit": settings.tmp}},
    ]
    if settings.cache:
        claim = {"claimName": settings.cache.removeprefix("pvc:")}
        volumes.append({"name": "cache", "persistentVolumeClaim": claim})
    return volumes


def _shared_mounts(settings: KubeSettings) -> list[dict[str, Any]]:
    data: dict[str, Any] = {"name": "data", "mountPath": DATA_DIR, "readOnly": True}
    kind, _, rest = settings.data.partition(":")
    folder_in_volume = rest.partition("/")[2].strip("/")
    if kind == "pvc" and folder_in_volume:
        data["subPath"] = folder_in_volume
    mounts = [
        data,
        {"name": "work", "mountPath": "/work"},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount point inside the pod
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount point inside the pod
    ]
    return [*mounts, {"name": "cache", "mountPath": CACHE_DIR}] if settings.cache else mounts


def _pinned(body: dict[str, Any], settings: KubeSettings, product: str, avoid_nodes: Sequence[str]) -> dict[str, Any]:
    """Bind the pod to its product and away from nodes in quarantine, beside whatever an overlay asks for."""
    wanted = []
    if product and settings.gpu_resource:
        wanted.append({"key": settings.product_label, "operator": "In", "values": [product]})
    if avoid_nodes:
        wanted.append({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(set(avoid_nodes))})
    if not wanted:
        return body
    node = body["spec"]["template"]["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = node.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    # The terms are alternatives: each must bind, or the pod could run on another product.
    required["nodeSelectorTerms"] = [
        term | {"matchExpressions": [*(term.get("matchExpressions") or []), *wanted]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]
    return body


def _configmap(
    name: str, labels: dict[str, str], annotations: dict[str, str], data: Mapping[str, str]
) -> dict[str, Any]:
    _check_size(data)
    metadata: dict[str, Any] = {"name": name, "labels": labels, "annotations": annotations}
    values = {key: data[key] for key in sorted(data)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True, "data": values}


def _check_size(data: Mapping[str, str]) -> None:
    sizes = {key: len(text.encode()) for key, text in data.items()}
    total = sum(sizes.values())
    if total > CONFIGMAP_CAP_BYTES:
        largest = max(sizes, key=lambda key: sizes[key])
        raise TooLarge(
            f"{largest} has {sizes[largest] / 1024:,.0f} KiB; what travels to a pod with it may have "
            f"{CONFIGMAP_CAP_BYTES >> 10} KiB together and would have {total / 1024:,.0f}"
        )
