"""What was measured of knobs and structures beyond the fitted fourteen knobs: effects on the score at a fixed time.

Each effect is a difference to the default at the same training time, so what it costs in speed is in it already.
Sources: K is karpathy/autoresearch, branch exp/H100/mar8 (results.tsv, 126 rows); DAG is the H100 graph of
burtenshaw/multiautoresearch (14,732 submissions), one-step edits against their parent or, where the parent was a
lucky draw of a configuration that was repeated, against the mean of its repeats (0.9639).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, Literal

import msgspec

from sim.model import Setup

Standing = Literal["measured", "assumed"]

SLOPE_BEYOND: Final = 0.004
"""bpb for each unit of distance beyond the last value that was measured, at least: assumed, so that leaving costs."""


class KnobEffect(msgspec.Struct, frozen=True):
    """A knob's effect at some values, interpolated between them; `log` measures distance in e-folds."""

    knob: str
    default: float
    points: tuple[tuple[float, float], ...]
    log: bool
    source: str
    standing: Standing = "measured"


class StructureEffect(msgspec.Struct, frozen=True):
    """What a structural change does to the score. `absolute` where the score itself was measured."""

    name: str
    bpb: float
    source: str
    standing: Standing = "measured"
    absolute: bool = False


KNOB_EFFECTS: Final = (
    KnobEffect(
        "rope_base", 1e4, ((5e3, 0.0024), (1e4, 0.0), (1e5, 0.0002), (2e5, -0.0012), (4e5, -0.0003)), True,
        "K: 200k -.0012 (one kept run), 150k, 300k, 400k worse by .0011, .0007, .0009; DAG: 5k, 8k +.0024, 100k +.0002",
    ),
    KnobEffect(
        "attention_scale", 1.0, ((0.9, 0.0003), (1.0, 0.0), (1.2, -0.0003), (1.3, -0.0005), (1.5, -0.0003)), True,
        "DAG: 62 edits between 0.9 and 1.5, flat within .0005; 1.0 against 1.3 +.0006",
    ),
    KnobEffect(
        "softcap", 15.0,
        ((10, 0.0), (12, 0.0001), (15, 0.0), (18, 0.0003), (20, 0.0007), (25, 0.0027), (30, 0.0049), (60, 0.01)), True,
        "DAG: 20 edits between 12 and 30 and five without a cap (median +.0100); K: 13, 14 +.0002..+.0006, 20 +.0007",
    ),
    KnobEffect(
        "residual_init", 1.0,
        ((0.8, 0.0085), (0.9, 0.0075), (0.95, 0.0033), (1.0, 0.0), (1.05, 0.005), (1.1, 0.005)), False,
        "DAG: 0.8 +.0083, 0.9 +.0089, +.0105, 0.95 +.0029..+.0038, 1.05 +.0083, 1.1 +.0024; K: 0.9 +.0033",
    ),
    KnobEffect(
        "skip_init", 0.1,
        ((0.0, 0.0035), (0.03, 0.002), (0.05, -0.0006), (0.1, 0.0), (0.15, 0.0002), (0.2, 0.0013)), False,
        "K: 0.05 -.0008, then 0 +.0038, 0.04 +.0026, 0.06 +.0004; DAG: 0.03 +.0011..+.0035, 0.05 -.0006..0, 0.2 +.0013",
    ),
    KnobEffect(
        "adam_beta1", 0.8,
        ((0.7, 0.0015), (0.75, 0.0015), (0.78, 0.0005), (0.8, 0.0), (0.82, 0.0004), (0.85, 0.0006), (0.9, 0.0012)),
        False, "DAG: 31 edits between 0.75 and 0.85; K: 0.85 +.0003, 0.9 +.0016; 0.7 assumed as 0.75",
    ),
    KnobEffect(
        "adam_beta2", 0.95, ((0.9, 0.0003), (0.95, 0.0), (0.97, 0.0003), (0.98, 0.0005), (0.99, 0.001)), False,
        "DAG: eleven edits between 0.96 and 0.99; K: 0.99 +.0005; 0.9 assumed",
    ),
    KnobEffect(
        "muon_momentum", 0.95,
        ((0.88, 0.0007), (0.9, 0.0002), (0.92, 0.0), (0.95, 0.0), (0.96, 0.0), (0.97, 0.0005)), False,
        "DAG: 60 edits between 0.88 and 0.96, all within noise of the default but the lowest; K: 0.96 +.0003",
    ),
    KnobEffect(
        "muon_momentum_start", 0.85, ((0.8, 0.0), (0.85, 0.0), (0.97, 0.0)), False,
        "DAG: eight edits between 0.80 and 0.97 within noise; K: 0.80 +.0001",
    ),
    KnobEffect(
        "muon_momentum_ratio", 0.3, ((0.0, 0.0), (0.3, 0.0), (0.4, 0.0)), False,
        "DAG and K: rises over 0 to 400 steps (of about 1,000 to 2,000) within noise; K: 200 for 300 steps -.0003",
    ),
    KnobEffect(
        "muon_beta2", 0.95, ((0.0, 0.0), (0.3, 0.0003), (0.9, 0.0), (0.95, 0.0), (0.98, 0.0), (0.99, 0.0004)), False,
        "DAG: 15 edits; K: 0.90 +.0003, 0.98 +.0006: SkyPilot's -.001 at 0.98 does not replicate",
    ),
    KnobEffect(
        "ns_steps", 5, ((3, 0.01), (4, 0.0015), (5, 0.0), (6, 0.0), (8, 0.0)), False,
        "DAG: 3 +.0102, 4 +.0019 (later +.003..+.008), 6 within noise, 8 -.0005 (4 runs); K: 4 +.0009",
    ),
    KnobEffect(
        "mlp_ratio", 4.0, ((3.0, 0.0048), (3.5, 0.003), (4.0, 0.0), (4.5, 0.0008), (5.0, 0.001), (6.0, 0.0045)), False,
        "DAG: 3 +.0040, +.0056, 3.5 +.0053..+.0063, 4.5 +.0008, +.0013, 5 +.0010, 6 +.0045; K: 3.5 +.0011, 4.5 +.0007",
    ),
    KnobEffect(
        "short_window_ratio", 0.5,
        ((1 / 16, 0.0002), (1 / 10, -0.0002), (1 / 8, -0.0006), (1 / 4, -0.0001), (0.5, 0.0), (1.0, 0.0015)),
        True,
        "K: 1/8 -.0009, then 1/6 +.0013, 1/10 +.0005; DAG: 1/4 -.0001..+.0007, 1/8 -.0003, 1/16 0..+.001, long +.0015",
    ),
)  # fmt: skip

