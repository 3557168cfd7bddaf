"""A pod's command as a real process: its volumes, its environment, its end, and how it is told to end."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from sim.clock import VirtualClock
from sim.faults import parse_faults
from sim.kubernetes_api.cluster import CLAIM, NAMESPACE, Cluster
from sim.kubernetes_api.process import Machinery
from sim.kubernetes_api.store import Store
from sim.mix import parse_mix
from tests.support.kube_cluster import EPOCH_S, job

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Machinery.is_there(), reason="no bubblewrap on this machine"),
]
LOOKS = """\
import json, os, pathlib, sys
text = {name: pathlib.Path(name).read_text() for name in ("/autoresearch/attempt/train.py", "/data/corpus")}
pathlib.Path("/work/scratch").write_text("x")
denied = []
for path in ("/data/corpus", "/autoresearch/attempt/train.py", "/usr/x"):
    try:
        open(path, "w")
    except OSError:
        denied.append(path)
print("line one", flush=True)
found = {"pid": os.getpid(), "uid": os.getuid(), "node": os.environ["AR_NODE"], "text": text, "denied": denied,
         "cwd": os.getcwd(), "env": sorted(os.environ)}
pathlib.Path("/dev/termination-log").write_text(json.dumps(found))
sys.exit(82)
"""
WAITS = """\
import signal, sys, time
def told(number, frame):
    print("told", flush=True)
    sys.exit(143)
signal.signal(signal.SIGTERM, told)
print("ready", flush=True)
time.sleep(60)
"""


def play(folder: Path, command: list[str], act=lambda store: None):
    """Run one Job for real until it has failed; gives its last pod and the lines of its log."""
    clock = VirtualClock(speed=1.0)
    loop = clock.event_loop()
    data = folder / "data"
    data.mkdir()
    (data / "corpus").write_text("tokens")
    seen, lines = {}, []

    async def body() -> None:
        store = Store(clock, EPOCH_S)
        machinery = Machinery(store, folder, {CLAIM: data}, sys.executable)
        store.subscribe(lambda kind, change, obj: seen.update({kind: obj}) if kind in {"pods", "jobs"} else None)
        cluster = Cluster(store, parse_mix("1xH100"), parse_faults("none"), 1, work=machinery.work)
        cluster.open()
        wanted = job("real")
        template = wanted["spec"]["template"]["spec"]
        template["containers"][0] |= {
            "command": command,
            "workingDir": "/autoresearch",
            "env": [{"name": "AR_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
            "volumeMounts": [
                {"name": "attempt", "mountPath": "/autoresearch/attempt", "readOnly": True},
                {"name": "data", "mountPath": "/data", "readOnly": True},
                {"name": "work", "mountPath": "/work"},
            ],
        }
        template["volumes"].append({"name": "work", "emptyDir": {}})
        store.create("jobs", wanted)
        metadata = {"name": "real", "namespace": NAMESPACE}
        store.create("configmaps", {"metadata": metadata, "data": {"train.py": "DEPTH = 8"}})
        acted = False
        for _ in range(600):
            await asyncio.sleep(0.05)
            log = cluster.logs.open(seen["pods"]["metadata"]["uid"]) if "pods" in seen else None
            lines[:] = [text for _, text in log.read()[0]] if log else lines
            if lines and not acted:
                acted = True
                act(store)
            if any(one["type"] == "Failed" for one in seen["jobs"]["status"].get("conditions") or ()):
                break
        cluster.close()

    try:
        loop.run_until_complete(body())
    finally:
        loop.close()
    return seen["pods"], lines


def ended(pod):
    return pod["status"]["containerStatuses"][0]["state"]["terminated"]


def test_a_command_runs_with_its_volumes_and_nothing_else(tmp_path):
    pod, lines = play(tmp_path, ["python3", "-c", LOOKS])
    assert lines == ["line one"]
    assert (ended(pod)["exitCode"], ended(pod)["reason"]) == (82, "Error")
    found = json.loads(ended(pod)["message"])
    assert found == {
        "pid": 1, "uid": 1000, "node": "h100-01", "cwd": "/autoresearch",
        "text": {"/autoresearch/attempt/train.py": "DEPTH = 8", "/data/corpus": "tokens"},
        "denied": ["/data/corpus", "/autoresearch/attempt/train.py", "/usr/x"], "env": found["env"],
    }  # fmt: skip
    assert set(found["env"]) <= {"AR_NODE", "HOME", "PATH", "PWD", "LC_CTYPE"}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_deleted_pod_is_told_to_end(tmp_path):
    def delete(store):
        (pod,) = store.list("pods")
        store.mark_deleted("pods", NAMESPACE, pod["metadata"]["name"], 20)

    pod, lines = play(tmp_path, ["python3", "-c", WAITS], delete)
    assert lines == ["ready", "told"]
    assert (ended(pod)["exitCode"], ended(pod)["message"]) == (143, "ready\ntold\n")


def test_a_program_that_is_not_there_is_a_start_error(tmp_path):
    pod, lines = play(tmp_path, ["no-such-program"])
    assert lines == []
    assert (ended(pod)["exitCode"], ended(pod)["reason"]) == (128, "StartError")
    assert ended(pod)["startedAt"] == "1970-01-01T00:00:00Z"
