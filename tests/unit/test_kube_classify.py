"""What the Kubernetes executor makes of what a cluster says: the recordings, every row, and any order of events."""

from __future__ import annotations

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors.kubernetes import classify as table
from executors.kubernetes import results
from executors.kubernetes.classify import classify, classify_pods
from executors.kubernetes.posts import post_failure
from executors.kubernetes.seen import Seen
from tests.support.kube_objects import ATTEMPT, NODE, T0, T1, T2, ended, event, job, message, pod, result, trace

# Recording: row, outcome. What was recorded left no result of ours: an exit code of 0 alone is not a score.
RECORDED = {
    "admission": ("node-admission", "infrastructure"),
    "bigterm": ("crash", "crash"),
    "cancel": ("deleted", "infrastructure"),
    "deadline": ("job-deadline", "timeout"),
    "drained": ("drained", "preempted"),
    "drained-nopfp": ("drained", "preempted"),
    "evicted-disk": ("disk", "crash"),
    "gpufault": ("crash", "crash"),
    "imagename": ("image-name", None),
    "imagepull": ("image-pull", None),
    "kubelet-restart": ("no-result", "crash"),
    "logrotate": ("no-result", "crash"),
    "no-configmap": ("queue-deadline", "unschedulable"),
    "nodelost": ("node-lost", "device_lost"),
    "ok": ("no-result", "crash"),
    "oomchild": ("oom-host", "oom"),
    "oomkilled": ("oom-host", "oom"),
    "pod-deadline": ("pod-deadline", "timeout"),
    "preempted": ("preempted", "preempted"),
    "psa": ("policy", None),
    "quota-1": ("no-result", "crash"),
    "real-segv": ("crash", "crash"),
    "segv": ("no-result", "crash"),
    "shm-full": ("crash", "crash"),
    "starterror": ("start-error", None),
    "suspend-resume": ("no-result", "crash"),
    "ttl": ("no-result", "crash"),
    "unschedulable-gpus": ("busy", None),
}
# The same with a valid result in place of the empty message of those that exited 0.
SCORED = {name: ("ok", "ok") for name, (row, _outcome) in RECORDED.items() if row == "no-result"}


class Watched:
    """What a reflector would hold after some events, and what is made of it."""

    def __init__(self, *, cancelled: bool = False) -> None:
        self.cancelled = cancelled
        self.objects: dict[tuple[str, str], dict] = {}
        self.gone: set[str] = set()
        self.started = False

    def see(self, change: dict) -> Seen:
        obj = change["object"]
        key = (obj["kind"], obj["metadata"]["uid"])
        known = self.objects.get(key)
        if known is None or int(obj["metadata"]["resourceVersion"]) >= int(known["metadata"]["resourceVersion"]):
            self.objects[key] = obj
            if change["type"] == "DELETED":
                self.gone.add(obj["metadata"]["uid"])
        jobs = [obj for (kind, _uid), obj in self.objects.items() if kind == "Job"]
        seen = classify_pods(
            ATTEMPT,
            jobs[0] if jobs else None,
            [obj for (kind, _uid), obj in self.objects.items() if kind == "Pod"],
            [obj for (kind, _uid), obj in self.objects.items() if kind == "Event"],
            cancelled_by_us=self.cancelled,
            gone=self.gone,
            job_deleted=bool(jobs) and jobs[0]["metadata"]["uid"] in self.gone,
            ever_started=self.started,
        )
        self.started |= seen.phase == "running"
        return seen


def with_result(changes: list[dict]) -> list[dict]:
    """The recording as if its runner had left a result."""
    changed = copy.deepcopy(changes)
    for change in changed:
        if change["kind"] != "Pod":
            continue
        for status in change["object"]["status"].get("containerStatuses", []):
            if status["state"].get("terminated", {}).get("exitCode") == 0:
                status["state"]["terminated"]["message"] = message()
    return changed


def check(changes: list[dict], expected: tuple[str, str | None], *, cancelled: bool = False) -> Seen:
    """Every step on the way gives no verdict, or the one that stays."""
    watched = Watched(cancelled=cancelled)
    final = None
    for change in changes:
        seen = watched.see(change)
        assert seen.reason or seen.phase in ("running", "ended")
        if final is not None:
            assert seen == final
        elif seen.outcome is not None:
            final = seen
    assert (seen.row, seen.outcome) == expected
    assert (seen.outcome is not None) == (final is not None)
    return seen


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recording(name):
    check(trace(name), RECORDED[name])
    if name in SCORED:
        seen = check(with_result(trace(name)), SCORED[name])
        assert seen.finished().val_bpb == 1.25
        assert seen.finished().corpus == "c" * 64


