"""What a launcher is told of its attempt (spec.json), and what it tells of the end, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from core.executor import AttemptSpec, ExecutorConfig

STARTUP_CAP_S: Final = {"cpu": 120.0, "cuda": 900.0}
"""From train.py's import to its first batch: on a GPU that is where torch.compile belongs."""
WALL_PER_BUDGET: Final = {"cpu": 10.0, "cuda": 1.0}
"""Wall seconds that a budget second may take: a CPU slot may have to share its core."""
WALL_SLACK_S: Final = 120.0
STEPS_WALL_S: Final = 3600.0
RESULT_FIELDS: Final = (
    "outcome", "val_bpb", "tier", "confinement", "probes", "train_s", "startup_s", "score_s", "steps", "tokens",
    "mem_mb", "params", "eval_tokens", "reason",
)  # fmt: skip


def spec_json(
    spec: AttemptSpec,
    config: ExecutorConfig,
    *,
    device: Mapping[str, Any],
    corpus_dir: str,
    python: str | None,
    slots: int,
    harness_sha256: str,
) -> dict[str, Any]:
    """The content of an attempt's spec.json.

    Args:
        spec, config: of the attempt and its session.
        device: {kind ("cpu" or "cuda"), index, name (product), cls}.
        corpus_dir, python: as the launcher sees them.
        slots: how many attempts share the machine's memory.
        harness_sha256: of the harness that the session measures with.
    """
    kind, options = str(device["kind"]), config.options
    in_steps = config.budget_kind == "steps"
    wall_cap_s = STEPS_WALL_S if in_steps else spec.budget_s * WALL_PER_BUDGET[kind] + WALL_SLACK_S
    return {
        "attempt": spec.attempt,
        "run": spec.run,
        "revision": spec.revision,
        "seed": spec.seed,
        "budget_s": spec.budget_s,
        "budget_kind": config.budget_kind,
        "max_steps": int(options["max_steps"]) if in_steps else 0,
        "device": dict(device),
        "corpus_dir": corpus_dir,
        "seq_len": config.seq_len,
        "eval_tokens": config.eval_tokens,
        "startup_cap_s": float(options.get("startup_cap_s", STARTUP_CAP_S[kind])),
        "wall_cap_s": float(options.get("wall_cap_s", wall_cap_s)),
        "python": python,
        "sandbox": config.sandbox,
        "slots": slots,
        "harness_sha256": harness_sha256,
    }
