"""What the builtin researcher knows before it starts: priors on the knobs of `train.py`, and structural edits.

Everything here is stated openly, with its reason, and is only a prior: which ideas hold is for the runs to say.
Both lists stand in the order of trial, what promises most for a short budget on a small device first;
`docs/target.md` has the measurements that the order comes from.
"""

from __future__ import annotations

import msgspec


class Knob(msgspec.Struct, frozen=True):
    """A constant of `train.py` and how to vary it.

    `kind` is "log" (multiply or divide by `factor`), "linear" (add or subtract `factor`) or "choice". `low` and
    `high` bound the first two, and `integer` rounds them; `choices` are texts of literals for the third.
    `direction` is the side to try first: 1 up, -1 down, 0 none known.
    """

    name: str
    kind: str
    reason: str
    low: float = 0.0
    high: float = 0.0
    factor: float = 0.0
    choices: tuple[str, ...] = ()
    direction: int = 0
    integer: bool = False


class StructuralEdit(msgspec.Struct, frozen=True):
    """An idea that no constant expresses, as a patch of `train.py`.

    Each pair of `edits` is (old text, new text); the old text occurs exactly once. Edits never touch the line of
    a knob, so they apply whatever the knobs are set to, and as text any of them stack in any order. `conflicts`
    names the edits that it makes pointless; `retires` the knobs that have no effect any more once it is applied.
    """

    key: str
    title: str
    hypothesis: str
    rationale: str
    edits: tuple[tuple[str, str], ...]
    conflicts: tuple[str, ...] = ()
    retires: tuple[str, ...] = ()


KNOBS: tuple[Knob, ...] = (
    Knob(
        "ATTENTION_SCALE", "log", low=0.25, high=8.0, factor=2.0, direction=1,
        reason="Normed queries and keys bound the logits by sqrt(HEAD_DIM): narrow heads cannot attend sharply.",
    ),
    Knob(
        "SHORT_WINDOW_RATIO", "log", low=1 / 64, high=1.0, factor=2.0, direction=-1,
        reason="Most of what predicts a token is near; a shorter window says so, and is cheaper on a GPU.",
    ),
    Knob(
        "ROPE_BASE", "log", low=100.0, high=1e6, factor=10.0, direction=-1,
        reason="The slowest rotation should be about as long as the sequence: short sequences want a small base.",
    ),
    Knob(
        "SCALAR_LR", "log", low=0.05, high=2.0, factor=2.5, direction=-1,
        reason="The stream's gains act on everything; a few steps at a high rate can throw them far.",
    ),
    Knob(
        "MUON_MOMENTUM", "linear", low=0.8, high=0.98, factor=0.05, direction=-1,
        reason="The average should be short against the number of steps; few steps want less.",
    ),
    Knob(
        "HEAD_DIM", "choice", choices=("24", "32", "64"),
        reason="Fewer, wider heads attend more sharply; more, narrower ones to more places.",
    ),
    Knob(
        "EMBEDDING_LR", "log", low=0.03, high=2.4, factor=2.0, direction=-1,
        reason="Scaled by width ** -0.5 from a wide model, it may be far off on a narrow one.",
    ),
    Knob(
        "MATRIX_LR", "log", low=0.005, high=0.16, factor=2.0, direction=-1,
        reason="The main learning rate; its best value moves with batch, momentum and length of training.",
    ),
    Knob(
        "SKIP_INIT", "linear", low=0.0, high=0.5, factor=0.1, direction=1,
        reason="How much of the token embedding each layer sees again at the start.",
    ),
    Knob(
        "WEIGHT_DECAY", "log", low=0.0125, high=0.8, factor=4.0, direction=-1,
        reason="Few steps on fresh data hardly overfit; decay mostly slows them.",
    ),
    Knob(
        "WARMDOWN_RATIO", "linear", low=0.1, high=1.0, factor=0.25, direction=1,
        reason="A longer fall averages more of the noise away, at the price of time at the full rate.",
    ),
    Knob(
        "TOTAL_BATCH_SIZE", "log", low=256, high=2**20, factor=2.0, integer=True,
        reason="More steps or less noise in each: the best trade depends on the budget and the device.",
    ),
    Knob(
        "FINAL_LR_FRAC", "linear", low=0.0, high=0.3, factor=0.1, direction=1,
        reason="A rate that falls to 0 wastes the last steps if the loss is still falling.",
    ),
    Knob(
        "ADAM_BETAS", "choice", choices=("(0.9, 0.95)", "(0.8, 0.99)", "(0.9, 0.99)", "(0.7, 0.95)"),
        reason="How long Adam averages gradients of tables that see each token rarely.",
    ),
    Knob(
        "UNEMBEDDING_LR", "log", low=0.0005, high=0.032, factor=2.0,
        reason="The head starts near 0 and must grow within the budget, without chasing noise.",
    ),
    Knob(
        "DEPTH", "log", low=1, high=16, factor=1.5, integer=True, direction=1,
        reason="Depth against steps at a fixed budget; the width follows it by ASPECT_RATIO.",
    ),
    Knob(
        "ASPECT_RATIO", "log", low=8, high=128, factor=1.35, integer=True, direction=1,
        reason="Width against steps at a fixed budget.",
    ),
    Knob(
        "MLP_RATIO", "choice", choices=("2", "3", "6", "8"),
        reason="How much of the width's cost goes into the MLP.",
    ),
    Knob(
        "WINDOW_PATTERN", "choice", choices=("'L'", "'SL'", "'SSSL'", "'SSSSSSSL'"),
        reason="How many layers see the whole sequence; the last one always does.",
    ),
    Knob(
        "MUON_BETA2", "linear", low=0.8, high=0.99, factor=0.05,
        reason="How long the row normalisation averages; few steps may want less.",
    ),
    Knob(
        "NS_STEPS", "linear", low=2, high=7, factor=1, integer=True, direction=-1,
        reason="Each step of the orthogonalisation costs time; rough directions may be enough.",
    ),
    Knob(
        "SOFTCAP", "log", low=5.0, high=60.0, factor=2.0,
        reason="Where the logits saturate; a small one also regularises.",
    ),
    Knob(
        "WARMUP_RATIO", "linear", low=0.0, high=0.2, factor=0.05, direction=1,
        reason="A slow start can protect the first steps; with orthogonal updates it is seldom needed.",
    ),
    Knob(
        "MUON_MOMENTUM_RATIO", "linear", low=0.0, high=0.6, factor=0.15,
        reason="How long the momentum takes to rise: short averages while the gradients still turn quickly.",
    ),
)  # fmt: skip

