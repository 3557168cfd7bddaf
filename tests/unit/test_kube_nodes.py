"""Devices of a cluster's nodes: classes, shares of a node, and what is refused with which reason."""

from __future__ import annotations

import pytest

from executors.devices import device_class
from executors.kubernetes import nodes
from executors.kubernetes.settings import KubeSettings

READY = {"type": "Ready", "status": "True"}


def node(name="n1", product="NVIDIA-H100-80GB-HBM3", gpus=8, memory="81559", *, cpu="128", ram="1056Gi", whole=None,
         labels=None, taints=(), conditions=(READY,), unschedulable=False, **amounts):  # fmt: skip
    found = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": memory, "kubernetes.io/hostname": name}
    allocatable = {"cpu": cpu, "memory": ram, "nvidia.com/gpu": str(gpus)} | amounts
    return {
        "metadata": {"name": name, "labels": {k: v for k, v in (found | (labels or {})).items() if v}},
        "spec": {"taints": list(taints), "unschedulable": unschedulable},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable | {"nvidia.com/gpu": str(gpus if whole is None else whole)},
            "conditions": list(conditions),
        },
    }


def look(*found, **settings):
    return nodes.devices(found, KubeSettings(**settings))


def test_a_node_and_its_devices():
    ([seen], refused) = look(node())
    assert refused == []
    assert (seen.name, seen.product, seen.cls) == ("n1", "NVIDIA-H100-80GB-HBM3", "H100-80GB")
    assert (seen.count, seen.memory_mb, seen.cpus_each) == (8, 81559, 14)
    assert seen.memory_bytes_each == int(1056 * 2**30 * 0.9 / 8)
    assert (seen.usable, seen.why_not) == (True, "")


@pytest.mark.parametrize(
    ("product", "memory", "cls"),
    [
        ("NVIDIA-H100-80GB-HBM3", "81559", "H100-80GB"),
        ("NVIDIA-H200", "143771", "H200-141GB"),
        ("NVIDIA-A100-SXM4-40GB", "40960", "A100-40GB"),
        ("NVIDIA-H100-PCIe", "81559", "H100-PCIe-80GB"),
        ("Tesla-T4", "15360", "T4-16GB"),
        ("NVIDIA-GeForce-RTX-4090", "24564", "RTX-4090-24GB"),
        ("NVIDIA-H100-80GB-HBM3", "", "H100-80GB"),
        ("nvidia-l4", "", "l4"),
    ],
)
def test_classes_are_named_as_on_a_machine_of_ones_own(product, memory, cls):
    ([seen], _refused) = look(node(product=product, memory=memory))
    assert seen.cls == cls
    if memory:
        assert seen.cls == device_class(product.replace("-", " "), int(memory) << 20)


def test_nodes_come_in_order_and_others_are_left_out_in_silence():
    plain = node("cpu-only", product="", gpus=0)
    del plain["status"]["allocatable"]["nvidia.com/gpu"], plain["status"]["capacity"]["nvidia.com/gpu"]
    found, refused = look(node("b"), plain, node("a"))
    assert [seen.name for seen in found] == ["a", "b"]
    assert refused == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"conditions": [{"type": "Ready", "status": "Unknown"}]}, "node n1 does not answer"),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, "node n1 is not ready"),
        ({"conditions": []}, "node n1 does not answer"),
        ({"unschedulable": True}, "node n1 is cordoned"),
        ({"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]}, "node n1 has the taint team, which"),
        ({"taints": [{"key": "gone", "effect": "NoExecute"}]}, "node n1 has the taint gone, which"),
    ],
)
def test_nodes_that_take_no_run_now_say_why(changes, why):
    ([seen], refused) = look(node(**changes))
    assert refused == []
    assert not seen.usable
    assert seen.why_not.startswith(why)


