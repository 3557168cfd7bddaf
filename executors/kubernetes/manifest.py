"""The objects of a session in a cluster, byte for byte the same for the same attempt: Job, ConfigMaps, canary."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from core.executor import AttemptSpec
from executors.folder import TRAVELLERS
from executors.kubernetes import names
from executors.kubernetes.nodes import NodeDevices, own_tolerations
from executors.kubernetes.overlay import overlaid
from executors.kubernetes.settings import KubeSettings

MOST_INPUT_BYTES: Final = 900 * 1024
"""Of an attempt's ConfigMap: the API takes 1 MiB of values."""
POD_TRAVELLERS: Final = (*TRAVELLERS, "nvml", "pod", "podlog")
"""The modules of `executors` that a pod runs."""
_KUEUE: Final = "kueue.x-k8s.io"

Json = dict[str, Any]


def code_configmap(session: str, harness: bytes) -> Json:
    """The ConfigMap that brings harness and runner, so that any image with torch will do."""
    package = Path(__file__).parent.parent
    files = {f"{name}.py": (package / f"{name}.py").read_text(encoding="utf-8") for name in POD_TRAVELLERS}
    files["harness.py"] = harness.decode()
    digest = hashlib.sha256(msgspec.json.encode(files, order="sorted")).hexdigest()
    meta = _meta(names.code_name(session, digest), session, attempt="code")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": files}


def attempt_configmap(name: str, session: str, spec: AttemptSpec, inputs: Mapping[str, str], job: Json) -> Json:
    """The ConfigMap with the attempt's train.py and spec.json; it goes when its Job goes."""
    owner = {
        "apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": False,
    }  # fmt: skip
    run, _, number = spec.attempt.partition(".")
    meta = _meta(name, session, experiment=run, attempt=number) | {"ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "immutable": True, "data": dict(inputs)}


def job(
    spec: AttemptSpec,
    session: str,
    settings: KubeSettings,
    *,
    product: str,
    sample: NodeDevices | None,
    avoid_nodes: Sequence[str],
    inputs: Mapping[str, str],
    code: str,
    wall_s: float,
) -> Json:
    """The Job of one attempt: one pod, one device of the given product, never retried by the cluster.

    Args:
        spec, session, settings: see there.
        product: as nodes are labelled; empty for any.
        sample: a node of the class, which bounds CPU and memory.
        avoid_nodes: in quarantine.
        inputs: the files of the attempt's ConfigMap; their hash tells equal Jobs from others of that name.
        code: the name of the session's ConfigMap of code.
        wall_s: the longest that training and scoring may take, by the runner's own clocks.

    Raises:
        ExecutorError: the user's overlay changes what has to stay.
    """
    run, _, number = spec.attempt.partition(".")
    name = names.job_name(session, spec.attempt)
    meta = _meta(name, session, experiment=run, attempt=number)
    meta["annotations"] |= settings.annotations | {names.ATTEMPT: spec.attempt}
    template_meta = {"labels": dict(meta["labels"]), "annotations": dict(meta["annotations"])}
    pod = _pod(name, settings, sample, code)
    pod["activeDeadlineSeconds"] = int(settings.startup_s + wall_s + settings.grace_s)
    # The runner ends first where it can, with a result; what it compiles it shares with its own session only.
    told = {"AR_RUN": meta["labels"][names.RUN], "AR_DEADLINE_S": str(int(settings.startup_s + wall_s))}
    pod["containers"][0]["env"] += [{"name": key, "value": value} for key, value in told.items()]
    body: Json = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": settings.ttl_s,
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {"metadata": template_meta, "spec": pod},
        },
    }
    if settings.queue:
        meta["labels"][f"{_KUEUE}/queue-name"] = settings.queue
        if settings.queue_priority:
            meta["labels"][f"{_KUEUE}/priority-class"] = settings.queue_priority
        if settings.max_exec_time_s:
            meta["labels"][f"{_KUEUE}/max-exec-time-seconds"] = str(settings.max_exec_time_s)
    body = overlaid(body, settings.overlay, settings.gpu_resource)
    _pin(body, settings, product, avoid_nodes)
    # What a session asks for is the same Job, wherever the fleet stands when it is asked for again.
    digest = hashlib.sha256(msgspec.json.encode([spec.attempt, dict(inputs)], order="sorted")).hexdigest()
    body["metadata"]["annotations"][names.SPEC_SHA256] = digest
    return body


