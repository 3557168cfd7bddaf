"""Names, labels and annotations of what a session creates in a cluster, and how to tell its own from others'."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

APP: Final = "autoresearch-tui"
NAME_LABEL: Final = "app.kubernetes.io/name"
MANAGED_LABEL: Final = "app.kubernetes.io/managed-by"
RUN_LABEL: Final = "autoresearch.dev/run"
EXPERIMENT_LABEL: Final = "autoresearch.dev/experiment"
ATTEMPT_LABEL: Final = "autoresearch.dev/attempt"
SPEC_ANNOTATION: Final = "autoresearch.dev/spec-sha256"
SESSION_ANNOTATION: Final = "autoresearch.dev/session"
ATTEMPT_ANNOTATION: Final = "autoresearch.dev/attempt"
CONTAINER: Final = "trainer"

_ATTEMPT: Final = re.compile(r"(r[0-9]{1,12})\.([0-9]{1,6})")


def run8(session: str) -> str:
    """Eight hexadecimal digits that stand for a session in names and labels, which cannot hold every session id."""
    return hashlib.sha256(session.encode()).hexdigest()[:8]


def split(attempt: str) -> tuple[str, str]:
    """`r34.2` as (`r34`, `2`). Raises ValueError for what is no attempt's id."""
    match = _ATTEMPT.fullmatch(attempt)
    if match is None:
        raise ValueError(f"`{attempt}` is not an attempt's id such as r34.2")
    return match[1], match[2]


def job_name(session: str, attempt: str) -> str:
    """The name of an attempt's Job and ConfigMap, e.g. `ar-1f2e3d4c-r34-a2`: the same at every try."""
    run, number = split(attempt)
    return f"ar-{run8(session)}-{run}-a{number}"


def code_name(session: str) -> str:
    """The name of the ConfigMap with the code that every attempt of a session runs."""
    return f"ar-{run8(session)}-code"


def labels(session: str, attempt: str) -> dict[str, str]:
    """The labels of an attempt's objects."""
    run, number = split(attempt)
    return _labels(session) | {EXPERIMENT_LABEL: run, ATTEMPT_LABEL: number}


def code_labels(session: str) -> dict[str, str]:
    """The labels of a session's ConfigMap of code."""
    return _labels(session) | {ATTEMPT_LABEL: "code"}


def selector(session: str) -> str:
    """The label selector of everything that a session created."""
    return f"{NAME_LABEL}={APP},{RUN_LABEL}={run8(session)}"


def attempt_of(obj: Mapping[str, Any]) -> str | None:
    """The attempt that a Job, Pod or ConfigMap says it belongs to; None where it names none."""
    metadata = obj.get("metadata") or {}
    said = (metadata.get("annotations") or {}).get(ATTEMPT_ANNOTATION)
    if said is None:
        found = metadata.get("labels") or {}
        said = f"{found.get(EXPERIMENT_LABEL)}.{found.get(ATTEMPT_LABEL)}"
    return said if isinstance(said, str) and _ATTEMPT.fullmatch(said) else None


def is_ours(obj: Mapping[str, Any], session: str) -> bool:
    """Whether this session made an object: labels alone can be copied, so its session and name must fit as well.

    A Pod's name is its Job's with a suffix; it must also be owned by that Job.
    """
    metadata = obj.get("metadata") or {}
    name = str(metadata.get("name") or "")
    found = metadata.get("labels") or {}
    if any(found.get(key) != value for key, value in _labels(session).items()):
        return False
    if (metadata.get("annotations") or {}).get(SESSION_ANNOTATION) != session:
        return False
    if found.get(ATTEMPT_LABEL) == "code":
        return name == code_name(session)
    attempt = attempt_of(obj)
    if attempt is None:
        return False
    expected = job_name(session, attempt)
    owners = [owner.get("name") for owner in metadata.get("ownerReferences") or [] if owner.get("kind") == "Job"]
    return name == expected or (name.startswith(expected + "-") and expected in owners)


def _labels(session: str) -> dict[str, str]:
    return {NAME_LABEL: APP, MANAGED_LABEL: APP, RUN_LABEL: run8(session)}
