"""Label and field selectors of lists and watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sim.kubernetes_api.status import Refused

Json = dict[str, Any]
Match = Callable[[Json], bool]

_SET = re.compile(r"([\w./-]+)\s+(in|notin)\s+\(([^()]*)\)")
_EQUAL = re.compile(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)")
_THERE = re.compile(r"(!?)\s*([\w./-]+)")


def label_match(selector: str) -> Match:
    """What a label selector selects. Raises Refused for one that cannot be read."""
    tests = [_label_test(part) for part in _parts(selector)]

    def match(obj: Json) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return match


def _parts(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_test(part: str) -> Callable[[Mapping[str, str]], bool]:
    if (found := _SET.fullmatch(part)) is not None:
        key, values = found[1], {word.strip() for word in found[3].split(",")}
        if found[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if (found := _EQUAL.fullmatch(part)) is not None:
        key, value = found[1], found[3]
        if found[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if (found := _THERE.fullmatch(part)) is not None:
        key = found[2]
        if found[1]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise Refused(400, "BadRequest", f"unable to parse requirement: found {part!r}, expected: a label selector")


def field_match(kind: str, selector: str) -> Match:
    """What a field selector selects. Raises Refused for a field that cannot be selected by."""
    tests: list[Match] = []
    for part in _parts(selector):
        found = re.fullmatch(r"([\w.]+)\s*(==|=|!=)\s*(.*)", part)
        if found is None:
            raise Refused(400, "BadRequest", f"invalid selector: {part!r}; can't understand it")
        path, negative, value = found[1], found[2] == "!=", found[3]
        common = path in ("metadata.name", "metadata.namespace")
        own = (kind == "pods" and path in ("spec.nodeName", "status.phase", "spec.restartPolicy")) or (
            kind == "events" and path.startswith(("involvedObject.", "reason", "type"))
        )
        if not common and not own:
            raise Refused(400, "BadRequest", f"field label not supported: {path}")
        tests.append(_field_test(path, value, negative=negative))
    return lambda obj: all(test(obj) for test in tests)


def _field_test(path: str, value: str, *, negative: bool) -> Match:
    return lambda obj: (_at(obj, path) == value) != negative


def _at(obj: Json, path: str) -> str:
    found: Any = obj
    for word in path.split("."):
        found = found.get(word) if isinstance(found, dict) else None
    return str(found or "")
