"""Device classes from NVML's words, and the user's selection of devices."""

from __future__ import annotations

import pytest

from core.executor import Device, ExecutorError
from executors.devices import Slot, cpu_slots, device_class, is_visible, select


@pytest.mark.parametrize(
    ("product", "memory_mib", "cls"),
    [
        ("NVIDIA H100 80GB HBM3", 81_559, "H100-80GB"),
        ("NVIDIA H100 PCIe", 81_559, "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", 95_830, "H100-NVL-94GB"),
        ("NVIDIA H200", 143_771, "H200-141GB"),
        ("NVIDIA B200", 183_359, "B200-180GB"),
        ("NVIDIA A100-SXM4-40GB", 40_960, "A100-40GB"),
        ("NVIDIA A100-SXM4-80GB", 81_920, "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", 24_564, "RTX-4090-24GB"),
        ("NVIDIA GeForce RTX 2080 Ti", 11_264, "RTX-2080-Ti-11GB"),
        ("NVIDIA RTX 6000 Ada Generation", 49_140, "RTX-6000-Ada-48GB"),
        ("NVIDIA L4", 23_034, "L4-24GB"),
        ("NVIDIA L40S", 46_068, "L40S-48GB"),
        ("Tesla T4", 15_360, "T4-16GB"),
        ("Tesla V100-SXM2-16GB", 16_160, "V100-16GB"),
        ("NVIDIA GH200 480GB", 97_871, "GH200-96GB"),
        ("NVIDIA Future 1", 250 * 1024, "Future-1-250GB"),
    ],
)
def test_a_class_is_the_product_and_the_memory_it_is_sold_with(product, memory_mib, cls):
    assert device_class(product, memory_mib << 20) == cls


@pytest.mark.parametrize(
    ("allowed", "visible"),
    [(None, True), ("1", True), ("0, 1", True), ("GPU-ab12", True), ("", False), ("0,2", False), ("GPU-cd", False)],
)
def test_only_devices_that_a_scheduler_gave_us_are_used(allowed, visible):
    assert is_visible(1, "GPU-ab12-34", allowed) is visible


def slot(name, cls):
    return Slot(Device(device=name, cls=cls, node="n"), "cpu" if cls == "CPU" else "cuda", int(name[-1]), cls)


CUDA = [slot("gpu0", "H100-80GB"), slot("gpu1", "H100-80GB"), slot("gpu2", "H200-141GB")]
CPU = [slot("cpu0", "CPU"), slot("cpu1", "CPU")]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (None, "gpu0 gpu1 gpu2"),
        ("2", "gpu0 gpu1"),
        ("1xH100-80GB", "gpu0"),
        ("h200", "gpu2"),
        ("1xH100, 1xH200", "gpu0 gpu2"),
        ("1xH100,1xH100", "gpu0 gpu1"),
        ("2xCPU", "cpu0 cpu1"),
        ("CPU", "cpu0 cpu1"),
    ],
)
def test_a_selection_names_devices(selection, names):
    assert [chosen.device.device for chosen in select(CUDA, CPU, selection)] == names.split()


def test_without_cuda_the_cpu_slots_are_meant():
    assert select([], CPU, None) == CPU
    assert select([], CPU, "1") == CPU[:1]


@pytest.mark.parametrize("selection", ["", "x", "0", "4", "3xH100", "2xA100", "-1", "1xH100,3", "H100;H200"])
def test_a_selection_that_cannot_be_met_or_read_is_one_clear_error(selection):
    with pytest.raises(ExecutorError) as caught:
        select(CUDA, CPU, selection)
    assert "\n" not in str(caught.value)


def test_this_machine_has_a_cpu_slot():
    slots = cpu_slots()
    assert slots[0].device.device == "cpu0"
    assert all(slot.device.cls == "CPU" for slot in slots)
