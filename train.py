# ruff: noqa: N815, T201
"""One GPT and how it is trained: the only file that a researcher edits.

The harness calls `build` for the model and `train` to train it until the budget is spent, and scores the
weights that are left. Everything between the two is free to change. Progress is a fraction of the budget, never
a number of steps, so that one file suits every device and every budget.

A tensor's name ends in its axes: B rows of a batch, T positions, D model width, H heads, K head width, F MLP
width, V vocabulary; and for the optimizer N matrices stacked, R rows, C columns. So x_BTD is x[row, position,
channel].
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if torch.cuda.is_available():  # a second of import that a CPU has no use for
    from torch.nn.attention.varlen import varlen_attn

# ---- Knobs: one literal each, sized for an 80 GB H100. A profile overrides sizes on smaller devices. ----

# The model.
DEPTH = 8
ASPECT_RATIO = 64  # width = DEPTH * ASPECT_RATIO, rounded up to whole heads
HEAD_DIM = 128
MLP_RATIO = 4
WINDOW_PATTERN = "SSSL"  # layer by layer, repeated: S short window, L all; the last layer always sees all
SHORT_WINDOW_RATIO = 0.5  # of the sequence
ROPE_BASE = 10000.0
ATTENTION_SCALE = 1.0  # times 1 / sqrt(HEAD_DIM); queries and keys are normed, so this sets how sharp attention is
SOFTCAP = 15.0
RESIDUAL_INIT = 1.0  # what a layer takes of the stream so far, at the start
SKIP_INIT = 0.1  # and of the token embedding

# The batch.
TOTAL_BATCH_SIZE = 2**19  # tokens in one optimizer step
DEVICE_BATCH_SIZE = 128  # rows in one forward pass, at most; memory is proportional to it

# The optimizers. Adam's rates are stated for a width of 768 and scale with width ** -0.5.
EMBEDDING_LR = 0.6
UNEMBEDDING_LR = 0.004
MATRIX_LR = 0.04
SCALAR_LR = 0.5
WEIGHT_DECAY = 0.2  # on matrices only, falling to 0 over the budget
ADAM_BETAS = (0.8, 0.95)
MUON_MOMENTUM = 0.95
MUON_MOMENTUM_START = 0.85
MUON_MOMENTUM_RATIO = 0.3  # of the budget, until the momentum has risen to its full value
MUON_BETA2 = 0.95
NS_STEPS = 5

# The schedule, in fractions of the budget.
WARMUP_RATIO = 0.0
WARMDOWN_RATIO = 0.5
FINAL_LR_FRAC = 0.0

# Coefficients a, b, c of a x + b x^3 + c x^5, which each step of the orthogonalisation applies to the singular
# values: the first steps pull small ones up fast, the last ones settle all from 1e-3 to 1 between 0.85 and 1.15.
# From "The Polar Express" (Amsel et al. 2025, arXiv 2505.16932), for five steps, with 2 % to spare for rounding.
POLAR_EXPRESS = (
    (8.156555, -22.483293, 15.878770),
    (4.042930, -2.808917, 0.500018),
    (3.891668, -2.772484, 0.506065),
    (3.285754, -2.368129, 0.464490),
    (2.346541, -1.709783, 0.423236),
)
LOG_LINES = 20


class Run(Protocol):
    """What the harness offers to `train`."""

    device: str
    vocab_size: int
    seq_len: int
    seed: int

    @property
    def elapsed_fraction(self) -> float:
        """The share of the budget that is spent, 0..1."""

    def warmup_batch(self, batch_rows: int) -> tuple[Tensor, Tensor]:
        """Return random inputs_BT and targets_BT, free of the clock: to compile with."""

    def batches(self, batch_rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Start the clock; yield inputs_BT and targets_BT until the budget is spent."""

    def report(self, loss: float | Tensor) -> None:
        """Tell the harness that an optimizer step is done."""


# ---- The model ----


