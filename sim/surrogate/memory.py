"""The peak of GPU memory that a setup needs."""

from __future__ import annotations

from typing import Final

from sim.model import Cost, Setup
from sim.surrogate.coefficients import MemoryFit
from sim.surrogate.cost import shape_cost

MB_PER_GB: Final = 1024.0
REFERENCE_SEQ: Final = 2048
REFERENCE_VOCAB: Final = 8192
HIDDEN_SHARE: Final = 0.47
"""Of a layer's activations, what is proportional to the MLP's ratio.

From peaks at 3.5 and 4.5 (57.4 and 63.1 GB, against 60.2 at 4, in Karpathy's session).
"""


def memory_features(setup: Setup) -> tuple[float, ...]:
    """Return the terms of the peak: what each weighs in GiB is fitted.

    A constant; rows (logits); rows times layers times width (activations); rows times width; millions of parameters
    in tables, in the head, in matrices; the accumulated gradients, where there are several passes in a step.
    """
    rows = setup.rows * setup.seq_len / REFERENCE_SEQ
    width, depth = float(setup.width), float(setup.depth)
    kept = 1.0 + HIDDEN_SHARE * (setup.mlp_ratio / 4.0 - 1.0)
    tables_m = (1 + (setup.depth + 1) // 2) * setup.vocab_size * width / 1e6
    matrices_m = depth * width * width * (4.0 + 2.0 * setup.mlp_ratio) / 1e6
    accumulates = float(setup.total_batch > setup.rows * setup.seq_len)
    return (
        1.0,
        rows * setup.vocab_size / REFERENCE_VOCAB,
        rows * depth * width * kept / 1e4,
        rows * width / 1e4,
        tables_m / 1e3,
        matrices_m / 1e3,
        accumulates * (tables_m + matrices_m) / 1e3,
        width * width / 1e6,
    )


def memory_mb(setup: Setup, cost: Cost, fit: MemoryFit) -> float:
    """Return the peak in MiB. Parameters that the shape does not explain count like those of the matrices.

    Gradients, momentum and the copy that is updated go with each parameter: 16 bytes (float32).
    """
    peak_gb = sum(weight * value for weight, value in zip(fit.weights_gb, memory_features(setup), strict=True))
    extra_gb = 0.0
    if setup.cost is not None:
        extra_gb = 16.0 * (cost.params - shape_cost(setup).params) / 2**30
    return max(peak_gb + extra_gb, 0.1) * MB_PER_GB
