"""Two published sessions, run by run: what each edit did to the score, and what the surrogate says of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from bench.surrogate_data import karpathy_setup
from sim.gpus import H100, H200, GpuClass
from sim.model import Setup
from sim.surrogate import forecast
from sim.surrogate.effects import KNOB_EFFECTS

KARPATHY: Final = "karpathy_h100_mar8.tsv"
PR158: Final = "pr158_h200_mar10.tsv"
_TO: Final = r".*?([\d.]+K?) to ([\d.]+K?)"
_NUMBERS: Final = {
    r"unembedding LR" + _TO: "unembedding_lr",
    r"^embedding LR" + _TO: "embedding_lr",
    r"matrix LR" + _TO: "matrix_lr",
    r"^scalar LR" + _TO: "scalar_lr",
    r"^(?:weight decay|Muon WD)" + _TO: "weight_decay",
    r"^warmdown" + _TO: "warmdown_ratio",
    r"^FINAL_LR_FRAC" + _TO: "final_lr_frac",
    r"^softcap" + _TO: "softcap",
    r"^RoPE base" + _TO: "rope_base",
    r"^x0_lambda init" + _TO: "skip_init",
    r"^resid lambda init" + _TO: "residual_init",
    r"^Adam beta1" + _TO: "adam_beta1",
    r"^Adam beta2" + _TO: "adam_beta2",
    r"^muon final momentum" + _TO: "muon_momentum",
    r"^Muon (?:NorMuon )?beta2" + _TO: "muon_beta2",
    r"^Muon ns_steps" + _TO: "ns_steps",
    r"^MLP hidden 4x to ()([\d.]+)": "mlp_ratio",
    r"^(DEPTH)=(\d+)": "depth",
    r"^(MATRIX_LR)=([\d.]+)": "matrix_lr",
    r"^(WARMDOWN_RATIO)=([\d.]+)": "warmdown_ratio",
    r"^add ()(\d+)% warmup": "warmup_ratio",
}


class Edit(NamedTuple):
    """One run of a session: its description, its score and the incumbent's before it; what was forecast of both.

    `known` where the edit is one that the surrogate models; `blind` where that comes from the H200 runs alone: effects
    of other knobs and structures were read off this very session, among others.
    """

    text: str
    known: bool
    blind: bool
    kept: bool
    memory_gb: float
    real: float
    real_incumbent: float
    said: float
    said_incumbent: float
    said_memory_gb: float


def _number(text: str) -> float:
    return float(text[:-1]) * 1000 if text.endswith("K") else float(text)


def apply_edit(setup: Setup, text: str) -> Setup | None:
    """Return the setup after an edit that a session's line describes; None where the surrogate has no knob for it."""
    for pattern, knob in _NUMBERS.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            value = _number(found[2])
            if knob == "warmup_ratio":
                value /= 100
            if knob == "softcap" and value < 1:
                return None
            whole = knob in ("ns_steps", "depth")
            return msgspec.structs.replace(setup, **{knob: int(value) if whole else value})
    for pattern, change in _OTHERS.items():
        if found := re.search(pattern, text, re.IGNORECASE):
            return msgspec.structs.replace(setup, **change(found))
    return None


_OTHERS: Final[dict[str, Callable[[re.Match[str]], dict[str, Any]]]] = {
    r"^baseline DEPTH=12": lambda _: {"depth": 12, "width": 768, "total_batch": 2**18},
    r"^baseline$": lambda _: {},
    r"^halve batch": lambda _: {"total_batch": 2**18},
    r"^depth 9 aspect_ratio 57": lambda _: {"depth": 9, "width": 640},
    r"^depth (\d+).*?dim (\d+)": lambda m: {"depth": int(m[1]), "width": int(m[2])},
    r"^(S+L) (?:window )?pattern": lambda m: {"window_pattern": m[1]},
    r"short window (?:to )?1/(\d+)": lambda m: {"short_window_ratio": 1 / int(m[1])},
    r"^multi-query": lambda _: {"structure": frozenset({"mqa"})},
    r"^weight tying": lambda _: {"structure": frozenset({"weight-tying"})},
    r"^parallel attn": lambda _: {"structure": frozenset({"parallel-blocks"})},
    r"^DEPTH=12 ASPECT_RATIO=(?:80|75)": lambda _: {"width": 1024},
}


def replay(path: Path, gpu: GpuClass) -> list[Edit]:
    """Follow a session along its incumbents; crashes and edits of edits are left out, unknown keeps change nothing."""
    with path.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    incumbent, best = karpathy_setup(), float("nan")
    edits = []
    for row in rows:
        score = float(row["val_bpb"])
        if row["status"] == "crash":
            continue
        tried = _tried(incumbent, row["description"])
        known = tried is not None
        setup = incumbent if tried is None else tried
        said, before = forecast(setup, gpu, 300.0), forecast(incumbent, gpu, 300.0)
        if best == best:
            blind = known and _beyond_fit(setup) == _beyond_fit(incumbent)
            edits.append(
                Edit(row["description"], known, blind, row["status"] == "keep", float(row["memory_gb"]), score, best,
                     said.val_bpb, before.val_bpb, said.memory_mb / 1024)
            )  # fmt: skip
        if row["status"] == "keep":
            incumbent, best = setup, score
    return edits


def _beyond_fit(setup: Setup) -> tuple[Any, ...]:
    """Return all of a setup that the fit does not speak of."""
    return (setup.structure, *(getattr(setup, effect.knob) for effect in KNOB_EFFECTS))


def _tried(incumbent: Setup, text: str) -> Setup | None:
    if re.match(r"DEPTH=12 ASPECT", text):
        return msgspec.structs.replace(incumbent, width=1024)
    tried = apply_edit(incumbent, text)
    if tried is not None and re.match(r"DEPTH=14", text):
        return msgspec.structs.replace(tried, width=896)
    return tried


def karpathy_session(data: Path) -> list[Edit]:
    return replay(data / KARPATHY, H100)


def pr158_session(data: Path) -> list[Edit]:
    return replay(data / PR158, H200)
