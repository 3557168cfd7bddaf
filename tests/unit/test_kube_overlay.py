"""A user's patch of a Job: merged as kubectl does it, refused where the session relies on what it would change."""

from __future__ import annotations

import copy

import pytest
import yaml

from core.executor import AttemptSpec, ExecutorError
from executors.kubernetes import manifest
from executors.kubernetes.overlay import overlaid
from executors.kubernetes.settings import KubeSettings

GPU = "nvidia.com/gpu"
SPEC = AttemptSpec("r34", "r34.2", "n/0", "H100-80GB", "rev", "print(1)\n", 1, 300.0, 0.0)


def made(**settings):
    return manifest.job(
        SPEC,
        "s1",
        KubeSettings(**settings),
        product="P",
        sample=None,
        avoid_nodes=["bad"],
        inputs={"train.py": "x = 1"},
        code="ar-x-code-y",
        wall_s=420.0,
    )


def pod_of(job):
    return job["spec"]["template"]["spec"]


def patched(text):
    before = made()
    kept = copy.deepcopy(before)
    after = overlaid(before, yaml.safe_load(text), GPU)
    assert before == kept
    return after


def test_an_empty_patch_changes_nothing():
    assert patched("{}") == made()


def test_blocks_are_merged_and_null_removes():
    text = "metadata: {labels: {team: nlp}}\nspec: {template: {spec: {priorityClassName: null, schedulerName: s}}}"
    after = patched(text)
    assert after["metadata"]["labels"] == made()["metadata"]["labels"] | {"team": "nlp"}
    assert "priorityClassName" not in pod_of(after)
    assert pod_of(after)["schedulerName"] == "s"


def test_members_of_lists_are_merged_by_name():
    after = patched("""
        spec: {template: {spec: {
          containers: [
            {name: trainer, env: [{name: NCCL_DEBUG, value: WARN}], volumeMounts: [{name: extra, mountPath: /extra}]},
            {name: sidecar, image: x}],
          volumes: [{name: extra, emptyDir: {}}, {name: tmp, emptyDir: {sizeLimit: 99Gi}}],
          tolerations: [{key: team, operator: Exists, effect: NoSchedule}]}}}
    """)
    trainer, sidecar = pod_of(after)["containers"]
    ours = pod_of(made())
    assert sidecar == {"name": "sidecar", "image": "x"}
    assert trainer["env"] == [*ours["containers"][0]["env"], {"name": "NCCL_DEBUG", "value": "WARN"}]
    assert trainer["volumeMounts"][-1] == {"name": "extra", "mountPath": "/extra"}
    assert trainer["command"] == ours["containers"][0]["command"]
    assert [v for v in pod_of(after)["volumes"] if v["name"] == "tmp"] == [
        {"name": "tmp", "emptyDir": {"sizeLimit": "99Gi"}}
    ]
    assert len(pod_of(after)["volumes"]) == len(ours["volumes"]) + 1
    assert pod_of(after)["tolerations"][:-1] == ours["tolerations"]


def test_a_toleration_of_ours_can_be_changed_and_is_not_doubled():
    key = "node.kubernetes.io/unreachable"
    text = f"spec: {{template: {{spec: {{tolerations: [{{key: {key}, effect: NoExecute, tolerationSeconds: 5}}]}}}}}}"
    found = [item for item in pod_of(patched(text))["tolerations"] if item["key"] == key]
    assert found == [{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("kind: Pod", "kind"),
        ("metadata: {name: mine}", "metadata.name"),
        ("metadata: {namespace: other}", "metadata.namespace"),
        ("metadata: {labels: {autoresearch.dev/run: x}}", "metadata.labels.autoresearch.dev/run"),
        ("metadata: {labels: null}", "metadata.labels."),
        ("metadata: {annotations: {autoresearch.dev/session: x}}", "metadata.annotations.autoresearch.dev/session"),
        ("spec: {backoffLimit: 3}", "spec.backoffLimit"),
        ("spec: {completions: 2}", "spec.completions"),
        ("spec: {parallelism: 2}", "spec.parallelism"),
        ("spec: {podFailurePolicy: null}", "spec.podFailurePolicy"),
        ("spec: {template: {metadata: {labels: {autoresearch.dev/attempt: '9'}}}}", "spec.template.metadata.labels."),
        ("spec: {template: {spec: {restartPolicy: OnFailure}}}", "spec.template.spec.restartPolicy"),
        ("spec: {template: {spec: {activeDeadlineSeconds: 9}}}", "set `startup_s` and `grace_s`"),
        ("spec: {template: {spec: {automountServiceAccountToken: true}}}", "automountServiceAccountToken"),
        ("spec: {template: {spec: {containers: [{name: trainer, command: [sh]}]}}}", r"containers\[trainer\].command"),
        ("spec: {template: {spec: {containers: [{name: trainer, args: [x]}]}}}", r"containers\[trainer\].args"),
        ("spec: {template: {spec: {containers: null}}}", r"containers\[trainer\]"),
        (
            "spec: {template: {spec: {containers: [{name: trainer, resources: {limits: {nvidia.com/gpu: 2}}}]}}}",
            "an attempt has exactly one device",
        ),
        (
            "spec: {template: {spec: {containers: [{name: trainer, env: [{name: AR_NODE, value: x}]}]}}}",
            r"env\[AR_NODE\]",
        ),
        (
            "spec: {template: {spec: {containers: [{name: trainer, volumeMounts: [{mountPath: /data, name: tmp}]}]}}}",
            r"volumeMounts\[/data\]",
        ),
        ("spec: {template: {spec: {volumes: [{name: data, emptyDir: {}}]}}}", r"volumes\[data\].*set `data`"),
        ("spec: {template: {spec: {volumes: [{name: code, emptyDir: {}}]}}}", r"volumes\[code\]"),
    ],
)
def test_what_the_session_relies_on_is_refused(text, path):
    with pytest.raises(ExecutorError, match=f"the overlay may not change .*{path}") as error:
        patched(text)
    assert "the session relies on it" in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("metadata: mine", "plain value at metadata, where"),
        (
            "spec: {template: {spec: {containers: [trainer]}}}",
            r"a member of spec.template.spec.containers without `name`",
        ),
        ("spec: {template: {spec: {volumes: [{emptyDir: {}}]}}}", r"a member of spec.template.spec.volumes without"),
        ("spec: {template: {spec: {containers: x}}}", "plain value at .*containers, where Kubernetes wants a list"),
        ("spec: {template: {spec: {volumes: {data: {}}}}}", "plain value at .*volumes, where Kubernetes wants a list"),
    ],
)
def test_a_patch_of_the_wrong_shape_is_told(text, says):
    with pytest.raises(ExecutorError, match=says):
        patched(text)


def test_the_product_stays_pinned_whatever_affinity_is_asked_for():
    terms = [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]} for zone in "ab"]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    overlay = {"spec": {"template": {"spec": {"affinity": affinity}}}}
    kept = copy.deepcopy(overlay)
    for _ in range(2):
        required = pod_of(made(overlay=overlay))["affinity"]["nodeAffinity"]
        found = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert [[item["key"] for item in term["matchExpressions"]] for term in found] == [
            ["zone", "nvidia.com/gpu.product", "kubernetes.io/hostname"]
        ] * 2
    assert overlay == kept
