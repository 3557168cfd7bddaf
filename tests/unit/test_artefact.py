"""The artefact reader: what a train.py asks for, and how a run of it fails, told from its text alone."""

from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.patching import Edit, apply_edits, set_constants
from core.profile import PROFILES
from core.researchers.catalogue import KNOBS, STRUCTURAL, StructuralEdit
from sim.artefact import read
from sim.model import Failure, Setup

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()


def setup_of(source: str, seq_len: int = 2048, vocab_size: int = 8192) -> Setup:
    found = read(source, seq_len=seq_len, vocab_size=vocab_size)
    assert isinstance(found, Setup), found
    return found


def failure_of(source: str) -> Failure:
    found = read(source, seq_len=2048, vocab_size=8192)
    assert isinstance(found, Failure), found
    return found


def swap(old: str, new: str, source: str = SOURCE) -> str:
    assert source.count(old) == 1, old
    return source.replace(old, new)


def assign(name: str, text: str, source: str = SOURCE) -> str:
    """Replace the line that sets a constant; unlike an override, the text may be anything."""
    (line,) = [line for line in source.splitlines() if line.startswith(f"{name} = ")]
    return source.replace(line, f"{name} = {text}")


def line_of(text: str, source: str = SOURCE) -> int:
    return source[: source.index(text)].count("\n") + 1


def with_edit(source: str, edit: StructuralEdit) -> str:
    return apply_edits(source, [Edit(old, new) for old, new in edit.edits])


# ---- What a file asks for ----


def test_the_shipped_file_is_read_knob_by_knob() -> None:
    setup = setup_of(SOURCE)
    assert (setup.depth, setup.width, setup.head_dim, setup.mlp_ratio) == (8, 512, 128, 4.0)
    assert (setup.window_pattern, setup.short_window_ratio, setup.rope_base) == ("SSSL", 0.5, 10000.0)
    assert (setup.attention_scale, setup.softcap, setup.residual_init, setup.skip_init) == (1.0, 15.0, 1.0, 0.1)
    assert (setup.total_batch, setup.rows, setup.seq_len, setup.vocab_size) == (2**19, 128, 2048, 8192)
    assert (setup.embedding_lr, setup.unembedding_lr, setup.matrix_lr, setup.scalar_lr) == (0.6, 0.004, 0.04, 0.5)
    assert (setup.weight_decay, setup.adam_beta1, setup.adam_beta2) == (0.2, 0.8, 0.95)
    assert (setup.muon_momentum, setup.muon_momentum_start, setup.muon_momentum_ratio) == (0.95, 0.85, 0.3)
    assert (setup.muon_beta2, setup.ns_steps) == (0.95, 5)
    assert (setup.warmup_ratio, setup.warmdown_ratio, setup.final_lr_frac) == (0.0, 0.5, 0.0)
    assert (setup.structure, setup.unmodelled, setup.cost) == (frozenset(), (), None)


def test_width_is_rounded_up_to_whole_heads_and_rows_fit_the_step() -> None:
    setup = setup_of(set_constants(SOURCE, {"DEPTH": 5, "ASPECT_RATIO": 70, "TOTAL_BATCH_SIZE": 2**16}))
    assert (setup.width, setup.rows) == (384, 32)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_profile_can_be_read(profile) -> None:
    setup = setup_of(set_constants(SOURCE, profile.overrides), seq_len=profile.seq_len)
    assert setup.total_batch % (setup.rows * profile.seq_len) == 0


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("int(8)", 8),
        ("2**3 + 1", 9),
        ("max(4, len('SSSL') * 2)", 8),
        ("8 if 1 < 2 and not 0 else 9", 8),
        ("round(math.sqrt(50))", 7),
        ("(3, 5)[1]", 5),
        ("12\nDEPTH = 10", 10),
        ("8\nDEPTH += 2", 10),
        ("LAYERS = 6", 6),
        ("8\nif HALF:\n    DEPTH = DEPTH // 2", 4),
    ],
)
def test_computed_constants_are_computed(text: str, depth: int) -> None:
    setup = setup_of(assign("DEPTH", text, swap("# The model.\n", "HALF = True\n")))
    assert (setup.depth, setup.structure, setup.unmodelled) == (depth, frozenset(), ())


