"""The Job controller: makes a Job's pod, says how it ended, and takes away what Jobs leave behind."""

from __future__ import annotations

from typing import Any, Final

from sim.kubernetes_api.admission import admit_pod, over
from sim.kubernetes_api.cluster import World
from sim.kubernetes_api.status import Refused

_MAKE_S: Final = 0.01
_STATUS_S: Final = 1.0
"""From a pod's end to its Job's word of it (measured: 1.2 s on an idle control plane)."""
_RETRY_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0)
_FINAL: Final = ("Failed", "Complete")

Json = dict[str, Any]


class JobController:
    """Reacts to Jobs and their pods.

    Args:
        world: see there.
        delete_pod: ends a pod in its time.
        orphaned: uids of deleted Jobs whose pods are to stay.
        status_s: seconds until a Job says what became of its pod.
    """

    def __init__(
        self, world: World, delete_pod: Any, orphaned: dict[str, bool], *, status_s: float = _STATUS_S
    ) -> None:
        self._world, self._delete_pod, self._orphaned, self._status_s = world, delete_pod, orphaned, status_s
        self._tries: dict[str, int] = {}
        self._pods: dict[str, str] = {}  # a Job's uid to the name of its present pod
        world.store.subscribe(self._on_change)

    def _on_change(self, kind: str, what: str, obj: Json) -> None:
        if kind == "jobs":
            if what == "DELETED":
                self._world.after(0.0, self._collect, obj)
            else:
                self._world.after(_MAKE_S, self._reconcile, obj["metadata"]["namespace"], obj["metadata"]["name"])
        elif kind == "pods" and (owner := _owner(obj)) is not None:
            gone = what == "DELETED"
            if gone and self._pods.get(owner["uid"]) == obj["metadata"]["name"]:
                del self._pods[owner["uid"]]
            if gone or over(obj):
                self._world.after(self._status_s, self._judge, owner, obj, gone)

    def _reconcile(self, namespace: str, name: str) -> None:
        """Have a pod where one should be, and none where it should not."""
        job = self._world.store.get("jobs", namespace, name)
        if job is None or _finished(job):
            return
        uid = job["metadata"]["uid"]
        pod_name = self._pods.get(uid)
        pod = self._world.store.get("pods", namespace, pod_name) if pod_name else None
        if job["spec"].get("suspend"):
            if pod is not None and not pod["metadata"].get("deletionTimestamp"):
                self._delete_pod(pod, int(pod["spec"].get("terminationGracePeriodSeconds", 30)))
            return
        if pod is None and not (job.get("status") or {}).get("failed"):
            self._make(job)

    def _make(self, job: Json) -> None:
        meta, template = job["metadata"], job["spec"]["template"]
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": meta["name"],
            "uid": meta["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        inner = template.get("metadata") or {}
        pod = {
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "generateName": f"{meta['name']}-", "namespace": meta["namespace"], "labels": inner.get("labels") or {},
                "annotations": inner.get("annotations") or {}, "ownerReferences": [owner],
            },
            "spec": template["spec"], "status": {"phase": "Pending", "qosClass": "Guaranteed"},
        }  # fmt: skip
        try:
            admit_pod(self._world.store, pod)
        except Refused as refused:
            number = self._tries[meta["uid"]] = self._tries.get(meta["uid"], -1) + 1
            self._world.event(job, "Job", "FailedCreate", f"Error creating: {refused.message}", "job-controller")
            self._world.after(
                _RETRY_S[min(number, len(_RETRY_S) - 1)], self._reconcile, meta["namespace"], meta["name"]
            )
            return
        made = self._world.store.create("pods", pod)
        self._pods[meta["uid"]] = made["metadata"]["name"]
        self._world.event(job, "Job", "SuccessfulCreate", f"Created pod: {made['metadata']['name']}", "job-controller")
        status = {"active": 1, "ready": 0, "terminating": 0, "startTime": self._world.store.now_text()}
        self._world.store.change("jobs", job, status={**(job.get("status") or {}), **status})

    def _judge(self, owner: Json, pod: Json, gone: bool) -> None:
        """Say of a Job how its pod ended."""
        job = self._world.store.get("jobs", pod["metadata"]["namespace"], owner["name"])
        if job is None or job["metadata"]["uid"] != owner["uid"] or _finished(job):
            return
        if job["spec"].get("suspend") and gone:
            return
        if not over(pod) and not gone:
            return
        status = dict(job.get("status") or {})
        store = self._world.store
        if (pod.get("status") or {}).get("phase") == "Succeeded":
            status |= {"succeeded": 1, "active": 0, "ready": 0, "completionTime": store.now_text()}
            self._finish(
                job,
                status,
                "Complete",
                "SuccessCriteriaMet",
                "CompletionsReached",
                "Reached expected number of succeeded pods",
            )
            return
        reason, message = self._why(job, pod)
        status |= {"failed": 1, "active": 0, "ready": 0}
        self._finish(job, status, "Failed", "FailureTarget", reason, message)

    def _finish(self, job: Json, status: Json, last: str, first: str, reason: str, message: str) -> None:
        for kind in (first, last):
            status["conditions"] = self._world.condition({"status": status}, kind, "True", reason, message)
        done = self._world.store.change("jobs", job, status=status)
        self._world.event(job, "Job", "Completed" if last == "Complete" else reason, message, "job-controller")
        ttl_s = job["spec"].get("ttlSecondsAfterFinished")
        if done is not None and ttl_s is not None:
            self._world.after(float(ttl_s), self._expire, done)

    def _why(self, job: Json, pod: Json) -> tuple[str, str]:
        """The reason and message of a failure: by the rules of its podFailurePolicy, in order."""
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        status = pod.get("status") or {}
        ended: Json = next(
            (
                one["state"]["terminated"]
                for one in status.get("containerStatuses") or ()
                if "terminated" in one.get("state", {})
            ),
            {},
        )
        for index, rule in enumerate((job["spec"].get("podFailurePolicy") or {}).get("rules") or ()):
            for wanted in rule.get("onPodConditions") or ():
                if any(
                    one["type"] == wanted["type"] and one["status"] == wanted.get("status", "True")
                    for one in status.get("conditions") or ()
                ):
                    return (
                        "PodFailurePolicy",
                        f"Pod {name} has condition {wanted['type']} matching {rule['action']} rule at index {index}",
                    )
            codes = rule.get("onExitCodes")
            if codes and ended and (ended.get("exitCode") in codes["values"]) == (codes["operator"] == "In"):
                return (
                    "PodFailurePolicy",
                    f"Container trainer for pod {name} failed with exit code {ended.get('exitCode')} matching "
                    f"{rule['action']} rule at index {index}",
                )
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"

    def _expire(self, job: Json) -> None:
        meta = job["metadata"]
        known = self._world.store.get("jobs", meta["namespace"], meta["name"])
        if known is not None and known["metadata"]["uid"] == meta["uid"]:
            self._world.store.remove("jobs", meta["namespace"], meta["name"])

    def _collect(self, job: Json) -> None:
        """Delete what belonged to a Job that is gone."""
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        self._tries.pop(uid, None)
        if self._orphaned.pop(uid, False):
            return
        name = self._pods.pop(uid, None)
        pods = [self._world.store.get("pods", namespace, name)] if name else []
        pods += [pod for pod in self._world.store.list("pods", namespace) if _owned(pod, uid)] if not name else []
        for pod in pods:
            if pod is not None and not pod["metadata"].get("deletionTimestamp"):
                self._delete_pod(pod, int(pod["spec"].get("terminationGracePeriodSeconds", 30)))
        config = self._world.store.get("configmaps", namespace, job["metadata"]["name"])
        if config is not None and _owned(config, uid):
            self._world.store.remove("configmaps", namespace, config["metadata"]["name"])


def _owner(pod: Json) -> Json | None:
    return next((one for one in pod["metadata"].get("ownerReferences") or () if one["kind"] == "Job"), None)


def _owned(obj: Json, uid: str) -> bool:
    return any(one["uid"] == uid for one in obj["metadata"].get("ownerReferences") or ())


def _finished(job: Json) -> bool:
    return any(
        one["type"] in _FINAL and one["status"] == "True" for one in (job.get("status") or {}).get("conditions") or ()
    )
