"""Devices of a cluster's nodes: classes, shares of a node, and what is refused with which reason."""

from __future__ import annotations

import pytest

from executors.devices import device_class
from executors.kubernetes import nodes
from executors.kubernetes.manifest import Resources
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
    assert seen == nodes.NodeDevices("n1", "NVIDIA-H100-80GB-HBM3", "H100-80GB", 8, 81559, Resources(14, 121651))
    assert [device.device for device in seen.devices()] == [f"n1/{k}" for k in range(8)]
    assert {(device.cls, device.node, device.memory_mb) for device in seen.devices()} == {("H100-80GB", "n1", 81559)}


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
    assert [seen.node for seen in found] == ["a", "b"]
    assert refused == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]},
            "is not ready (NodeS",
        ),
        ({"conditions": []}, "is not ready"),
        ({"unschedulable": True}, "is cordoned"),
        ({"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]}, "has the taint team=x:NoSchedule, which"),
        ({"taints": [{"key": "gone", "effect": "NoExecute"}]}, "has the taint gone:NoExecute, which"),
        ({"gpus": 0, "whole": 8}, "has no working device: its device plugin offers 0 of 8"),
        ({"product": ""}, "has no label nvidia.com/gpu.product"),
        ({"product": "NVIDIA-A100-SXM4-40GB-SHARED"}, "shares its GPUs: scores"),
        ({"labels": {"nvidia.com/gpu.replicas": "4"}}, "shares its GPUs (4 pods on each)"),
        ({"product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, "has GPUs cut into slices (MIG)"),
        ({"gpus": 0, "nvidia.com/mig-1g.10gb": "56"}, "has GPUs cut into slices (MIG)"),
    ],
)
def test_refused_nodes_say_why(changes, reason):
    found, [refused] = look(node(**changes))
    assert found == []
    assert refused.node == "n1"
    assert refused.reason.startswith(reason)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, {}),
        ({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}, {}),
        ({"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]},
         {"tolerations": ({"key": "team", "value": "x"},)}),
        ({"taints": [{"key": "team", "effect": "NoSchedule"}]}, {"tolerations": ({"operator": "Exists"},)}),
        ({"product": "NVIDIA-A100-SXM4-40GB-SHARED"}, {"allow_sharing": True}),
        ({"product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}, {"allow_mig": True}),
        ({"labels": {"zone": "a"}}, {"node_selector": {"zone": "a"}}),
        ({}, {"products": ("H100-80GB",)}),
        ({}, {"products": ("NVIDIA-H100-80GB-HBM3",)}),
        ({"product": "", "labels": {"pool": "h100"}}, {"product_label": "pool"}),
    ],
)  # fmt: skip
def test_accepted_nodes(changes, settings):
    found, refused = look(node(**changes), **settings)
    assert [seen.count for seen in found] == [8]
    assert refused == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"products": ("H200-141GB",)}, "has NVIDIA-H100-80GB-HBM3 (H100-80GB), which is not among the products"),
        ({"node_selector": {"zone": "a"}}, "does not have zone=a, which node_selector asks for"),
    ],
)
def test_nodes_that_were_not_asked_for(settings, reason):
    found, [refused] = look(node(), **settings)
    assert found == []
    assert refused.reason.startswith(reason)


def test_mig_slices_under_names_of_their_own():
    sliced = node(gpus=0, labels={"nvidia.com/mig-1g.10gb.memory": "9984"}, **{"nvidia.com/mig-1g.10gb": "56"})
    ([seen], _refused) = look(sliced, gpu_resource="nvidia.com/mig-1g.10gb", allow_mig=True)
    assert (seen.count, seen.cls, seen.memory_mb) == (56, "H100-MIG-1g.10gb-10GB", 9984)
    _found, [refused] = look(sliced, gpu_resource="nvidia.com/mig-1g.10gb")
    assert "MIG" in refused.reason
    _found, [refused] = look(sliced, allow_mig=True)
    assert "set gpu_resource to one of them" in refused.reason


def test_a_broken_gpu_does_not_enlarge_the_others_share():
    ([whole], _), ([broken], _) = look(node()), look(node(gpus=7, whole=8))
    assert broken.count == 7
    assert broken.resources == whole.resources


def test_an_attempt_fits_every_node_of_its_product():
    found, _ = look(node("a"), node("b", cpu="63500m", ram="500Gi"), node("c", product="NVIDIA-H200", memory="143771"))
    assert nodes.resources(found, "NVIDIA-H100-80GB-HBM3") == Resources(7, 57600)
    assert nodes.resources(found, "none") is None
    assert nodes.products(found) == {"H100-80GB": "NVIDIA-H100-80GB-HBM3", "H200-141GB": "NVIDIA-H200"}


def test_what_the_user_says_of_resources_counts():
    ([seen], _refused) = look(node(), cpus=3, memory="20Gi")
    assert seen.resources == Resources(3, 20480)


def test_a_cluster_without_gpus_offers_cpus():
    busy = node("master", taints=[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}])
    found, [refused] = look(node(cpu="8", ram="16Gi"), busy, gpu_resource="", cpus=2)
    assert found == [nodes.NodeDevices("n1", "", "CPU", 3, 0, Resources(2, 4915))]
    assert refused.node == "master"


def test_nodes_with_odd_status_do_no_harm():
    assert look({"metadata": {"name": "bare"}}) == ([], [])
    odd = node()
    odd["status"]["allocatable"] |= {"cpu": "lots", "memory": None}
    ([seen], _refused) = look(odd)
    assert seen.resources == Resources(1, 1)