def test_a_second_value_of_a_helper_constant_is_not_confused_with_the_first() -> None:
    first = assign("DEPTH", "4\nDEPTH = DEPTH * FACTOR", swap("# The model.\n", "FACTOR = 2\n"))
    assert setup_of(first).depth == 8
    assert setup_of(first.replace("FACTOR = 2", "FACTOR = 3")).depth == 12


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("WARMUP_RATIO", "float('nan')", "warmup_ratio", 0.0),
        ("WARMDOWN_RATIO", "0", "warmdown_ratio", 0.0),
        ("MUON_MOMENTUM_RATIO", "None", "muon_momentum_ratio", 0.0),
        ("MATRIX_LR", "-0.04", "matrix_lr", -0.04),
        ("NS_STEPS", "-1", "ns_steps", 0),
        ("ROPE_BASE", "1e999", "rope_base", 1e30),
        ("WINDOW_PATTERN", "('S', 'L')", "window_pattern", "SL"),
        ("SOFTCAP", "-15.0", "softcap", 15.0),
        ("DEVICE_BATCH_SIZE", "10**9", "rows", 256),
    ],
)
def test_odd_values_that_a_run_survives(name: str, text: str, field: str, value: object) -> None:
    assert getattr(setup_of(assign(name, text)), field) == value