@pytest.mark.parametrize(
    ("changes", "settings", "reason"),
    [
        ({"product": "NVIDIA-A100-SXM4-40GB-SHARED"}, {}, "the GPUs of n1 are shared by time"),
        ({"labels": {"nvidia.com/gpu.replicas": "4"}}, {}, "the GPUs of n1 are shared by time"),
        ({"product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, {}, "the GPUs of n1 are slices (MIG)"),
        ({"gpus": 0, "nvidia.com/mig-1g.10gb": "56"}, {}, "n1 offers slices only (nvidia.com/mig-1g.10gb)"),
        ({}, {"products": ["H200-141GB"]}, "n1 has NVIDIA-H100-80GB-HBM3, which was not asked for"),
        ({}, {"node_selector": {"zone": "a"}}, "n1 does not match the node selector"),
    ],
)
def test_refused_nodes_say_why(changes, settings, reason):
    found, [refused] = look(node(**changes), **settings)
    assert found == []
    assert refused.name == "n1"
    assert refused.reason.startswith(reason)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, {}),
        ({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}, {}),
        ({"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]},
         {"tolerations": [{"key": "team", "value": "x"}]}),
        ({"taints": [{"key": "team", "effect": "NoSchedule"}]}, {"tolerations": [{"operator": "Exists"}]}),
        ({"product": "NVIDIA-A100-SXM4-40GB-SHARED"}, {"allow_sharing": True}),
        ({"product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, {"allow_mig": True}),
        ({"labels": {"zone": "a"}}, {"node_selector": {"zone": "a"}}),
        ({}, {"products": ["H100-80GB"]}),
        ({}, {"products": ["NVIDIA-H100-80GB-HBM3"]}),
        ({"product": "", "labels": {"pool": "h100"}}, {"product_label": "pool"}),
    ],
)  # fmt: skip
def test_accepted_nodes(changes, settings):
    ([seen], refused) = look(node(**changes), **settings)
    assert (seen.count, seen.usable) == (8, True)
    assert refused == []


def test_nodes_without_a_product_count_only_among_themselves():
    found, refused = look(node("a", product=""), node("b", product=""))
    assert [seen.cls for seen in found] == ["GPU", "GPU"]
    assert refused == []
    found, [refused] = look(node("a", product=""), node("b"))
    assert [seen.name for seen in found] == ["b"]
    assert refused.reason.startswith("a has no label nvidia.com/gpu.product")


@pytest.mark.parametrize("resource", ["", "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu"])
def test_a_node_is_usable_only_if_its_taints_are_tolerated_by_the_pod(resource):
    """What is said of nodes and what is written into pods is one thing."""
    settings = KubeSettings(gpu_resource=resource, priority_class="")
    tolerated = {item["key"] for item in nodes.own_tolerations(settings)}
    tainted = node(taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}], **({resource: "8"} if resource else {}))
    found, _refused = nodes.devices([tainted], settings)
    assert [seen.usable for seen in found] == ["nvidia.com/gpu" in tolerated]


def test_mig_slices_under_names_of_their_own():
    sliced = node(gpus=0, labels={"nvidia.com/mig-1g.10gb.memory": "9984"}, **{"nvidia.com/mig-1g.10gb": "56"})
    ([seen], _refused) = look(sliced, gpu_resource="nvidia.com/mig-1g.10gb")
    assert (seen.count, seen.cls, seen.memory_mb) == (56, "H100-MIG-1g.10gb-10GB", 9984)


def test_a_broken_gpu_does_not_enlarge_the_others_share():
    ([whole], _), ([broken], _) = look(node()), look(node(gpus=7, whole=8))
    assert broken.count == 7
    assert (broken.cpus_each, broken.memory_bytes_each) == (whole.cpus_each, whole.memory_bytes_each)


def test_a_cluster_without_gpus_offers_cpus():
    busy = node("master", taints=[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}])
    master, worker = look(busy, node(cpu="8", ram="16Gi"), gpu_resource="", cpu_slots=3)[0]
    assert (master.usable, worker.usable) == (False, True)
    assert (worker.cls, worker.count, worker.cpus_each) == ("CPU", 3, 2)


def test_nodes_with_odd_status_do_no_harm():
    assert look({"metadata": {"name": "bare"}}) == ([], [])
    odd = node()
    odd["status"]["allocatable"] |= {"cpu": "lots", "memory": None}
    ([seen], _refused) = look(odd)
    assert (seen.cpus_each, seen.memory_bytes_each) == (1, 0)
