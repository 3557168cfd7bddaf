"""The names, labels and annotations by which a session knows its own objects in a cluster."""

from __future__ import annotations

import hashlib
from typing import Any, Final

RUN: Final = "autoresearch.dev/run"
EXPERIMENT: Final = "autoresearch.dev/experiment"
ATTEMPT: Final = "autoresearch.dev/attempt"
SESSION: Final = "autoresearch.dev/session"
SPEC_SHA256: Final = "autoresearch.dev/spec-sha256"
OURS: Final = {"app.kubernetes.io/name": "autoresearch-tui", "app.kubernetes.io/managed-by": "autoresearch-tui"}

TRAINER: Final = "trainer"
"""The name of the container that counts."""

CODE_DIR: Final = "/autoresearch/code"
ATTEMPT_DIR: Final = "/autoresearch/attempt"
DATA_DIR: Final = "/data"
WORK_DIR: Final = "/work"
CACHE_DIR: Final = "/cache"

Json = dict[str, Any]


def run8(session: str) -> str:
    """A session's name as a label: eight digits of a hash."""
    return hashlib.sha256(session.encode()).hexdigest()[:8]


def job_name(session: str, attempt: str) -> str:
    """The name of an attempt's Job and ConfigMap: `ar-1f2e3d4c-r34-a2` for `r34.2`; far below the 57 characters from
    which Kubernetes would cut the pod's.
    """
    run, _, number = attempt.partition(".")
    return f"ar-{run8(session)}-{run}-a{number}"


def code_name(session: str, digest: str) -> str:
    """The name of the ConfigMap that holds the session's harness and runner; other code has another name."""
    return f"ar-{run8(session)}-code-{digest[:8]}"


def labels(session: str, **more: str) -> dict[str, str]:
    """The labels of all that a session makes."""
    known = {"run": RUN, "experiment": EXPERIMENT, "attempt": ATTEMPT}
    return {**OURS, RUN: run8(session)} | {known[key]: value for key, value in more.items()}


def job_of(obj: Json) -> str:
    """The name of the Job that an object is, belongs to, or tells of; empty where it is none of a Job's."""
    if obj.get("kind") == "Event":
        about = obj.get("involvedObject") or {}
        name = str(about.get("name", ""))
        return name if about.get("kind") == "Job" else name.rpartition("-")[0]
    if obj.get("kind") == "Pod" or "containers" in (obj.get("spec") or {}):
        labels_of = obj["metadata"].get("labels") or {}
        return str(labels_of.get("batch.kubernetes.io/job-name") or labels_of.get("job-name") or "")
    return str(obj["metadata"]["name"])