# ---- How a run fails ----

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate"
NAN = ("nan", "FloatingPointError: the loss is nan at step 1", "run.report(loss)")
FAILURES = [
    ("DEPTH", "'8'", "crash", "TypeError: bad operand type for unary -: 'str'", "self.dim ="),
    (
        "DEPTH", "8.5", "crash",
        'TypeError: empty(): argument \'size\' failed to unpack the object at pos 2 with error "type must be tuple of '
        'ints,but got float"',
        "self.embed =",
    ),
    ("DEPTH", "0", "crash", "ZeroDivisionError: 0.0 cannot be raised to a negative power", "width_scale ="),
    (
        "DEPTH", "-4", "crash",
        "RuntimeError: Trying to create tensor with negative dimension -256: [8192, -256]", "self.embed =",
    ),
    (
        "DEPTH", "-1", "crash", "RuntimeError: Trying to create tensor with negative dimension -1: [-1]",
        "self.residual_L =",
    ),
    ("DEPTH", "10**9", "oom", f"{OOM} 1953125.00 GiB", "self.embed ="),
    ("ASPECT_RATIO", "10**6", "oom", f"{OOM} 244.14 GiB", "self.embed ="),
    ("MLP_RATIO", "10**6", "oom", f"{OOM} 976.56 GiB", "return nn.Parameter(torch.empty("),
    (
        "MLP_RATIO", "2.5", "crash",
        "TypeError: empty(): argument 'size' (position 1) must be tuple of ints, but found element of type float at "
        "pos 0",
        "return nn.Parameter(torch.empty(",
    ),
    (
        "MLP_RATIO", "0", "crash",
        "RuntimeError: cannot reshape tensor of 0 elements into shape [-1, 0, 512] because the unspecified dimension "
        "size -1 can be any value and is ambiguous",
        "stack_NRC = torch.cat(",
    ),
    (
        "HEAD_DIM", "127", "crash",
        "AssertionError: HEAD_DIM 127 must be even: rotary embeddings turn pairs of channels", "assert HEAD_DIM",
    ),
    ("HEAD_DIM", "0", "crash", "ZeroDivisionError: integer division or modulo by zero", "self.dim ="),
    (
        "HEAD_DIM", "512", "crash", "RuntimeError: FlashAttention forward only supports head dimension at most 256",
        "return F.cross_entropy(",
    ),
    (
        "TOTAL_BATCH_SIZE", "500_000", "crash",
        "AssertionError: TOTAL_BATCH_SIZE 500000 must be a multiple of DEVICE_BATCH_SIZE * seq_len = 128 * 2048",
        "assert whole",
    ),
    (
        "TOTAL_BATCH_SIZE", "1024", "crash",
        "AssertionError: TOTAL_BATCH_SIZE 1024 must be a multiple of DEVICE_BATCH_SIZE * seq_len = 0 * 2048",
        "assert whole",
    ),
    (
        "DEVICE_BATCH_SIZE", "0", "crash",
        "AssertionError: TOTAL_BATCH_SIZE 524288 must be a multiple of DEVICE_BATCH_SIZE * seq_len = 0 * 2048",
        "assert whole",
    ),
    (
        "DEVICE_BATCH_SIZE", "-8", "crash",
        "AssertionError: TOTAL_BATCH_SIZE 524288 must be a multiple of DEVICE_BATCH_SIZE * seq_len = -8 * 2048",
        "assert whole",
    ),
    (
        "DEVICE_BATCH_SIZE", "128.0", "crash",
        "TypeError: randint() received an invalid combination of arguments - got (int, tuple, "
        "generator=torch._C.Generator), but expected one of:",
        "trainer.warm_up([",
    ),
    (
        "WINDOW_PATTERN", "'SX'", "crash", "AssertionError: WINDOW_PATTERN 'SX' may hold only S and L",
        "assert set(WINDOW_PATTERN)",
    ),
    ("WINDOW_PATTERN", "''", "crash", "ZeroDivisionError: integer modulo by zero", "short = WINDOW_PATTERN["),
    (
        "SHORT_WINDOW_RATIO", "1e999", "crash", "OverflowError: cannot convert float infinity to integer",
        "return max(1, int(seq_len",
    ),
    (
        "ROPE_BASE", "'1'", "crash", "TypeError: unsupported operand type(s) for ** or pow(): 'str' and 'Tensor'",
        "turns_per_step =",
    ),
    (
        "SKIP_INIT", "0", "crash",
        "RuntimeError: Only Tensors of floating point and complex dtype can require gradients", "self.skip_L =",
    ),
    (
        "RESIDUAL_INIT", "None", "crash",
        "TypeError: full(): argument 'fill_value' (position 2) must be Number, not NoneType", "self.residual_L =",
    ),
    (
        "ADAM_BETAS", "(1.0, 0.95)", "crash", "ValueError: Invalid beta parameter at index 0: 1.0",
        "adamw = torch.optim.AdamW(",
    ),
    (
        "ADAM_BETAS", "(0, 0)", "crash", "ValueError: betas must be either both floats or both Tensors",
        "adamw = torch.optim.AdamW(",
    ),
    ("ADAM_BETAS", "(0.9,)", "crash", "IndexError: tuple index out of range", "adamw = torch.optim.AdamW("),
    (
        "ADAM_BETAS", "(0.9, 0.95, 0.9)", "crash", "ValueError: too many values to unpack (expected 2)",
        "            optimizer.step()",
    ),
    (
        "MATRIX_LR", "'0.04'", "crash", "TypeError: can't multiply sequence by non-int of type 'float'",
        'group["lr"] = group["full_lr"] * scale',
    ),
    (
        "WARMUP_RATIO", "None", "crash", "TypeError: '<' not supported between instances of 'float' and 'NoneType'",
        "if progress < WARMUP_RATIO",
    ),
    ("LOG_LINES", "0", "crash", "ZeroDivisionError: division by zero", "next_log +="),
    ("SOFTCAP", "0", *NAN),
    ("ROPE_BASE", "0", *NAN),
    ("ATTENTION_SCALE", "-1.0", *NAN),
    ("MATRIX_LR", "1e999", *NAN),
    ("MUON_BETA2", "float('nan')", *NAN),
    ("DEPTH", "8 // 0", "crash", "ZeroDivisionError: integer division or modulo by zero", "DEPTH = "),
    ("DEPTH", "int('x')", "crash", "ValueError: invalid literal for int() with base 10: 'x'", "DEPTH = "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "outcome", "message", "where"), FAILURES)
def test_a_bad_constant_fails_as_the_real_run_does(name, text, outcome, message, where) -> None:
    source = assign(name, text)
    failure = failure_of(source)
    assert failure.outcome == outcome
    assert failure.reason == f"{message} (train.py, line {line_of(where, source)})"
    starts = outcome == "nan" or name in {"WARMUP_RATIO", "LOG_LINES"}
    assert failure.at_frac == (0.0 if starts else -1.0)


