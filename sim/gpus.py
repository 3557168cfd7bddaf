"""The device classes that can be simulated, with what is measured and what is assumed of each."""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class GpuClass(msgspec.Struct, frozen=True):
    """One product. `speed` is training throughput as a multiple of an H100; `usable_mb` what a run may take.

    `source` says whether the numbers are measured or assumed, and from what. `host_speed` is how fast the hosts of
    this class read data, as a multiple of the H200's: it decides how far the data loader runs ahead of the GPU
    (sim.surrogate.speed.fresh_share). `accumulation_bpb` is what runs lose on this class, beyond its speed, where
    gradients of several passes are summed.
    """

    name: str
    memory_mb: int
    usable_mb: int
    speed: float
    peak_tflops: float
    standing: Literal["measured", "assumed"]
    source: str
    host_speed: float = 1.0
    accumulation_bpb: float = 0.0


H100: Final = GpuClass(
    name="H100-80GB",
    memory_mb=81_559,
    usable_mb=78_500,
    speed=1.0,
    peak_tflops=989.5,
    standing="measured",
    source=(
        "steps and scores of published runs: 953 steps and 0.9979 of the default file; hosts and accumulation are "
        "calibrated on that run and eight one-step edits of it"
    ),
    host_speed=0.9,
    accumulation_bpb=0.002,
)
H200: Final = GpuClass(
    name="H200-141GB",
    memory_mb=143_771,
    usable_mb=138_000,
    speed=1.064,
    peak_tflops=989.5,
    standing="measured",
    source="6,498 published five-minute runs on H200, of which 585 are of the default file (1,013 steps, 0.9914)",
)

_USABLE_SHARE = 0.96
"""What a run may take of a device's memory, where nobody measured it: the share seen on an H100 and an H200."""


def _assumed(name: str, memory_mb: int, peak_tflops: float, source: str) -> GpuClass:
    """A class that nobody trained this file on: as fast, against an H100, as its dense BF16 peak says.

    Real kernels reach another share of the peak on every architecture (memory bandwidth, power limits, kernels that
    are not tuned for it yet), so a score on such a class is good for trying policies, not for prediction.
    """
    return GpuClass(
        name=name,
        memory_mb=memory_mb,
        usable_mb=int(_USABLE_SHARE * memory_mb),
        speed=round(peak_tflops / H100.peak_tflops, 4),
        peak_tflops=peak_tflops,
        standing="assumed",
        source=f"dense BF16 peak of {source} against an H100's, with the same efficiency assumed",
    )


A100_40: Final = _assumed("A100-40GB", 40_960, 312.0, "NVIDIA's A100 data sheet")
A100_80: Final = _assumed("A100-80GB", 81_920, 312.0, "NVIDIA's A100 data sheet")
L40S: Final = _assumed("L40S-48GB", 46_068, 362.0, "NVIDIA's L40S data sheet")
RTX_4090: Final = _assumed("RTX-4090-24GB", 24_564, 165.2, "NVIDIA's Ada architecture paper (FP32 accumulation)")
B200: Final = _assumed("B200-180GB", 183_359, 2_250.0, "NVIDIA's DGX B200 data sheet")

GPU_CLASSES: Final[dict[str, GpuClass]] = {
    gpu.name: gpu for gpu in (H100, H200, A100_40, A100_80, L40S, RTX_4090, B200)
}

PRODUCTS: Final[dict[str, str]] = {
    H100.name: "NVIDIA-H100-80GB-HBM3",
    H200.name: "NVIDIA-H200",
    A100_40.name: "NVIDIA-A100-SXM4-40GB",
    A100_80.name: "NVIDIA-A100-SXM4-80GB",
    L40S.name: "NVIDIA-L40S",
    RTX_4090.name: "NVIDIA-GeForce-RTX-4090",
    B200.name: "NVIDIA-B200",
}
"""What NVIDIA's feature discovery writes into a node's label `nvidia.com/gpu.product`, by class."""
