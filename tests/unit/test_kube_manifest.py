"""What is created in a cluster: names, Jobs, ConfigMaps and the canary, compared with what is written down here.

The JSON files beside this test are the manifests as they should be; KUBE_SNAPSHOTS=write writes them anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from core.executor import AttemptSpec, ExecutorError
from executors.kubernetes import manifest, names
from executors.kubernetes.nodes import NodeDevices
from executors.kubernetes.settings import KubeSettings

SNAPSHOTS = Path(__file__).parent / "kube_manifests"
SPEC = AttemptSpec("r34", "r34.2", "n/0", "H100-80GB", "rev", "print('ünï')\n", 1, 300.0, 0.0)
SESSION = "2026-01-01-a"
INPUTS = {"spec.json": '{"attempt":"r34.2"}', "train.py": SPEC.source}
SAMPLE = NodeDevices("n1", "NVIDIA-H100-80GB-HBM3", "H100-80GB", 8, 81559, 14, 119 << 30)
GIVEN = {"sample": SAMPLE, "inputs": INPUTS, "code": "ar-x-code-y", "wall_s": 420.0}
EVERYTHING = KubeSettings(
    namespace="research",
    image="example/trainer:1",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=["pull"],
    data="pvc:corpora/fineweb/v1",
    cache="pvc:kernels",
    python="/opt/python/bin/python3",
    cpus=8,
    ephemeral_storage="30Gi",
    queue="gpus",
    queue_priority="low",
    max_exec_time_s=1800,
    priority_class="batch",
    runtime_class="nvidia",
    node_selector={"zone": "a"},
    tolerations=[{"key": "team", "operator": "Exists", "effect": "NoSchedule"}],
    annotations={"example.com/owner": "nlp"},
    overlay={"spec": {"template": {"spec": {"schedulerName": "bin-packer"}}}},
    host_users=False,
)


def made(settings=None, product="NVIDIA-H100-80GB-HBM3", avoid_nodes=("n9", "n3")):
    return manifest.job(SPEC, SESSION, settings or KubeSettings(), product=product, avoid_nodes=avoid_nodes, **GIVEN)


def configmap(name="ar-x-r34-a2"):
    owner = {"metadata": {"name": name, "uid": "u-1"}}
    return manifest.attempt_configmap(name, SESSION, SPEC, INPUTS, owner)


def pod_of(job):
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("job", made),
        ("job_everything", lambda: made(EVERYTHING)),
        ("job_image_data", lambda: made(KubeSettings(data="image:example/corpus:1"), avoid_nodes=())),
        ("job_cpu", lambda: made(KubeSettings(gpu_resource="", priority_class=""), "", ())),
        ("attempt_configmap", configmap),
    ],
)
def test_snapshot(name, make):
    path = SNAPSHOTS / f"{name}.json"
    text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("KUBE_SNAPSHOTS") == "write":
        path.write_text(text)
    assert text == path.read_text()
    assert text == json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


def test_manifests_share_nothing_with_the_settings_or_each_other():
    first, second = made(EVERYTHING), made(EVERYTHING)
    pod_of(first)["tolerations"][-1]["key"] = "changed"
    pod_of(first)["nodeSelector"]["zone"] = "changed"
    first["spec"]["template"]["metadata"]["labels"]["x"] = "changed"
    first["metadata"]["annotations"]["x"] = "changed"
    assert second == made(EVERYTHING)
    assert "x" not in first["metadata"]["labels"]
    assert "x" not in first["spec"]["template"]["metadata"]["annotations"]


def test_the_quality_of_service_is_guaranteed_and_the_count_is_one():
    resources = pod_of(made())["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"]["nvidia.com/gpu"] == "1"
    assert resources["limits"]["cpu"].isdigit()


def test_podsecurity_restricted():
    """The fields that the profile `restricted` asks for (Pod Security Standards)."""
    for job in (made(), made(EVERYTHING)):
        pod = pod_of(job)
        [container] = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["automountServiceAccountToken"] is False
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "image"}
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
        assert all("sizeLimit" in volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume)


def test_every_mount_has_its_volume():
    for job in (made(), made(EVERYTHING)):
        mounted = {mount["name"] for mount in pod_of(job)["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod_of(job)["volumes"]}


def test_kueue_labels_are_the_jobs_only():
    job = made(EVERYTHING)
    assert {key: value for key, value in job["metadata"]["labels"].items() if "kueue" in key} == {
        "kueue.x-k8s.io/queue-name": "gpus",
        "kueue.x-k8s.io/priority-class": "low",
        "kueue.x-k8s.io/max-exec-time-seconds": "1800",
    }
    assert not any("kueue" in key for key in job["spec"]["template"]["metadata"]["labels"])
    assert not any("kueue" in key for key in made(KubeSettings(queue_priority="x"))["metadata"]["labels"])


def test_a_bad_overlay_is_told_when_a_job_is_made():
    with pytest.raises(ExecutorError, match=r"the overlay may not change spec\.backoffLimit"):
        made(KubeSettings(overlay={"spec": {"backoffLimit": 2}}))


def test_the_identity_of_a_job_is_what_it_executes_and_not_where():
    def sha(**changes):
        job = manifest.job(SPEC, SESSION, KubeSettings(), **({"product": "P", "avoid_nodes": ()} | GIVEN | changes))
        return job["metadata"]["annotations"][names.SPEC_SHA256]

    assert sha() == sha(avoid_nodes=["n1"], product="Q", sample=None)
    assert len({sha(), sha(inputs=INPUTS | {"train.py": "2"}), sha(inputs=INPUTS | {"spec.json": "{}"})}) == 3


def test_every_module_that_travels_is_there_and_mounted():
    code = manifest.code_configmap(SESSION, b"harness")
    assert code["data"]["harness.py"] == "harness"
    assert code["immutable"] is True
    [volume] = [item for item in pod_of(made())["volumes"] if item["name"] == "code"]
    assert {item["key"] for item in volume["configMap"]["items"]} == set(code["data"])
    paths = {item["key"]: item["path"] for item in volume["configMap"]["items"]}
    assert paths["harness.py"] == "harness.py"
    assert paths["pod.py"] == "executors/pod.py"
    other = manifest.code_configmap(SESSION, b"other harness")
    assert code["metadata"]["name"] != other["metadata"]["name"]


# --------------------------------------------------------------------------------------------------- names


def test_names_fit_and_are_the_sessions_own():
    longest = names.job_name("x" * 300, "r999999999999.999999")
    assert len(longest) <= 57
    assert names.job_name("a", "r34.2") == names.job_name("a", "r34.2") != names.job_name("b", "r34.2")
    assert names.job_name("a", "r34.2").endswith("-r34-a2")


def test_objects_name_their_job():
    job = made()
    name = job["metadata"]["name"]
    pod = {"kind": "Pod", "metadata": {"name": f"{name}-abcde", "labels": {"batch.kubernetes.io/job-name": name}}}
    about_job = {"kind": "Event", "involvedObject": {"kind": "Job", "name": name}, "metadata": {"name": "e"}}
    about_pod = {"kind": "Event", "involvedObject": {"kind": "Pod", "name": f"{name}-abcde"}, "metadata": {"name": "e"}}
    assert {names.job_of(obj) for obj in (job, pod, about_job, about_pod)} == {name}
