"""Jobs that replay what was recorded of a real one, with names, uids, times and labels of their own."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sim.kubernetes_api.logs import Logs
from sim.kubernetes_api.objects import (
    TRACE,
    Obj,
    annotation,
    is_leaving,
    name_of,
    namespace_of,
    rfc3339,
    uid_of,
    with_meta,
    with_spec,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.status import Refused
from sim.kubernetes_api.store import Store

_TIME: Final = re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?=[.Z])")


@dataclass
class _Replay:
    """One Job on its way through a recording. `names` maps recorded names and uids to its own."""

    namespace: str
    name: str
    uid: str
    recorded: str
    shift_s: float = 0.0
    names: dict[str, str] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)  # recorded uid -> our name


class Traces:
    """Plays recordings from a folder: lines of {t, kind, type, object}, as watched on a real control plane."""

    def __init__(self, store: Store, logs: Logs, folder: Path | None) -> None:
        self._store, self._logs, self._folder = store, logs, folder
        self._steps = Steps(store.clock, "kube-trace")
        self._replays: dict[str, _Replay] = {}
        store.subscribe(self._see)

    def close(self) -> None:
        """Replay nothing more."""
        self._steps.close()

    def _see(self, kind: str, change: str, job: Obj) -> None:
        if kind != "jobs" or not annotation(job, TRACE):
            return
        uid = uid_of(job)
        if change == "ADDED":
            self._steps.after(0.001, self._begin, namespace_of(job), name_of(job), uid)
        elif change == "DELETED":
            replay = self._replays.pop(uid, None)
            if replay is not None:
                self._steps.after(1.0, self._sweep, replay)

    def _begin(self, namespace: str, name: str, uid: str) -> None:
        job = self._store.get("jobs", namespace, name)
        if job is None or uid_of(job) != uid:
            return
        lines = list(self._lines(annotation(job, TRACE)))
        recorded = next((line["object"] for line in lines if line["kind"] == "Job"), None)
        if recorded is None:
            return
        replay = self._replays[uid] = _Replay(namespace, name, uid, name_of(recorded))
        began_s = datetime.fromisoformat(recorded["metadata"]["creationTimestamp"]).timestamp()
        replay.shift_s = self._store.epoch_s + self._store.clock.now() - began_s
        replay.names[uid_of(recorded)] = uid
        for line in lines:
            self._steps.after(float(line["t"]), self._play, replay, line)

    def _lines(self, trace: str) -> Iterator[dict[str, Any]]:
        """The lines of a recording; none where there is none of that name."""
        if self._folder is None or not re.fullmatch(r"[\w-]+", trace):
            return
        with contextlib.suppress(OSError):
            for line in (self._folder / f"{trace}.jsonl").read_text(encoding="utf-8").splitlines():
                yield json.loads(line)

    def _sweep(self, replay: _Replay) -> None:
        """The Job is gone, so its pods go: as their kubelets would have seen to it."""
        for name in replay.pods.values():
            pod = self._store.get("pods", replay.namespace, name)
            if pod is not None:
                if not is_leaving(pod):
                    self._store.mark_deleted("pods", replay.namespace, name, 0)
                self._store.remove("pods", replay.namespace, name)

    # -- lines

    def _play(self, replay: _Replay, line: dict[str, Any]) -> None:
        if self._replays.get(replay.uid) is not replay:
            return
        recorded = line["object"]
        with contextlib.suppress(Refused):
            if line["kind"] == "Job" and name_of(recorded) == replay.recorded:
                self._play_job(replay, line["type"], recorded)
            elif line["kind"] == "Pod" and name_of(recorded).startswith(f"{replay.recorded}-"):
                self._play_pod(replay, line["type"], recorded)
            elif line["kind"] == "Event":
                self._play_event(replay, line["type"], recorded)

    def _play_job(self, replay: _Replay, change: str, recorded: Obj) -> None:
        job = self._store.get("jobs", replay.namespace, replay.name)
        if job is None:
            return
        if change == "DELETED":
            self._store.remove("jobs", replay.namespace, replay.name)
            return
        meta = self._adapted(replay, recorded["metadata"])
        job = with_meta(job, **{key: meta.get(key) for key in ("deletionTimestamp", "finalizers", "generation")})
        job = with_spec(job, suspend=recorded["spec"].get("suspend"))
        self._store.update("jobs", {**job, "status": self._adapted(replay, recorded.get("status") or {})})

    def _play_pod(self, replay: _Replay, change: str, recorded: Obj) -> None:
        uid = uid_of(recorded)
        if uid not in replay.pods:
            self._make_pod(replay, recorded)
            return
        name = replay.pods[uid]
        if change == "DELETED":
            self._store.remove("pods", replay.namespace, name)
            return
        pod = self._store.get("pods", replay.namespace, name)
        if pod is None:
            return
        meta = self._adapted(replay, recorded["metadata"])
        kept = ("deletionTimestamp", "deletionGracePeriodSeconds", "finalizers", "generation")
        pod = with_meta(pod, **{key: meta.get(key) for key in kept})
        pod = with_spec(pod, nodeName=recorded["spec"].get("nodeName"))
        pod = self._store.update("pods", {**pod, "status": self._adapted(replay, recorded["status"])})
        self._keep_log(pod)

    def _make_pod(self, replay: _Replay, recorded: Obj) -> None:
        job = self._store.get("jobs", replay.namespace, replay.name)
        assert job is not None, "a replay ends when its Job is deleted"
        template = job["spec"]["template"]["metadata"]
        base = f"{replay.name}-"[:58]
        name = base + name_of(recorded).rpartition("-")[2]
        replay.names[name_of(recorded)] = name
        owner = {
            "apiVersion": "batch/v1", "kind": "Job", "name": replay.name, "uid": replay.uid, "controller": True,
            "blockOwnerDeletion": True,
        }  # fmt: skip
        metadata = {
            "name": name, "generateName": base, "namespace": replay.namespace, "ownerReferences": [owner],
            "labels": dict(template.get("labels") or {}), "finalizers": recorded["metadata"].get("finalizers") or [],
            "annotations": {**(template.get("annotations") or {}), TRACE: annotation(job, TRACE)},
        }  # fmt: skip
        status = self._adapted(replay, recorded["status"])
        body = {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": recorded["spec"], "status": status}
        pod = self._store.create("pods", body)
        replay.pods[uid_of(recorded)] = name
        replay.names[uid_of(recorded)] = uid_of(pod)

    def _keep_log(self, pod: Obj) -> None:
        """Recordings have no logs: what a container left in its status stands for it."""
        state = (pod["status"].get("containerStatuses") or [{}])[0].get("state") or {}
        if "running" in state:
            self._logs.begin(uid_of(pod))
        elif "terminated" in state:
            log = self._logs.begin(uid_of(pod))
            if not log.ended:
                for line in state["terminated"].get("message", "").splitlines():
                    log.append(self._store.clock.now(), line)
                log.end()

    def _play_event(self, replay: _Replay, change: str, recorded: Obj) -> None:
        about = recorded["involvedObject"]["name"]
        ours = replay.name if about == replay.recorded else replay.names.get(about)
        if ours is None:
            return  # of another Job, which was recorded beside
        body = self._adapted(replay, {key: value for key, value in recorded.items() if key != "metadata"})
        body["involvedObject"] = {**body["involvedObject"], "name": ours, "namespace": replay.namespace}
        name = ours + "." + name_of(recorded).rpartition(".")[2]
        body["metadata"] = {"name": name, "namespace": replay.namespace}
        known = self._store.get("events", replay.namespace, name)
        if known is None:
            self._store.create("events", body)
        elif change == "MODIFIED":
            self._store.update("events", {**body, "metadata": known["metadata"]})

    def _adapted(self, replay: _Replay, value: Any) -> Any:
        """A recorded value with the replay's names, uids and times."""
        if isinstance(value, dict):
            return {key: self._adapted(replay, one) for key, one in value.items() if key != "managedFields"}
        if isinstance(value, list):
            return [self._adapted(replay, one) for one in value]
        if not isinstance(value, str):
            return value
        for theirs, ours in replay.names.items():
            value = value.replace(theirs, ours)
        return _TIME.sub(lambda found: _shifted(found[0], replay.shift_s), value)


def _shifted(text: str, shift_s: float) -> str:
    moment_s = datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    return rfc3339(moment_s + shift_s).removesuffix("Z") if moment_s > 0 else text
