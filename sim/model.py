"""What the parts of the simulated world tell each other: a file's setup, what it costs and scores, how it fails."""

from __future__ import annotations

from typing import Literal

import msgspec


class Cost(msgspec.Struct, frozen=True):
    """What a model costs, as measured on a meta device or computed from its shape.

    `params` counts all parameters; `flops_per_token` counts forward and backward multiplications and additions.
    """

    params: int
    flops_per_token: float


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What one `train.py` asks for, in numbers: all that the surrogate sees of it.

    The fields up to `final_lr_frac` are the file's knobs, under their names there. `width` is the model's real
    width (a multiple of head_dim), `rows` the sequences in one forward pass, `total_batch` tokens in one optimizer
    step. `softcap` is 0 without a cap.

    `structure` names the structural changes that were recognised ("swiglu", "no-values", ...); `unmodelled` says in
    words, for people, which changes have no modelled effect on quality; `cost` is the measured cost of the changed
    model, None where the shape alone tells it.
    """

    depth: int
    width: int
    head_dim: int
    mlp_ratio: float
    window_pattern: str
    short_window_ratio: float
    rope_base: float
    attention_scale: float
    softcap: float
    residual_init: float
    skip_init: float
    total_batch: int
    rows: int
    embedding_lr: float
    unembedding_lr: float
    matrix_lr: float
    scalar_lr: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    muon_momentum: float
    muon_momentum_start: float
    muon_momentum_ratio: float
    muon_beta2: float
    ns_steps: int
    warmup_ratio: float
    warmdown_ratio: float
    final_lr_frac: float
    seq_len: int
    vocab_size: int
    structure: frozenset[str] = frozenset()
    unmodelled: tuple[str, ...] = ()
    cost: Cost | None = None


class Failure(msgspec.Struct, frozen=True):
    """How a run of this file ends without a score; `reason` is what a real run would say.

    `at_frac` is the share of the training budget after which it happens; negative: before training starts, while
    the model is built or compiled.
    """

    outcome: Literal["crash", "oom", "nan"]
    reason: str
    at_frac: float = -1.0


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the surrogate says of one setup on one device class at its nominal speed, free of noise.

    `memory_mb` is the peak; `steps` counts optimizer steps in the budget; `startup_s` and `score_s` are spent before
    and after training. `loss_start` and `loss_end` (nats a token) with `loss_shape` define the curve: see
    sim.surrogate.loss_at. With a `failure` the score means nothing.
    """

    cost: Cost
    memory_mb: float
    tokens_per_s: float
    steps: int
    utilisation: float
    val_bpb: float
    bpb_per_ln_steps: float
    startup_s: float
    score_s: float
    loss_start: float
    loss_end: float
    loss_shape: tuple[float, ...]
    failure: Failure | None = None