def _meta(name: str, session: str, **more: str) -> Json:
    return {
        "name": name,
        "labels": names.labels(session, **more),
        "annotations": {names.SESSION: session},
    }


def _failure_rules() -> list[Json]:
    """Let the Job itself say why it failed: it outlives its pod."""
    disruption = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    codes = {"containerName": "trainer", "operator": "In", "values": [81, 82, 83, 84, 85, 86, 87]}
    return [disruption, {"action": "FailJob", "onExitCodes": codes}]


def _pod(name: str, settings: KubeSettings, sample: NodeDevices | None, code: str) -> Json:
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.term_grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [*own_tolerations(settings), *(dict(one) for one in settings.tolerations)],
        "containers": [_container(settings, sample)],
        "volumes": _volumes(name, settings, code),
    }  # fmt: skip
    pod |= {"nodeSelector": dict(settings.node_selector)} if settings.node_selector else {}
    pod |= {"priorityClassName": settings.priority_class} if settings.priority_class else {}
    pod |= {"runtimeClassName": settings.runtime_class} if settings.runtime_class else {}
    pod |= {} if settings.host_users else {"hostUsers": False}
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in settings.image_pull_secrets]
    return pod


def _pin(body: Json, settings: KubeSettings, product: str, avoid: Sequence[str]) -> None:
    """Bind the pod to its product and away from nodes in quarantine, beside whatever an overlay asks for."""
    wants: list[Json] = []
    if product:
        wants.append({"key": settings.product_label, "operator": "In", "values": [product]})
    if avoid:
        wants.append({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": sorted(avoid)})
    if not wants:
        return
    affinity = body["spec"]["template"]["spec"].setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    # The terms are alternatives: each must bind, or the pod could run on another product.
    required["nodeSelectorTerms"] = [
        term | {"matchExpressions": [*(term.get("matchExpressions") or []), *wants]}
        for term in required.get("nodeSelectorTerms") or [{}]
    ]


def _container(settings: KubeSettings, sample: NodeDevices | None) -> Json:
    cpus = settings.cpus if settings.cpus is not None else (sample.cpus_each if sample is not None else 1)
    memory = settings.memory or (str(sample.memory_bytes_each >> 20) + "Mi" if sample is not None else "2Gi")
    amounts = {"cpu": str(cpus), "memory": memory, "ephemeral-storage": settings.ephemeral_storage}
    amounts |= {settings.gpu_resource: "1"} if settings.gpu_resource else {}
    mounts: list[Json] = [
        {"name": "code", "mountPath": names.CODE_DIR, "readOnly": True},
        {"name": "attempt", "mountPath": names.ATTEMPT_DIR, "readOnly": True},
        {"name": "data", "mountPath": names.DATA_DIR, "readOnly": True},
        {"name": "work", "mountPath": names.WORK_DIR},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  the container's own
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]
    if (folder := _data(settings)[1]) and settings.data.startswith("pvc:"):
        mounts[2]["subPath"] = folder
    if settings.cache:
        mounts.append({"name": "cache", "mountPath": names.CACHE_DIR})
    return {
        "name": "trainer",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": [settings.python, "-E", "-s", "-S", "-B", "-m", "executors.pod"],
        "workingDir": names.CODE_DIR,
        "env": [
            {"name": "AR_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "AR_POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "volumeMounts": mounts,
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _data(settings: KubeSettings) -> tuple[str, str]:
    """The claim or image that holds the corpus, and the folder in a claim."""
    what, _, where = settings.data.partition(":")
    if what == "image":
        return where, ""
    name, _, folder = where.partition("/")
    return name, folder


def _volumes(name: str, settings: KubeSettings, code: str) -> list[Json]:
    modules = [{"key": f"{one}.py", "path": f"executors/{one}.py"} for one in POD_TRAVELLERS]
    source = _data(settings)[0]
    data: Json = {"name": "data", "persistentVolumeClaim": {"claimName": source, "readOnly": True}}
    if settings.data.startswith("image:"):
        data = {"name": "data", "image": {"reference": source, "pullPolicy": settings.image_pull_policy}}
    volumes: list[Json] = [
        {"name": "code", "configMap": {"name": code, "items": [{"key": "harness.py", "path": "harness.py"}, *modules]}},
        {"name": "attempt", "configMap": {"name": name}},
        data,
        {"name": "work", "emptyDir": {"sizeLimit": settings.work}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.shm}},
        {"name": "tmp", "emptyDir": {"sizeLimit": settings.tmp}},
    ]
    if settings.cache:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": settings.cache.partition(":")[2]}})
    return volumes