_BIGRAM = StructuralEdit(
    key="bigram",
    title="add a hashed embedding of token pairs",
    hypothesis="An embedding of the last two tokens, looked up by hash, lowers val_bpb.",
    rationale=(
        "Much of what the first layer learns is which tokens follow each other. A table gives it that at once, for "
        "a lookup instead of multiplications; collisions cost little, since frequent pairs own their rows."
    ),
    edits=(
        (
            """\
# The batch.
""",
            """\
BIGRAM_BUCKETS = 8192  # rows of the table of token pairs

# The batch.
""",
        ),
        (
            """\
        self.residual_L = """,
            """\
        # Starts at 0: a pair says nothing until it has been seen.
        self.bigram = nn.Embedding(BIGRAM_BUCKETS, self.dim, device=device)
        nn.init.zeros_(self.bigram.weight)
        self.residual_L = """,
        ),
        (
            """\
        x_BTD = x0_BTD = norm(self.embed(tokens_BT).to(self.dtype))
""",
            """\
        before_BT = F.pad(tokens_BT, (1, 0))[:, :-1]
        pair_BT = (before_BT * 36313 + tokens_BT * 27191) % BIGRAM_BUCKETS  # odd factors spread the pairs
        x_BTD = x0_BTD = norm((self.embed(tokens_BT) + self.bigram(pair_BT)).to(self.dtype))
""",
        ),
        (
            """\
    tables = [model.embed.weight""",
            """\
    tables = [model.embed.weight, model.bigram.weight""",
        ),
    ),
    conflicts=("trigram",),
)

_SMEAR = StructuralEdit(
    key="smear",
    title="mix the token before into each embedding",
    hypothesis="Adding a learned share of the previous token's embedding, channel by channel, lowers val_bpb.",
    rationale=(
        "Attention needs a whole layer to look one position back. A weight per channel does it before the first "
        "layer, so that the layers can start from pairs of tokens."
    ),
    edits=(
        (
            """\
        self.head_VD = """,
            """\
        self.smear_D = nn.Parameter(torch.zeros(self.dim, device=device))
        self.head_VD = """,
        ),
        (
            """\
        for i, block in enumerate(self.blocks):
""",
            """\
        before_BTD = F.pad(x_BTD, (0, 0, 1, 0))[:, :-1]
        x_BTD = x0_BTD = norm(x_BTD + self.smear_D.to(self.dtype) * before_BTD)
        for i, block in enumerate(self.blocks):
""",
        ),
        (
            """\
        # The stream's own gain compounds""",
            """\
        {"params": [model.smear_D], "lr": SCALAR_LR * 0.1},
        # The stream's own gain compounds""",
        ),
    ),
)