STRUCTURE_EFFECTS: Final = (
    StructureEffect("swiglu", 0.0054, "DAG: -.0003, +.0024, +.0054, +.0083, +.0098 on different bases (median)"),
    StructureEffect("gelu", 0.0243, "DAG: +.0236, +.0250"),
    StructureEffect("silu", 0.0196, "DAG: +.0178, +.0214"),
    StructureEffect("no-values", 0.0089, "DAG: +.0089 (one run)"),
    StructureEffect("no-softcap", 0.01, "DAG: +.0075, +.0080, +.0100, +.0115, +.0129 (median)"),
    StructureEffect("gqa", 0.0052, "DAG: half of the key-value heads +.0050, +.0052, +.0091 (median)"),
    StructureEffect("mqa", 0.0079, "K: +.0079 (one run)"),
    StructureEffect("parallel-blocks", 0.012, "K: +.0110; DAG: +.0129"),
    StructureEffect("dropout", 0.009, "DAG: 5 % +.0090 (one run); other rates are taken for 5 %"),
    StructureEffect("label-smoothing", 0.3447, "DAG: 0.1 +.3423, +.3472; 0.05 +.185, 0.01 +.043; taken for 0.1"),
    StructureEffect("qk-norm-before-rope", -0.001, "DAG: -.0012 where it was added, +.0007 where it was taken back"),
    StructureEffect("bigram", 0.0007, "DAG: hashed bigram table +.0007 (one run)"),
    StructureEffect("plain-muon", 0.0, "DAG: four edits of NorMuon's variance between -.0003 and +.0010"),
    StructureEffect("weight-tying", 3.2158, "K: 3.2158 (one run: as an untrained model)", absolute=True),
)  # fmt: skip

