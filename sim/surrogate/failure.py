"""How a setup fails on a device: no memory, or numbers that leave their range."""

from __future__ import annotations

import math
from typing import Final

from sim.gpus import GpuClass
from sim.model import Failure, Setup

_MB_PER_GB: Final = 1024.0
LARGEST_MATRIX_LR: Final = 1e5
LARGEST_SCALAR_LR: Final = 1e15
LARGEST_DECAY: Final = 4.0
"""Beyond these the loss becomes nan.

Seen with our train.py at toy sizes on a CPU (nan at a matrix rate of 1e6 but not at 1e3; at a scalar rate of 1e20 but
not at 1e9; at a matrix rate times a weight decay of 400 but not at 2; at an attention scale of 0; at no finite rate
of the embedding or the head). In the data nothing diverges, up to rates of 2 (embedding), 0.05 (head), 0.2 (matrices)
and 2 (scalars).
"""
_DIVERGED_AT: Final = 0.02


def failure_of(setup: Setup, memory_mb: float, steps: int, gpu: GpuClass) -> Failure | None:
    """Return how a run ends without a score, or None.

    Args:
        setup: what the file asks for.
        memory_mb: the peak that it needs.
        steps: optimizer steps in the budget.
        gpu: the device class.
    """
    if not memory_mb <= gpu.usable_mb:
        return Failure("oom", _out_of_memory(setup, memory_mb, gpu))
    if _diverges(setup):
        step = max(1, round(_DIVERGED_AT * steps))
        return Failure("nan", f"FloatingPointError: the loss is nan at step {step}", at_frac=_DIVERGED_AT)
    return None


def _diverges(setup: Setup) -> bool:
    rates = (setup.embedding_lr, setup.unembedding_lr, setup.matrix_lr, setup.scalar_lr)
    schedule = (setup.weight_decay, setup.warmup_ratio, setup.warmdown_ratio, setup.final_lr_frac)
    beyond = (setup.rope_base, setup.attention_scale, setup.softcap, setup.residual_init, setup.skip_init)
    return (
        not all(map(math.isfinite, (*rates, *schedule, *beyond)))
        or abs(setup.matrix_lr) > LARGEST_MATRIX_LR
        or abs(setup.scalar_lr) > LARGEST_SCALAR_LR
        or abs(setup.matrix_lr * setup.weight_decay) > LARGEST_DECAY
        or setup.attention_scale == 0
    )


def _out_of_memory(setup: Setup, memory_mb: float, gpu: GpuClass) -> str:
    """Word it as torch does; what is tried is the logits, the largest tensor of a pass, or all that is missing."""
    logits_mb = 4.0 * setup.rows * setup.seq_len * setup.vocab_size / 2**20
    wanted_mb = max(min(logits_mb, memory_mb), 2.0)
    free_mb = min(max(gpu.usable_mb - (memory_mb - wanted_mb), 0.0), 0.98 * wanted_mb)
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {wanted_mb / _MB_PER_GB:.2f} GiB. GPU 0 has a "
        f"total capacity of {gpu.memory_mb / _MB_PER_GB:.2f} GiB of which {free_mb / _MB_PER_GB:.2f} GiB is free."
    )
