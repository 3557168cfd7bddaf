"""What tests of the simulated Kubernetes cluster share: a cluster on a clock that is only a heap, and Jobs for it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sim.faults import parse_faults
from sim.kubernetes_api.cluster import CLAIM, NAMESPACE, PRIORITY_CLASS, Cluster
from sim.kubernetes_api.store import Store
from sim.mix import parse_mix
from tests.support.cluster import HeapClock, physics

EPOCH_S = 1_800_000_000.0
Obj = dict[str, Any]


def job(name: str, *, gpus: int = 1, product: str = "", **spec: Any) -> Obj:
    """A Job as the executor makes them, with other fields of its pod's spec in `pod` and of its own beside."""
    pod = spec.pop("pod", {})
    amounts = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "8Gi", "nvidia.com/gpu": str(gpus)}
    labels = {"app.kubernetes.io/managed-by": "autoresearch-tui", "autoresearch.dev/run": "0a1b2c3d"}
    gone = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    container = {
        "name": "trainer",
        "image": "registry.example/autoresearch:1",
        "command": ["python3", "-m", "executors.pod"],
        "resources": {"requests": amounts, "limits": amounts},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    body: Obj = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 20,
        "activeDeadlineSeconds": 960,
        "priorityClassName": PRIORITY_CLASS,
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready"} | gone,
            {"key": "node.kubernetes.io/unreachable"} | gone,
        ],
        "containers": [container],
        "volumes": [
            {"name": "attempt", "configMap": {"name": name}},
            {"name": "data", "persistentVolumeClaim": {"claimName": CLAIM, "readOnly": True}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    if product:
        body["nodeSelector"] = {"nvidia.com/gpu.product": product}
    rules = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [81, 82, 83, 84, 85, 86, 87]},
        },
    ]
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            "ttlSecondsAfterFinished": 3_600,
            "suspend": False,
            "template": {"metadata": {"labels": labels}, "spec": body | pod},
            **spec,
        },
        "status": {},
    }


def spec_json(run: int, **changes: Any) -> str:
    """What an attempt's ConfigMap tells of it."""
    fields = {
        "run": f"r{run}", "attempt": f"r{run}.1", "revision": "0" * 64, "seed": run, "budget_s": 300.0,
        "seq_len": 2048, "eval_tokens": 1 << 20,
    }  # fmt: skip
    return json.dumps(fields | changes)


class Kube:
    """A cluster under test, and everything that happened in its store: (session second, kind, change, object)."""

    def __init__(
        self, gpus: str = "8xH100", faults: str = "none", *, seed: int = 1, clock: Any = None, **cluster: Any
    ) -> None:
        self.clock = clock or HeapClock()
        self.store = Store(self.clock, EPOCH_S)  # type: ignore[arg-type]
        self.said: list[tuple[float, str, str, Obj]] = []
        self.store.subscribe(lambda kind, change, obj: self.said.append((self.clock.now(), kind, change, obj)))
        cluster.setdefault("physics", lambda _seq_len: physics())
        self.cluster = Cluster(self.store, parse_mix(gpus), parse_faults(faults), seed, **cluster)
        self.cluster.open()

    def submit(
        self, name: str, run: int = 1, *, configmap: bool = True, told: Mapping[str, Any] | None = None, **spec: Any
    ) -> Obj:
        """Create a Job and its ConfigMap."""
        made = self.store.create("jobs", job(name, **spec))
        if configmap:
            self.give(name, run, **(told or {}))
        return made

    def give(self, name: str, run: int = 1, **told: Any) -> None:
        """Create the ConfigMap of a Job."""
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": self.job(name)["metadata"]["uid"]}
        data = {"train.py": "DEPTH = 8", "spec.json": spec_json(run, **told)}
        metadata = {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]}
        self.store.create("configmaps", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data})

    def job(self, name: str) -> Obj:
        found = self.store.get("jobs", NAMESPACE, name)
        assert found is not None
        return found

    def pods(self, name: str) -> list[Obj]:
        """The pods of a Job that are still there."""
        return [pod for pod in self.store.list("pods") if pod["metadata"]["name"].startswith(f"{name}-")]

    def pod(self, name: str) -> Obj:
        (found,) = self.pods(name)
        return found

    def run(self, *, until_s: float = 1e6, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until a second, or until something holds."""
        while not until() and self.clock.next_s is not None and self.clock.next_s <= until_s:
            self.clock.fire()

    def wait(self, until: Callable[[], bool], *, within_s: float = 3_000.0) -> None:
        """Let time pass until something holds; an error where it does not hold in time."""
        self.run(until_s=self.clock.now() + within_s, until=until)
        assert until(), f"it does not hold at {self.clock.now()} s"

    def is_running(self, name: str) -> bool:
        """Whether a Job has a running pod."""
        return any(pod["status"]["phase"] == "Running" for pod in self.pods(name))

    def has(self, name: str, kind: str) -> bool:
        """Whether a Job has a condition."""
        conditions = self.job(name)["status"].get("conditions") or ()
        return any(one["type"] == kind and one["status"] == "True" for one in conditions)

    def events(self, reason: str = "") -> list[Obj]:
        """The events of this reason."""
        return [event for event in self.store.list("events") if event["reason"] == reason or not reason]

    def history(self, kind: str, name: str) -> list[tuple[float, str, Obj]]:
        """What was said of objects whose name begins so."""
        return [
            (t_s, change, obj)
            for t_s, said_kind, change, obj in self.said
            if said_kind == kind and obj["metadata"]["name"].startswith(name)
        ]


def recordings() -> Path | None:
    """The folder with recordings of a real control plane, where there is one."""
    folder = Path(os.environ.get("AUTORESEARCH_TRACES", "../shared/k8s-traces"))
    if not folder.is_absolute():
        folder = Path(__file__).parents[2] / folder
    return folder if folder.is_dir() else None
