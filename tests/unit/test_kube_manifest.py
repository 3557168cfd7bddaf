"""What is created in a cluster: names, Jobs, ConfigMaps and the canary, compared with what is written down here.

The JSON files beside this test are the manifests as they should be; KUBE_SNAPSHOTS=write writes them anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.executor import AttemptSpec, ExecutorError
from executors.kubernetes import manifest, names
from executors.kubernetes.canary import PROGRAM
from executors.kubernetes.settings import KubeSettings

SNAPSHOTS = Path(__file__).parent / "kube_manifests"
SPEC = AttemptSpec("r34", "r34.2", "n/0", "H100-80GB", "rev", "print('ünï')\n", 1, 300.0, 0.0)
SESSION = "2026-01-01-a"
GIVEN = {"resources": manifest.Resources(14, 121651), "spec_json_sha": "f" * 64, "wall_cap_s": 420.0}
EVERYTHING = KubeSettings(
    namespace="research",
    image="example/trainer:1",
    image_pull_policy="IfNotPresent",
    image_pull_secrets=("pull",),
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
    tolerations=({"key": "team", "operator": "Exists", "effect": "NoSchedule"},),
    annotations={"example.com/owner": "nlp"},
    overlay={"spec": {"template": {"spec": {"schedulerName": "bin-packer"}}}},
    host_users=False,
)


def made(settings=None, product="NVIDIA-H100-80GB-HBM3", avoid_nodes=("n9", "n3")):
    return manifest.job(SPEC, SESSION, settings or KubeSettings(), product=product, avoid_nodes=avoid_nodes, **GIVEN)


def pod_of(job):
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("job", made),
        ("job_everything", lambda: made(EVERYTHING)),
        ("job_image_data", lambda: made(KubeSettings(data="image:example/corpus:1"), avoid_nodes=())),
        ("job_cpu", lambda: made(KubeSettings(gpu_resource="", priority_class=""), "", ())),
        ("attempt_configmap", lambda: manifest.attempt_configmap(SPEC, SESSION, '{"attempt":"r34.2"}', job_uid="u-1")),
        ("code_configmap", lambda: manifest.code_configmap(SESSION, {"pod.py": "2", "harness.py": "1"})),
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
    pod_of(first)["tolerations"][1]["key"] = "changed"
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
    for job in (made(), made(EVERYTHING), canary()):
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
    for job in (made(), made(EVERYTHING), canary(KubeSettings(cache="pvc:c"))):
        mounted = {mount["name"] for mount in pod_of(job)["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod_of(job)["volumes"]}


def test_the_disk_limit_covers_the_volumes():
    limits = pod_of(made(KubeSettings(tmp="1Gi", work="2Gi")))["containers"][0]["resources"]["limits"]
    assert limits["ephemeral-storage"] == "4096Mi"


def test_kueue_labels_are_the_jobs_only():
    job = made(EVERYTHING)
    assert {key: value for key, value in job["metadata"]["labels"].items() if "kueue" in key} == {
        "kueue.x-k8s.io/queue-name": "gpus",
        "kueue.x-k8s.io/priority-class": "low",
        "kueue.x-k8s.io/max-exec-time-seconds": "1800",
    }
    assert not any("kueue" in key for key in job["spec"]["template"]["metadata"]["labels"])
    assert not any("kueue" in key for key in made(KubeSettings(queue_priority="x"))["metadata"]["labels"])


def test_a_train_py_of_2_mb_is_refused_with_its_size():
    large = AttemptSpec("r34", "r34.2", "", "", "rev", "#" * (2 << 20), 1, 300.0, 0.0)
    for refuse in (
        lambda: manifest.check_size(large, "{}"),
        lambda: manifest.attempt_configmap(large, SESSION, "{}", job_uid="u"),
    ):
        with pytest.raises(manifest.TooLarge, match=r"^train.py has 2,048 KiB; .* may have 900 KiB"):
            refuse()
    fits = AttemptSpec("r34", "r34.2", "", "", "rev", "ü" * (450 << 10), 1, 300.0, 0.0)
    manifest.check_size(fits, "")
    with pytest.raises(manifest.TooLarge):
        manifest.check_size(fits, "{}")


def test_a_bad_overlay_is_told_when_a_job_is_made():
    with pytest.raises(ExecutorError, match=r"the overlay may not change spec\.backoffLimit"):
        made(KubeSettings(overlay={"spec": {"backoffLimit": 2}}))


def test_the_identity_of_a_spec_depends_on_both_its_parts():
    assert len({manifest.spec_sha256(spec, source) for spec in ("a", "b") for source in ("a", "b", "")}) == 6


# ------------------------------------------------------------------------------------------------- the canary


def canary(settings=None):
    return manifest.canary(
        settings or KubeSettings(), "doctor-abc", product="NVIDIA-H200", resources=manifest.Resources(2, 8192)
    )


def test_the_canary_is_the_attempts_pod_without_its_code():
    job, pod = canary(), pod_of(canary())
    assert job["metadata"]["name"] == names.job_name("doctor-abc", "r0.0")
    assert names.is_ours(job, "doctor-abc")
    ours = pod_of(made())
    assert pod["securityContext"] == ours["securityContext"]
    assert pod["containers"][0]["securityContext"] == ours["containers"][0]["securityContext"]
    assert {volume["name"] for volume in pod["volumes"]} == {"data", "work", "shm", "tmp"}
    assert "NVIDIA-H200" in json.dumps(pod["affinity"])


def test_the_canarys_program_looks_around(tmp_path):
    log = tmp_path / "log"
    told = (
        PROGRAM.replace("/dev/termination-log", str(log))
        .replace('("torch", "numpy")', '("numpy",)')
        .replace('if found["torch"]', "if 0")
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = json.loads(log.read_text())
    assert found["ar"] == 1
    assert found["canary"]["python"].startswith("3.")
    assert found["canary"]["uid"] == os.getuid()
    assert found["canary"]["numpy"]
    assert isinstance(found["canary"]["landlock"], int)


# --------------------------------------------------------------------------------------------------- names


def test_names_fit_and_are_the_sessions_own():
    longest = names.job_name("x" * 300, "r999999999999.999999")
    assert len(longest) <= 57
    assert names.job_name("a", "r34.2") == names.job_name("a", "r34.2") != names.job_name("b", "r34.2")
    assert names.job_name("a", "r34.2").endswith("-r34-a2")


@pytest.mark.parametrize("attempt", ["", "r34", "34.2", "r34.2.1", "r34.2\n", "R34.2", "r3 4.2"])
def test_what_is_no_attempt_has_no_name(attempt):
    with pytest.raises(ValueError, match="not an attempt's id"):
        names.job_name("a", attempt)


def test_only_our_own_objects_are_ours():
    job = made()
    pod = {"metadata": job["spec"]["template"]["metadata"] | {
        "name": job["metadata"]["name"] + "-abcde",
        "ownerReferences": [{"kind": "Job", "name": job["metadata"]["name"]}],
    }}  # fmt: skip
    code = manifest.code_configmap(SESSION, {"harness.py": ""})
    config = manifest.attempt_configmap(SPEC, SESSION, "{}", job_uid="u")
    for ours in (job, pod, code, config):
        assert names.is_ours(ours, SESSION)
        assert not names.is_ours(ours, "another")
        for change in ({"annotations": {}}, {"labels": {}}, {"name": "copy"}):
            assert not names.is_ours({"metadata": ours["metadata"] | change}, SESSION)
    assert not names.is_ours({"metadata": pod["metadata"] | {"ownerReferences": []}}, SESSION)
    assert names.attempt_of(job) == names.attempt_of(pod) == "r34.2"
    assert names.attempt_of(code) is None
    bare = {"metadata": {"labels": job["metadata"]["labels"]}}
    assert names.attempt_of(bare) == "r34.2"
