"""The Job controller: a pod for each Job, and the Job's status as its pods have it, as late as a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sim.kubernetes_api.job_pods import defaulted, pod_of, ruling
from sim.kubernetes_api.objects import (
    TRACE,
    TRACKING,
    Obj,
    annotation,
    condition,
    is_finished,
    is_leaving,
    is_over,
    is_true,
    name_of,
    namespace_of,
    owners,
    rfc3339,
    uid_of,
    with_condition,
    with_meta,
    with_status,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.status import Refused
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings

BY: Final = "job-controller"

Admit = Callable[[Store, Obj], None]
"""Raises Refused where a pod may not be created."""


@dataclass
class _Tracked:
    """What the controller remembers of a Job: its pods by uid, and how it stands with making them."""

    namespace: str
    name: str
    uid: str
    pods: dict[str, str] = field(default_factory=dict)  # uid -> name
    made: int = 0
    refused: int = 0
    not_before_s: float = 0.0
    due: bool = False
    ignored: set[str] = field(default_factory=set)
    suspended_pods: set[str] = field(default_factory=set)
    deadline_of: str = ""


class JobController:
    """One pod at a time for each Job (parallelism 1, completions 1): no other Job is made here."""

    def __init__(self, store: Store, recorder: Recorder, timings: Timings, admit: Admit, seed: int) -> None:
        self._store, self._recorder, self._timings = store, recorder, timings
        self._admit, self._seed = admit, seed
        self._steps = Steps(store.clock, "kube-job")
        self._jobs: dict[str, _Tracked] = {}
        self._free_s = (
            -timings.controller_burst / timings.controller_qps
        )  # when the controller's client may write again, as its rate limiter has it
        for job in store.list("jobs"):
            self._see("jobs", "ADDED", job)
        for pod in store.list("pods"):
            self._see("pods", "ADDED", pod)
        store.subscribe(self._see)

    def close(self) -> None:
        """Do nothing more."""
        self._steps.close()

    # -- what the store tells

    def _see(self, kind: str, change: str, obj: Obj) -> None:
        if annotation(obj, TRACE):
            return
        if kind == "jobs":
            self._see_job(change, obj)
        elif kind == "pods":
            self._see_pod(change, obj)

    def _see_job(self, change: str, job: Obj) -> None:
        uid = uid_of(job)
        if change == "DELETED":
            tracked = self._jobs.pop(uid, None)
            if tracked is not None:
                for name in list(tracked.pods.values()):
                    self._steps.after(self._timings.collect_s, self._let_go, tracked.namespace, name, uid)
            return
        tracked = self._jobs.get(uid)
        if tracked is None:
            tracked = self._jobs[uid] = _Tracked(namespace_of(job), name_of(job), uid)
            self._enqueue(tracked, self._timings.create_s)
        elif bool(job["spec"].get("suspend")) != is_true(job, "Suspended") or is_leaving(job):
            self._enqueue(tracked, self._timings.create_s)

    def _see_pod(self, change: str, pod: Obj) -> None:
        for uid in owners(pod):
            tracked = self._jobs.get(uid)
            if tracked is None:
                if TRACKING in pod["metadata"].get("finalizers", ()) and change == "ADDED":
                    self._steps.after(self._timings.collect_s, self._let_go, namespace_of(pod), name_of(pod), uid)
                continue
            if change == "DELETED":
                tracked.pods.pop(uid_of(pod), None)
            else:
                tracked.pods[uid_of(pod)] = name_of(pod)
            self._enqueue(tracked, self._timings.sync_batch_s)

    def _enqueue(self, tracked: _Tracked, delay_s: float) -> None:
        if not tracked.due:
            tracked.due = True
            self._steps.after(delay_s, self._sync, tracked)

    def _turn_s(self, writes: int) -> float:
        """How long the client's rate limiter makes so many writes wait."""
        now_s, qps = self._store.clock.now(), self._timings.controller_qps
        self._free_s = max(self._free_s, now_s - self._timings.controller_burst / qps) + writes / qps
        return max(0.0, self._free_s - now_s)

    # -- a Job's turn

    def _sync(self, tracked: _Tracked) -> None:
        wait_s = self._turn_s(1)
        if wait_s > 0.0:
            self._steps.after(wait_s, self._sync_now, tracked)
        else:
            self._sync_now(tracked)

    def _sync_now(self, tracked: _Tracked) -> None:
        tracked.due = False
        job = self._store.get("jobs", tracked.namespace, tracked.name)
        if job is None or uid_of(job) != tracked.uid:
            return
        pods = self._pods_of(tracked)
        if is_leaving(job) or is_finished(job):
            for pod in pods:
                self._let_go(tracked.namespace, name_of(pod), "")
            if is_leaving(job) and not is_finished(job):
                self._show(tracked, job, pods)
            return
        if condition(job, "FailureTarget") is not None:
            self._finish_failure(tracked, job, pods)
            return
        if job["spec"].get("suspend"):
            self._suspend(tracked, job, pods)
            return
        if is_true(job, "Suspended"):
            job = self._resume(job)
        self._count(tracked, job, pods)

    def _count(self, tracked: _Tracked, job: Obj, pods: list[Obj]) -> None:
        """Look at the pods that ended, and see to it that there is one that has not."""
        if self._past_deadline(tracked, job):
            return self._fail(tracked, job, pods, "DeadlineExceeded", "Job was active longer than specified deadline")
        for pod in pods:
            if not is_over(pod) or TRACKING not in pod["metadata"].get("finalizers", ()):
                continue
            if uid_of(pod) in tracked.suspended_pods:
                self._let_go(tracked.namespace, name_of(pod), "")
            elif pod["status"]["phase"] == "Succeeded":
                return self._succeed(tracked, job, pod)
            elif self._is_failure(tracked, job, pods, pod):
                return None
        self._create_if_due(tracked, job, pods)
        return None

    def _is_failure(self, tracked: _Tracked, job: Obj, pods: list[Obj], pod: Obj) -> bool:
        """Whether this failed pod fails the Job; otherwise it is let go, and another one follows."""
        ruled = ruling(job, pod)
        if ruled.action == "FailJob":
            self._fail(tracked, job, pods, "PodFailurePolicy", ruled.message)
            return True
        failed = job["status"].get("failed", 0) + (ruled.action == "Count")
        if failed > job["spec"].get("backoffLimit", 6):
            self._fail(tracked, job, pods, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
            return True
        tracked.not_before_s = self._store.clock.now() + self._timings.replace_s * 2.0 ** max(0, failed - 1)
        self._let_go(tracked.namespace, name_of(pod), "")
        if ruled.action == "Count":
            self._store.update("jobs", with_status(job, failed=failed))
        self._steps.after(0.0, self._enqueue, tracked, 0.0)
        return False

    def _create_if_due(self, tracked: _Tracked, job: Obj, pods: list[Obj]) -> None:
        job = self._store.get("jobs", tracked.namespace, tracked.name) or job
        alive = [pod for pod in pods if not is_over(pod)]
        now_s = self._store.clock.now()
        if not alive and now_s < tracked.not_before_s:
            self._steps.at(tracked.not_before_s, self._enqueue, tracked, 0.0)
        elif not alive:
            pod = self._create(tracked, job)
            pods = [*pods, pod] if pod is not None else pods
        self._show(tracked, job, pods)

    def _create(self, tracked: _Tracked, job: Obj) -> Obj | None:
        pod = defaulted(self._store, pod_of(job, tracked.made, self._seed))
        tracked.made += 1
        try:
            self._turn_s(1)
            self._admit(self._store, pod)
            pod = self._store.create("pods", pod)
        except Refused as error:
            self._recorder.say(
                job, "FailedCreate", f"Error creating: {error.message}", by=BY, warning=True, again=False
            )
            again_s = min(self._timings.most_create_retry_s, self._timings.create_retry_s * 2.0**tracked.refused)
            tracked.refused += 1
            tracked.not_before_s = self._store.clock.now() + again_s
            self._steps.at(tracked.not_before_s, self._enqueue, tracked, 0.0)
            return None
        tracked.refused = 0
        self._recorder.say(job, "SuccessfulCreate", f"Created pod: {name_of(pod)}", by=BY)
        return pod

    def _show(self, tracked: _Tracked, job: Obj, pods: list[Obj]) -> None:
        """Write the counts of pods into the Job's status."""
        alive = [pod for pod in pods if not is_over(pod)]
        leaving = [pod for pod in alive if is_leaving(pod)]
        active = len(alive) - len(leaving)
        ready = sum(is_true(pod, "Ready") for pod in alive if not is_leaving(pod))
        began = job["status"].get("startTime") or self._store.now_text()
        if job["spec"].get("suspend"):
            began = None
        job = with_status(
            job, startTime=began, active=active or None, terminating=len(leaving),
            uncountedTerminatedPods=job["status"].get("uncountedTerminatedPods") or {}, ready=ready,
        )  # fmt: skip
        self._store.update("jobs", job)
        deadline_s = job["spec"].get("activeDeadlineSeconds")
        if deadline_s is not None and began is not None and tracked.deadline_of != began:
            tracked.deadline_of = began
            self._steps.after(float(deadline_s), self._enqueue, tracked, 0.0)

    def _past_deadline(self, tracked: _Tracked, job: Obj) -> bool:
        deadline_s, began = job["spec"].get("activeDeadlineSeconds"), job["status"].get("startTime")
        if deadline_s is None or began is None:
            return False
        now_s = self._store.epoch_s + self._store.clock.now()
        return rfc3339(now_s - float(deadline_s)) >= str(began) and tracked.deadline_of == began

    # -- ends

    def _succeed(self, tracked: _Tracked, job: Obj, pod: Obj) -> None:
        message = "Reached expected number of succeeded pods"
        job = self._with(job, "SuccessCriteriaMet", "CompletionsReached", message)
        job = with_status(
            job, active=None, ready=0, terminating=0, uncountedTerminatedPods={"succeeded": [uid_of(pod)]}
        )
        self._store.update("jobs", job)
        self._turn_s(2)
        self._let_go(tracked.namespace, name_of(pod), "")
        job = self._with(job_now(self._store, tracked, job), "Complete", "CompletionsReached", message)
        now = self._store.now_text()
        job = with_status(job, completionTime=now, succeeded=1, uncountedTerminatedPods={})
        job = self._store.update("jobs", job)
        self._recorder.say(job, "Completed", "Job completed", by=BY)

    def _fail(self, tracked: _Tracked, job: Obj, pods: list[Obj], reason: str, message: str) -> None:
        """The Job is lost: end what is alive, and count what is not."""
        tracked_pods = [pod for pod in pods if TRACKING in pod["metadata"].get("finalizers", ())]
        alive = [pod for pod in pods if not is_over(pod)]
        for pod in alive:
            if not is_leaving(pod):
                grace_s = int(pod["spec"].get("terminationGracePeriodSeconds", 30))
                self._store.mark_deleted("pods", tracked.namespace, name_of(pod), grace_s)
                self._recorder.say(job, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}", by=BY)
        uncounted = {"failed": [uid_of(pod) for pod in tracked_pods]} if tracked_pods else {}
        job = self._with(job, "FailureTarget", reason, message)
        job = with_status(
            job, active=None, terminating=len(alive), uncountedTerminatedPods=uncounted, ready=0,
            startTime=job["status"].get("startTime") or self._store.now_text(),
        )  # fmt: skip
        self._store.update("jobs", job)
        for pod in tracked_pods:
            self._turn_s(1)
            self._let_go(tracked.namespace, name_of(pod), "")
        failed = job["status"].get("failed", 0) + len(tracked_pods)
        job = with_status(job_now(self._store, tracked, job), failed=failed or None, uncountedTerminatedPods={})
        if alive:
            self._store.update("jobs", job)
        else:
            self._finish_failure(tracked, job, [])

    def _finish_failure(self, tracked: _Tracked, job: Obj, pods: list[Obj]) -> None:
        """Once no pod is alive any more, the failure is final."""
        alive = [pod for pod in pods if not is_over(pod)]
        for pod in pods:
            self._let_go(tracked.namespace, name_of(pod), "")
        if alive:
            self._store.update("jobs", with_status(job, terminating=len(alive)))
            return
        target = condition(job, "FailureTarget") or {}
        job = self._with(with_status(job, terminating=0), "Failed", target["reason"], target["message"])
        job = self._store.update("jobs", job)
        self._recorder.say(job, target["reason"], target["message"], by=BY, warning=True)

    def _with(self, job: Obj, kind: str, reason: str, message: str, status: str = "True") -> Obj:
        now = self._store.now_text()
        return with_condition(
            job,
            {
                "type": kind, "status": status, "lastProbeTime": now, "lastTransitionTime": now, "reason": reason,
                "message": message,
            },
        )  # fmt: skip

    # -- suspending

    def _suspend(self, tracked: _Tracked, job: Obj, pods: list[Obj]) -> None:
        for pod in pods:
            if is_over(pod) and uid_of(pod) in tracked.suspended_pods:
                self._let_go(tracked.namespace, name_of(pod), "")
            elif not is_over(pod) and not is_leaving(pod):
                tracked.suspended_pods.add(uid_of(pod))
                grace_s = int(pod["spec"].get("terminationGracePeriodSeconds", 30))
                self._store.mark_deleted("pods", tracked.namespace, name_of(pod), grace_s)
                self._recorder.say(job, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}", by=BY)
        fresh = not is_true(job, "Suspended")
        if fresh:
            job = self._with(job, "Suspended", "JobSuspended", "Job suspended")
            self._recorder.say(job, "Suspended", "Job suspended", by=BY)
        self._show(tracked, job, self._pods_of(tracked))

    def _resume(self, job: Obj) -> Obj:
        self._recorder.say(job, "Resumed", "Job resumed", by=BY)
        return self._with(job, "Suspended", "JobResumed", "Job resumed", status="False")

    # -- pods

    def _pods_of(self, tracked: _Tracked) -> list[Obj]:
        return [pod for name in tracked.pods.values() if (pod := self._store.get("pods", tracked.namespace, name))]

    def _let_go(self, namespace: str, name: str, owner: str) -> None:
        """Take the finalizer off a pod that ended, or whose Job is gone; one to be deleted is gone with that."""
        pod = self._store.get("pods", namespace, name)
        if pod is None or TRACKING not in pod["metadata"].get("finalizers", ()) or (owner and owner not in owners(pod)):
            return
        left = [one for one in pod["metadata"]["finalizers"] if one != TRACKING]
        pod = self._store.update("pods", with_meta(pod, finalizers=left or None))
        if is_leaving(pod) and pod["metadata"].get("deletionGracePeriodSeconds") == 0 and not left:
            self._store.remove("pods", namespace, name)


def job_now(store: Store, tracked: _Tracked, job: Obj) -> Obj:
    """The Job as it stands after what was just written of it."""
    return store.get("jobs", tracked.namespace, tracked.name) or job
