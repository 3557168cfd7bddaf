"""train.py on a CPU: exact, causal, trainable, and right in the parts that only a GPU runs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from core.patching import Edit, apply_edits, set_constants
from core.profile import PROFILES
from core.researchers.catalogue import STRUCTURAL

torch = pytest.importorskip("torch")

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()
VOCAB, SEQ_LEN = 256, 32
TINY = {
    **PROFILES["cpu"].overrides,
    "DEPTH": 3,
    "ASPECT_RATIO": 16,
    "TOTAL_BATCH_SIZE": 128,
    "DEVICE_BATCH_SIZE": 4,
}


def load(overrides: dict = TINY, source: str = SOURCE) -> ModuleType:
    module = ModuleType("target_under_test")
    sys.modules[module.__name__] = module
    exec(compile(set_constants(source, overrides), "train.py", "exec"), module.__dict__)
    return module


class FakeRun:
    """The run API with batches of a text that a small model can learn, and a budget of micro-batches."""

    device, vocab_size, seq_len, seed = "cpu", VOCAB, SEQ_LEN, 0

    def __init__(self, micro_batches: int) -> None:
        self.micro_batches, self.given, self.losses = micro_batches, 0, []

    @property
    def elapsed_fraction(self) -> float:
        return self.given / self.micro_batches

    def warmup_batch(self, batch_rows: int):
        tokens = torch.randint(VOCAB, (batch_rows, SEQ_LEN + 1), generator=torch.Generator().manual_seed(7))
        return tokens[:, :-1], tokens[:, 1:]

    def batches(self, batch_rows: int) -> Iterator:
        random_numbers = torch.Generator().manual_seed(self.seed)
        text = torch.tensor(list(b"for i in range(10): print(i)\n" * 8))
        for _ in range(self.micro_batches):
            self.given += 1
            starts = torch.randint(100, (batch_rows, 1), generator=random_numbers)
            tokens = text[starts + torch.arange(SEQ_LEN + 1)]
            yield tokens[:, :-1], tokens[:, 1:]

    def report(self, loss) -> None:
        self.losses.append(float(loss))


def train_tiny(micro_batches: int, target: ModuleType | None = None):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    target = target or load()
    model = target.build(VOCAB, SEQ_LEN, "cpu")
    run = FakeRun(micro_batches)
    target.train(run, model)
    return run, model


# ---- The model ----


def test_logits_have_the_promised_shape_and_precision() -> None:
    logits = load().build(VOCAB, SEQ_LEN, "cpu")(torch.zeros(2, SEQ_LEN, dtype=torch.int64))
    assert logits.shape == (2, SEQ_LEN, VOCAB)
    assert logits.dtype == torch.float32


def test_width_is_rounded_up_to_whole_heads() -> None:
    model = load({**TINY, "DEPTH": 3, "ASPECT_RATIO": 11, "HEAD_DIM": 16}).build(VOCAB, SEQ_LEN, "cpu")
    assert model.dim == 48


@pytest.mark.training
def test_later_tokens_never_change_earlier_logits() -> None:
    _, model = train_tiny(8)  # an untrained model writes nothing to the stream, which would prove nothing
    tokens = torch.randint(VOCAB, (2, SEQ_LEN), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % VOCAB
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.equal(before[:, 20:], after[:, 20:])


@pytest.mark.training
def test_a_shorter_sequence_gets_the_same_logits() -> None:
    _, model = train_tiny(8)
    tokens = torch.randint(VOCAB, (2, SEQ_LEN), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, :11], model(tokens[:, :11]), rtol=1e-4, atol=1e-5)


def test_window_mask_shows_itself_and_the_window_before() -> None:
    mask = load().window_mask(6, 2, "cpu")
    expected = [[0 <= i - j <= 2 for j in range(6)] for i in range(6)]
    assert mask.tolist() == expected


def test_windows_follow_the_pattern_and_the_last_layer_sees_all() -> None:
    target = load({**TINY, "DEPTH": 6, "ASPECT_RATIO": 8, "WINDOW_PATTERN": "'SSL'"})
    assert [target.layer_window(layer, 32) for layer in range(6)] == [16, 16, 32, 16, 16, 32]
    assert load({**TINY, "WINDOW_PATTERN": "'S'"}).layer_window(2, 32) == 32


def test_rotation_makes_attention_logits_depend_on_distance_alone() -> None:
    cos, sin = load().rotary_tables(SEQ_LEN, 16, "cpu")
    query, key = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))

    def rotate(x, t):
        return x * cos[t] + x.roll(8) * sin[t]

    near, far = rotate(query, 5) @ rotate(key, 2), rotate(query, 25) @ rotate(key, 22)
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-4)
    assert abs(near - rotate(query, 5) @ rotate(key, 3)) > 1e-3


# ---- What only a GPU runs ----


def test_flash_attention_is_called_as_the_mask_says(monkeypatch: pytest.MonkeyPatch) -> None:
    target = load()
    calls = []

    def kernel(q, k, v, starts_q, starts_k, max_q, max_k, *, scale, window_size):
        calls.append((starts_q.tolist(), max_q, window_size))
        left = SEQ_LEN if window_size[0] < 0 else window_size[0]
        assert window_size[1] == 0
        q, k, v = (x.view(2, SEQ_LEN, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        mask = target.window_mask(SEQ_LEN, left, "cpu")
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        return y.transpose(1, 2).flatten(0, 1)

    monkeypatch.setattr(target, "varlen_attn", kernel, raising=False)  # imported only where there is CUDA
    for window in (SEQ_LEN // 2, SEQ_LEN):
        attention = target.Attention(48, window, SEQ_LEN, "cpu", mixes_values=False)
        qkv = torch.randn(3, 2, SEQ_LEN, 3, 16, generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(attention.attend_flash(*qkv), attention.attend_masked(*qkv))
    assert calls == [([0, 32, 64], 32, (16, 0)), ([0, 32, 64], 32, (-1, 0))]


def test_the_full_size_fits_together_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention.varlen import varlen_attn

    target = load({})
    monkeypatch.setattr(target, "varlen_attn", varlen_attn, raising=False)
    monkeypatch.setattr(target, "compute_dtype", lambda device: torch.bfloat16)
    model = target.build(8192, 2048, "meta")
    assert sum(param.numel() for param in model.parameters()) == 50_339_856
    tokens = torch.zeros(4, 2048, dtype=torch.int64, device="meta")
    logits = model(tokens)
    assert (logits.shape, logits.dtype) == ((4, 2048, 8192), torch.float32)
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
    assert all(param.grad.dtype == param.dtype == torch.float32 for param in model.parameters())
    _, muon = target.make_optimizers(model, compiled=False)
    muon.step()
    assert next(iter(muon.state.values()))["momentum_NRC"].shape == (32, 512, 512)


@pytest.mark.training
def test_a_new_learning_rate_compiles_nothing_anew() -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    target = load()
    torch.manual_seed(0)
    model = target.build(VOCAB, SEQ_LEN, "cpu")
    batch = FakeRun(1).warmup_batch(4)
    trainer = target.Trainer(model, compiled=False)
    eager = trainer.loss(*batch)
    counter = CompileCounterWithBackend("aot_eager")
    trainer.loss_fn = torch.compile(trainer.loss, dynamic=False, fullgraph=True, backend=counter)
    trainer.muon.update = torch.compile(target.muon_step, dynamic=False, fullgraph=True, backend=counter)
    trainer.warm_up([batch])
    assert counter.frame_count == 1 + len(trainer.muon.param_groups)
    losses = [float(trainer.step([batch], step / 4, 1 - step / 4)) for step in range(4)]
    assert counter.frame_count == 1 + len(trainer.muon.param_groups)
    assert losses[0] == pytest.approx(eager.item())
    assert losses[3] < losses[0]


# ---- The optimizers ----


@pytest.mark.parametrize("shape", [(3, 48, 48), (2, 192, 48), (2, 48, 192)])
def test_muon_makes_updates_orthogonal(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(load().orthogonalise(x))
    assert values.min() > 0.85
    assert values.max() < 1.15
    assert torch.linalg.svdvals(x / x.norm(dim=(1, 2), keepdim=True)).min() < 0.2  # it was not, before


def test_muon_pulls_small_singular_values_to_one() -> None:
    values = load().orthogonalise(torch.diag(torch.logspace(-3, 0, 16))[None]).diagonal(dim1=1, dim2=2)
    assert values.min() > 0.5  # the norm of all sixteen makes the smallest one smaller still
    assert values.max() < 1.15


def test_weights_decay_only_with_the_gradient() -> None:
    target = load()
    kept = []
    for decay in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        param, grad = (torch.randn(8, 8, generator=generator) for _ in range(2))
        start = param.clone()
        knobs = tuple(torch.tensor(value) for value in (0.1, decay, 0.9, 0.95))
        target.muon_step([param], [grad], torch.zeros(1, 8, 8), torch.zeros(1, 8, 1), knobs)
        kept.append(param)
    update = kept[0] - start
    shrunk = update * start < 0
    assert torch.equal(kept[0][~shrunk], kept[1][~shrunk])
    torch.testing.assert_close(kept[1][shrunk], (kept[0] - 0.1 * 0.5 * start)[shrunk])
    assert 0 < shrunk.sum() < 64


def test_a_parameter_that_nobody_trains_is_named() -> None:
    target = load()
    model = target.build(VOCAB, SEQ_LEN, "cpu")
    model.forgotten = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(AssertionError, match="parameter forgotten must be in exactly one"):
        target.make_optimizers(model, compiled=False)


@pytest.mark.parametrize(
    ("progress", "scale"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.6, 1.0), (0.8, 0.55), (1.0, 0.1)]
)
def test_learning_rates_rise_stay_and_fall(progress: float, scale: float) -> None:
    target = load({"WARMUP_RATIO": 0.1, "WARMDOWN_RATIO": 0.4, "FINAL_LR_FRAC": 0.1})
    assert target.lr_scale(progress) == pytest.approx(scale)


# ---- Training ----


@pytest.mark.training
def test_the_same_seed_gives_the_same_bits() -> None:
    (first, first_model), (second, second_model) = train_tiny(10), train_tiny(10)
    assert len(first.losses) == 10
    assert first.losses == second.losses
    pairs = zip(first_model.state_dict().values(), second_model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.training
def test_the_loss_falls() -> None:
    run, _ = train_tiny(60)
    assert run.losses[0] == pytest.approx(5.545, abs=0.02)  # ln 256: it starts with no opinion
    assert sum(run.losses[-5:]) / 5 < 1.0


@pytest.mark.training
def test_compiling_ahead_leaves_the_weights_alone() -> None:
    _, trained = train_tiny(0)
    torch.manual_seed(0)
    fresh = load().build(VOCAB, SEQ_LEN, "cpu")
    for (name, a), b in zip(fresh.state_dict().items(), trained.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.training
def test_only_whole_batches_make_a_step() -> None:
    run, _ = train_tiny(5, load({**TINY, "TOTAL_BATCH_SIZE": 256}))
    assert len(run.losses) == 2


def test_a_step_smaller_than_a_pass_takes_fewer_rows() -> None:
    assert load({**TINY, "TOTAL_BATCH_SIZE": 64}).rows_per_pass(SEQ_LEN) == 2
    assert load({**TINY, "TOTAL_BATCH_SIZE": 256}).rows_per_pass(SEQ_LEN) == 4


@pytest.mark.training
def test_batches_in_parts_make_the_same_step() -> None:
    (_, whole), (_, parts) = (
        train_tiny(n, load({**TINY, "DEVICE_BATCH_SIZE": rows, "MUON_MOMENTUM_RATIO": 0.0, "WARMDOWN_RATIO": 0.0}))
        for n, rows in ((1, 4), (2, 2))
    )
    torch.testing.assert_close(whole.embed.weight, parts.embed.weight, rtol=0, atol=1e-4)
    torch.manual_seed(0)
    assert not torch.equal(whole.embed.weight, load().build(VOCAB, SEQ_LEN, "cpu").embed.weight)


@pytest.mark.training
def test_a_loss_that_is_no_number_ends_the_run() -> None:
    target = load()
    model = target.build(VOCAB, SEQ_LEN, "cpu")
    with torch.no_grad():
        model.head_VD[0, 0] = float("nan")
    run = FakeRun(10)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        target.train(run, model)
    assert len(run.losses) == 2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"TOTAL_BATCH_SIZE": 200}, r"TOTAL_BATCH_SIZE 200 must be a multiple of .* = 4 \* 32"),
        ({"TOTAL_BATCH_SIZE": 31}, r"TOTAL_BATCH_SIZE 31 must be a multiple of .* = 0 \* 32"),
        ({"HEAD_DIM": 15}, "HEAD_DIM 15 must be even"),
        ({"WINDOW_PATTERN": "'SXL'"}, "WINDOW_PATTERN 'SXL' may hold only S and L"),
    ],
)
def test_impossible_sizes_are_explained(overrides: dict, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        load({**TINY, **overrides}).build(VOCAB, SEQ_LEN, "cpu")


@pytest.mark.training
@pytest.mark.parametrize("edit", STRUCTURAL, ids=lambda edit: edit.key)
def test_each_structural_edit_trains(edit) -> None:
    source = apply_edits(SOURCE, [Edit(old, new) for old, new in edit.edits])
    run, model = train_tiny(3, load(source=source))
    assert len(run.losses) == 3
    assert run.losses[2] < run.losses[0]
    tokens = torch.randint(VOCAB, (2, SEQ_LEN), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[:, :11], model(tokens[:, :11]), rtol=1e-4, atol=1e-5)
