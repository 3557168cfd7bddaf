"""A Job that replays a recording says the same as the recorded one did, under its own names and times."""

import json

import pytest

from sim.kubernetes_api.objects import TRACE
from tests.support.kube_cluster import EPOCH_S, NAMESPACE, Kube, job, recordings

NAME = "ar-0a1b2c3d-r1-a1"
FOLDER = recordings()

pytestmark = pytest.mark.skipif(FOLDER is None, reason="no recordings of a real control plane (AUTORESEARCH_TRACES)")


def replayed(trace: str, until_s: float = 200.0) -> Kube:
    kube = Kube(traces=FOLDER)
    body = job(NAME)
    body["metadata"]["annotations"] = {TRACE: trace}
    kube.store.create("jobs", body)
    kube.run(until_s=until_s)
    return kube


@pytest.mark.parametrize("trace", sorted(path.stem for path in FOLDER.glob("*.jsonl")) if FOLDER else [])
def test_a_replay_ends_as_the_recording_did(trace):
    lines = [json.loads(line) for line in (FOLDER / f"{trace}.jsonl").read_text().splitlines()]
    kube = replayed(trace)
    recorded = [
        line for line in lines if line["kind"] == "Pod" and line["object"]["metadata"]["name"].startswith(f"{trace}-")
    ]
    said = kube.history("pods", NAME)
    assert [obj["status"]["phase"] for _, _, obj in said if obj] != [] or not recorded
    last = {line["object"]["metadata"]["name"].rpartition("-")[2]: line for line in recorded}
    ours = {obj["metadata"]["name"].rpartition("-")[2]: (change, obj) for _, change, obj in said}
    assert ours.keys() == last.keys()
    for suffix, (change, obj) in ours.items():
        assert change == last[suffix]["type"]
        assert obj["status"]["phase"] == last[suffix]["object"]["status"]["phase"]
        assert obj["status"].get("reason") == last[suffix]["object"]["status"].get("reason")
        assert obj["metadata"]["labels"]["autoresearch.dev/run"] == "0a1b2c3d"


def test_a_replay_bears_its_own_names_uids_and_times():
    kube = replayed("preempted")
    made = kube.job(NAME)
    text = json.dumps([obj for _, kind, _, obj in kube.said if kind in {"jobs", "pods", "events"}])
    recorded = json.loads((FOLDER / "preempted.jsonl").read_text().splitlines()[0])["object"]["metadata"]["uid"]
    assert recorded not in text
    assert made["status"]["conditions"][-1]["reason"] == "PodFailurePolicy"
    assert "2026-11-23" not in json.dumps(made["status"])
    first = kube.store.now_text()[:4]
    assert EPOCH_S
    assert made["status"]["startTime"].startswith(first)


def test_deleting_the_job_ends_the_replay():
    kube = replayed("ok", until_s=1.0)
    kube.store.remove("jobs", NAMESPACE, NAME)
    kube.run(until_s=60.0)
    assert kube.pods(NAME) == []
    assert kube.cluster.gpus_in_use() == 0


def test_a_recording_that_is_not_there_leaves_the_job_alone():
    assert replayed("../secret").pods(NAME) == []
