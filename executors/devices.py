"""What this machine can train on: its CUDA devices by product, else one slot per usable CPU core."""

from __future__ import annotations

import contextlib
import math
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.executor import Device, ExecutorError

# Sizes, in GB, that memory is sold in. NVML reports a little less (ECC, firmware), at most a sixteenth.
SOLD_GB: Final = (4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48, 64, 80, 94, 96, 128, 141, 180, 192, 288)
NOISE_WORDS: Final = {"NVIDIA", "TESLA", "QUADRO", "GEFORCE", "GPU", "GRAPHICS", "GENERATION", "DEVICE"}
SELECTION: Final = re.compile(r"(?:(\d+)\s*x\s*)?([A-Za-z][\w.-]*)|(\d+)")


@dataclass(frozen=True)
class Slot:
    """A device and how a run addresses it: `kind` is "cpu" or "cuda", `index` counts within the kind."""

    device: Device
    kind: str
    index: int
    product: str


def device_class(product: str, memory_bytes: int) -> str:
    """Name the class of a CUDA device from what NVML says of it, e.g. `H100-80GB`, `RTX-4090-24GB`.

    SXM is a data-centre product's usual form and is left out; PCIe and NVL, which are slower, stay.

    Args:
        product: NVML's name, e.g. "NVIDIA H100 80GB HBM3", or a node's label made of it, "NVIDIA-H100-80GB-HBM3".
        memory_bytes: NVML's total memory; 0 where nobody says: then the size in the name, if there is one.
    """
    words, named_gb = [], ""
    for word in re.split(r"[\s-]+", product.replace("/", " ")):
        is_memory = re.fullmatch(r"(\d+GB)|HBM\w*|SXM\d*", word, re.IGNORECASE)
        if is_memory is not None:
            named_gb = is_memory[1] or named_gb
        elif word and word.upper() not in NOISE_WORDS:
            words.append(word)
    if memory_bytes <= 0:
        return "-".join([*words, named_gb.upper()] if named_gb else words)
    gib = memory_bytes / 2**30
    sold = next((size for size in SOLD_GB if size >= gib - 0.5), math.ceil(gib))
    size = sold if sold <= gib * 16 / 15 + 0.5 else math.ceil(gib)
    return "-".join([*words, f"{size}GB"])


def cuda_slots() -> list[Slot]:
    """The CUDA devices that NVML sees and CUDA_VISIBLE_DEVICES allows, in PCI order; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    slots = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        if not is_visible(index, str(pynvml.nvmlDeviceGetUUID(handle)), os.environ.get("CUDA_VISIBLE_DEVICES")):
            continue  # A cluster's scheduler gave this device to somebody else.
        product = str(pynvml.nvmlDeviceGetName(handle))
        total = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
        device = Device(
            device=f"gpu{index}",
            cls=device_class(product, total),
            node=socket.gethostname(),
            memory_mb=total >> 20,
        )
        slots.append(Slot(device, "cuda", index, product))
    return slots


def is_visible(index: int, uuid: str, allowed: str | None) -> bool:
    """Whether CUDA_VISIBLE_DEVICES (`allowed`; indices or beginnings of UUIDs, with commas) names a device."""
    if allowed is None:
        return True
    words = [word.strip() for word in allowed.split(",")]
    return any(word == str(index) or (len(word) > 4 and uuid.startswith(word)) for word in words)


def cuda_utilisation(index: int) -> float | None:
    """The share of the last sample period in which the device computed, 0 to 1; None if NVML cannot say."""
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        return float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    except pynvml.NVMLError:
        return None


def usable_cores() -> int:
    """CPU cores that this process may use: its affinity, bounded by its container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota_us, period_us = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota_us) // int(period_us))  # "max" is no number: no quota
    return max(1, cores)


def cpu_slots() -> list[Slot]:
    """One slot per usable core: small models train slower on two threads than on one."""
    node = socket.gethostname()
    return [
        Slot(Device(device=f"cpu{index}", cls="CPU", node=node), "cpu", index, "CPU") for index in range(usable_cores())
    ]


def find_slots(selection: str | None) -> list[Slot]:
    """The slots of this machine that `selection` names (see `select`). Raises ExecutorError."""
    return select(cuda_slots(), cpu_slots(), selection)


def select(cuda: list[Slot], cpu: list[Slot], selection: str | None) -> list[Slot]:
    """Choose slots: CUDA devices if there are any, else CPU slots, narrowed by the user's words.

    Args:
        cuda: the CUDA devices.
        cpu: the CPU slots; used where there is no CUDA device or the selection says CPU.
        selection: `2` (any two), `1xH100-80GB`, `H200` (all of that class), or several, with commas;
            the beginning of a class is enough. None: all.

    Raises:
        ExecutorError: it cannot be read, or asks for more than there is.
    """
    usual = cuda or cpu
    if selection is None:
        return usual
    chosen: list[Slot] = []
    for part in selection.split(","):
        match = SELECTION.fullmatch(part.strip())
        if match is None:
            raise ExecutorError(
                f"`{selection}` is no selection of devices: write a number, `1xH100-80GB` or `2xCPU`, with commas"
            )
        wanted = match[2] or ""
        pool = cpu if wanted.upper() == "CPU" else usual
        found = [slot for slot in pool if slot.device.cls.upper().startswith(wanted.upper()) and slot not in chosen]
        asked = match[1] or match[3]
        count = int(asked) if asked else max(1, len(found))
        if not 0 < count <= len(found):
            there = ", ".join(sorted({slot.device.cls for slot in [*cuda, *cpu]}))
            raise ExecutorError(
                f"`{part.strip()}` asks for {count} of this machine's devices, but {len(found)} match; "
                f"there are {len(cuda)} CUDA devices and {len(cpu)} CPU slots ({there})"
            )
        chosen += found[:count]
    return chosen