def test_a_bad_end_of_the_schedule_fails_when_it_is_reached() -> None:
    failure = failure_of(assign("FINAL_LR_FRAC", "1e999", assign("WARMDOWN_RATIO", "0.3")))
    assert (failure.outcome, failure.at_frac) == ("nan", pytest.approx(0.7))


@pytest.mark.parametrize(
    ("name", "first_use"),
    [("DEPTH", "self.dim ="), ("MUON_MOMENTUM_START", 'group["momentum"] ='), ("WARMUP_RATIO", "if progress < WARMUP")],
)
def test_a_constant_that_is_gone_is_a_name_error_at_its_first_use(name: str, first_use: str) -> None:
    for source in (swap(f"\n{name} = ", f"\n{name}S = "), assign(name, "1").replace(f"{name} = 1\n", "")):
        failure = failure_of(source)
        expected = f"NameError: name '{name}' is not defined (train.py, line {line_of(first_use, source)})"
        assert (failure.outcome, failure.reason) == ("crash", expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("int(os.environ.get('DEPTH', 8))", "is computed by os.environ.get()"),
        ("9**9**9", "needs an integer of about"),
        ("8\nfor DEPTH in range(9):\n    pass", "is bound in a way that only a run can follow"),
        ("sum([1] * 10**9)", "needs 1000000000 items"),
    ],
)
def test_what_cannot_be_computed_is_said_to_be_the_simulators_limit(text: str, why: str) -> None:
    failure = failure_of(assign("DEPTH", text))
    assert failure.reason.startswith(f"the simulator cannot read DEPTH: it {why}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "AttributeError: train.py has no function build()"),
        (swap("def train(run", "def fit(run"), "AttributeError: train.py has no function train()"),
        ("\x00\x01", "SyntaxError: source code string cannot contain null bytes"),
        ("\x7fELF", "SyntaxError: invalid non-printable character U+007F (train.py, line 1)"),
        ("x = 1\ndef build(:\n", "SyntaxError: invalid syntax (train.py, line 2)"),
        ("def build():\n    a\n   b\n", "IndentationError: unindent does not match any outer indentation level"),
        ("x = " + "(" * 500 + ")" * 500, "SyntaxError: too many nested parentheses (train.py, line 1)"),
    ],
)
def test_a_broken_file_fails_as_it_is_loaded(source: str, message: str) -> None:
    failure = failure_of(source)
    assert failure.outcome == "crash"
    assert failure.reason.startswith(message)
    assert failure.at_frac < 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return linear(h_BTF", "return linear(h_BFT", "NameError: name 'h_BFT' is not defined"),
        ("F.relu(linear", "G.relu(linear", "NameError: name 'G' is not defined"),
    ],
)
def test_a_misspelt_name_in_an_edit_is_a_name_error(old: str, new: str, message: str) -> None:
    source = swap(old, new)
    assert failure_of(source).reason == f"{message} (train.py, line {line_of(new, source)})"


def test_a_table_that_no_optimizer_has_is_the_files_own_assertion() -> None:
    bigram = next(edit for edit in STRUCTURAL if edit.key == "bigram")
    source = swap("model.bigram.weight, ", "", with_edit(SOURCE, bigram))
    message = "AssertionError: the parameter bigram.weight must be in exactly one optimizer group"
    assert failure_of(source).reason == f"{message} (train.py, line {line_of('assert owned.count', source)})"


# ---- Structure ----

KNOB_VALUES = {
    knob.name: st.sampled_from(knob.choices)
    if knob.kind == "choice"
    else st.integers(int(knob.low), int(knob.high))
    if knob.integer
    else st.floats(knob.low, knob.high)
    for knob in KNOBS
    if knob.name not in {"TOTAL_BATCH_SIZE", "DEPTH", "ASPECT_RATIO"}
}


