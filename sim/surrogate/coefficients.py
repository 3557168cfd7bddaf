"""The fitted numbers of the surrogate, as bench/fit_surrogate.py writes them, and where they come from."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHIPPED: Final = Path(__file__).with_name("coefficients.json")


class MemoryFit(msgspec.Struct, frozen=True):
    """GiB at the peak: `weights_gb` on the features of sim.surrogate.memory, in their order.

    `trial_cap_gb` is where the runs of the fit ran out of memory: less than the device has, because something else
    took a part; it serves to score the fit, and no forecast.
    """

    weights_gb: tuple[float, ...]
    trial_cap_gb: float


class SpeedFit(msgspec.Struct, frozen=True):
    """Seconds of one optimizer step on the reference device.

    The GPU's are on the features of sim.surrogate.speed, the data loader's for each forward pass, each row and each
    step. `untimed_steps` are taken before the clock starts; `queue_layers` is how many layers' kernels fit into the
    queue of launched work.
    """

    gpu_s: tuple[float, ...]
    loader_pass_s: float
    loader_row_s: float
    loader_step_s: float
    untimed_steps: int
    queue_layers: float


class Bowl(msgspec.Struct, frozen=True):
    """A learning rate's optimum, ln, at the reference shape; how it moves with ln batch and ln width; its walls."""

    optimum: float
    per_batch: float
    per_width: float
    above: float
    below: float


class LawFit(msgspec.Struct, frozen=True, dict=True):
    """The law of sim.surrogate.law, term by term, in bits per byte at the reference device and budget."""

    floor: float
    capacity: float
    depth_power: float
    width_power: float
    data_power: float
    critical_batch: float
    fresh_power: float
    accumulation_power: float
    small_heads: float
    large_heads: float
    long_windows: float
    shape_optimum: float
    shape_bowl: float
    decay_optimum: float
    decay_bowl: float
    warmup_free: float
    warmup_bowl: float
    warmdown_optimum: float
    warmdown_bowl: float
    final_optimum: float
    final_bowl: float
    bowls: tuple[Bowl, Bowl, Bowl, Bowl]

    @cached_property
    def walls(self) -> Array:
        """The bowls' numbers [name, rate], in the order of Bowl's fields."""
        return np.array([msgspec.structs.astuple(bowl) for bowl in self.bowls]).T


class CorrectionFit(msgspec.Struct, frozen=True, dict=True):
    """A sparse Gaussian process on what the law leaves over, in ln(bpb - warp); see sim.surrogate.correction."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    lengths: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    @cached_property
    def box(self) -> tuple[Array, Array]:
        """The range of each column in the data."""
        return np.asarray(self.low), np.asarray(self.high)

    @cached_property
    def scaling(self) -> tuple[Array, Array]:
        """What to subtract from each column, and to multiply it with, before distances are taken."""
        return np.asarray(self.mean), 1.0 / (np.asarray(self.scale) * np.asarray(self.lengths))

    @cached_property
    def inducing(self) -> tuple[Array, Array, Array]:
        """The scaled points as columns, their squared lengths, and their weights."""
        points = np.asarray(self.points) / np.asarray(self.lengths)
        return np.ascontiguousarray(points.T), (points * points).sum(1), np.asarray(self.weights)


class CurveFit(msgspec.Struct, frozen=True):
    """The shape of the training loss: see sim.surrogate.curve."""

    knee_steps: float
    power: float
    noise_share: float
    bytes_per_token: float


class OverheadFit(msgspec.Struct, frozen=True):
    """Seconds outside the budget: start-up at depth 0, per layer, and scored tokens per trained token's time."""

    startup_s: float
    layer_s: float
    score_speedup: float


class QualityFit(msgspec.Struct, frozen=True):
    """`best` is the best score of the data, `floor` what a forecast of the fitted knobs approaches but never passes."""

    best: float
    floor: float


class Coefficients(msgspec.Struct, frozen=True):
    """All that is fitted. `provenance` says from what, by what, and with what left out."""

    memory: MemoryFit
    speed: SpeedFit
    law: LawFit
    correction: CorrectionFit
    curve: CurveFit
    overhead: OverheadFit
    quality: QualityFit
    provenance: dict[str, Any]


@lru_cache(maxsize=1)
def shipped() -> Coefficients:
    """Read the coefficients that travel with the package, once a process."""
    return msgspec.json.decode(SHIPPED.read_bytes(), type=Coefficients)
