"""A user's patch over the Job, for what we did not foresee; what the executor relies on cannot be changed by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.executor import ExecutorError

_KEYS: Final = ("name", "key", "mountPath")
_PROTECTED: Final = (
    "metadata.name",
    "metadata.namespace",
    "spec.backoffLimit",
    "spec.completions",
    "spec.parallelism",
    "spec.podFailurePolicy",
    "spec.podReplacementPolicy",
    "spec.template.spec.restartPolicy",
)
_OUR_PREFIX: Final = "autoresearch.dev/"

Json = dict[str, Any]


def overlaid(body: Json, overlay: Mapping[str, Any]) -> Json:
    """The Job with the patch over it.

    It is merged as RFC 7396 says (null removes), but lists whose entries have a name are merged entry by entry, as
    kubectl does with containers, volumes and variables.

    Raises:
        ExecutorError: it would change what the executor relies on.
    """
    if not overlay:
        return body
    merged: Json = _merge(body, dict(overlay))
    for path in _PROTECTED:
        if _at(merged, path) != _at(body, path):
            raise ExecutorError(f"the overlay may not change {path}: the executor relies on it")
    for kind in ("labels", "annotations"):
        for where in ("metadata", "spec.template.metadata"):
            before, after = _at(body, f"{where}.{kind}") or {}, _at(merged, f"{where}.{kind}") or {}
            changed = [key for key, value in before.items() if key.startswith(_OUR_PREFIX) and after.get(key) != value]
            if changed:
                raise ExecutorError(f"the overlay may not change the {kind[:-1]} {changed[0]}: runs are found by it")
    trainer, ours = _trainer(merged), _trainer(body)
    for key in ("command", "workingDir", "terminationMessagePath", "terminationMessagePolicy"):
        if trainer.get(key) != ours.get(key):
            raise ExecutorError(f"the overlay may not change the trainer's {key}: results come by it")
    return merged


def _merge(base: Any, patch: Any) -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = dict(base)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = _merge(merged.get(key), value)
        return merged
    if isinstance(base, list) and isinstance(patch, list) and (key := _key_of(patch)):
        merged_list = [dict(entry) for entry in base]
        for entry in patch:
            found = next((i for i, known in enumerate(merged_list) if known.get(key) == entry[key]), None)
            if found is None:
                merged_list.append(entry)
            else:
                merged_list[found] = _merge(merged_list[found], entry)
        return merged_list
    return patch


def _key_of(entries: list[Any]) -> str:
    """The field by which a list's entries are told apart; empty where there is none."""
    return next((key for key in _KEYS if all(isinstance(e, dict) and isinstance(e.get(key), str) for e in entries)), "")


def _at(body: Json, path: str) -> Any:
    found: Any = body
    for word in path.split("."):
        found = found.get(word) if isinstance(found, dict) else None
    return found


def _trainer(body: Json) -> Json:
    containers = _at(body, "spec.template.spec.containers") or []
    return next((one for one in containers if one.get("name") == "trainer"), {})