@settings(max_examples=40, deadline=None)
@given(
    edits=st.sets(st.sampled_from(STRUCTURAL)).map(lambda found: sorted(found, key=lambda edit: edit.key)),
    knobs=st.fixed_dictionaries({}, optional=KNOB_VALUES),
    batch=st.integers(12, 24),
    depth=st.integers(1, 16),
)
def test_any_edits_of_the_catalogue_with_any_knobs_are_recognised(edits, knobs, batch, depth) -> None:
    constants = knobs | {"TOTAL_BATCH_SIZE": f"2**{batch}", "DEPTH": depth}
    setup = setup_of(set_constants(reduce(with_edit, edits, SOURCE), constants))
    assert setup.structure == {edit.key for edit in edits}
    assert setup.unmodelled == ()
    assert (setup.cost is None) == (not edits)
    assert (setup.softcap == 0) == ("no-softcap" in setup.structure)


GATED = swap(
    """\
        self.in_FD = matrix(MLP_RATIO * dim, dim, device=device, std=dim**-0.5)
        self.out_DF = matrix(dim, MLP_RATIO * dim, device=device)
""",
    """\
        wide = int(8 * dim / 3)
        self.gate = matrix(wide, dim, device=device, std=dim**-0.5)
        self.up = matrix(wide, dim, device=device, std=dim**-0.5)
        self.down = matrix(dim, wide, device=device)
""",
)
GATED = swap(
    """\
        h_BTF = F.relu(linear(x_BTD, self.in_FD)).square()
        return linear(h_BTF, self.out_DF)
""",
    "        return linear(F.silu(linear(x_BTD, self.gate)) * linear(x_BTD, self.up), self.down)\n",
    GATED,
)
WITH_PAIRS = swap("\nDEPTH = 8\n", "\nPAIRS = 4096\nDEPTH = 8\n")
XOR_PAIRS = swap(
    "        x_BTD = x0_BTD = norm(self.embed(tokens_BT).to(self.dtype))\n",
    """\
        last = torch.roll(tokens_BT, 1, 1)
        index = (last * 31) ^ tokens_BT
        x_BTD = x0_BTD = norm((self.embed(tokens_BT) + self.pairs(index % PAIRS)).to(self.dtype))
""",
    swap(
        "        self.residual_L = ",
        "        self.pairs = nn.Embedding(PAIRS, self.dim, device=device)\n        self.residual_L = ",
        swap("tables = [model.embed.weight", "tables = [model.pairs.weight, model.embed.weight", WITH_PAIRS),
    ),
)
TIED = swap("        self.head_VD = matrix(vocab_size, self.dim, device=device, std=0.001)\n", "")
TIED = swap("self.head_VD)", "self.embed.weight)", TIED)
TIED = swap('        {"params": [model.head_VD], "lr": UNEMBEDDING_LR * width_scale},\n', "", TIED)
RELU2 = "F.relu(linear(x_BTD, self.in_FD)).square()"
BEFORE = swap("norm(qk_BT2HK).unbind(2)", "qk_BT2HK.unbind(2)")
BEFORE = swap("qkv_BT3HK[:, :, :2], qkv", "norm(qkv_BT3HK[:, :, :2]), qkv", BEFORE)


MQA = swap(
    """\
        self.qkv_3DD = matrix(3, dim, dim, device=device, std=dim**-0.5)
""",
    """\
        self.q_DD = matrix(dim, dim, device=device, std=dim**-0.5)
        self.kv_2ED = matrix(2, N_KV_HEADS * HEAD_DIM, dim, device=device, std=dim**-0.5)
""",
    swap("\nDEPTH = 8\n", "\nN_KV_HEADS = 1\nDEPTH = 8\n"),
)
MQA = swap(
    """\
        qkv_BT3HK = linear(x_BTD, self.qkv_3DD.flatten(0, 1)).view(B, T, 3, self.n_heads, HEAD_DIM)
        qk_BT2HK, v_BTHK = qkv_BT3HK[:, :, :2], qkv_BT3HK[:, :, 2]
""",
    """\
        q_BTHK = linear(x_BTD, self.q_DD).view(B, T, self.n_heads, HEAD_DIM)
        kv_BT2EK = linear(x_BTD, self.kv_2ED.flatten(0, 1)).view(B, T, 2, N_KV_HEADS, HEAD_DIM)
        k_BTHK, v_BTHK = kv_BT2EK.repeat_interleave(self.n_heads // N_KV_HEADS, 3).unbind(2)
        qk_BT2HK = torch.stack([q_BTHK, k_BTHK], 2)
""",
    MQA,
)


