"""Jobs, Pods and Events as a cluster writes them, for tests: recorded ones, and ones made by hand."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

ATTEMPT = "r34.2"
NODE = "gpu-a"
T0 = "2026-01-01T00:00:00Z"
T1 = "2026-01-01T00:05:00Z"
T2 = "2026-01-01T00:06:00Z"


def traces_dir() -> Path:
    """Where the recordings are; skips the test where they are not."""
    told = os.environ.get("AUTORESEARCH_TRACES")
    folder = Path(told) if told else Path(__file__).parents[2].parent / "shared" / "k8s-traces"
    if not folder.is_dir():
        pytest.skip("there are no recordings: set AUTORESEARCH_TRACES to the folder that holds them")
    return folder


def trace(name: str) -> list[dict[str, Any]]:
    """One recording: watch events with `t`, `kind`, `type` and `object`."""
    return [json.loads(line) for line in (traces_dir() / f"{name}.jsonl").read_text().splitlines()]


def message(**changes: Any) -> str:
    """A termination message as the runner writes it."""
    return json.dumps(result(**changes))


def result(**changes: Any) -> dict[str, Any]:
    """What a good message says."""
    good = {
        "ar": 1, "attempt": ATTEMPT, "outcome": "ok", "reason": "", "val_bpb": 1.25, "tier": "scored",
        "confinement": "landlock+seccomp", "probes": 80, "train_s": 300.5, "startup_s": 31.0, "score_s": 4.5,
        "steps": 1200, "tokens": 78643200, "mem_mb": 40000.0, "params": 50000000, "eval_tokens": 1048576,
        "corpus_sha256": "c" * 64, "gpu": {"name": "NVIDIA H100 80GB HBM3", "util": 0.97},
    }  # fmt: skip
    return good | changes


def job(
    *conditions: tuple[str, str, str], suspend: bool = False, deleting: bool = False, **status: Any
) -> dict[str, Any]:
    """A Job; conditions as (type, reason, message)."""
    metadata: dict[str, Any] = {
        "name": "ar-x-r34-a2", "uid": "job-uid", "resourceVersion": "1", "creationTimestamp": T0,
        "annotations": {"autoresearch.dev/attempt": ATTEMPT},
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = T2
    found = [{"type": kind, "status": "True", "reason": reason, "message": text} for kind, reason, text in conditions]
    return {"kind": "Job", "metadata": metadata, "spec": {"suspend": suspend}, "status": {"conditions": found} | status}


def pod(
    phase: str = "Pending",
    *,
    state: dict[str, Any] | None = None,
    disruption: str = "",
    disrupted_at: str = T2,
    unschedulable: str = "",
    node: str = NODE,
    deleting: bool = False,
    **status: Any,
) -> dict[str, Any]:
    """A Pod; `state` is its trainer's."""
    metadata: dict[str, Any] = {
        "name": "ar-x-r34-a2-abcde", "uid": "pod-uid", "resourceVersion": "2", "creationTimestamp": T0,
        "annotations": {"autoresearch.dev/attempt": ATTEMPT},
    }  # fmt: skip
    if deleting:
        metadata["deletionTimestamp"] = T2
    conditions = []
    if disruption:
        conditions.append(
            {"type": "DisruptionTarget", "status": "True", "reason": disruption, "lastTransitionTime": disrupted_at,
             "message": "as the cluster words it"}
        )  # fmt: skip
    if unschedulable:
        node = ""
        conditions.append(
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unschedulable}
        )
    containers = [] if state is None else [{"name": "trainer", "state": copy.deepcopy(state)}]
    spec = {"nodeName": node} if node else {}
    body = {"phase": phase, "conditions": conditions, "containerStatuses": containers, "startTime": T0} | status
    return {"kind": "Pod", "metadata": metadata, "spec": spec, "status": body}


def ended(code: int, text: str = "", reason: str = "Error") -> dict[str, Any]:
    """The state of a container that ended."""
    return {
        "terminated": {"exitCode": code, "reason": reason, "message": text, "startedAt": T0, "finishedAt": T1},
    }  # fmt: skip


def event(reason: str, text: str, of: str = "pod-uid", at: str = T1) -> dict[str, Any]:
    """An Event about the Pod or (`of="job-uid"`) the Job."""
    return {"kind": "Event", "reason": reason, "message": text, "involvedObject": {"uid": of}, "lastTimestamp": at}