FITTED_RANGES: Final[dict[str, tuple[float, float]]] = {
    "depth": (4, 24),
    "width": (192, 1664),
    "head_dim": (64, 256),
    "total_batch": (2**16, 2**21),
    "embedding_lr": (0.01, 2.0),
    "unembedding_lr": (0.0005, 0.05),
    "matrix_lr": (0.005, 0.2),
    "scalar_lr": (0.05, 2.0),
    "weight_decay": (0.0, 0.5),
    "warmup_ratio": (0.0, 0.3),
    "warmdown_ratio": (0.1, 0.8),
    "final_lr_frac": (0.0, 0.2),
}
"""Where the runs lie that law and correction were fitted to (its correction's box, rounded outwards)."""

_BY_NAME: Final = {effect.name: effect for effect in STRUCTURE_EFFECTS}


def _at(effect: KnobEffect, value: float) -> float:
    """Return the effect at a value: between measured ones on a straight line, beyond them ever worse."""

    def place(v: float) -> float:
        return math.log(max(v, 1e-12)) if effect.log else v

    points = effect.points
    if value <= points[0][0] or value >= points[-1][0]:
        edge = points[0] if value <= points[0][0] else points[-1]
        return edge[1] + SLOPE_BEYOND * abs(place(value) - place(edge[0]))
    for (left, below), (right, above) in pairwise(points):
        if value <= right:
            share = (place(value) - place(left)) / (place(right) - place(left))
            return below + share * (above - below)
    raise ValueError(f"{effect.knob} = {value} is not a number")


def knob_bpb(setup: Setup, short_share: float) -> float:
    """Return what the knobs beyond the fitted ones do to the score; `short_share` of the layers have short windows."""
    total = 0.0
    for effect in KNOB_EFFECTS:
        value = getattr(setup, effect.knob)
        if value == effect.default or (effect.knob == "softcap" and value == 0):
            continue  # without a cap is a structure of its own
        total += _at(effect, value) * (short_share / 0.75 if effect.knob == "short_window_ratio" else 1.0)
    return total


def structure_bpb(setup: Setup) -> tuple[float, float]:
    """Return what structural changes add to the score, and the least that it is then (where a score was measured)."""
    names = set(setup.structure) | ({"no-softcap"} if setup.softcap == 0 else set())
    known = [_BY_NAME[name] for name in sorted(names) if name in _BY_NAME]
    added = sum(effect.bpb for effect in known if not effect.absolute)
    return added, max((effect.bpb for effect in known if effect.absolute), default=0.0)


def unmodelled_knobs(setup: Setup) -> tuple[str, ...]:
    """Return, in words, what of a setup has no measured effect on quality: the caller labels it.

    A structure that nobody measured counts as 0; a knob outside the values that were measured only gets worse.
    """
    said = [name for name in sorted(setup.structure) if name not in _BY_NAME]
    measured = {effect.knob: (effect.points[0][0], effect.points[-1][0]) for effect in KNOB_EFFECTS}
    for knob, (low, high) in (FITTED_RANGES | measured).items():
        value = getattr(setup, knob)
        if not low <= value <= high and not (knob == "softcap" and value == 0):
            said.append(f"{knob.upper()} = {value:g}, beyond the measured {low:g} to {high:g}")
    return tuple(said)
