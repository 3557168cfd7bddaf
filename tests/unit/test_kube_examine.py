"""What `doctor --kubernetes` says of clusters that lack something: a row for each, which names its fix."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from executors.kubernetes import canary
from executors.kubernetes.canary import canary_job, findings
from executors.kubernetes.checks import Check
from executors.kubernetes.examine import examine
from executors.kubernetes.settings import KubeSettings
from sim.clock import VirtualClock
from sim.kubernetes_api import http
from sim.kubernetes_api.admission import DEPLOYED
from sim.kubernetes_api.cluster import CLAIM, NAMESPACE
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.http import User
from sim.kubernetes_api.server import ApiServer
from sim.mix import parse_mix

Change = Callable[[ApiServer], None]


def look(
    folder: Path, change: Change = lambda _: None, *, gpus: str = "1xH100", pods: bool = False, **settings: Any
) -> list[Check]:
    """The rows of a cluster that was changed before; afterwards nothing of ours is left in it."""
    clock = VirtualClock(speed=30.0)

    async def rows() -> list[Check]:
        server = ApiServer(clock, parse_mix(gpus), seed=1)
        try:
            await server.open()
            path = server.kubeconfig(folder / "kubeconfig")
            change(server)
            async with asyncio.timeout(60):
                found = [row async for row in examine(KubeSettings(kubeconfig=str(path), **settings), canary=pods)]
            assert [one["metadata"]["name"] for one in server.store.list("jobs", NAMESPACE)] in ([], ["theirs"])
            return found
        finally:
            await server.close()

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        found = runner.run(rows())
    assert all(row.fix for row in found if row.verdict == "fail"), found
    return found


def only(rows: Sequence[Check], what: str) -> Check:
    [row] = [row for row in rows if row.what == what]
    return row


def failed(rows: Sequence[Check]) -> list[str]:
    return [row.what for row in rows if row.verdict == "fail"]


def test_a_cluster_that_has_everything(tmp_path):
    rows = look(tmp_path, gpus="2xH100,1xH200", pods=True)
    assert {row.verdict for row in rows} == {"ok"}, rows
    assert {row.what for row in rows} >= {"server", "rights", "devices", "job", "canary H100-80GB", "canary H200-141GB"}
    assert only(rows, "devices").found.startswith("2 H100-80GB (NVIDIA-H100-80GB-HBM3), 1 H200-141GB (NVIDIA-H200)")


# ------------------------------------------------------------------------------------------------ the way in


@pytest.mark.parametrize(
    ("text", "found", "fix"),
    [
        (None, "there is no kubeconfig at", "name another with --kubeconfig"),
        ("clusters: [", "is no YAML", "mend it"),
        ("{}", "has no current context", "choose one of"),
        (
            yaml.safe_dump({
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": {"server": "https://x"}}],
                "users": [{"name": "u", "user": {"exec": {"command": "no-such-plugin"}}}],
                "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            }),
            "'no-such-plugin', which is not installed here",
            "install it",
        ),
    ],
)  # fmt: skip
async def test_no_way_in(tmp_path, text, found, fix):
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    [row] = [row async for row in examine(KubeSettings(kubeconfig=str(path)), canary=True)]
    assert (row.verdict, row.what) == ("fail", "kubeconfig")
    assert found in row.found
    assert row.fix.startswith(fix)


def test_a_server_that_is_not_there(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump({
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c"}}],
    }))  # fmt: skip

    async def rows() -> list[Check]:
        return [row async for row in examine(KubeSettings(kubeconfig=str(path)), canary=True)]

    found = asyncio.run(rows())
    assert failed(found) == ["server"]
    assert "http://127.0.0.1:1 is not there: Connection refused" in found[-1].found
    assert "kubectl version --context here" in found[-1].fix


def test_credentials_that_expired(tmp_path):
    rows = look(tmp_path, lambda server: server.users.clear())
    assert failed(rows) == ["server"]
    assert "does not accept the credentials" in rows[-1].found
    assert rows[-1].fix == "log in again"


# ------------------------------------------------------------------------------------------------ the server


def test_an_old_server(tmp_path, monkeypatch):
    monkeypatch.setattr(http, "VERSION", "v1.30.4-gke.100")
    row = only(look(tmp_path), "server")
    assert (row.verdict, row.found) == ("fail", "Kubernetes v1.30.4-gke.100")
    assert "1.31" in row.fix


def test_a_namespace_that_is_not_there(tmp_path):
    rows = look(tmp_path, namespace="nowhere")
    assert only(rows, "namespace").found == "there is no namespace nowhere"
    assert "deploy/base" in only(rows, "namespace").fix


@pytest.mark.parametrize("rule", [("create", "batch", "jobs"), ("get", "", "pods/log"), ("delete", "", "configmaps")])
def test_a_verb_that_is_forbidden(tmp_path, rule):
    def forbid(server: ApiServer) -> None:
        server.users["simulated"] = User("intern", DEPLOYED - {rule})

    verb, group, resource = rule
    row = next(row for row in look(tmp_path, forbid) if row.what == "rights" and row.verdict == "fail")
    assert row.found == f"may not {verb} {resource}{'.batch' if group else ''} in autoresearch"


def test_nodes_that_cannot_be_seen_cost_something(tmp_path):
    def forbid(server: ApiServer) -> None:
        server.users["simulated"] = User("intern", frozenset(rule for rule in DEPLOYED if rule[2] != "nodes"))

    rows = look(tmp_path, forbid)
    assert failed(rows) == []
    assert [row.found for row in rows if row.what == "rights" and row.verdict == "warn"] == [
        "may not get, list, watch nodes: the screen shows no nodes, and --gpus has to say what there is"
    ]
    assert "--gpus" in only(rows, "devices").fix


def test_an_api_that_breaks_in_between_is_a_row_and_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr("executors.kubernetes.client.TRIES", 1)
    monkeypatch.setattr("executors.kubernetes.client._FIRST_PAUSE_S", 0.01)

    def break_it(server: ApiServer) -> None:
        server.api.faults.add(Fault("status", path="/nodes", code=503, reason="ServiceUnavailable", message="no etcd"))

    row = only(look(tmp_path, break_it), "devices")
    assert row.verdict == "fail"
    assert "no etcd" in row.found


# ----------------------------------------------------------------------------------------- what the cluster has


def change_nodes(server: ApiServer, change: Callable[[dict[str, Any]], None]) -> None:
    for node in server.store.list("nodes"):
        change(node)
        server.store.update("nodes", node)


@pytest.mark.parametrize(
    ("label", "value", "words"),
    [
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "slices (MIG)"),
        ("nvidia.com/gpu.replicas", "4", "shared by time"),
    ],
)
def test_gpus_whose_scores_cannot_be_compared(tmp_path, label, value, words):
    def cut(server: ApiServer) -> None:
        change_nodes(server, lambda node: node["metadata"]["labels"].update({label: value}))

    rows = [row for row in look(tmp_path, cut) if row.what == "devices"]
    assert [row.verdict for row in rows] == ["warn", "fail"]
    assert words in rows[0].found


def test_no_gpus_at_all(tmp_path):
    def strip(server: ApiServer) -> None:
        change_nodes(server, lambda node: node["status"]["allocatable"].pop("nvidia.com/gpu"))

    row = only(look(tmp_path, strip), "devices")
    assert (row.verdict, row.found) == ("fail", "none of 1 nodes offers nvidia.com/gpu to our runs")


def test_many_nodes_with_the_same_trouble_are_told_in_a_few_rows(tmp_path):
    def cordon(server: ApiServer) -> None:
        for node in server.store.list("nodes"):
            server.cluster.cordon(node["metadata"]["name"])

    rows = [row for row in look(tmp_path, cordon, gpus="80xH100") if row.what == "devices"]
    assert [row.verdict for row in rows] == ["warn"] * 6 + ["fail"]
    assert rows[5].found == "and 5 more nodes like these"


@pytest.mark.parametrize(
    ("hard", "used", "verdict"),
    [
        ({"requests.nvidia.com/gpu": "0"}, {}, "fail"),
        ({"count/jobs.batch": "5"}, {"count/jobs.batch": "5"}, "warn"),
        ({"requests.nvidia.com/gpu": "8"}, {"requests.nvidia.com/gpu": "3"}, "ok"),
    ],
)
def test_quotas(tmp_path, hard, used, verdict):
    def bound(server: ApiServer) -> None:
        meta = {"name": "team", "namespace": NAMESPACE}
        server.store.create("resourcequotas", {"metadata": meta, "spec": {"hard": hard}, "status": {"used": used}})

    row = only(look(tmp_path, bound), "quota")
    assert row.verdict == verdict
    assert row.found.startswith("team: ")


def claim(server: ApiServer, phase: str, modes: Sequence[str], event: tuple[str, str] | None = None) -> None:
    found = server.store.get("persistentvolumeclaims", NAMESPACE, CLAIM)
    assert found is not None
    found["status"]["phase"], found["spec"]["accessModes"] = phase, list(modes)
    found["status"].pop("accessModes", None)
    server.store.update("persistentvolumeclaims", found)
    if event is not None:
        about = {"kind": "PersistentVolumeClaim", "name": CLAIM, "namespace": NAMESPACE}
        server.store.create(
            "events",
            {"metadata": {"name": "e", "namespace": NAMESPACE}, "involvedObject": about,
             "reason": event[0], "message": event[1], "lastTimestamp": "2026-01-01T00:00:00Z"},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "modes", "event", "verdict", "words"),
    [
        ("Bound", ["ReadWriteMany"], None, "ok", "ReadWriteMany"),
        ("Bound", ["ReadWriteOnce"], None, "warn", "one node at a time"),
        ("Lost", ["ReadWriteMany"], None, "fail", "lost its volume"),
        ("Pending", ["ReadWriteMany"], ("FailedBinding", "no storage class is set"), "fail", "no storage class is set"),
        ("Pending", ["ReadWriteOnce"], ("WaitForFirstConsumer", "waiting"), "warn", "with its first pod"),
    ],
)
def test_a_claim_and_its_volume(tmp_path, phase, modes, event, verdict, words):
    row = only(look(tmp_path, lambda server: claim(server, phase, modes, event)), "data")
    assert row.verdict == verdict
    assert words in row.found


def test_a_claim_that_is_not_there(tmp_path):
    row = only(look(tmp_path, data="pvc:elsewhere"), "data")
    assert (row.verdict, row.found) == ("fail", "there is no claim elsewhere in autoresearch")


def test_data_in_an_image_needs_a_server_that_mounts_it(tmp_path, monkeypatch):
    assert only(look(tmp_path, data="image:registry.example/corpus:1"), "data").verdict == "ok"
    monkeypatch.setattr(http, "VERSION", "v1.33.2")
    assert only(look(tmp_path, data="image:registry.example/corpus:1"), "data").verdict == "warn"


def test_a_priority_class_that_is_not_there(tmp_path):
    row = only(look(tmp_path, priority_class="gold"), "priority")
    assert (row.verdict, "every pod would be refused" in row.found) == ("fail", True)


def test_queues_of_kueue(tmp_path, monkeypatch):
    row = only(look(tmp_path, queue="gpus"), "queue")
    assert (row.verdict, row.found) == ("fail", "there is no queue gpus in autoresearch")

    def with_queue(server: ApiServer) -> None:
        server.store.create("localqueues", {"metadata": {"name": "gpus", "namespace": NAMESPACE}, "spec": {}})

    assert only(look(tmp_path, with_queue, queue="gpus"), "queue").verdict == "ok"
    older = {**http.KINDS, "localqueues": http.KINDS["localqueues"]._replace(version="v1beta1")}
    monkeypatch.setattr(http, "KINDS", older)
    assert only(look(tmp_path, with_queue, queue="gpus"), "queue").verdict == "ok"
    monkeypatch.setattr(http, "KINDS", {name: kind for name, kind in older.items() if name != "localqueues"})
    assert only(look(tmp_path, queue="gpus"), "queue").found == "Kueue is not installed in this cluster"


def test_an_overlay_that_podsecurity_forbids(tmp_path):
    inside = {"spec": {"hostNetwork": True}}
    row = only(look(tmp_path, overlay={"spec": {"template": inside}}), "job")
    assert (row.verdict, "PodSecurity" in row.found) == ("fail", True)


def test_an_overlay_with_a_field_that_nobody_knows(tmp_path):
    inside = {"spec": {"noSuchField": 1}}
    row = only(look(tmp_path, overlay={"spec": {"template": inside}}), "job")
    assert (row.verdict, "noSuchField" in row.found) == ("fail", True)


# ------------------------------------------------------------------------------------------------ canaries


def test_an_image_that_cannot_be_pulled(tmp_path, monkeypatch):
    monkeypatch.setattr(canary, "BROKEN_S", 0.3)

    def cut_off(server: ApiServer) -> None:
        server.cluster.machines.no_registry.update(machine.name for machine in server.cluster.machines)

    row = look(tmp_path, cut_off, pods=True)[-1]
    assert (row.verdict, row.what) == ("fail", "canary H100-80GB")
    assert "image" in row.found
    assert "--image" in row.fix


def test_a_cluster_that_is_full_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(canary, "PLACED_S", 0.5)

    def fill(server: ApiServer) -> None:
        theirs = canary_job(KubeSettings(), "", None, "another session")
        theirs["metadata"] |= {"name": "theirs", "namespace": NAMESPACE}
        theirs["spec"]["template"]["metadata"]["annotations"]["fake/seconds"] = "9999"
        server.store.create("jobs", theirs | {"status": {}})

    row = look(tmp_path, fill, pods=True)[-1]
    assert (row.verdict, row.what) == ("warn", "canary H100-80GB"), row
    assert "it got no place" in row.found


def test_a_canary_is_taken_away_however_the_doctor_ends(tmp_path):
    clock = VirtualClock(speed=1.0)

    async def cut_short() -> None:
        server = ApiServer(clock, parse_mix("1xH100,1xH200"), seed=1)
        await server.open()
        try:
            settings = KubeSettings(kubeconfig=str(server.kubeconfig(tmp_path / "kubeconfig")))

            async def all_of_it() -> None:
                async for _ in examine(settings, canary=True):
                    pass

            task = asyncio.ensure_future(all_of_it())
            async with asyncio.timeout(20):
                while len(server.store.list("jobs", NAMESPACE)) < 2:
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not server.store.list("jobs", NAMESPACE)
        finally:
            await server.close()

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        runner.run(cut_short())


GOOD = {"python": "3.12.1", "torch": "2.13.0", "gpus": 1, "gpu": "H", "corpus": "ab", "closed": [], "landlock": 4}


@pytest.mark.parametrize(
    ("seen", "verdict", "words"),
    [
        ({"python": "3.10.4"}, "fail", "the image has Python 3.10.4"),
        ({"error": "ModuleNotFoundError: No module named 'torch'"}, "fail", "torch does not work"),
        ({"gpus": 0}, "fail", "sees no GPU"),
        ({"gpus": 8}, "fail", "asked for one GPU and sees 8"),
        ({"data": "FileNotFoundError"}, "fail", "the corpus cannot be read"),
        ({"closed": ["/work"]}, "fail", "cannot write to /work"),
        ({"landlock": -1}, "warn", "unconfined"),
    ],
)
def test_what_a_canary_sees(seen, verdict, words):
    assert {row.verdict for row in findings("canary", GOOD, KubeSettings())} == {"ok"}
    [row] = [row for row in findings("canary", GOOD | seen, KubeSettings()) if row.verdict != "ok"]
    assert row.verdict == verdict
    assert words in row.found
    assert row.fix