@pytest.mark.parametrize(("heads", "name"), [(1, "mqa"), (2, "gqa")])
def test_shared_heads_are_counted(heads: int, name: str) -> None:
    setup = setup_of(set_constants(MQA, {"N_KV_HEADS": heads}))
    assert (setup.structure, setup.unmodelled) == ({name}, ())
    assert setup.cost is not None
    assert setup.cost.params == 50_339_856 - 8 * 2 * (4 - heads) * 128 * 512


@pytest.mark.parametrize(
    "source",
    [
        swap("= self.mlp(norm(x_BTD))", "= F.dropout(self.mlp(norm(x_BTD)), p=0.0)"),
        swap("targets_BT.flatten())", "targets_BT.flatten(), label_smoothing=0.0)"),
    ],
)
def test_a_change_at_a_rate_of_0_is_none(source: str) -> None:
    setup = setup_of(source)
    assert (setup.structure, setup.unmodelled) == (frozenset(), ())


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("swiglu", GATED),
        ("bigram", XOR_PAIRS),
        ("weight-tying", TIED),
        ("gelu", swap(RELU2, "F.gelu(linear(x_BTD, self.in_FD))")),
        ("relu", swap(RELU2, "F.relu(linear(x_BTD, self.in_FD))")),
        ("silu", swap(RELU2, "F.silu(linear(x_BTD, self.in_FD))")),
        ("dropout", swap("= self.mlp(norm(x_BTD))", "= F.dropout(self.mlp(norm(x_BTD)), 0.05, self.training)")),
        ("label-smoothing", swap("targets_BT.flatten())", "targets_BT.flatten(), label_smoothing=0.1)")),
        ("no-qk-norm", swap("norm(qk_BT2HK).unbind(2)", "qk_BT2HK.unbind(2)")),
        ("qk-norm-before-rope", BEFORE),
        (
            "parallel-blocks",
            swap(
                """\
        x_BTD = x_BTD + self.attention(norm(x_BTD), rope, value_BTD)
        change_BTD: Tensor = self.mlp(norm(x_BTD))
        return x_BTD + change_BTD
""",
                "        h = norm(x_BTD)\n        return x_BTD + self.attention(h, rope, value_BTD) + self.mlp(h)\n",
            ),
        ),
        ("no-softcap", swap("return SOFTCAP * torch.tanh(logits_BTV / SOFTCAP)", "return logits_BTV")),
    ],
)
def test_a_change_is_known_by_what_it_does(name: str, source: str) -> None:
    setup = setup_of(source)
    assert (setup.structure, setup.unmodelled) == ({name}, ())


def test_costs_of_variants_follow_their_sizes() -> None:
    base = 50_339_856
    costs = {"gated": setup_of(GATED).cost, "pairs": setup_of(XOR_PAIRS).cost, "tied": setup_of(TIED).cost}
    assert {name: cost and cost.params - base for name, cost in costs.items()} == {
        "gated": 8 * (3 * 1365 - 8 * 512) * 512,
        "pairs": 4096 * 512,
        "tied": -8192 * 512,
    }


@pytest.mark.parametrize(
    ("source", "label"),
    [
        (swap("std=0.001)", "std=0.01)"), "__init__ of GPT changed"),
        (swap("x_BTD = x_BTD + self.attention(", "x_BTD = x_BTD + 2 * self.attention("), "forward of Block changed"),
        (
            swap("MUON_BETA2 = 0.95", "MUON_BETA2 = 0.95\nEXTRA = 1") + "\n\ndef extra():\n    return EXTRA\n",
            "extra added",
        ),
        (set_constants(SOURCE, {"POLAR_EXPRESS": "((3.4445, -4.775, 2.0315),)"}), "POLAR_EXPRESS changed"),
    ],
)
def test_an_unknown_change_is_labelled_and_keeps_the_cost_of_its_constants(source: str, label: str) -> None:
    setup = setup_of(source)
    what = "quality not modelled" if "POLAR" in label else "cost and quality not modelled"
    assert setup.unmodelled == (f"{label}: {what}",)
    assert (setup.structure, setup.cost) == (frozenset(), None)


