"""Which GPUs a simulated cluster has: from the user's words (`13xH100,3xH200`) to named devices on nodes."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from core.executor import Device, ExecutorError
from sim.gpus import GPU_CLASSES, H100, GpuClass

DEFAULT_MIX: Final = "13xH100,3xH200"
"""The published 16-GPU session's cluster (SkyPilot's blog on scaling autoresearch)."""

MOST_DEVICES: Final = 1_024
GPUS_PER_NODE: Final = 8
"""As in NVIDIA's HGX boards, which H100 and H200 are sold on."""

Mix = dict[GpuClass, int]

_PART: Final = re.compile(r"(?:([+-]?[0-9]+)\s*x\s*)?([A-Za-z][A-Za-z0-9-]*)", re.IGNORECASE)
_HOW: Final = "write counts and products with commas, such as 13xH100,3xH200"


def parse_mix(text: str) -> Mix:
    """Read a mixture of GPUs, in the order in which its classes are named first.

    Args:
        text: parts such as `13xH100` with commas. A product may be the beginning of a class (`H100` for
            `H100-80GB`), in any case; without a count it is one; a number alone is that many H100.

    Raises:
        ExecutorError: it cannot be read, names no known product, or is of no or more than 1,024 devices.
    """
    if not text.strip():
        raise ExecutorError(f"--gpus is empty: {_HOW}")
    alone = re.fullmatch(r"[+-]?[0-9]+", text.strip())
    parts = [f"{text.strip()}x{H100.name}"] if alone else text.split(",")
    mix: Mix = {}
    for part in parts:
        gpu, count = _part(part.strip(), text)
        mix[gpu] = mix.get(gpu, 0) + count
    if sum(mix.values()) > MOST_DEVICES:
        raise _too_many(text)
    return mix


def devices(mix: Mix) -> list[Device]:
    """The devices of a mixture, class by class, eight to a node: `gpu00` on `h100-01`, and so on.

    Devices are counted through the whole cluster and padded, so that their names are short, unique and in order.
    """
    digits = len(str(sum(mix.values()) - 1))
    found: list[Device] = []
    for gpu, count in mix.items():
        for index in range(count):
            node = f"{_node_family(gpu)}-{index // GPUS_PER_NODE + 1:02d}"
            found.append(Device(f"gpu{len(found):0{digits}d}", gpu.name, node, gpu.memory_mb))
    return found


def _part(part: str, text: str) -> tuple[GpuClass, int]:
    match = _PART.fullmatch(part)
    if match is None:
        what = f"`{part}` in it is none" if part else "a part of it is empty"
        raise ExecutorError(f"--gpus {text!r} is no mixture of GPUs, {what}: {_HOW}")
    digits = (match[1] or "1").removeprefix("+").lstrip("0")
    if not digits or digits.startswith("-"):
        raise ExecutorError(f"--gpus {text!r} asks for {match[1]} of {match[2]}: a count begins at 1, or leave it out")
    if len(digits) > len(str(MOST_DEVICES)):  # before int(), which refuses numbers of thousands of digits
        raise _too_many(text)
    return _product(match[2], text), int(digits)


def _product(name: str, text: str) -> GpuClass:
    wanted = name.upper()
    found = [gpu for gpu in GPU_CLASSES.values() if gpu.name.upper().startswith(wanted)]
    exact = [gpu for gpu in found if gpu.name.upper() == wanted]
    if len(exact or found) == 1:
        return (exact or found)[0]
    known = ", ".join(gpu.name for gpu in found or GPU_CLASSES.values())
    if found:
        raise ExecutorError(f"`{name}` in --gpus {text!r} could be any of {known}: write more of it")
    raise ExecutorError(f"the simulator knows no `{name}`, as in --gpus {text!r}: choose among {known}")


def _too_many(text: str) -> ExecutorError:
    return ExecutorError(f"--gpus {text[:80]!r} asks for more than {MOST_DEVICES:,} devices: ask for fewer")


def _node_family(gpu: GpuClass) -> str:
    """What nodes of a class are called: its product, with the memory only where the product comes in two sizes."""
    sizes = Counter(other.name.rpartition("-")[0] for other in GPU_CLASSES.values())
    product = gpu.name.rpartition("-")[0]
    return (product if sizes[product] == 1 else gpu.name).lower()
