"""Whether a pod fits a node: selectors, taints and resources, with the scheduler's words for each obstacle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sim.kubernetes_api.objects import Obj, name_of, tolerates

MISMATCH = "node(s) didn't match Pod's node affinity/selector"


class Shape(NamedTuple):
    """All that decides where a pod fits; pods of one shape fit the same nodes."""

    selector: Mapping[str, str]
    terms: tuple[Obj, ...]
    tolerations: tuple[Obj, ...]
    requests: Mapping[str, float]
    key: str


def shape_of(pod: Obj, requests: Mapping[str, float]) -> Shape:
    """The shape of a pod that requests this much."""
    spec = pod["spec"]
    affinity: Any = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    parts = (
        spec.get("nodeSelector") or {},
        tuple(required.get("nodeSelectorTerms") or ()),
        tuple(spec.get("tolerations") or ()),
        {**requests, "pods": 1.0},
    )
    return Shape(*parts, json.dumps(parts, sort_keys=True))


def obstacle(shape: Shape, node: Obj) -> str:
    """Why no pod of this shape could ever run on a node as it is, however empty; empty where it could."""
    if node["spec"].get("unschedulable") and not tolerates(
        shape.tolerations, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and tolerates(shape.tolerations, taint) is None:
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    labels = {**(node["metadata"].get("labels") or {}), "metadata.name": name_of(node)}
    if any(labels.get(key) != value for key, value in shape.selector.items()):
        return MISMATCH
    if shape.terms and not any(_term_matches(term, labels) for term in shape.terms):
        return MISMATCH
    return ""


def summary(reasons: Iterable[str]) -> str:
    """Obstacles with their counts, as the scheduler words them: `13 Insufficient nvidia.com/gpu, 3 node(s) ...`."""
    return ", ".join(sorted(f"{count} {reason}" for reason, count in Counter(reasons).items()))


def _term_matches(term: Obj, labels: Mapping[str, str]) -> bool:
    expressions = [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]
    return bool(expressions) and all(_matches(expression, labels) for expression in expressions)


def _matches(expression: Obj, labels: Mapping[str, str]) -> bool:
    value, operator = labels.get(expression["key"]), expression["operator"]
    values = expression.get("values") or []
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        number, bound = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > bound if operator == "Gt" else number < bound