_TRIGRAM = StructuralEdit(
    key="trigram",
    title="add a hashed embedding of the last three tokens",
    hypothesis="An embedding of three tokens in a row, looked up by hash, lowers val_bpb.",
    rationale=(
        "Three bytes are often most of a word. The table is bigger than that of pairs and its rows are seen less "
        "often, so it needs the budget to learn them."
    ),
    edits=(
        (
            """\
# The optimizers. Adam's""",
            """\
TRIGRAM_BUCKETS = 32768  # rows of the table of three tokens

# The optimizers. Adam's""",
        ),
        (
            """\
        self.skip_L = """,
            """\
        # Starts at 0: three tokens say nothing until they have been seen.
        self.trigram = nn.Embedding(TRIGRAM_BUCKETS, self.dim, device=device)
        nn.init.zeros_(self.trigram.weight)
        self.skip_L = """,
        ),
        (
            """\
        for i, block in enumerate(self.blocks):
""",
            """\
        past_BT = F.pad(tokens_BT, (2, 0))
        triple_BT = (past_BT[:, :-2] * 51787 + past_BT[:, 1:-1] * 36313 + tokens_BT * 27191) % TRIGRAM_BUCKETS
        x_BTD = x0_BTD = norm(x_BTD + self.trigram(triple_BT).to(self.dtype))
        for i, block in enumerate(self.blocks):
""",
        ),
        (
            """\
        {"params": [model.head_VD], """,
            """\
        {"params": [model.trigram.weight], "lr": EMBEDDING_LR * width_scale},
        {"params": [model.head_VD], """,
        ),
    ),
    conflicts=("bigram",),
)

_NO_VALUES = StructuralEdit(
    key="no-values",
    title="remove the value embeddings",
    hypothesis="Without value embeddings a step is faster and val_bpb no worse.",
    rationale=(
        "They are a third of the parameters at full size and need a gate in every other layer. If a short budget "
        "cannot train them, the model is simpler and faster without."
    ),
    edits=(
        (
            """\
    mask_TT: Tensor | None

    def __init__(self, dim: int, window: int, seq_len: int, device: str, *, mixes_values: bool) -> None:
""",
            """\
    mask_TT: Tensor | None

    def __init__(self, dim: int, window: int, seq_len: int, device: str) -> None:
""",
        ),
        (
            """\
        self.value_gate_HD = matrix(self.n_heads, dim, device=device) if mixes_values else None
""",
            "",
        ),
        (
            '''\
    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], value_BTD: Tensor | None) -> Tensor:
        """Return what the heads gather, x_BTD; `value_BTD` is the token's value embedding, if the layer has one."""
''',
            '''\
    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Return what the heads gather, x_BTD."""
''',
        ),
        (
            """\
        if self.value_gate_HD is not None and value_BTD is not None:
            # The gate starts at 1: sigmoid(0) = 1/2.
            gate_BTH1 = 2 * torch.sigmoid(linear(x_BTD, self.value_gate_HD)).unsqueeze(-1)
            v_BTHK = v_BTHK + gate_BTH1 * value_BTD.view_as(v_BTHK)
""",
            "",
        ),
        (
            """\
    def __init__(self, dim: int, window: int, seq_len: int, device: str, *, mixes_values: bool) -> None:
        super().__init__()
        self.attention = Attention(dim, window, seq_len, device, mixes_values=mixes_values)
""",
            """\
    def __init__(self, dim: int, window: int, seq_len: int, device: str) -> None:
        super().__init__()
        self.attention = Attention(dim, window, seq_len, device)
""",
        ),
        (
            '''\
    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor], value_BTD: Tensor | None) -> Tensor:
        """Return the stream x_BTD after this layer."""
        x_BTD = x_BTD + self.attention(norm(x_BTD), rope, value_BTD)
''',
            '''\
    def forward(self, x_BTD: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Return the stream x_BTD after this layer."""
        x_BTD = x_BTD + self.attention(norm(x_BTD), rope)
''',
        ),
        (
            """\
        # Every other layer, the last one included, adds a second embedding of the token to its values: memory
        # that costs no multiplication.
        mixing = range((DEPTH - 1) % 2, DEPTH, 2)
        self.value_embeds = nn.ModuleDict({str(i): nn.Embedding(vocab_size, self.dim, device=device) for i in mixing})
        self.blocks = nn.ModuleList(
            Block(self.dim, layer_window(i, seq_len), seq_len, device, mixes_values=i in mixing) for i in range(DEPTH)
        )
""",
            """\
        self.blocks = nn.ModuleList(
            Block(self.dim, layer_window(i, seq_len), seq_len, device) for i in range(DEPTH)
        )
""",
        ),
        (
            """\
            value_BTD = self.value_embeds[str(i)](tokens_BT).to(self.dtype) if str(i) in self.value_embeds else None
            x_BTD = block(x_BTD, rope, value_BTD)
""",
            """\
            x_BTD = block(x_BTD, rope)
""",
        ),
        (", *model.value_embeds.parameters()]", "]"),
    ),
)

