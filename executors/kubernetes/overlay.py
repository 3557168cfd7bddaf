"""A user's patch of every Job: for what the settings do not foresee, without touching what the session relies on.

A JSON merge patch (RFC 7396: null removes) with one extension: lists of objects that have a key of their own
(containers by name, volume mounts by path, ...) are merged member by member, as `kubectl patch` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.executor import ExecutorError
from executors.kubernetes.names import TRAINER

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "tolerations": ("key", "effect"),
}
"""Which fields identify a member of a list; any other list is replaced as a whole, as RFC 7396 has it."""

_JOB: Final = (
    "apiVersion", "kind", "metadata.name", "metadata.namespace", "spec.backoffLimit", "spec.completions",
    "spec.parallelism", "spec.completionMode", "spec.podReplacementPolicy", "spec.podFailurePolicy",
    "spec.template.spec.restartPolicy", "spec.template.spec.automountServiceAccountToken",
    "spec.template.spec.activeDeadlineSeconds",
)  # fmt: skip
_TRAINER: Final = (
    "command", "args", "workingDir", "terminationMessagePath", "terminationMessagePolicy", "restartPolicy",
)  # fmt: skip
_HINTS: Final = {
    "metadata.namespace": "set `namespace`",
    "spec.template.spec.activeDeadlineSeconds": "set `startup_s` and `grace_s`",
    "command": "set `python`",
}


def overlaid(job: Mapping[str, Any], patch: Mapping[str, Any], gpu_resource: str) -> dict[str, Any]:
    """The Job with the user's patch.

    Args:
        job: a manifest of ours; not changed.
        patch: what the user wrote.
        gpu_resource: the resource whose count belongs to us; "" for none.

    Raises:
        ExecutorError: the patch changes something that the session relies on, or has the wrong shape.
    """
    merged: dict[str, Any] = _merge(job, patch, "")
    for path in _JOB:
        _same(job, merged, path, path)
    for where in ("metadata", "spec.template.metadata"):
        for kind in ("labels", "annotations"):
            for key in _at(job, f"{where}.{kind}") or {}:
                ours, theirs = ((_at(found, f"{where}.{kind}") or {}).get(key) for found in (job, merged))
                if ours != theirs:
                    raise _refused(f"{where}.{kind}.{key}", "")
    _check_trainer(_trainer(job), _trainer(merged), gpu_resource)
    mine = {volume["name"]: volume for volume in _at(job, "spec.template.spec.volumes")}
    theirs = {volume["name"]: volume for volume in _at(merged, "spec.template.spec.volumes") or []}
    for name in ("code", "attempt", "data"):
        if mine.get(name) != theirs.get(name):
            raise _refused(f"spec.template.spec.volumes[{name}]", "set `data`" if name == "data" else "")
    return merged


def _check_trainer(ours: Mapping[str, Any], theirs: Mapping[str, Any], gpu_resource: str) -> None:
    where = f"spec.template.spec.containers[{TRAINER}]"
    for key in _TRAINER:
        if ours.get(key) != theirs.get(key):
            raise _refused(f"{where}.{key}", _HINTS.get(key, ""))
    if gpu_resource:
        for kind in ("limits", "requests"):
            counts = [((side.get("resources") or {}).get(kind) or {}).get(gpu_resource) for side in (ours, theirs)]
            if str(counts[0]) != str(counts[1]):
                raise _refused(f"{where}.resources.{kind}.{gpu_resource}", "an attempt has exactly one device")
    for key, name in (("env", "name"), ("volumeMounts", "mountPath")):
        left = {item[name]: item for item in theirs.get(key) or [] if isinstance(item, Mapping) and name in item}
        for item in ours.get(key) or []:
            if item[name] != "/cache" and left.get(item[name]) != item:
                raise _refused(f"{where}.{key}[{item[name]}]", "")


def _trainer(job: Mapping[str, Any]) -> Mapping[str, Any]:
    found = [item for item in _at(job, "spec.template.spec.containers") or [] if item.get("name") == TRAINER]
    return found[0] if found else {}


def _same(ours: Mapping[str, Any], theirs: Mapping[str, Any], path: str, said: str) -> None:
    if _at(ours, path) != _at(theirs, path):
        raise _refused(said, _HINTS.get(path, ""))


def _refused(path: str, hint: str) -> ExecutorError:
    return ExecutorError(f"the overlay may not change {path}: the session relies on it" + (f"; {hint}" if hint else ""))


def _at(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _merge(base: Any, patch: Any, path: str) -> Any:
    """RFC 7396 for objects; the lists of `_KEYS` member by member."""
    if isinstance(patch, Mapping) and not isinstance(base, list):
        merged = dict(base) if isinstance(base, Mapping) else {}
        for key, value in patch.items():
            here = f"{path}.{key}" if path else str(key)
            if value is None:
                merged.pop(key, None)
            elif isinstance(value, Sequence) and not isinstance(value, str) and key in _KEYS:
                merged[key] = _merge_list(merged.get(key) or [], value, _KEYS[key], here)
            else:
                merged[key] = _merge(merged.get(key), value, here)
        return merged
    if isinstance(base, Mapping | list) and not (isinstance(base, list) and isinstance(patch, list)):
        wanted = "a list" if isinstance(base, list) else "a block of `name: value`"
        raise ExecutorError(f"the overlay has a plain value at {path}, where Kubernetes wants {wanted}")
    return patch


def _merge_list(base: Sequence[Any], patch: Sequence[Any], keys: tuple[str, ...], path: str) -> list[Any]:
    merged = list(base)
    for item in patch:
        if not isinstance(item, Mapping) or (keys[0] not in item and len(keys) == 1):
            raise ExecutorError(f"the overlay has a member of {path} without `{keys[0]}`, which says which one it is")
        which = [item.get(key) for key in keys]
        for index, old in enumerate(merged):
            if [old.get(key) for key in keys] == which:
                merged[index] = _merge(old, item, f"{path}[{which[0]}]")
                break
        else:
            merged.append(_merge({}, item, f"{path}[{which[0]}]"))
    return merged
