"""Every way in which a pod ends in the simulated cluster has the marks that a real control plane leaves."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from sim.kubernetes_api.mishaps import KINDS
from sim.kubernetes_api.objects import with_meta
from sim.kubernetes_api.status import Refused
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.work import End
from tests.support.kube_cluster import Kube, recordings

NAME = "ar-0a1b2c3d-r1-a1"
POLICY = ("FailureTarget/PodFailurePolicy", "Failed/PodFailurePolicy")
BACKOFF = ("FailureTarget/BackoffLimitExceeded", "Failed/BackoffLimitExceeded")
DEADLINE = ("FailureTarget/DeadlineExceeded", "Failed/DeadlineExceeded")
DONE = ("SuccessCriteriaMet/CompletionsReached", "Complete/CompletionsReached")
USUAL = {"Pulled", "Created", "Started", "Scheduled", "SuccessfulCreate", "FailedScheduling"}


class Marks(NamedTuple):
    """What is left of a scenario: of its first pod, of its Job, and which events beyond the usual ones there were."""

    phase: str
    reason: str = ""
    exit: int | None = None
    why: str = ""
    disruption: str = ""
    deleted: bool = False
    job: tuple[str, ...] = ()
    failed: int = 0
    events: frozenset[str] = frozenset()


def marks(history: list[tuple[str, str, dict[str, Any]]]) -> Marks:
    """Read the marks off what was said of one Job, its pods and its events: (kind, change, object)."""
    pods: dict[str, dict[str, Any]] = {}
    job: dict[str, Any] = {}
    deleted, conditions, events = set(), [], set()
    for kind, change, obj in history:
        if kind == "Pod":
            pods[obj["metadata"]["uid"]] = obj
            deleted |= {obj["metadata"]["uid"]} if change == "DELETED" else set()
        elif kind == "Job":
            job = obj
            for one in obj.get("status", {}).get("conditions") or ():
                mark = f"{one['type']}/{one['reason']}"
                conditions += [mark] if mark not in conditions else []
        else:
            events.add(obj["reason"])
    pod = next(iter(pods.values()), {"status": {"phase": "none"}, "metadata": {"uid": ""}})
    status = pod["status"]
    state = (status.get("containerStatuses") or [{}])[0].get("state") or {}
    ended = state.get("terminated", {})
    disruption = [one["reason"] for one in status.get("conditions") or () if one["type"] == "DisruptionTarget"]
    return Marks(
        status["phase"],
        status.get("reason", ""),
        ended.get("exitCode"),
        ended.get("reason") or state.get("waiting", {}).get("reason", ""),
        (disruption or [""])[0],
        pod["metadata"]["uid"] in deleted,
        tuple(conditions),
        job.get("status", {}).get("failed", 0),
        frozenset(events - USUAL),
    )


def said(kube: Kube) -> list[tuple[str, str, dict[str, Any]]]:
    """What was said in the cluster of the one Job."""
    words = {"jobs": "Job", "pods": "Pod", "events": "Event"}
    return [
        (words[kind], change, obj)
        for _, kind, change, obj in kube.said
        if kind in words and obj["metadata"]["name"].startswith(NAME)
    ]


def after_start(
    act: Callable[[Kube], object], submit: Mapping[str, Any] | None = None, **kube: Any
) -> Callable[[], Kube]:
    """A scenario in which something happens to the running pod."""

    def play() -> Kube:
        rig = Kube(**kube)
        rig.submit(NAME, **(submit or {}))
        rig.wait(lambda: rig.is_running(NAME))
        rig.run(until_s=rig.clock.now() + 30.0)
        act(rig)
        rig.run(until_s=rig.clock.now() + 120.0)
        return rig

    return play


def befallen(kind: str) -> Callable[[], Kube]:
    """A scenario in which one mishap befalls the pod, whenever it comes."""

    def play() -> Kube:
        rig = Kube(mishaps={kind: 1.0})
        rig.submit(NAME)
        rig.run(until_s=1_500.0)
        return rig

    return play


def submitted(until_s: float, *, bad_image: bool = False, refusal: str = "", **submit: Any) -> Callable[[], Kube]:
    """A scenario of a Job that has something about it."""

    def play() -> Kube:
        def admit(_store, _pod) -> None:
            if refusal:
                raise Refused(403, "Forbidden", refusal)

        rig = Kube(admit=admit)
        if bad_image:
            rig.cluster.kubelets.bad_images.add("registry.example/autoresearch:1")
        rig.submit(NAME, **submit)
        rig.run(until_s=until_s)
        return rig

    return play


def end_with(end: End) -> Callable[[Kube], object]:
    return lambda rig: rig.cluster.kubelets.lose_container(rig.pod(NAME)["metadata"]["uid"], end)


def lose_for_a_minute(rig: Kube) -> None:
    rig.cluster.lose_node("h100-01")
    rig.run(until_s=rig.clock.now() + 65.0)
    rig.cluster.return_node("h100-01")


def delete_foreground(rig: Kube) -> None:
    job = rig.job(NAME)
    now = rig.store.now_text()
    leaving = {"deletionTimestamp": now, "deletionGracePeriodSeconds": 0, "finalizers": ["foregroundDeletion"]}
    rig.store.update("jobs", with_meta(job, **leaving))


CONTAINER = {"name": "trainer", "image": "Bad Name:::", "resources": {"limits": {"nvidia.com/gpu": "1"}}}

SCENARIOS: dict[str, tuple[Callable[[], Kube], Marks]] = {
    "ok": (submitted(500.0), Marks("Succeeded", exit=0, why="Completed", job=DONE, events=frozenset({"Completed"}))),
    "oomkilled": (
        after_start(end_with(End(137, reason="OOMKilled"))),
        Marks("Failed", exit=137, why="OOMKilled", job=BACKOFF, failed=1, events=frozenset({"BackoffLimitExceeded"})),
    ),
    "real-segv": (
        after_start(end_with(End(139))),
        Marks("Failed", exit=139, why="Error", job=BACKOFF, failed=1, events=frozenset({"BackoffLimitExceeded"})),
    ),
    "preempted": (
        after_start(lambda rig: rig.cluster.preempt(rig.pod(NAME))),
        Marks(
            "Failed", exit=143, why="Error", disruption="PreemptionByScheduler", deleted=True, job=POLICY, failed=1,
            events=frozenset({"Preempted", "Killing", "PodFailurePolicy"}),
        ),
    ),
    "drained-nopfp": (
        after_start(lambda rig: rig.cluster.drain("h100-01"), {"podFailurePolicy": None}),
        Marks(
            "Failed", exit=143, why="Error", disruption="EvictionByEvictionAPI", deleted=True, job=BACKOFF, failed=1,
            events=frozenset({"Killing", "BackoffLimitExceeded"}),
        ),
    ),
    "nodelost": (
        after_start(lose_for_a_minute, timings=Timings(node_grace_s=20.0)),
        Marks(
            "Failed", disruption="DeletionByTaintManager", deleted=True, job=POLICY, failed=1,
            events=frozenset({"NodeNotReady", "TaintManagerEviction", "PodFailurePolicy"}),
        ),
    ),
    "evicted-disk": (
        after_start(lambda rig: rig.cluster.disrupt("disk", rig.pod(NAME)["metadata"]["uid"], 0.0)),
        Marks(
            "Failed", "Evicted", 137, "Error", job=BACKOFF, failed=1,
            events=frozenset({"Evicted", "Killing", "BackoffLimitExceeded"}),
        ),
    ),
    "deadline": (
        submitted(60.0, activeDeadlineSeconds=20),
        Marks(
            "Failed", exit=143, why="Error", deleted=True, job=DEADLINE, failed=1,
            events=frozenset({"SuccessfulDelete", "Killing", "DeadlineExceeded"}),
        ),
    ),
    "pod-deadline": (
        submitted(60.0, pod={"activeDeadlineSeconds": 20}),
        Marks(
            "Failed", "DeadlineExceeded", 143, "Error", job=BACKOFF, failed=1,
            events=frozenset({"DeadlineExceeded", "Killing", "BackoffLimitExceeded"}),
        ),
    ),
    "admission": (
        befallen("admission"),
        Marks(
            "Failed", "UnexpectedAdmissionError", job=BACKOFF, failed=1, events=frozenset({"BackoffLimitExceeded"})
        ),
    ),
    "unschedulable-gpus": (submitted(600.0, gpus=9), Marks("Pending")),
    "imagepull": (
        submitted(15.5, bad_image=True),
        Marks("Pending", why="ImagePullBackOff", events=frozenset({"Pulling", "Failed", "BackOff"})),
    ),
    "imagename": (
        submitted(15.0, pod={"containers": [CONTAINER]}),
        Marks("Pending", why="InvalidImageName", events=frozenset({"InspectFailed", "Failed"})),
    ),
    "no-configmap": (
        submitted(60.0, configmap=False, activeDeadlineSeconds=20),
        Marks(
            "Failed", exit=137, why="ContainerStatusUnknown", deleted=True, job=DEADLINE, failed=1,
            events=frozenset({"FailedMount", "SuccessfulDelete", "DeadlineExceeded"}),
        ),
    ),
    "psa": (submitted(0.5, refusal='pods "x" is forbidden'), Marks("none", events=frozenset({"FailedCreate"}))),
    "cancel": (
        after_start(delete_foreground),
        Marks("Failed", exit=143, why="Error", deleted=True, events=frozenset({"Killing"})),
    ),
    "ttl": (
        submitted(900.0, ttlSecondsAfterFinished=3),
        Marks("Succeeded", exit=0, why="Completed", deleted=True, job=DONE, events=frozenset({"Completed"})),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_end_has_the_marks_of_the_real_one(name):
    play, expected = SCENARIOS[name]
    assert marks(said(play())) == expected


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_marks_are_those_of_the_recording(name):
    folder = recordings()
    if folder is None:
        pytest.skip("no recordings of a real control plane here (AUTORESEARCH_TRACES)")
    lines = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
    whose = {line["object"]["metadata"]["name"] for line in lines if line["kind"] == "Job"}
    assert whose == {name}
    history = [
        (line["kind"], line["type"], line["object"])
        for line in lines
        if line["kind"] != "Event" or line["object"]["involvedObject"]["name"].startswith(name)
    ]
    expected = SCENARIOS[name][1]
    if name == "imagename":  # recorded until the events, not until the status said so too
        expected = expected._replace(why="ContainerCreating")
    assert marks(history) == expected


def test_every_mishap_happens_and_leaves_its_mark():
    left = {}
    for kind in KINDS:
        rig = befallen(kind)()
        found = marks(said(rig))
        left[kind] = (found.phase, found.reason or found.disruption or found.why, found.exit)
    assert left == {
        "preemption": ("Failed", "PreemptionByScheduler", 143),
        "eviction": ("Failed", "EvictionByEvictionAPI", 143),
        "node_lost": ("Failed", "DeletionByTaintManager", None),
        "partition": ("Succeeded", "Completed", 0),
        "gpu_fault": ("Failed", "Error", 84),
        "image": ("Failed", "DeadlineExceeded", None),
        "admission": ("Failed", "UnexpectedAdmissionError", None),
        "container_lost": ("Failed", "ContainerStatusUnknown", 137),
        "pressure": ("Failed", "Evicted", 137),
        "deleted": ("Failed", "Error", 143),
        "oom_killed": ("Failed", "OOMKilled", 137),
        "disk": ("Failed", "Evicted", 137),
        "hang": ("Failed", "DeadlineExceeded", 143),
    }
