"""The simulated cluster lives as a real one does: placing, waiting, queues, nodes that come and go, owners that go."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executors.devices import device_class
from sim.gpus import GPU_CLASSES, PRODUCTS
from sim.kubernetes_api.mishaps import parse_mishaps
from sim.kubernetes_api.objects import GPU, is_over, quantity, requests_of
from sim.kubernetes_api.status import Refused
from tests.support.kube_cluster import NAMESPACE, Kube
from tests.support.kube_cluster import job as job_object

NAME = "ar-0a1b2c3d-r1-a1"


def fields(line: tuple[float, str]) -> dict:
    return json.loads(line[1])


def running(kube: Kube, name: str = NAME) -> Kube:
    """Submit a Job and wait for its pod to run."""
    kube.submit(name)
    kube.wait(lambda: kube.is_running(name))
    return kube


# -- what an attempt says


def test_an_attempt_tells_its_course_in_its_log_and_its_result_in_its_status():
    kube = running(Kube())
    kube.wait(lambda: kube.has(NAME, "Complete"))
    pod = kube.pod(NAME)
    lines, count = kube.cluster.logs.open(pod["metadata"]["uid"]).read()
    assert [fields(line)["seq"] for line in lines] == list(range(1, count + 1))
    assert [fields(line)["kind"] for line in lines] == ["started"] + ["progress"] * 10
    assert all(fields(line)["ar"] == 1 for line in lines)
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    result = json.loads(ended["message"])
    assert len(ended["message"]) <= 3_000
    assert (result["attempt"], result["outcome"], result["tier"]) == ("r1.1", "ok", "scored")
    assert result["val_bpb"] > 0


def test_the_same_seed_gives_the_same_course():
    def course() -> list[tuple[float, str, str, object]]:
        kube = Kube(mishaps=parse_mishaps("20%"), faults="harsh")
        for run in range(6):
            kube.submit(f"ar-0a1b2c3d-r{run}-a1", run)
        kube.run(until_s=1_500.0)
        return [
            (t_s, kind, obj["metadata"]["name"], obj.get("status", {}).get("phase")) for t_s, kind, _, obj in kube.said
        ]

    first = course()
    assert len(first) > 60
    assert first == course()


def test_an_attempt_that_is_submitted_again_has_another_fate():
    kube = Kube(mishaps={"image": 0.5})
    met = []
    for _ in range(8):
        kube.submit(NAME)
        kube.run(until_s=kube.clock.now() + 30.0)
        met.append(kube.is_running(NAME))
        kube.store.remove("jobs", NAMESPACE, NAME)
        kube.wait(lambda: not kube.pods(NAME))
    assert set(met) == {True, False}


def test_a_canary_says_what_it_finds():
    kube = Kube("2xH200")
    body = job_object("canary")
    template = body["spec"]["template"]["spec"]
    template["volumes"] = template["volumes"][1:]
    template["containers"][0]["command"] = ["python3", "-E", "-s", "-B", "-c", "print()"]
    kube.store.create("jobs", body)
    kube.wait(lambda: kube.has("canary", "Complete"))
    ended = kube.pod("canary")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert json.loads(ended["message"])["found"]["gpu"] == "NVIDIA H200 (simulated)"


def test_every_simulated_class_is_recognised_by_its_product_label():
    assert {cls: device_class(PRODUCTS[cls], gpu.memory_mb << 20) for cls, gpu in GPU_CLASSES.items()} == {
        cls: cls for cls in GPU_CLASSES
    }


# -- placing


def test_a_pod_waits_with_the_schedulers_words_and_goes_on_when_there_is_room():
    kube = Kube("8xH100,2xH200")
    kube.cluster.add_foreign_pod("neighbour", gpus=8, seconds=100.0, node="h100-01")
    kube.run(until_s=5.0)
    kube.submit(NAME, product=PRODUCTS["H100-80GB"])
    kube.run(until_s=10.0)
    (condition,) = kube.pod(NAME)["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert condition["message"] == (
        "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match Pod's node affinity/selector. "
        "no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming "
        "pod, 1 Preemption is not helpful for scheduling."
    )
    assert [event["message"] for event in kube.events("FailedScheduling")] == [condition["message"]]
    kube.wait(lambda: kube.is_running(NAME))
    assert kube.pod(NAME)["spec"]["nodeName"] == "h100-01"


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["h100-01"], True), ("NotIn", ["h100-01"], False), ("Exists", None, True),
        ("DoesNotExist", None, False), ("Gt", ["7"], True), ("Gt", ["8"], False), ("Lt", ["9"], True),
    ],
)  # fmt: skip
def test_required_affinity(operator, values, fits):
    kube = Kube()
    key = "nvidia.com/gpu.count" if operator in {"Gt", "Lt"} else "kubernetes.io/hostname"
    expression = {"key": key, "operator": operator} | ({"values": values} if values else {})
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    kube.submit(NAME, pod={"affinity": affinity})
    kube.run(until_s=30.0)
    assert kube.is_running(NAME) == fits


def test_a_cordoned_node_takes_nothing_new_and_a_taint_only_what_tolerates_it():
    kube = Kube()
    kube.cluster.cordon("h100-01")
    kube.submit(NAME)
    kube.submit("intolerant", 2, pod={"tolerations": []})
    kube.run(until_s=10.0)
    assert "1 node(s) were unschedulable" in kube.pod(NAME)["status"]["conditions"][0]["message"]
    kube.cluster.cordon("h100-01", on=False)
    kube.wait(lambda: kube.is_running(NAME))
    assert "untolerated taint {nvidia.com/gpu: present}" in kube.pod("intolerant")["status"]["conditions"][0]["message"]


def test_a_foreign_pod_of_higher_priority_takes_the_place_of_one_of_ours():
    kube = Kube("2xH100")
    running(kube)
    kube.submit("other", 2)
    kube.wait(lambda: kube.is_running("other"))
    kube.cluster.add_foreign_pod("boss", gpus=1, seconds=60.0, priority=1_000)
    kube.wait(lambda: kube.has(NAME, "Failed") or kube.has("other", "Failed"))
    kube.wait(lambda: kube.store.get("pods", "foreign", "boss")["status"]["phase"] == "Running")
    assert kube.cluster.gpus_in_use() == 2
    reasons = Counter(event["reason"] for event in kube.events("Preempted"))
    assert reasons == {"Preempted": 1}


def test_a_thousand_jobs_on_a_thousand_gpus_all_end():
    kube = Kube("1024xH100", mishaps=parse_mishaps("2%"))
    for run in range(1_000):
        kube.submit(f"ar-0a1b2c3d-r{run}-a1", run)
    kube.run(until_s=1_400.0)
    ends = Counter(job["status"]["conditions"][-1]["type"] for job in kube.store.list("jobs"))
    assert sum(ends.values()) == 1_000
    assert ends["Complete"] > 500
    assert ends["Failed"] > 100
    assert kube.cluster.gpus_in_use() == 0
    assert 900 <= kube.cluster.peak_gpus_in_use <= 1_024
    assert len(kube.said) < 40_000  # what costs time is a change; a rescan would show in none, but in minutes


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 400), st.integers(1, 3), st.sampled_from(["", "H100-80GB", "H200-141GB"])), max_size=14
    ),
    st.integers(0, 1_000),
)
def test_no_stream_of_jobs_takes_more_than_there_is(jobs, seed):
    kube = Kube("5xH100,3xH200", "harsh,device_loss=5", seed=seed, mishaps=parse_mishaps("10%"))
    for number, (t_s, gpus, cls) in enumerate(jobs):
        name = f"ar-0a1b2c3d-r{number}-a1"
        product = PRODUCTS[cls] if cls else ""
        kube.clock.call_at(
            t_s, ("submit", number, 0), lambda n=name, i=number, g=gpus, p=product: kube.submit(n, i, gpus=g, product=p)
        )
    room = {node["metadata"]["name"]: quantity(node["status"]["capacity"][GPU]) for node in kube.store.list("nodes")}
    while kube.clock.next_s is not None and kube.clock.next_s <= 1_800.0:
        kube.clock.fire()
        used = Counter()
        for pod in kube.store.list("pods"):
            if pod["spec"].get("nodeName") and not is_over(pod):
                used[pod["spec"]["nodeName"]] += requests_of(pod)[GPU]
        assert all(used[name] <= room[name] for name in used)
        assert sum(used.values()) == kube.cluster.gpus_in_use()
        for machine in kube.cluster.machines:
            assert len(machine.taken) <= len(machine.devices)
    assert all(
        len(pods) <= 1
        for pods in (
            [pod for pod in kube.pods(job["metadata"]["name"]) if not is_over(pod)] for job in kube.store.list("jobs")
        )
    )


# -- queues, quota, suspension


def test_a_refused_pod_is_tried_again_later_and_later():
    refused_until_s = 10.0

    def admit(store, _pod) -> None:
        if store.clock.now() < refused_until_s:
            raise Refused(403, "Forbidden", "exceeded quota: q")

    kube = Kube(admit=admit)
    kube.submit(NAME)
    kube.wait(lambda: kube.is_running(NAME))
    said = [t_s for t_s, kind, _, obj in kube.said if kind == "events" and obj["reason"] == "FailedCreate"]
    assert [round(later - earlier) for earlier, later in itertools.pairwise(said)] == [1, 2, 4]
    assert {event["message"] for event in kube.events("FailedCreate")} == {"Error creating: exceeded quota: q"}


def test_a_suspended_job_has_no_pod_and_a_resumed_one_a_new_pod():
    kube = Kube()
    kube.submit(NAME, suspend=True)
    kube.run(until_s=20.0)
    assert kube.pods(NAME) == []
    assert kube.has(NAME, "Suspended")
    kube.cluster.suspend(kube.job(NAME), on=False)
    kube.wait(lambda: kube.is_running(NAME))
    first = kube.pod(NAME)["metadata"]["uid"]
    kube.cluster.suspend(kube.job(NAME))
    kube.wait(lambda: not kube.pods(NAME))
    kube.run(until_s=kube.clock.now() + 30.0)
    assert kube.has(NAME, "Suspended")
    assert not kube.has(NAME, "Failed")
    kube.cluster.suspend(kube.job(NAME), on=False)
    kube.wait(lambda: kube.is_running(NAME))
    assert kube.pod(NAME)["metadata"]["uid"] != first
    kube.wait(lambda: kube.has(NAME, "Complete"))


def test_the_policy_may_let_a_disruption_pass_uncounted():
    kube = Kube()
    rules = [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
    kube.submit(NAME, podFailurePolicy={"rules": rules})
    kube.wait(lambda: kube.is_running(NAME))
    first = kube.pod(NAME)["metadata"]["name"]
    kube.cluster.evict(kube.pod(NAME))
    kube.wait(lambda: not kube.pods(NAME))
    kube.wait(lambda: kube.is_running(NAME))
    assert kube.pod(NAME)["metadata"]["name"] != first
    assert "failed" not in kube.job(NAME)["status"]


def test_an_exit_code_of_the_runner_is_named_by_the_job():
    kube = Kube("8xH100", "none,oom=1")
    kube.submit(NAME)
    kube.wait(lambda: kube.has(NAME, "Failed"))
    pod = kube.pod(NAME)
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 82
    assert json.loads(ended["message"])["outcome"] == "oom"
    said = kube.job(NAME)["status"]["conditions"][-1]
    where = f"{NAMESPACE}/{pod['metadata']['name']}"
    assert said["reason"] == "PodFailurePolicy"
    assert (
        said["message"]
        == f"Container trainer for pod {where} failed with exit code 82 matching FailJob rule at index 1"
    )


# -- volumes


def test_a_late_configmap_only_delays():
    kube = Kube()
    kube.submit(NAME, configmap=False)
    kube.run(until_s=6.0)
    (event,) = kube.events("FailedMount")
    assert event["message"] == f'MountVolume.SetUp failed for volume "attempt" : configmap "{NAME}" not found'
    assert event["count"] >= 3
    kube.give(NAME)
    kube.wait(lambda: kube.is_running(NAME))


def test_a_missing_claim_keeps_a_pod_from_being_placed():
    kube = Kube()
    kube.submit(NAME, pod={"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "none"}}]})
    kube.run(until_s=10.0)
    assert kube.pod(NAME)["status"]["conditions"][0]["message"] == 'persistentvolumeclaim "none" not found'


# -- nodes


def test_a_partitioned_node_goes_on_and_tells_later():
    kube = running(Kube())
    uid = kube.pod(NAME)["metadata"]["uid"]
    kube.cluster.lose_node("h100-01", down=False)
    kube.run(until_s=kube.clock.now() + 40.0)
    assert not kube.cluster.logs.open(uid).reachable
    kube.cluster.return_node("h100-01")
    kube.wait(lambda: kube.has(NAME, "Complete"))
    assert kube.cluster.logs.open(uid).count == 11


def test_a_node_that_reboots_in_time_reports_its_containers_as_gone():
    kube = running(Kube())
    kube.cluster.lose_node("h100-01")
    kube.run(until_s=kube.clock.now() + 40.0)
    kube.cluster.return_node("h100-01")
    kube.wait(lambda: kube.has(NAME, "Failed"))
    ended = kube.pod(NAME)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (255, "Unknown")


def test_the_pods_of_a_removed_node_are_collected_within_a_minute():
    kube = running(Kube())
    gone_s = kube.clock.now()
    kube.cluster.remove_node("h100-01")
    kube.wait(lambda: kube.has(NAME, "Failed"))
    assert kube.clock.now() - gone_s < 70.0
    (last,) = [obj for _, change, obj in kube.history("pods", NAME) if change == "DELETED"]
    assert [one["reason"] for one in last["status"]["conditions"] if one["type"] == "DisruptionTarget"] == [
        "DeletionByPodGC"
    ]


def test_a_node_without_an_answer_is_shown_as_such_and_comes_back():
    kube = Kube()
    kube.cluster.lose_node("h100-01")
    kube.run(until_s=60.0)
    (node,) = kube.store.list("nodes")
    assert {taint["key"] for taint in node["spec"]["taints"]} == {GPU, "node.kubernetes.io/unreachable"}
    assert [one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"] == ["Unknown"]
    kube.cluster.return_node("h100-01")
    (node,) = kube.store.list("nodes")
    assert {taint["key"] for taint in node["spec"]["taints"]} == {GPU}
    assert [one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"] == ["True"]


def test_a_lost_device_is_offered_no_more_until_it_is_back():
    kube = Kube("2xH100")
    machine = kube.cluster.machines["h100-01"]
    kube.cluster.disruptions.lose_device(machine, 0)
    assert kube.store.list("nodes")[0]["status"]["allocatable"][GPU] == "1"
    kube.submit(NAME, gpus=2)
    kube.run(until_s=10.0)
    assert not kube.is_running(NAME)
    kube.cluster.disruptions.return_device(machine, 0)
    kube.wait(lambda: kube.is_running(NAME))


def test_a_node_that_shuts_down_ends_its_pods_and_takes_no_others():
    kube = running(Kube())
    kube.cluster.shut_down("h100-01")
    kube.submit("late", 2)
    kube.wait(lambda: kube.has(NAME, "Failed") and kube.has("late", "Failed"))
    assert (kube.pod(NAME)["status"]["reason"], kube.pod("late")["status"]["reason"]) == ("Terminated", "NodeShutdown")


# -- owners


def test_what_a_deleted_job_owned_goes_with_it():
    kube = running(Kube())
    kube.store.remove("jobs", NAMESPACE, NAME)
    kube.wait(lambda: not kube.pods(NAME), within_s=30.0)
    assert kube.store.get("configmaps", NAMESPACE, NAME) is None
    assert kube.cluster.gpus_in_use() == 0


def test_the_pod_of_a_dead_node_lingers_until_it_is_deleted_by_force():
    kube = running(Kube())
    kube.cluster.lose_node("h100-01")
    kube.store.remove("jobs", NAMESPACE, NAME)
    kube.run(until_s=kube.clock.now() + 300.0)
    pod = kube.pod(NAME)
    kube.store.mark_deleted("pods", NAMESPACE, pod["metadata"]["name"], 0)
    kube.wait(lambda: not kube.pods(NAME), within_s=5.0)


def test_an_object_whose_owner_never_was_is_collected():
    kube = running(Kube())
    orphan = {"apiVersion": "batch/v1", "kind": "Job", "name": "never", "uid": "no-such-uid"}
    metadata = {"name": "left", "namespace": NAMESPACE, "ownerReferences": [orphan]}
    kube.store.create("configmaps", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": {}})
    kube.wait(lambda: kube.store.get("configmaps", NAMESPACE, "left") is None, within_s=30.0)
