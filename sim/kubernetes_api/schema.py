"""Strict decoding of what a client sends: the fields that a Job, its pod and a ConfigMap may have, and their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sim.kubernetes_api.status import Refused, invalid

Json = dict[str, Any]

ANY: Final = object()


def _fields(words: str, **deep: Any) -> dict[str, Any]:
    return dict.fromkeys(words.split(), ANY) | deep


_META: Final = _fields(
    "name generateName namespace labels annotations ownerReferences finalizers uid resourceVersion creationTimestamp "
    "deletionTimestamp deletionGracePeriodSeconds generation managedFields selfLink"
)
_SECURITY: Final = _fields(
    "runAsNonRoot runAsUser runAsGroup allowPrivilegeEscalation readOnlyRootFilesystem capabilities seccompProfile "
    "privileged procMount seLinuxOptions windowsOptions appArmorProfile"
)
_CONTAINER: Final = _fields(
    "name image imagePullPolicy command args workingDir env envFrom ports lifecycle livenessProbe readinessProbe "
    "startupProbe terminationMessagePath terminationMessagePolicy volumeDevices stdin stdinOnce tty restartPolicy "
    "resizePolicy",
    resources=_fields("requests limits claims"),
    volumeMounts=[_fields("name mountPath subPath subPathExpr readOnly recursiveReadOnly mountPropagation")],
    securityContext=_SECURITY,
)
_VOLUME: Final = _fields(
    "name hostPath secret nfs downwardAPI projected csi ephemeral",
    configMap=_fields("name items defaultMode optional"),
    emptyDir=_fields("medium sizeLimit"),
    persistentVolumeClaim=_fields("claimName readOnly"),
    image=_fields("reference pullPolicy"),
)
_POD: Final = _fields(
    "activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases "
    "hostIPC hostNetwork hostPID hostUsers hostname imagePullSecrets nodeName nodeSelector os overhead "
    "preemptionPolicy "
    "priority priorityClassName readinessGates resourceClaims resources restartPolicy runtimeClassName schedulerName "
    "schedulingGates serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain "
    "terminationGracePeriodSeconds tolerations topologySpreadConstraints",
    containers=[_CONTAINER],
    initContainers=[_CONTAINER],
    volumes=[_VOLUME],
    securityContext=_fields(
        "runAsNonRoot runAsUser runAsGroup fsGroup fsGroupChangePolicy supplementalGroups supplementalGroupsPolicy "
        "seccompProfile seLinuxOptions sysctls appArmorProfile windowsOptions seLinuxChangePolicy"
    ),
)
_TOP: Final = _fields("apiVersion kind status")
SCHEMAS: Final[Mapping[str, Any]] = {
    "jobs": _TOP
    | {
        "metadata": _META,
        "spec": _fields(
            "activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions managedBy "
            "manualSelector "
            "maxFailedIndexes parallelism podReplacementPolicy selector successPolicy suspend ttlSecondsAfterFinished",
            podFailurePolicy=_fields("rules"),
            template={"metadata": _META, "spec": _POD},
        ),
    },
    "pods": _TOP | {"metadata": _META, "spec": _POD},
    "configmaps": _fields("apiVersion kind data binaryData immutable", metadata=_META),
    "leases": _TOP
    | {
        "metadata": _META,
        "spec": _fields(
            "holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions strategy preferredHolder"
        ),
    },
}
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|[eE]\d+)?")
_MOST_CONFIG_BYTES: Final = 1 << 20


def check(kind: str, obj: Json, *, strict: bool) -> None:
    """Refuse what a real server refuses of an object that is to be created. Raises Refused."""
    schema = SCHEMAS.get(kind)
    if schema is not None and strict:
        unknown: list[str] = []
        _unknown(obj, schema, "", unknown)
        if unknown:
            words = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise Refused(400, "BadRequest", f"strict decoding error: {words}")
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not (meta.get("name") or meta.get("generateName")):
        raise invalid(kind, "", "metadata.name", "Required value: name or generateName is required")
    name = str(meta.get("name") or meta["generateName"] + "x")
    limit = 63 if kind == "jobs" else 253
    if not _NAME.fullmatch(name) or len(name) > limit:
        raise invalid(
            kind,
            name,
            "metadata.name",
            f"Invalid value: {name!r}: a lowercase RFC 1123 subdomain must consist of "
            f"lower case alphanumeric characters, '-' or '.', and be at most {limit} characters",
        )
    for value in (meta.get("labels") or {}).values():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL.fullmatch(value):
            raise invalid(
                kind, name, "metadata.labels", f"Invalid value: {value!r}: a valid label must be 63 characters or less"
            )
    if kind == "jobs":
        _check_job(name, obj)
    elif kind == "pods":
        _check_pod(kind, name, obj.get("spec") or {}, "spec")
    elif kind == "configmaps":
        _check_config(name, obj)


def _unknown(value: Any, schema: Any, path: str, found: list[str]) -> None:
    if schema is ANY:
        return
    if isinstance(schema, list):
        for index, entry in enumerate(value if isinstance(value, list) else ()):
            _unknown(entry, schema[0], f"{path}[{index}]", found)
        return
    for key, inner in value.items() if isinstance(value, dict) else ():
        where = f"{path}.{key}".lstrip(".")
        if key not in schema:
            found.append(where)
        else:
            _unknown(inner, schema[key], where, found)


def _check_job(name: str, obj: Json) -> None:
    spec = obj.get("spec") or {}
    template = (spec.get("template") or {}).get("spec") or {}
    for field in ("backoffLimit", "completions", "parallelism", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        value = spec.get(field)
        if value is not None and (not isinstance(value, int) or value < 0):
            raise invalid(
                "Job.batch", name, f"spec.{field}", f"Invalid value: {value}: must be greater than or equal to 0"
            )
    if template.get("restartPolicy") not in ("Never", "OnFailure"):
        raise invalid(
            "Job.batch",
            name,
            "spec.template.spec.restartPolicy",
            f'Required value: valid values: "OnFailure", "Never", got {template.get("restartPolicy")!r}',
        )
    if spec.get("podFailurePolicy") and template["restartPolicy"] != "Never":
        raise invalid(
            "Job.batch",
            name,
            "spec.template.spec.restartPolicy",
            'Invalid value: only "Never" is supported when podFailurePolicy is specified',
        )
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        codes = rule.get("onExitCodes")
        if rule.get("action") not in ("FailJob", "FailIndex", "Ignore", "Count"):
            raise invalid(
                "Job.batch", name, "spec.podFailurePolicy.rules[0].action", f"Unsupported value: {rule.get('action')!r}"
            )
        if codes is not None and (not codes.get("values") or codes["values"] != sorted(set(codes["values"]))):
            raise invalid(
                "Job.batch",
                name,
                "spec.podFailurePolicy.rules[0].onExitCodes.values",
                "Invalid value: must be ordered and unique",
            )
        if codes is None and not rule.get("onPodConditions"):
            raise invalid(
                "Job.batch",
                name,
                "spec.podFailurePolicy.rules[0]",
                "Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            )
    _check_pod("Job.batch", name, template, "spec.template.spec")


def _check_pod(kind: str, name: str, spec: Json, path: str) -> None:
    if not spec.get("containers"):
        raise invalid(kind, name, f"{path}.containers", "Required value")
    volumes = {str(volume.get("name")) for volume in spec.get("volumes") or ()}
    for index, container in enumerate(spec["containers"]):
        where = f"{path}.containers[{index}]"
        if not container.get("image"):
            raise invalid(kind, name, f"{where}.image", "Required value")
        for mount in container.get("volumeMounts") or ():
            if mount.get("name") not in volumes:
                raise invalid(kind, name, f"{where}.volumeMounts[0].name", f'Not found: "{mount.get("name")}"')
        resources = container.get("resources") or {}
        for part in ("requests", "limits"):
            for key, value in (resources.get(part) or {}).items():
                if not _QUANTITY.fullmatch(str(value)):
                    raise Refused(400, "BadRequest", f"quantities must match the regular expression: {key}={value!r}")
        for key, value in (resources.get("requests") or {}).items():
            limit = (resources.get("limits") or {}).get(key)
            if "/" in key and limit != value:
                raise invalid(
                    kind, name, f"{where}.resources.requests", f"Invalid value: {value!r}: must be equal to {key} limit"
                )


def _check_config(name: str, obj: Json) -> None:
    data = obj.get("data") or {}
    if any(not isinstance(value, str) for value in data.values()):
        raise Refused(
            400, "BadRequest", "json: cannot unmarshal object into Go struct field ConfigMap.data of type string"
        )
    if sum(len(value.encode()) for value in data.values()) > _MOST_CONFIG_BYTES:
        raise invalid("ConfigMap", name, "[]", f"Too long: may not be more than {_MOST_CONFIG_BYTES} bytes")
