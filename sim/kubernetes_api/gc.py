"""What deletes objects that nobody needs: the garbage collector, and the controller of finished Jobs' time to live."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sim.kubernetes_api.objects import (
    FOREGROUND,
    ORPHAN,
    TRACE,
    Obj,
    annotation,
    condition,
    is_finished,
    is_leaving,
    name_of,
    namespace_of,
    owners,
    uid_of,
    with_meta,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings

_DEPENDENTS: Final = ("pods", "configmaps")
_ABSENT_S: Final = 2.0
"""How long after its creation an object with an owner that is no more is left alone."""


class Collector:
    """Follows owner references from Jobs to pods and ConfigMaps."""

    def __init__(self, store: Store, timings: Timings) -> None:
        self._store, self._timings = store, timings
        self._steps = Steps(store.clock, "kube-gc")
        self._dependents: dict[str, dict[tuple[str, str, str], str]] = {}  # owner uid -> (kind, namespace, name) -> uid
        self._jobs: set[str] = set()
        self._seen_finished: set[str] = set()
        for kind in ("jobs", *_DEPENDENTS):
            for obj in store.list(kind):
                self._see(kind, "ADDED", obj)
        store.subscribe(self._see)

    def close(self) -> None:
        """Delete nothing more."""
        self._steps.close()

    def _see(self, kind: str, change: str, obj: Obj) -> None:
        if kind == "jobs":
            self._see_job(change, obj)
        elif kind in _DEPENDENTS:
            self._see_dependent(kind, change, obj)

    def _see_job(self, change: str, job: Obj) -> None:
        uid, where = uid_of(job), (namespace_of(job), name_of(job))
        if change == "DELETED":
            self._jobs.discard(uid)
            self._seen_finished.discard(uid)
            if self._dependents.get(uid):
                self._steps.after(self._timings.collect_s, self._collect, uid)
            return
        self._jobs.add(uid)
        finalizers = job["metadata"].get("finalizers", ())
        if is_leaving(job) and FOREGROUND in finalizers:
            self._steps.after(self._timings.collect_s, self._foreground, uid, *where)
        elif is_leaving(job) and ORPHAN in finalizers:
            self._steps.after(self._timings.collect_s, self._orphan, uid, *where)
        elif is_finished(job) and uid not in self._seen_finished:
            self._seen_finished.add(uid)
            ttl_s = job["spec"].get("ttlSecondsAfterFinished")
            if ttl_s is not None:
                self._steps.at(
                    self._finished_s(job) + float(ttl_s) + self._timings.ttl_slack_s, self._expire, uid, *where
                )

    def _see_dependent(self, kind: str, change: str, obj: Obj) -> None:
        key = (kind, namespace_of(obj), name_of(obj))
        for owner in owners(obj):
            known = self._dependents.setdefault(owner, {})
            if change == "DELETED":
                known.pop(key, None)
                if not known:
                    del self._dependents[owner]
                continue
            known[key] = uid_of(obj)
            if change == "ADDED" and owner not in self._jobs:
                self._steps.after(_ABSENT_S, self._collect_if_absent, owner)
        if kind == "pods" and change == "MODIFIED" and is_leaving(obj) and not annotation(obj, TRACE):
            self._see_leaving(obj)

    def _see_leaving(self, pod: Obj) -> None:
        """Pods that no kubelet has to end first."""
        unplaced = not pod["spec"].get("nodeName")
        if unplaced or pod["metadata"].get("deletionGracePeriodSeconds") == 0:
            self._steps.after(0.001, self._finalize, namespace_of(pod), name_of(pod), uid_of(pod))

    def _finalize(self, namespace: str, name: str, uid: str) -> None:
        pod = self._store.get("pods", namespace, name)
        if pod is None or uid_of(pod) != uid:
            return
        if pod["metadata"].get("deletionGracePeriodSeconds") != 0:
            pod = self._store.mark_deleted("pods", namespace, name, 0) or pod
        if not pod["metadata"].get("finalizers"):
            self._store.remove("pods", namespace, name)

    # -- owners that go

    def _collect_if_absent(self, owner: str) -> None:
        if owner not in self._jobs:
            self._collect(owner)

    def _collect(self, owner: str) -> None:
        """Delete what belonged to an owner that is gone, or going."""
        for (kind, namespace, name), uid in list(self._dependents.get(owner, {}).items()):
            obj = self._store.get(kind, namespace, name)
            if obj is None or uid_of(obj) != uid:
                continue
            if kind != "pods":
                self._store.remove(kind, namespace, name)
            elif not is_leaving(obj):
                over = obj["status"].get("phase") in {"Succeeded", "Failed"}
                grace_s = 0 if over else int(obj["spec"].get("terminationGracePeriodSeconds", 30))
                self._store.mark_deleted(kind, namespace, name, grace_s)

    def _foreground(self, uid: str, namespace: str, name: str) -> None:
        """Delete the dependents first, and the owner once the last is gone."""
        job = self._store.get("jobs", namespace, name)
        if job is None or uid_of(job) != uid:
            return
        self._collect(uid)
        if any(kind == "pods" for kind, _, _ in self._dependents.get(uid, {})):
            self._steps.after(self._timings.finalize_s / 4, self._foreground, uid, namespace, name)
            return
        self._drop(job, FOREGROUND)

    def _orphan(self, uid: str, namespace: str, name: str) -> None:
        """Leave the dependents alone, without an owner."""
        job = self._store.get("jobs", namespace, name)
        if job is None or uid_of(job) != uid:
            return
        for kind, space, dependent in list(self._dependents.pop(uid, {})):
            obj = self._store.get(kind, space, dependent)
            if obj is not None:
                left = [owner for owner in obj["metadata"]["ownerReferences"] if owner["uid"] != uid]
                self._store.update(kind, with_meta(obj, ownerReferences=left or None))
        self._drop(job, ORPHAN)

    def _drop(self, job: Obj, finalizer: str) -> None:
        left = [one for one in job["metadata"].get("finalizers", ()) if one != finalizer]
        if left:
            self._store.update("jobs", with_meta(job, finalizers=left))
        else:
            self._store.remove("jobs", namespace_of(job), name_of(job))

    # -- finished Jobs

    def _finished_s(self, job: Obj) -> float:
        last = condition(job, "Complete") or condition(job, "Failed") or {}
        t_s = datetime.fromisoformat(str(last["lastTransitionTime"])).timestamp()
        return t_s - self._store.epoch_s

    def _expire(self, uid: str, namespace: str, name: str) -> None:
        job = self._store.get("jobs", namespace, name)
        if job is None or uid_of(job) != uid or is_leaving(job):
            return
        finalizers = [*job["metadata"].get("finalizers", ()), FOREGROUND]
        self._store.update(
            "jobs",
            with_meta(
                job,
                deletionTimestamp=self._store.now_text(),
                deletionGracePeriodSeconds=0,
                finalizers=finalizers,
                generation=job["metadata"].get("generation", 1) + 1,
            ),
        )
