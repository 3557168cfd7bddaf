"""How long an optimizer step takes, how many fit into the budget, and how fresh the data of each step are."""

from __future__ import annotations

import math
from functools import lru_cache
from operator import mul
from statistics import NormalDist
from typing import Final, NamedTuple

from sim.gpus import H200, GpuClass
from sim.model import Setup
from sim.surrogate.coefficients import SpeedFit
from sim.surrogate.cost import count_windows, shape_cost

REFERENCE_GPU: Final = H200
REFERENCE_BUDGET_S: Final = 300.0
REFERENCE_SEQ: Final = 2048
REFERENCE_VOCAB: Final = 8192
REFERENCE_SHORT: Final = 0.5

_SHARPNESS: Final = 24
"""Of the maximum of the GPU's and the loader's time: they overlap but for about 3 % where they are equal."""
_MANY_PASSES: Final = 16
"""From this many passes on, the share of fresh data is taken as that of 16."""
_JITTER: Final = tuple(math.exp(0.11 * NormalDist().inv_cdf((n + 0.5) / 9)) for n in range(9))
"""Spread of the loader's pace over passes, 11 % (documents differ in length), as nine equally likely values."""


class Pace(NamedTuple):
    """Seconds of a step, those in which the GPU computes, and the share of a step's rows that are not repeats."""

    step_s: float
    gpu_s: float
    fresh: float


def tiles(width: int, size: int) -> int:
    """Return the width rounded up to whole tiles: what a matrix product really computes."""
    return -(-width // size) * size


def speed_features(setup: Setup) -> tuple[float, ...]:
    """Return the terms of the GPU's seconds in one step: what each weighs is fitted, and none less than 0.

    A step; passes; passes times layers (kernel launches); then per million tokens: the head and the loss, layers,
    layers times width (norms, rotations), the matrices (three ways of rounding their width to tiles), value tables,
    attention by head width for long and short windows; the optimizer's matrices and tables.
    """
    depth, width = float(setup.depth), float(setup.width)
    passes = max(setup.total_batch / max(setup.rows * setup.seq_len, 1), 1.0)
    tokens_m = setup.total_batch / 1e6
    windows = count_windows(setup.window_pattern, setup.depth)
    seen = setup.seq_len / REFERENCE_SEQ
    long_terms = tokens_m * windows.long * width * seen / 1e3
    short_terms = tokens_m * windows.short * width * seen * min(setup.short_window_ratio, 1.0) / REFERENCE_SHORT / 1e3
    kind = 0 if setup.head_dim <= 64 else 1 if setup.head_dim <= 128 else 2
    attention = [0.0] * 6
    attention[2 * kind], attention[2 * kind + 1] = long_terms, short_terms
    matrices = tokens_m * depth * (4.0 + 2.0 * setup.mlp_ratio) / 12.0
    vocabulary = setup.vocab_size / REFERENCE_VOCAB
    return (
        1.0,
        passes,
        passes * depth,
        tokens_m * vocabulary,
        tokens_m * width * vocabulary / 1e3,
        tokens_m * depth,
        tokens_m * depth * width / 1e3,
        matrices * width * width / 1e6,
        matrices * width * tiles(setup.width, 128) / 1e6,
        matrices * width * tiles(setup.width, 256) / 1e6,
        tokens_m * ((setup.depth + 1) // 2) * width / 1e3,
        *attention,
        depth * width * width / 1e9,
        depth * width * width * width / 1e12,
        (2 + (setup.depth + 1) // 2) * width * vocabulary / 1e6,
    )


def reference_gpu_s(setup: Setup, fit: SpeedFit) -> float:
    """Return the GPU's seconds in one step on the reference class.

    Where the cost was measured, time is proportional to FLOPs: those against the ones that the shape tells.
    """
    gpu_s = float(sum(map(mul, fit.gpu_s, speed_features(setup))))
    if setup.cost is not None:
        gpu_s *= max(setup.cost.flops_per_token, 1.0) / max(shape_cost(setup).flops_per_token, 1.0)
    return gpu_s


def pace(setup: Setup, reference_s: float, gpu: GpuClass, fit: SpeedFit) -> Pace:
    """Return how a step goes on a class at its nominal speed, from the GPU's seconds on the reference class."""
    gpu_s = reference_s * REFERENCE_GPU.speed / gpu.speed
    passes = max(round(setup.total_batch / max(setup.rows * setup.seq_len, 1)), 1)
    rows = setup.rows * setup.seq_len / REFERENCE_SEQ
    loader_s = (fit.loader_step_s + passes * (fit.loader_pass_s + fit.loader_row_s * rows)) / gpu.host_speed
    ahead = gpu_s / loader_s
    step_s = max(gpu_s, loader_s) * (1.0 + min(ahead, 1.0 / ahead) ** _SHARPNESS) ** (1.0 / _SHARPNESS)
    if passes == 1:
        return Pace(step_s, gpu_s, 1.0)
    queue = fit.queue_layers / max(setup.depth, 1)
    return Pace(step_s, gpu_s, fresh_share(min(passes, _MANY_PASSES), round(ahead, 3), round(queue, 3)))


def steps_in(budget_s: float, step_s: float, fit: SpeedFit) -> int:
    """Return the optimizer steps of a run: those before the clock starts, and the last one, which overruns it."""
    return fit.untimed_steps + max(math.ceil(budget_s / step_s), 1)


@lru_cache(maxsize=4096)
def fresh_share(passes: int, ahead: float, queue: float) -> float:
    """Return which share of a step's rows is new, where gradients of several passes are summed.

    The file that the data come from fills one pinned buffer and copies it to the GPU without waiting: where the GPU
    is `ahead` times slower than the loader, a batch is overwritten before it was copied, and its successor is used
    twice. What stops the loader from running away is the queue of launched kernels, which holds `queue` passes.

    The mechanism is inferred from that file and from the runs: with two passes, scores behave as if half of the data
    were missing exactly where ahead > 2, and only in models shallow enough for the queue (bench/surrogate_accuracy).
    """
    return sum(_fresh(passes, ahead * jitter, queue) for jitter in _JITTER) / len(_JITTER)


def _fresh(passes: int, pass_s: float, queue: float) -> float:
    """Play one step: the loader takes 1 s a batch, the GPU `pass_s` a pass; return the share of distinct batches."""
    python_s = 0.0
    starts: list[float] = []
    written: list[float] = []
    copied: list[float] = []
    for n in range(passes):
        free_s = starts[-1] + pass_s if starts else 0.0
        copied.append(max(written[-1], free_s) if n else 0.0)
        starts.append(max(python_s, copied[-1]))
        behind = n + 1 - queue  # the GPU must have come this far before the last kernel of the pass can be queued
        if behind > 0:
            whole = min(int(behind), n)
            python_s = max(python_s, starts[whole] + (behind - whole) * pass_s)
        python_s += 1.0
        written.append(python_s)
    used = {passes}
    for n in range(1, passes):
        batch = n
        while batch < passes and written[batch] <= copied[n] + 1e-9:
            batch += 1
        used.add(batch)
    return len(used) / passes