def test_what_has_no_effect_is_no_change() -> None:
    source = swap(RELU2, "F.relu(linear(x_BTD, self.in_FD)) ** 2  # squared").replace("h_BTF", "hidden")
    source = swap('    """Attention, then MLP, each added to the stream."""\n', "    # One layer.\n", source)
    assert setup_of(source) == setup_of(SOURCE)


FOREIGN = '''
ASPECT_RATIO = 64
HEAD_DIM = 128
WINDOW_PATTERN = "SSSL"
TOTAL_BATCH_SIZE = 2**18
EMBEDDING_LR = 0.6
DEPTH = 9
DEVICE_BATCH_SIZE = 64


class CausalSelfAttention:
    """Somebody else's."""


def model_size():
    return -(-DEPTH * ASPECT_RATIO // HEAD_DIM) * HEAD_DIM, WINDOW_PATTERN, TOTAL_BATCH_SIZE, EMBEDDING_LR


def build(vocab_size, seq_len, device):
    return model_size()


def train(run, model):
    return DEVICE_BATCH_SIZE
'''


def test_a_foreign_file_is_read_by_its_constants_and_labelled() -> None:
    setup = setup_of(FOREIGN)
    assert (setup.depth, setup.width, setup.total_batch, setup.rows) == (9, 640, 2**18, 64)
    assert (setup.structure, setup.cost) == (frozenset(), None)
    assert all(label.endswith(": cost and quality not modelled") for label in setup.unmodelled)
    assert any("definitions differ from the shipped file" in label for label in setup.unmodelled)
    assert any("the shipped MLP_RATIO" in label and "SOFTCAP" in label for label in setup.unmodelled)


@pytest.mark.parametrize("name", ["DEPTH", "TOTAL_BATCH_SIZE"])
def test_a_foreign_file_without_a_size_cannot_be_simulated(name: str) -> None:
    source = FOREIGN.replace(name, name.lower())
    assert failure_of(source).reason == f"the simulator cannot read {name}: train.py has no such constant"


def test_a_foreign_batch_that_does_not_divide_is_not_guessed_at() -> None:
    reason = failure_of(FOREIGN.replace("2**18", "2**18 + 1")).reason
    assert reason == "the simulator cannot read the batch of 262145 tokens in rows of 2048, 64 at a time"


LINES = SOURCE.splitlines(keepends=True)


@settings(max_examples=20, deadline=None)
@given(
    removed=st.sets(st.integers(90, len(LINES) - 1), min_size=1, max_size=4),
    copied=st.integers(90, len(LINES) - 1),
)
def test_no_edit_breaks_the_reader(removed: set[int], copied: int) -> None:
    lines = [line for n, line in enumerate(LINES) if n not in removed]
    source = "".join([*lines[:copied], LINES[copied], *lines[copied:]])
    assert isinstance(read(source, seq_len=2048, vocab_size=8192), Setup | Failure)


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    assert isinstance(read(text, seq_len=2048, vocab_size=8192), Failure)


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("import nosuchmodule", "import nosuchmodule added"),
        ("from flash_attn.cute import x", "import flash_attn added"),
    ],
)
def test_a_package_that_may_not_be_there_is_said(line, label):
    setup = read(SOURCE.replace("import itertools\n", f"import itertools\n{line}\n", 1), seq_len=2048, vocab_size=8192)
    assert isinstance(setup, Setup)
    assert [told for told in setup.unmodelled if label in told]


def test_what_python_and_torch_bring_needs_no_word():
    source = SOURCE.replace("import itertools\n", "import itertools\nimport random\nimport numpy as np\n", 1)
    setup = read(source, seq_len=2048, vocab_size=8192)
    assert isinstance(setup, Setup)
    assert setup.unmodelled == ()
