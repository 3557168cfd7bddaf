"""What a model's shape costs: parameters, and multiplications and additions per trained token."""

from __future__ import annotations

from typing import NamedTuple

from sim.model import Cost, Setup

CALIBRATED_GATE_CHANNELS = 32
"""Inputs of a value gate in the file that the data come from (karpathy/autoresearch, train.py); ours reads them all."""


class Windows(NamedTuple):
    """How many layers see everything, how many only the short window, and what share of layers is long."""

    long: int
    short: int
    long_share: float


def count_windows(pattern: str, depth: int) -> Windows:
    """Count the layers by window: the pattern repeats, and the last layer always sees everything.

    In closed form, because an absurd depth must cost nothing.
    """
    whole, rest = divmod(depth, len(pattern))
    short = whole * pattern.count("S") + pattern[:rest].count("S")
    if depth and pattern[(depth - 1) % len(pattern)] == "S":
        short -= 1
    return Windows(depth - short, short, (depth - short) / max(depth, 1))


def shape_cost(setup: Setup, gate_channels: int | None = None) -> Cost:
    """Return the cost that the shape alone tells.

    Args:
        setup: the model's shape and windows.
        gate_channels: inputs of each value gate; by default the model's width, as in our train.py.

    FLOPs are 6 for each weight of a matrix product and token, and 12 * width * window for attention's scores and
    mixing (Chowdhery et al. 2022, PaLM, appendix B); tables that are only looked up cost none.
    """
    depth, width = setup.depth, setup.width
    mixing = (depth + 1) // 2
    gates = mixing * (setup.width // max(setup.head_dim, 1)) * (width if gate_channels is None else gate_channels)
    blocks = depth * width * width * (4.0 + 2.0 * setup.mlp_ratio)
    head = setup.vocab_size * width
    windows = count_windows(setup.window_pattern, depth)
    keys = setup.seq_len * (windows.long + windows.short * min(setup.short_window_ratio, 1.0))
    params = blocks + gates + head * (2 + mixing) + 2 * depth
    return Cost(params=round(params), flops_per_token=6.0 * (blocks + gates + head) + 12.0 * width * keys)


def cost_of(setup: Setup) -> Cost:
    """Return what the model costs: as measured, where it was, else from its shape."""
    return setup.cost if setup.cost is not None else shape_cost(setup)
