"""The published runs that the surrogate is fitted to and scored on, as setups (mapping: docs/simulator.md)."""

from __future__ import annotations

import csv
import gzip
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from sim.model import Setup

SEQ_LEN: Final = 2048
VOCAB_SIZE: Final = 8192
KNOBS: Final = (
    "DEPTH", "ASPECT_RATIO", "HEAD_DIM", "DEVICE_BATCH_SIZE", "TOTAL_BATCH_SIZE", "EMBEDDING_LR", "UNEMBEDDING_LR",
    "MATRIX_LR", "SCALAR_LR", "WEIGHT_DECAY", "WARMUP_RATIO", "WARMDOWN_RATIO", "FINAL_LR_FRAC",
)  # fmt: skip
FAMILIES: Final = ("centaur", "cma_es", "karpathy_agent_hps", "llambo", "optuna", "random", "smac")
TRIALS: Final = "hpo_h200_trials.csv.gz"


DEFAULTS: Final[dict[str, Any]] = {
    "depth": 8, "aspect_ratio": 64, "head_dim": 128, "mlp_ratio": 4.0, "window_pattern": "SSSL",
    "short_window_ratio": 0.5, "rope_base": 10000.0, "attention_scale": 1.0, "softcap": 15.0, "residual_init": 1.0,
    "skip_init": 0.1, "total_batch": 2**19, "rows": 128, "embedding_lr": 0.6, "unembedding_lr": 0.004,
    "matrix_lr": 0.04, "scalar_lr": 0.5, "weight_decay": 0.2, "adam_beta1": 0.8, "adam_beta2": 0.95,
    "muon_momentum": 0.95, "muon_momentum_start": 0.85, "muon_momentum_ratio": 0.3, "muon_beta2": 0.95, "ns_steps": 5,
    "warmup_ratio": 0.0, "warmdown_ratio": 0.5, "final_lr_frac": 0.0, "seq_len": SEQ_LEN, "vocab_size": VOCAB_SIZE,
}  # fmt: skip
"""Karpathy's default file."""


class Trial(NamedTuple):
    """One published run; numbers that were not measured are nan. `knobs` are the 13 numeric ones, then the windows."""

    run: str
    family: str
    seed: int
    knobs: tuple[float | str, ...]
    setup: Setup
    ok: bool
    oom: bool
    val_bpb: float
    memory_gb: float
    train_s: float
    total_s: float
    steps: float
    mfu_pct: float
    params_m: float


def karpathy_setup(**changes: Any) -> Setup:
    """Return Karpathy's default file as a setup, with changes; `aspect_ratio` gives the width by its rounding."""
    values: dict[str, Any] = {**DEFAULTS, **changes}
    aspect = int(values.pop("aspect_ratio"))
    head, depth = int(values["head_dim"]), int(values["depth"])
    values.setdefault("width", -(-depth * aspect // head) * head)
    return Setup(**values)


def family_of(run: str) -> str:
    return next((family for family in FAMILIES if run.startswith(family)), run)


def read_trials(path: Path) -> list[Trial]:
    """Read trials in the columns of hpo_h200_trials.csv.gz; runs whose agent edited the code are left out."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return [trial for row in rows if (trial := _trial(row)) is not None]


def _trial(row: dict[str, str]) -> Trial | None:
    run = row["run"]
    edits_code = run.startswith("karpathy_agent") and "_hps" not in run
    if edits_code or not all(row[knob] for knob in (*KNOBS, "WINDOW_PATTERN")):
        return None
    value = {knob: float(row[knob]) for knob in KNOBS}
    seed = re.search(r"seed_?(\d+)", run)

    def measured(column: str) -> float:
        return float(row[column]) if row.get(column) else float("nan")

    setup = karpathy_setup(
        depth=int(value["DEPTH"]), aspect_ratio=int(value["ASPECT_RATIO"]), head_dim=int(value["HEAD_DIM"]),
        rows=int(value["DEVICE_BATCH_SIZE"]), total_batch=int(value["TOTAL_BATCH_SIZE"]),
        embedding_lr=value["EMBEDDING_LR"], unembedding_lr=value["UNEMBEDDING_LR"], matrix_lr=value["MATRIX_LR"],
        scalar_lr=value["SCALAR_LR"], weight_decay=value["WEIGHT_DECAY"], warmup_ratio=value["WARMUP_RATIO"],
        warmdown_ratio=value["WARMDOWN_RATIO"], final_lr_frac=value["FINAL_LR_FRAC"],
        window_pattern=row["WINDOW_PATTERN"],
    )  # fmt: skip
    return Trial(
        run=run, family=family_of(run), seed=int(seed[1]) if seed else -1,
        knobs=(*(value[knob] for knob in KNOBS), row["WINDOW_PATTERN"]), setup=setup,
        ok=row["success"] == "True", oom=row["error"].startswith("GPU out-of-memory"),
        val_bpb=measured("val_bpb"), memory_gb=measured("peak_memory_gb"), train_s=measured("wall_time_s"),
        total_s=measured("total_s"), steps=measured("num_steps"), mfu_pct=measured("mfu_pct"),
        params_m=measured("params_M"),
    )  # fmt: skip


class Distinct(NamedTuple):
    """All successful runs of one knob vector: their mean score, and how many there were."""

    knobs: tuple[float | str, ...]
    setup: Setup
    val_bpb: float
    runs: int


def usable(trials: Iterable[Trial]) -> list[Trial]:
    """Return the successful trials whose parameters are those of their knobs (one row of 6,499 is another model's)."""
    from sim.surrogate.cost import CALIBRATED_GATE_CHANNELS, shape_cost

    def consistent(trial: Trial) -> bool:
        params_m = shape_cost(trial.setup, CALIBRATED_GATE_CHANNELS).params / 1e6
        return abs(params_m - trial.params_m) <= 0.051 + 0.005 * trial.params_m

    return [trial for trial in trials if trial.ok and trial.val_bpb == trial.val_bpb and consistent(trial)]


def distinct(trials: Sequence[Trial]) -> list[Distinct]:
    """Merge runs of the same knobs, in the order of their first appearance."""
    groups: defaultdict[tuple[float | str, ...], list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.knobs].append(trial)
    return [
        Distinct(knobs, group[0].setup, sum(trial.val_bpb for trial in group) / len(group), len(group))
        for knobs, group in groups.items()
    ]