def test_recorded_cancel_of_ours():
    check(trace("cancel"), ("cancelled", "cancelled"), cancelled=True)


def test_there_are_28_recordings():
    assert len(RECORDED) == 28


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.parametrize("name", sorted(RECORDED))
def test_any_order_of_a_recording(name, data):
    """Each object's events keep their order; objects interleave at will, events are lost or come twice."""
    scored = name in SCORED and data.draw(st.booleans(), label="scored")
    changes = with_result(trace(name)) if scored else trace(name)
    queues: dict[str, list[dict]] = {}
    for change in changes:
        queues.setdefault(change["object"]["metadata"]["uid"], []).append(change)
    for queue in queues.values():
        queue.sort(key=lambda change: int(change["object"]["metadata"]["resourceVersion"]))
        lost = data.draw(st.sets(st.integers(0, len(queue) - 1)), label="lost") - {len(queue) - 1}
        queue[:] = [change for index, change in enumerate(queue) if index not in lost]
    delivered: list[dict] = []
    while queues:
        uid = data.draw(st.sampled_from(sorted(queues)), label="next")
        delivered.append(queues[uid].pop(0))
        if data.draw(st.integers(0, 5), label="twice") == 0:
            delivered.append(data.draw(st.sampled_from(delivered)))
        if not queues[uid]:
            del queues[uid]
    check(delivered, (SCORED if scored else RECORDED)[name])


# ------------------------------------------------------------------------------------------- rows, one by one

FAILED = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
BUSY = (
    "0/17 nodes are available: 1 Insufficient nvidia.com/gpu, 16 node(s) didn't match Pod's node affinity/selector. "
    "no new claims to deallocate, preemption: 0/17 nodes are available: 1 No preemption victims found."
)
NO_NODE = (
    "0/17 nodes are available: 1 node(s) had untolerated taint {team: other}, 16 node(s) didn't match Pod's node "
    "affinity/selector. preemption: 0/17 nodes are available: 17 Preemption is not helpful for scheduling."
)
EXITED = "Container trainer for pod ns/x failed with exit code {} matching FailJob rule at index 1"
NO_CONFIGMAP = 'MountVolume.SetUp failed for volume "attempt" : configmap "ar-x-r34-a2" not found'
PULL_FAILED = event("Failed", "Error: ErrImagePull")
CREATING = {"waiting": {"reason": "ContainerCreating"}}
RUNNING = {"running": {"startedAt": T0}}


def policy(text: str) -> tuple[str, str, str]:
    return ("Failed", "PodFailurePolicy", text)


def refused(text: str, at: str = T1) -> dict:
    return event("FailedCreate", f"Error creating: {text}", of="job-uid", at=at)


def own(code: int, outcome: str, reason: str, **more):
    text = message(outcome=outcome, reason=reason, val_bpb=None, tier=None)
    return {"pod": pod("Failed", state=ended(code, text)), **more}