def norm(x: Tensor) -> Tensor:
    """Scale each vector of the last axis to a root mean square of 1; there is nothing to learn in it."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


def matrix(*shape: int, device: str, std: float = 0.0) -> nn.Parameter:
    """Return a parameter drawn uniformly with the deviation `std`; what writes to the stream starts at 0."""
    return nn.Parameter(torch.empty(shape, device=device).uniform_(-1, 1) * (std * 3**0.5))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight.T in the precision of x: the optimizer keeps float32 weights, products may be bfloat16."""
    return F.linear(x, weight.to(x.dtype))


def compute_dtype(device: str) -> torch.dtype:
    """Return bfloat16 where the hardware multiplies it fast (Ampere and later), else float32."""
    modern = device.startswith("cuda") and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if modern else torch.float32


def rotary_tables(seq_len: int, head_dim: int, device: str) -> tuple[Tensor, Tensor]:
    """Return cos_TK and sin_TK; sin carries the signs, so that x * cos + roll(x, K/2) * sin rotates each pair."""
    turns_per_step = ROPE_BASE ** -torch.linspace(0, 1, head_dim // 2 + 1, device=device)[:-1]
    angle = torch.outer(torch.arange(seq_len, device=device), turns_per_step)
    return torch.cat([angle.cos()] * 2, -1), torch.cat([-angle.sin(), angle.sin()], -1)


def window_mask(seq_len: int, window: int, device: str) -> Tensor:
    """Return mask_TT: position i (row) sees itself and the `window` positions before it."""
    distance = torch.arange(seq_len, device=device)[:, None] - torch.arange(seq_len, device=device)
    return (distance >= 0) & (distance <= window)


class Attention(nn.Module):
    """Causal self-attention that looks back `window` positions."""

    mask_TT: Tensor | None

    def __init__(self, dim: int, window: int, seq_len: int, device: str, *, mixes_values: bool) -> None:
        super().__init__()
        self.n_heads = dim // HEAD_DIM
        self.window = window if window < seq_len else -1
        self.scale = ATTENTION_SCALE * HEAD_DIM**-0.5
        # Three matrices in one product; the optimizer treats each by itself.
        self.qkv_3DD = matrix(3, dim, dim, device=device, std=dim**-0.5)
        self.out_DD = matrix(dim, dim, device=device)
        self.value_gate_HD = matrix(self.n_heads, dim, device=device) if mixes_values else None
        self.flash = compute_dtype(device) == torch.bfloat16
        mask_TT = None if self.flash or self.window < 0 else window_mask(seq_len, window, device)
        self.register_buffer("mask_TT", mask_TT, persistent=False)

    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], value_BTD: Tensor | None) -> Tensor:
        """Return what the heads gather, x_BTD; `value_BTD` is the token's value embedding, if the layer has one."""
        B, T, D = x_BTD.shape
        qkv_BT3HK = linear(x_BTD, self.qkv_3DD.flatten(0, 1)).view(B, T, 3, self.n_heads, HEAD_DIM)
        qk_BT2HK, v_BTHK = qkv_BT3HK[:, :, :2], qkv_BT3HK[:, :, 2]
        if self.value_gate_HD is not None and value_BTD is not None:
            # The gate starts at 1: sigmoid(0) = 1/2.
            gate_BTH1 = 2 * torch.sigmoid(linear(x_BTD, self.value_gate_HD)).unsqueeze(-1)
            v_BTHK = v_BTHK + gate_BTH1 * value_BTD.view_as(v_BTHK)
        cos_T11K, sin_T11K = (table[:T, None, None] for table in rope)
        qk_BT2HK = qk_BT2HK * cos_T11K + qk_BT2HK.roll(HEAD_DIM // 2, -1) * sin_T11K
        # Normed queries and keys bound the attention logits, which keeps high learning rates stable.
        q_BTHK, k_BTHK = norm(qk_BT2HK).unbind(2)
        attend = self.attend_flash if self.flash else self.attend_masked
        return linear(attend(q_BTHK, k_BTHK, v_BTHK).reshape(B, T, D), self.out_DD)

    def attend_flash(self, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor) -> Tensor:
        """Attend with FlashAttention, whose cost is proportional to the window; each row is one sequence."""
        B, T = q_BTHK.shape[:2]
        starts = torch.arange(0, B * T + 1, T, dtype=torch.int32, device=q_BTHK.device)
        q, k, v = (x.flatten(0, 1).contiguous() for x in (q_BTHK, k_BTHK, v_BTHK))
        y = varlen_attn(q, k, v, starts, starts, T, T, scale=self.scale, window_size=(self.window, 0))
        return y.view_as(q_BTHK)  # type: ignore[union-attr]  # a tuple only when asked for the log-sum-exp

    def attend_masked(self, q_BTHK: Tensor, k_BTHK: Tensor, v_BTHK: Tensor) -> Tensor:
        """Attend on any device, with a mask for the window."""
        T = q_BTHK.shape[1]
        mask_TT = None if self.mask_TT is None else self.mask_TT[:T, :T]
        q, k, v = (x.transpose(1, 2) for x in (q_BTHK, k_BTHK, v_BTHK))
        y_BHTK = F.scaled_dot_product_attention(q, k, v, mask_TT, is_causal=mask_TT is None, scale=self.scale)
        return y_BHTK.transpose(1, 2)


class MLP(nn.Module):
    """Two matrices with a squared ReLU between them, which is sparse and cheap."""

    def __init__(self, dim: int, device: str) -> None:
        super().__init__()
        self.in_FD = matrix(MLP_RATIO * dim, dim, device=device, std=dim**-0.5)
        self.out_DF = matrix(dim, MLP_RATIO * dim, device=device)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return x_BTD, each position by itself."""
        h_BTF = F.relu(linear(x_BTD, self.in_FD)).square()
        return linear(h_BTF, self.out_DF)


class Block(nn.Module):
    """Attention, then MLP, each added to the stream."""

    def __init__(self, dim: int, window: int, seq_len: int, device: str, *, mixes_values: bool) -> None:
        super().__init__()
        self.attention = Attention(dim, window, seq_len, device, mixes_values=mixes_values)
        self.mlp = MLP(dim, device)

    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], value_BTD: Tensor | None) -> Tensor:
        """Return the stream x_BTD after this layer."""
        x_BTD = x_BTD + self.attention(norm(x_BTD), rope, value_BTD)
        change_BTD: Tensor = self.mlp(norm(x_BTD))
        return x_BTD + change_BTD


class GPT(nn.Module):
    """The language model: tokens_BT to logits_BTV."""

    cos_TK: Tensor
    sin_TK: Tensor

    def __init__(self, vocab_size: int, seq_len: int, device: str) -> None:
        super().__init__()
        self.dim = -(-DEPTH * ASPECT_RATIO // HEAD_DIM) * HEAD_DIM
        self.dtype = compute_dtype(device)
        self.embed = nn.Embedding(vocab_size, self.dim, device=device)
        # Every other layer, the last one included, adds a second embedding of the token to its values: memory
        # that costs no multiplication.
        mixing = range((DEPTH - 1) % 2, DEPTH, 2)
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab_size, self.dim, device=device) for i in mixing})
        self.blocks = nn.ModuleList(
            Block(self.dim, layer_window(i, seq_len), seq_len, device, mixes_values=i in mixing) for i in range(DEPTH)
        )
        self.residual_L = nn.Parameter(torch.full((DEPTH,), RESIDUAL_INIT, device=device))
        self.skip_L = nn.Parameter(torch.full((DEPTH,), SKIP_INIT, device=device))
        self.head_VD = matrix(vocab_size, self.dim, device=device, std=0.001)
        for name, table in zip(("cos_TK", "sin_TK"), rotary_tables(seq_len, HEAD_DIM, device), strict=True):
            self.register_buffer(name, table.to(self.dtype), persistent=False)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Return logits_BTV in float32; position t sees tokens up to and including t."""
        rope = self.cos_TK, self.sin_TK
        x_BTD = x0_BTD = norm(self.embed(tokens_BT).to(self.dtype))
        for i, block in enumerate(self.blocks):
            x_BTD = self.residual_L[i] * x_BTD + self.skip_L[i] * x0_BTD
            value_BTD = self.value_embeds[str(i)](tokens_BT).to(self.dtype) if str(i) in self.value_embeds else None
            x_BTD = block(x_BTD, rope, value_BTD)
        logits_BTV = linear(norm(x_BTD), self.head_VD).float()
        return SOFTCAP * torch.tanh(logits_BTV / SOFTCAP)


def layer_window(layer: int, seq_len: int) -> int:
    """Return how many positions before its own the layer sees."""
    short = WINDOW_PATTERN[layer % len(WINDOW_PATTERN)] == "S" and layer < DEPTH - 1
    return max(1, int(seq_len * SHORT_WINDOW_RATIO)) if short else seq_len


def rows_per_pass(seq_len: int) -> int:
    """Return the rows of one forward pass: DEVICE_BATCH_SIZE, or fewer where a whole step is smaller."""
    rows = min(DEVICE_BATCH_SIZE, TOTAL_BATCH_SIZE // seq_len)
    whole = rows > 0 and TOTAL_BATCH_SIZE % (rows * seq_len) == 0
    assert whole, (
        f"TOTAL_BATCH_SIZE {TOTAL_BATCH_SIZE} must be a multiple of DEVICE_BATCH_SIZE * seq_len = {rows} * {seq_len}"
    )
    return rows


def build(vocab_size: int, seq_len: int, device: str) -> nn.Module:
    """Return the untrained model: int64 tokens (B, T) to logits (B, T, V)."""
    assert set(WINDOW_PATTERN) <= set("SL"), f"WINDOW_PATTERN {WINDOW_PATTERN!r} may hold only S and L"
    assert HEAD_DIM % 2 == 0, f"HEAD_DIM {HEAD_DIM} must be even: rotary embeddings turn pairs of channels"
    rows_per_pass(seq_len)  # a batch that cannot be divided should fail here, before anything is spent
    return GPT(vocab_size, seq_len, device)


# ---- The optimizers ----


def orthogonalise(x_NRC: Tensor) -> Tensor:
    """Return the nearest (semi-)orthogonal matrices, roughly: all singular values are pulled towards 1.

    Only products of matrices, so it runs in bfloat16 on a GPU. Method: Jordan et al. 2024 (Muon), with the
    coefficients of POLAR_EXPRESS.
    """
    tall = x_NRC.shape[-2] > x_NRC.shape[-1]
    x = x_NRC.mT if tall else x_NRC  # the Gram matrix of the short side is the small one
    # The Frobenius norm bounds the largest singular value; a little more, because bfloat16 rounds.
    x = x / (1.02 * x.norm(dim=(-2, -1), keepdim=True) + 1e-6)
    x = x.to(torch.bfloat16) if x.is_cuda else x
    for step in range(NS_STEPS):
        a, b, c = POLAR_EXPRESS[min(step, len(POLAR_EXPRESS) - 1)]
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


@torch.no_grad()
def muon_step(
    params: list[Tensor], grads: list[Tensor], momentum_NRC: Tensor, variance_NR1: Tensor, knobs: tuple[Tensor, ...]
) -> None:
    """Update matrices of one shape in place; `knobs` are 0-D tensors, so that a new value compiles nothing anew."""
    lr, weight_decay, momentum, beta2 = knobs
    shape = momentum_NRC.shape[-2:]
    grad_NRC = torch.cat([grad.reshape(-1, *shape) for grad in grads])
    momentum_NRC.lerp_(grad_NRC, 1 - momentum)
    update_NRC = orthogonalise(grad_NRC.lerp(momentum_NRC, momentum)).float()  # Nesterov: one step ahead
    # Even out the rows (neurons), which orthogonalisation leaves uneven, but keep the size of the whole.
    # Method: NorMuon (Li et al. 2025, arXiv 2510.05491).
    size_N11 = update_NRC.norm(dim=(-2, -1), keepdim=True)
    variance_NR1.lerp_(update_NRC.square().mean(-1, keepdim=True), 1 - beta2)
    update_NRC = update_NRC * variance_NR1.clamp_min(1e-10).rsqrt()
    update_NRC = update_NRC * (size_N11 / update_NRC.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))
    param_NRC = torch.cat([param.view(-1, *shape) for param in params])
    # Decay a weight only where the update shrinks it too: never against the gradient (cautious weight decay).
    decay_NRC = weight_decay * param_NRC * (update_NRC * param_NRC > 0)
    change_NRC = lr * max(1.0, shape[0] / shape[1]) ** 0.5 * (update_NRC + decay_NRC)
    for param, change in zip(params, change_NRC.split([p.numel() // shape.numel() for p in params]), strict=True):
        param.sub_(change.view_as(param))


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal; for the matrices of the blocks, stacked by shape."""

    def __init__(self, params: Iterable[Tensor], lr: float, *, compiled: bool) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for param in params:
            by_shape.setdefault(param.shape[-2:], []).append(param)
        defaults = {"lr": lr, "weight_decay": WEIGHT_DECAY, "momentum": MUON_MOMENTUM}
        super().__init__([{"params": group} for group in by_shape.values()], defaults)
        self.update: Callable[..., None] = torch.compile(muon_step, dynamic=False) if compiled else muon_step

    def step(self) -> None:  # type: ignore[override]  # no closure: nothing here evaluates the loss again
        """Apply the gradients."""
        for group in self.param_groups:
            params = group["params"]
            state = self.state[params[0]]
            if not state:
                stack_NRC = torch.cat([param.detach().view(-1, *param.shape[-2:]) for param in params])
                state["momentum_NRC"] = torch.zeros_like(stack_NRC)
                state["variance_NR1"] = torch.zeros_like(stack_NRC[..., :1])
            knobs = (group["lr"], group["weight_decay"], group["momentum"], MUON_BETA2)
            grads = [param.grad for param in params]
            self.update(params, grads, *state.values(), tuple(torch.tensor(knob) for knob in knobs))


def make_optimizers(model: GPT, *, compiled: bool) -> tuple[torch.optim.AdamW, Muon]:
    """Return AdamW for tables, head and scalars, and Muon for the blocks; every parameter has one of them."""
    width_scale = (model.dim / 768) ** -0.5
    tables = [model.embed.weight, *model.value_embeds.parameters()]
    groups = [
        {"params": tables, "lr": EMBEDDING_LR * width_scale},
        {"params": [model.head_VD], "lr": UNEMBEDDING_LR * width_scale},
        # The stream's own gain compounds over the layers, so it moves slowly.
        {"params": [model.residual_L], "lr": SCALAR_LR * 0.01},
        {"params": [model.skip_L], "lr": SCALAR_LR, "betas": (0.96, 0.95)},
    ]
    adamw = torch.optim.AdamW(groups, betas=ADAM_BETAS, eps=1e-10, weight_decay=0.0, fused=True)
    muon = Muon(model.blocks.parameters(), MATRIX_LR, compiled=compiled)
    owned = [id(p) for optimizer in (adamw, muon) for group in optimizer.param_groups for p in group["params"]]
    for name, param in model.named_parameters():
        assert owned.count(id(param)) == 1, f"the parameter {name} must be in exactly one optimizer group"
    for optimizer in (adamw, muon):
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return adamw, muon


def lr_scale(progress: float) -> float:
    """Return the factor on all learning rates at `progress` 0..1: linear warm-up, flat, linear warm-down."""
    if progress < WARMUP_RATIO:
        return progress / WARMUP_RATIO
    if progress > 1 - WARMDOWN_RATIO:
        return FINAL_LR_FRAC + (1 - FINAL_LR_FRAC) * (1 - progress) / WARMDOWN_RATIO
    return 1.0


def set_schedule(adamw: torch.optim.AdamW, muon: Muon, progress: float, scale: float) -> None:
    """Set learning rates, momentum and weight decay for the next step."""
    for group in (*adamw.param_groups, *muon.param_groups):
        group["lr"] = group["full_lr"] * scale
    rise = min(1.0, progress / MUON_MOMENTUM_RATIO) if MUON_MOMENTUM_RATIO else 1.0
    for group in muon.param_groups:
        group["momentum"] = MUON_MOMENTUM_START + rise * (MUON_MOMENTUM - MUON_MOMENTUM_START)
        group["weight_decay"] = WEIGHT_DECAY * (1 - progress)


# ---- Training ----


class Trainer:
    """A model with its optimizers; on a GPU everything that runs in a step is compiled."""

    def __init__(self, model: GPT, *, compiled: bool) -> None:
        self.model = model
        self.adamw, self.muon = make_optimizers(model, compiled=compiled)
        self.loss_fn: Callable[[Tensor, Tensor], Tensor] = (
            torch.compile(self.loss, dynamic=False) if compiled else self.loss
        )

    def loss(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats per token."""
        return F.cross_entropy(self.model(inputs_BT).flatten(0, 1), targets_BT.flatten())

    def step(self, micro_batches: list[tuple[Tensor, Tensor]], progress: float, scale: float) -> Tensor:
        """Take one optimizer step on the mean gradient of the micro-batches; return their mean loss."""
        set_schedule(self.adamw, self.muon, progress, scale)
        losses = []
        for inputs_BT, targets_BT in micro_batches:
            loss = self.loss_fn(inputs_BT, targets_BT) / len(micro_batches)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        for optimizer in (self.adamw, self.muon):
            optimizer.step()
            optimizer.zero_grad()
        return torch.stack(losses).sum()

    def warm_up(self, micro_batches: list[tuple[Tensor, Tensor]]) -> None:
        """Compile everything. A rate of 0 leaves the weights as they are, bit by bit; the averages are dropped."""
        self.step(micro_batches, progress=0.0, scale=0.0)
        self.adamw.state.clear()
        self.muon.state.clear()


def train(run: Run, model: GPT) -> None:
    """Train the model in place until the budget is spent.

    Raises:
        FloatingPointError: the loss is not finite; the weights are of no use any more.
    """
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(model, compiled=run.device.startswith("cuda"))
    rows = rows_per_pass(run.seq_len)
    micro_steps = TOTAL_BATCH_SIZE // (rows * run.seq_len)
    trainer.warm_up([run.warmup_batch(rows)] * micro_steps)

    batches = run.batches(rows)  # the clock starts here
    started_s, next_log = time.monotonic(), 0.0
    last_loss: Tensor | None = None
    for n in itertools.count(1):
        micro_batches = list(itertools.islice(batches, micro_steps))
        if len(micro_batches) < micro_steps:
            break
        progress = run.elapsed_fraction
        loss = trainer.step(micro_batches, progress, lr_scale(progress))
        run.report(loss)
        # Reading the loss of the step before this one never makes a GPU wait for Python, and keeps Python from
        # queueing more than one step ahead of the clock.
        if last_loss is not None and not math.isfinite(last_loss.item()):
            raise FloatingPointError(f"the loss is {last_loss.item()} at step {n - 1}")
        last_loss = loss
        if progress >= next_log:
            k_tokens_per_s = n * TOTAL_BATCH_SIZE / 1000 / (time.monotonic() - started_s)
            print(
                f"step {n:6d}  {progress:6.1%}  loss {loss.item():.4f}  {k_tokens_per_s:9.1f} k tokens/s",
                flush=True,
            )
            next_log += 1 / LOG_LINES
