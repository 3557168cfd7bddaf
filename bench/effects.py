"""Measure what changes of train.py do to val_bpb on one CPU thread: the table in docs/target.md.

    python bench/effects.py --corpus DIR [--seeds 0 1] [--budget-s 20] baseline ATTENTION_SCALE=2.0 bigram+smear

A variant is "baseline", or knobs (NAME=literal) and keys of structural edits joined by "+". It stands on the
profile `cpu`. There is no harness here: a budget of process CPU seconds, the same windows of the corpus for the
same seed, and a score over the first 128 Ki held-out tokens. Needs torch.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from core.patching import Edit, apply_edits, set_constants  # noqa: E402
from core.profile import PROFILES  # noqa: E402
from core.researchers.catalogue import STRUCTURAL  # noqa: E402

PROFILE = PROFILES["cpu"]
EDITS = {edit.key: edit.edits for edit in STRUCTURAL}


class CpuRun:
    """The run API of train.py over a corpus in memory, with a budget of process CPU seconds."""

    device = "cpu"

    def __init__(self, corpus: np.ndarray, vocab_size: int, seed: int, budget_s: float) -> None:
        self.vocab_size, self.seq_len, self.seed = vocab_size, PROFILE.seq_len, seed
        self.corpus, self.budget_s, self.steps = corpus, budget_s, 0
        self.started_s = math.inf

    @property
    def elapsed_fraction(self) -> float:
        return min(1.0, max(0.0, time.process_time() - self.started_s) / self.budget_s)

    def warmup_batch(self, batch_rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.randint(self.vocab_size, (batch_rows, self.seq_len + 1))
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def batches(self, batch_rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.started_s = time.process_time()
        random_numbers = np.random.default_rng(self.seed)
        while self.elapsed_fraction < 1.0:
            starts = random_numbers.integers(len(self.corpus) - self.seq_len, size=(batch_rows, 1))
            tokens = torch.from_numpy(self.corpus[starts + np.arange(self.seq_len + 1)].astype(np.int64))
            yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def report(self, _loss: float | torch.Tensor) -> None:
        self.steps += 1


def make_variant(variant: str) -> str:
    """Return the source of train.py for the profile `cpu` with the variant's edits and knobs."""
    source = set_constants((ROOT / "train.py").read_text(), PROFILE.overrides)
    for part in variant.split("+") if variant != "baseline" else ():
        if "=" in part:
            source = set_constants(source, dict([part.split("=", 1)]))
        else:
            source = apply_edits(source, [Edit(old, new) for old, new in EDITS[part]])
    return source


@torch.no_grad()
def score(model: torch.nn.Module, val: np.ndarray, token_bytes: np.ndarray) -> float:
    """Return bits per byte over the first `eval_tokens` held-out tokens."""
    rows = PROFILE.eval_tokens // PROFILE.seq_len
    tokens = torch.from_numpy(val[: rows * PROFILE.seq_len + 1].astype(np.int64))
    nats = sizes = 0.0
    inputs, targets = (x.view(rows, PROFILE.seq_len) for x in (tokens[:-1], tokens[1:]))
    for first in range(0, rows, 64):
        x, y = inputs[first : first + 64], targets[first : first + 64].flatten()
        losses = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y, reduction="none")
        bytes_of = torch.from_numpy(token_bytes.astype(np.float64))[y]
        nats += losses.double()[bytes_of > 0].sum().item()
        sizes += bytes_of.sum().item()
    return nats / (math.log(2) * sizes)


def run(variant: str, corpus: Path, seed: int, budget_s: float) -> dict[str, Any]:
    """Train and score one variant with one seed."""
    meta = json.loads((corpus / "meta.json").read_text())
    train, val = (np.fromfile(corpus / f"{part}.bin", meta["dtype"]) for part in ("train", "val"))
    token_bytes = np.fromfile(corpus / "token_bytes.bin", np.uint8 if meta["dtype"] == "uint8" else np.uint16)
    torch.manual_seed(seed)
    random.seed(seed)
    target = ModuleType("target")
    sys.modules["target"] = target
    exec(compile(make_variant(variant), "train.py", "exec"), target.__dict__)
    model = target.build(meta["vocab_size"], PROFILE.seq_len, "cpu")
    cpu_run = CpuRun(train, meta["vocab_size"], seed, budget_s)
    with contextlib.redirect_stdout(io.StringIO()):
        target.train(cpu_run, model)
    return {"variant": variant, "seed": seed, "val_bpb": score(model, val, token_bytes), "steps": cpu_run.steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variants", nargs="*", default=["baseline"], metavar="VARIANT")
    parser.add_argument("--corpus", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--budget-s", type=float, default=PROFILE.budget_s)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in options.seeds:
        for variant in options.variants:
            print(json.dumps(run(variant, options.corpus, seed, options.budget_s)), flush=True)


if __name__ == "__main__":
    main()