# row -> what is seen, and what must be made of it (fields of Seen; `says`: a part of the sentence)
ROWS = [
    ("ok", {"pod": pod("Running", state=ended(0, message(), "Completed"))}, {"outcome": "ok", "reason": ""}),
    (
        "ok-child-killed",
        {"pod": pod("Running", state=ended(0, message(), "OOMKilled"))},
        {"outcome": "ok", "note": "a child process was killed for want of memory; the score is whole"},
    ),
    (
        "ok",
        {"pod": pod("Running", state=ended(0, message()), disruption="EvictionByEvictionAPI", deleting=True)},
        {"outcome": "ok"},
    ),
    (
        "drained",
        {"pod": pod("Running", state=ended(0, message()), disruption="EvictionByEvictionAPI", disrupted_at=T0)},
        {"outcome": "preempted", "says": f"drained on {NODE}"},
    ),
    (
        "cancelled",
        {"pod": pod("Failed", state=ended(143), deleting=True), "cancelled_by_us": True},
        {"outcome": "cancelled"},
    ),
    ("cancelled", {"pod": None, "job_deleted": True, "cancelled_by_us": True}, {"outcome": "cancelled"}),
    (
        "cancelling",
        {"pod": pod("Running", state=RUNNING, deleting=True), "cancelled_by_us": True},
        {"phase": "ending", "remedy": "force_delete", "since": T2},
    ),
    ("preempted", {"pod": pod("Running", state=RUNNING, disruption="PreemptionByScheduler")}, {"outcome": "preempted"}),
    (
        "node-lost",
        {"pod": pod("Running", state=RUNNING, disruption="DeletionByTaintManager", deleting=True)},
        {"outcome": "device_lost", "blame": "node", "says": f"stopped answering, or was tainted on {NODE}"},
    ),
    ("node-removed", {"pod": pod("Failed", disruption="DeletionByPodGC")}, {"outcome": "device_lost", "blame": "node"}),
    (
        "node-pressure",
        {
            "pod": pod(
                "Failed", state=ended(137), disruption="TerminationByKubelet", reason="Evicted", message="low on memory"
            )
        },
        {"outcome": "infrastructure", "blame": "node"},
    ),
    ("disrupted", {"pod": pod("Running", state=RUNNING, disruption="SomethingNew")}, {"outcome": "preempted"}),
    (
        "disrupted-job",
        {
            "job": job(policy("Pod ns/x has condition DisruptionTarget matching FailJob rule at index 0")),
            "pod": None,
            "deleted": True,
        },
        {"outcome": "preempted"},
    ),
    (
        "node-admission",
        {
            "pod": pod(
                "Failed",
                reason="UnexpectedAdmissionError",
                message="Allocate failed due to no healthy devices nvidia.com/gpu",
            )
        },
        {"outcome": "infrastructure", "blame": "gpu", "says": "no healthy devices"},
    ),
    (
        "node-admission",
        {"pod": pod("Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")},
        {"blame": "node"},
    ),
    (
        "node-admission",
        {"pod": pod("Failed", reason="OutOfnvidia.com/gpu", message="no nvidia.com/gpu")},
        {"blame": "gpu"},
    ),
    ("node-admission", {"pod": pod("Failed", reason="NodeAffinity")}, {"blame": "node"}),
    ("node-admission", {"pod": pod("Failed", state=ended(143), reason="NodeShutdown")}, {"blame": "node"}),
    (
        "container-lost",
        {"pod": pod("Failed", state={"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}})},
        {"outcome": "infrastructure", "blame": "node"},
    ),
    (
        "container-lost",
        {"pod": pod("Failed", state={"terminated": {"exitCode": 255, "reason": "Unknown"}})},
        {"outcome": "infrastructure", "blame": "node"},
    ),
    ("suspended", {"job": job(suspend=True)}, {"phase": "queued", "says": "queued"}),
    (
        "suspended",
        {"job": job(suspend=True), "pod": pod("Failed", state=ended(143), deleting=True), "ever_started": True},
        {"phase": "queued", "says": "preempted by its queue"},
    ),
    ("suspended", {"job": job(suspend=True), "pod": pod("Running", state=RUNNING, deleting=True)}, {"phase": "queued"}),
    (
        "gpu",
        own(84, "infrastructure", "Xid 79: the GPU has fallen off the bus"),
        {"outcome": "infrastructure", "blame": "gpu", "says": "Xid 79"},
    ),
    (
        "gpu",
        {"pod": pod("Failed", state=ended(84))},
        {"outcome": "infrastructure", "says": f"its GPU is broken on {NODE}"},
    ),
    (
        "gpu",
        {"pod": pod("Failed", state=ended(1, "RuntimeError: CUDA error: uncorrectable ECC error encountered"))},
        {"outcome": "infrastructure", "blame": "gpu"},
    ),
    (
        "gpu",
        {"pod": pod("Failed", state=ended(134, "NVRM: Xid (PCI:0000:3b:00): 48, pid=7"))},
        {"outcome": "infrastructure"},
    ),
    (
        "startup-deadline",
        {"pod": pod("Failed", state=CREATING, reason="DeadlineExceeded")},
        {"outcome": "infrastructure", "blame": "node"},
    ),
    (
        "pod-deadline",
        {"pod": pod("Failed", state=ended(143, message(outcome="terminated", steps=17)), reason="DeadlineExceeded")},
        {"outcome": "timeout", "says": "at step 17"},
    ),
    ("over-budget", own(83, "timeout", "hung at step 9"), {"outcome": "timeout", "reason": "hung at step 9"}),
    (
        "queue-deadline",
        {"job": job(("Failed", "DeadlineExceeded", "")), "pod": None, "deleted": True},
        {"outcome": "unschedulable"},
    ),
    (
        "job-deadline",
        {"job": job(("Failed", "DeadlineExceeded", "")), "pod": pod("Failed", state=ended(143), deleting=True)},
        {"outcome": "timeout"},
    ),
    ("oom-host", {"pod": pod("Failed", state=ended(137, "", "OOMKilled"))}, {"outcome": "oom"}),
    (
        "oom-host",
        {"pod": pod("Running", state=ended(1, "child rc -9\n", "OOMKilled"))},
        {"outcome": "oom", "says": "child rc -9"},
    ),
    ("oom-gpu", own(82, "oom", "CUDA out of memory: 79.2 GB in use"), {"outcome": "oom", "says": "79.2 GB"}),
    (
        "oom-gpu",
        {"pod": pod("Failed", state=ended(1, "torch.OutOfMemoryError: CUDA out of memory"))},
        {"outcome": "oom"},
    ),
    ("nan", own(81, "nan", "loss is NaN at step 40"), {"outcome": "nan", "reason": "loss is NaN at step 40"}),
    (
        "disk",
        {
            "pod": pod(
                "Failed",
                state=ended(137),
                reason="Evicted",
                message='Usage of EmptyDir volume "tmp" exceeds the limit "4Gi". ',
            )
        },
        {"outcome": "crash", "says": 'volume "tmp" exceeds the limit "4Gi"'},
    ),
    (
        "disk",
        {
            "pod": pod(
                "Failed", reason="Evicted", message="Container trainer exceeded its local ephemeral storage limit"
            )
        },
        {"outcome": "crash"},
    ),
    (
        "evicted",
        {"pod": pod("Failed", state=ended(137), reason="Evicted", message="The node was low on resource: memory.")},
        {"outcome": "infrastructure", "blame": "node"},
    ),
    ("data", own(85, "infrastructure", "/data/meta.json is missing"), {"outcome": "infrastructure"}),
    ("contract", own(86, "crash", "build() returned no module"), {"outcome": "crash"}),
    ("our-side", own(87, "infrastructure", "the scorer died"), {"outcome": "infrastructure"}),
    (
        "start-error",
        {"pod": pod("Failed", state=ended(128, 'exec: "python3": not found', "StartError"))},
        {"outcome": None, "phase": "waiting", "hold": "manifest", "says": 'exec: "python3": not found'},
    ),
    (
        "over-budget",
        {"job": job(policy(EXITED.format(83))), "pod": pod("Running", state=RUNNING), "deleted": True},
        {"outcome": "timeout", "says": "the pod is gone"},
    ),
    (
        "gpu",
        {"job": job(policy(EXITED.format(84))), "pod": None, "deleted": True},
        {"outcome": "infrastructure", "blame": "gpu"},
    ),
    (
        "result-lost",
        {"job": job(("Complete", "CompletionsReached", "")), "pod": None, "deleted": True},
        {"outcome": "infrastructure", "says": "its result with it"},
    ),
    (
        "deleted",
        {"job": job(FAILED), "pod": pod("Failed", state=ended(143), deleting=True)},
        {"outcome": "infrastructure", "says": f"somebody deleted its pod on {NODE}"},
    ),
    (
        "deleted",
        {"job": job(deleting=True), "pod": pod("Failed", state=ended(137), deleting=True)},
        {"outcome": "infrastructure", "says": "deleted its Job"},
    ),
    ("deleted", {"job": job(), "job_deleted": True, "pod": None, "deleted": True}, {"outcome": "infrastructure"}),
    ("killed", {"pod": pod("Failed", state=ended(137, "step 12"))}, {"outcome": "infrastructure", "says": "step 12"}),
    ("killed", {"pod": pod("Failed", state=ended(143, message(outcome="terminated")))}, {"outcome": "infrastructure"}),
    ("no-result", {"pod": pod("Running", state=ended(0))}, {"outcome": "crash", "says": "without a valid result"}),
    (
        "no-result",
        {"pod": pod("Running", state=ended(0, message(attempt="r34.1")))},
        {"outcome": "crash", "result": None},
    ),
    (
        "no-result",
        {"pod": pod("Running", state=ended(0, message(outcome="crash", reason="odd")))},
        {"outcome": "crash", "reason": "odd"},
    ),
    (
        "crash",
        {"pod": pod("Failed", state=ended(1, "Traceback\n  File\nValueError: bad \x1b[31mshape\n\n"))},
        {"outcome": "crash", "says": "it last printed: ValueError: bad shape"},
    ),
    (
        "crash",
        {"pod": pod("Failed", state=ended(139))},
        {"outcome": "crash", "reason": "exit code 139 (Segmentation fault)"},
    ),
    ("crash", own(1, "crash", "ValueError: bad shape"), {"outcome": "crash", "reason": "ValueError: bad shape"}),
    ("pod-failed", {"pod": pod("Failed", state=RUNNING)}, {"outcome": "infrastructure", "blame": "node"}),
    (
        "pod-failed",
        {"pod": pod("Failed", reason="New", message="odd", deleting=True)},
        {"outcome": "infrastructure", "says": "odd"},
    ),
    (
        "ending",
        {"pod": pod("Running", state=RUNNING, deleting=True)},
        {"phase": "ending", "remedy": "force_delete", "since": T2},
    ),
    ("ending", {"pod": pod("Failed", state=ended(143), deleting=True)}, {"phase": "ending", "remedy": ""}),
    ("running", {"pod": pod("Running", state=RUNNING)}, {"phase": "running", "since": T0}),
    (
        "image-name",
        {"pod": pod(state={"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}})},
        {"phase": "waiting", "hold": "image", "hold_after_s": 0.0, "says": "couldn't parse image name"},
    ),
    ("image-name", {"pod": pod(state={"waiting": {"reason": "ErrImageNeverPull"}})}, {"hold": "image"}),
    (
        "image-name",
        {
            "pod": pod(state=CREATING),
            "events": [event("Failed", "Error: InvalidImageName"), event("InspectFailed", "no image name")],
        },
        {"hold": "image"},
    ),
    (
        "image-pull",
        {"pod": pod(state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}})},
        {"phase": "waiting", "hold": "image", "hold_after_s": 120.0, "since": T0},
    ),
    ("image-pull", {"pod": pod(state=CREATING), "events": [PULL_FAILED]}, {"hold": "image"}),
    ("starting", {"pod": pod(state=CREATING), "events": [PULL_FAILED, event("Pulled", "ok")]}, {"hold": ""}),
    (
        "starting",
        {"pod": pod(state=CREATING), "events": [event("Failed", "Error: ErrImagePull", of="other")]},
        {"hold": ""},
    ),
    (
        "config-error",
        {"pod": pod(state={"waiting": {"reason": "CreateContainerConfigError", "message": "runAsNonRoot"}})},
        {"phase": "waiting", "hold": "manifest", "says": "runAsNonRoot"},
    ),
    (
        "no-configmap",
        {"pod": pod(state=CREATING), "events": [event("FailedMount", NO_CONFIGMAP)]},
        {"phase": "waiting", "hold": "", "remedy": "recreate_configmap"},
    ),
    (
        "no-volume",
        {
            "pod": pod(state=CREATING),
            "events": [event("FailedMount", 'MountVolume.SetUp failed for volume "data": timed out')],
        },
        {"phase": "waiting", "hold": "data", "hold_after_s": 120.0, "says": "timed out"},
    ),
    (
        "starting",
        {"pod": pod(state=CREATING), "events": [event("Pulling", "Pulling image")]},
        {"phase": "starting", "says": "pulling"},
    ),
    ("starting", {"pod": pod()}, {"phase": "starting", "says": f"starting on {NODE}"}),
    (
        "no-claim",
        {"pod": pod(unschedulable='0/17 nodes are available: persistentvolumeclaim "autoresearch-data" not found.')},
        {"phase": "waiting", "hold": "data", "says": '"autoresearch-data" not found'},
    ),
    (
        "busy",
        {"pod": pod(unschedulable=BUSY)},
        {"phase": "waiting", "hold": "", "says": "1 Insufficient nvidia.com/gpu"},
    ),
    ("busy", {"pod": pod(unschedulable="0/1 nodes are available: 1 Insufficient memory.")}, {"hold": ""}),
    (
        "nodes-away",
        {"pod": pod(unschedulable="0/2 nodes are available: 1 node(s) were unschedulable, 1 node(s) didn't match.")},
        {"phase": "waiting", "hold": ""},
    ),
    (
        "nodes-away",
        {"pod": pod(unschedulable="0/1 nodes: 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }.")},
        {"hold": ""},
    ),
    (
        "no-such-node",
        {"pod": pod(unschedulable=NO_NODE)},
        {"phase": "waiting", "hold": "no_such_node", "says": "{team: other}"},
    ),
    ("unplaced", {"pod": pod(node="")}, {"phase": "queued"}),
    (
        "quota",
        {"events": [refused('pods "x" is forbidden: exceeded quota: q, used: 1')]},
        {"phase": "waiting", "hold": "", "says": "(q, used: 1)"},
    ),
    (
        "policy",
        {"events": [refused('pods "x" is forbidden: violates PodSecurity "restricted"')]},
        {
            "phase": "waiting",
            "hold": "policy",
            "hold_after_s": 0.0,
            "reason": 'the cluster refuses its pod: violates PodSecurity "restricted"',
        },
    ),
    (
        "policy",
        {"events": [refused("Internal error occurred: failed calling webhook x: timeout")]},
        {"hold": "policy", "hold_after_s": 60.0},
    ),
    (
        "policy",  # the newest Event counts
        {
            "events": [
                refused("limit range", at=T2),
                refused("exceeded quota: q", at=T1),
            ]
        },
        {"hold": "policy"},
    ),
    ("pod-unseen", {"job": job(FAILED)}, {"phase": "ending"}),
    ("queued", {"deleted": True}, {"phase": "queued"}),
    ("unseen", {"job": None}, {"phase": "queued"}),
]


@pytest.mark.parametrize(("row", "seen", "expected"), ROWS, ids=[f"{n}-{row[0]}" for n, row in enumerate(ROWS)])
def test_row(row, seen, expected):
    given_ = {"job": job(), "pod": None, "events": [], "cancelled_by_us": False} | seen
    found = classify(ATTEMPT, given_.pop("job"), given_.pop("pod"), given_.pop("events"), **given_)
    assert found.row == row, found
    expected = dict(expected)
    assert expected.pop("says", "") in found.reason
    assert {key: getattr(found, key) for key in expected} == expected
    if found.outcome is not None:
        assert found.phase == "ended"
        assert found.finished().outcome == found.outcome
        assert (found.finished().val_bpb is not None) == (found.outcome == "ok")


def test_every_row_of_the_table_is_tested():
    exit_rows = {"over-budget", "oom-gpu", "nan", "data", "contract", "our-side"}
    disruptions = {"preempted", "drained", "node-lost", "node-removed", "node-pressure"}
    tested = {row for row, _seen, _expected in ROWS}
    assert {row.id for row in table.ROWS} - {"job-exit", "gated"} | exit_rows | disruptions == tested


def test_a_gated_pod_is_queued():
    gated = pod(unschedulable="Scheduling is blocked due to non-empty scheduling gates")
    gated["status"]["conditions"][0]["reason"] = "SchedulingGated"
    seen = classify(ATTEMPT, job(), gated, [], cancelled_by_us=False)
    assert (seen.row, seen.phase, seen.hold) == ("gated", "queued", "")


def test_an_init_container_that_waits_is_what_a_pod_waits_for():
    waiting = pod(state={"waiting": {"reason": "PodInitializing"}})
    waiting["status"]["initContainerStatuses"] = [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]
    assert classify(ATTEMPT, job(), waiting, [], cancelled_by_us=False).row == "image-pull"


def test_only_the_trainer_counts():
    sidecar = pod("Running", state=RUNNING)
    sidecar["status"]["containerStatuses"].insert(0, {"name": "sidecar", "state": ended(1)})
    assert classify(ATTEMPT, job(), sidecar, [], cancelled_by_us=False).row == "running"


def test_a_suspended_attempt_goes_on_in_another_pod():
    """Kueue takes the place of a running attempt away and gives it another one: one attempt, and no verdict between."""
    old, new = pod("Failed", state=ended(143), deleting=True), pod(state=CREATING)
    new["metadata"] |= {"uid": "new-uid", "creationTimestamp": T2}
    resumed = job()
    resumed["status"]["conditions"] = [{"type": "Suspended", "status": "False", "lastTransitionTime": T1}]
    failed = copy.deepcopy(resumed)
    failed["status"]["conditions"].append({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"})

    def look(of, pods, gone=frozenset()):
        return classify_pods(ATTEMPT, of, pods, [], cancelled_by_us=False, gone=gone)

    assert look(job(suspend=True), [old], frozenset({"pod-uid"})).row == "suspended"
    assert look(resumed, [old], frozenset({"pod-uid"})).row == "ending"
    assert look(resumed, [new, old]).row == "starting"
    # The new pod failed, but its end is not here yet: the Job's word is not about the old pod.
    assert look(failed, [old], frozenset({"pod-uid"})).row == "ending"
    new["status"] = pod("Failed", state=ended(1, "boom"))["status"]
    assert look(failed, [new, old], frozenset({"pod-uid"})).row == "crash"


# -------------------------------------------------------------------------------------------- the result


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1]",
        '"ok"',
        message()[:-1],
        message() + "x",
        message(ar=2),
        message(ar=True),
        message(ar=1.5),
        message(attempt="r34.20"),
        message(attempt=None),
        message(outcome="great"),
        message(outcome=None),
        message(val_bpb="1.2"),
        message(val_bpb=True),
        message(val_bpb=math.nan),
        message(val_bpb=math.inf),
        message(val_bpb=-0.5),
        message(steps=1.5),
        message(steps=-1),
        message(steps=10**30),
        message(train_s=1e19),
        message(tier="proven"),
        message(reason=7),
        message(gpu=[1]),
        message().replace("1.25", "1e999"),
        "step 3\n" + message(),
        json.dumps({"ar": 1}),
    ],
)
def test_forged_and_torn_results_are_none(text):
    assert results.parse(text, ATTEMPT) is None
    seen = classify(ATTEMPT, job(), pod("Running", state=ended(0, text)), [], cancelled_by_us=False)
    assert (seen.row, seen.outcome, seen.finished().val_bpb) == ("no-result", "crash", None)


@pytest.mark.parametrize("lacking", ["val_bpb", "tier", "confinement"])
def test_an_incomplete_score_is_none(lacking):
    text = message(**{lacking: None})
    assert results.parse(text, ATTEMPT) is not None
    assert classify(ATTEMPT, job(), pod("Running", state=ended(0, text)), [], cancelled_by_us=False).row == "no-result"


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_no_text_breaks_the_reading_of_results(text):
    assert results.parse(text, ATTEMPT) is None or json.loads(text)["attempt"] == ATTEMPT


def test_figures_of_a_failed_run_are_kept_and_its_score_is_not():
    text = message(outcome="crash", reason="bad\x1b[2J shape")
    seen = classify(ATTEMPT, job(), pod("Failed", state=ended(1, text)), [], cancelled_by_us=False)
    end = seen.finished()
    assert (end.outcome, end.reason, end.steps, end.val_bpb, end.tier) == ("crash", "bad shape", 1200, None, None)
    assert seen.result is not None
    assert seen.result["gpu"] == result()["gpu"]


def test_a_verdict_that_is_not_final_is_no_end():
    with pytest.raises(ValueError, match="running"):
        classify(ATTEMPT, job(), pod("Running", state=RUNNING), [], cancelled_by_us=False).finished()


# ------------------------------------------------------------------------------------------ refused creations


@pytest.mark.parametrize(
    ("status", "reason", "text", "row", "expected"),
    [
        (401, "Unauthorized", "Unauthorized", "post-unauthorized", {"hold": "policy", "phase": "waiting"}),
        (
            403,
            "Forbidden",
            'jobs.batch "x" is forbidden: exceeded quota: objects, requested: count/jobs.batch=1',
            "post-quota",
            {"hold": "quota"},
        ),
        (403, "Forbidden", 'User "u" cannot create resource "jobs"', "post-forbidden", {"hold": "policy"}),
        (404, "NotFound", 'namespaces "x" not found', "post-not-found", {"hold": "policy"}),
        (400, "BadRequest", 'strict decoding error: unknown field "spec.x"', "post-invalid", {"hold": "manifest"}),
        (422, "Invalid", "spec.template: Required value", "post-invalid", {"hold": "manifest"}),
        (413, "RequestEntityTooLarge", "Request entity too large", "post-too-large", {"outcome": "crash"}),
        (422, "Invalid", "[]: Too long: may not be more than 1048576 bytes", "post-too-large", {"outcome": "crash"}),
    ],
)
def test_refused_creations(status, reason, text, row, expected):
    seen = post_failure(status, reason, text)
    assert seen.row == row
    assert {key: getattr(seen, key) for key in expected} == expected
    assert seen.reason