_SWIGLU = StructuralEdit(
    key="swiglu",
    title="use a SwiGLU MLP",
    hypothesis="A gated MLP of the same number of parameters lowers val_bpb.",
    rationale=(
        "A gate lets each hidden unit multiply two functions of its input. It beat plain MLPs at large scale "
        "(Shazeer 2020, arXiv 2002.05202); against a squared ReLU on short budgets the published results differ."
    ),
    edits=(
        (
            '''\
    """Two matrices with a squared ReLU between them, which is sparse and cheap."""
''',
            '''\
    """A gated MLP, SiLU(gate) * up; two thirds of the width keep the number of parameters."""
''',
        ),
        (
            """\
        self.in_FD = matrix(MLP_RATIO * dim, dim, device=device, std=dim**-0.5)
        self.out_DF = matrix(dim, MLP_RATIO * dim, device=device)
""",
            """\
        hidden = max(8, MLP_RATIO * dim * 2 // 3 // 8 * 8)
        self.in_2FD = matrix(2, hidden, dim, device=device, std=dim**-0.5)
        self.out_DF = matrix(dim, hidden, device=device)
""",
        ),
        (
            """\
        h_BTF = F.relu(linear(x_BTD, self.in_FD)).square()
        return linear(h_BTF, self.out_DF)
""",
            """\
        gate_BTF, up_BTF = linear(x_BTD, self.in_2FD.flatten(0, 1)).chunk(2, -1)
        return linear(F.silu(gate_BTF) * up_BTF, self.out_DF)
""",
        ),
    ),
)

_NO_SOFTCAP = StructuralEdit(
    key="no-softcap",
    title="remove the cap on the logits",
    hypothesis="Without the tanh on the logits a step is faster and val_bpb no worse.",
    rationale=(
        "The cap keeps logits from running away in long training. It costs passes over the largest tensor of a "
        "step, and a short budget may not need it."
    ),
    edits=(
        (
            """\
        logits_BTV = linear(norm(x_BTD), self.head_VD).float()
        return SOFTCAP * torch.tanh(logits_BTV / SOFTCAP)
""",
            """\
        return linear(norm(x_BTD), self.head_VD).float()
""",
        ),
    ),
    retires=("SOFTCAP",),
)

_PLAIN_MUON = StructuralEdit(
    key="plain-muon",
    title="drop the row normalisation of Muon's update",
    hypothesis="Muon without NorMuon's second moment is no worse, and its step is cheaper.",
    rationale=(
        "Evening out the rows after the orthogonalisation is a small correction that takes a state and several "
        "passes over the update. If it is lost in the noise, the plain method is the simpler one."
    ),
    edits=(
        (
            """\
    # Even out the rows (neurons), which orthogonalisation leaves uneven, but keep the size of the whole.
    # Method: NorMuon (Li et al. 2025, arXiv 2510.05491).
    size_N11 = update_NRC.norm(dim=(-2, -1), keepdim=True)
    variance_NR1.lerp_(update_NRC.square().mean(-1, keepdim=True), 1 - beta2)
    update_NRC = update_NRC * variance_NR1.clamp_min(1e-10).rsqrt()
    update_NRC = update_NRC * (size_N11 / update_NRC.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-10))
""",
            "",
        ),
        ("momentum_NRC: Tensor, variance_NR1: Tensor, knobs", "momentum_NRC: Tensor, knobs"),
        ("    lr, weight_decay, momentum, beta2 = knobs\n", "    lr, weight_decay, momentum = knobs\n"),
        (
            """\
                state["variance_NR1"] = torch.zeros_like(stack_NRC[..., :1])
""",
            "",
        ),
        (', group["momentum"], MUON_BETA2)', ', group["momentum"])'),
    ),
    retires=("MUON_BETA2",),
)

STRUCTURAL: tuple[StructuralEdit, ...] = (
    _TRIGRAM,
    _SMEAR,
    _BIGRAM,
    _NO_SOFTCAP,
    _SWIGLU,
    _NO_VALUES,
    _PLAIN_MUON,
)
