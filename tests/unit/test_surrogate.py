"""The surrogate: what it says of known files, and that it stays sane where nobody measured anything."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.surrogate_data import karpathy_setup
from sim.gpus import GPU_CLASSES, H100, H200
from sim.model import Cost, Setup
from sim.surrogate import cost_of, forecast, loss_at, unmodelled_knobs
from sim.surrogate.coefficients import shipped
from sim.surrogate.cost import CALIBRATED_GATE_CHANNELS, count_windows, shape_cost
from sim.surrogate.effects import KNOB_EFFECTS, STRUCTURE_EFFECTS
from sim.surrogate.speed import fresh_share

ROOMY = msgspec.structs.replace(H200, usable_mb=10**9)
"""An H200 that never runs out of memory: to see scores where a real one has none."""


def bpb(setup: Setup, gpu=ROOMY, budget_s: float = 300.0) -> float:
    return forecast(setup, gpu, budget_s).val_bpb


# ---- What is known ----


def test_the_default_file_costs_what_its_own_summary_says():
    cost = shape_cost(karpathy_setup(), CALIBRATED_GATE_CHANNELS)
    assert cost.params == 50_332_176
    assert cost.flops_per_token == pytest.approx(239_078_400, rel=1e-3)


@pytest.mark.parametrize(
    "changes", [{}, {"depth": 5, "aspect_ratio": 40, "head_dim": 64}, {"depth": 3, "width": 256, "mlp_ratio": 2}]
)
def test_our_own_model_has_the_parameters_that_its_shape_tells(changes):
    pytest.importorskip("torch")
    train = _load_train()
    setup = karpathy_setup(**changes)
    train.DEPTH, train.HEAD_DIM, train.MLP_RATIO = setup.depth, setup.head_dim, int(setup.mlp_ratio)
    train.ASPECT_RATIO = setup.width // setup.depth
    model = train.GPT(setup.vocab_size, setup.seq_len, "meta")
    assert model.dim == setup.width
    assert cost_of(setup).params == sum(param.numel() for param in model.parameters())


def _load_train():
    import importlib.util

    from core.target import locate_target

    spec = importlib.util.spec_from_file_location("train_for_counting", locate_target() / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("gpu", "score", "steps"), [(H100, 0.9979, 953), (H200, 0.9914, 1013)])
def test_the_default_file_scores_what_it_scored_on_real_devices(gpu, score, steps):
    said = forecast(karpathy_setup(), gpu, 300.0)
    assert said.failure is None
    assert said.val_bpb == pytest.approx(score, abs=0.002)
    assert said.steps == pytest.approx(steps, rel=0.005)
    assert said.bpb_per_ln_steps == pytest.approx(-0.059, abs=0.006)
    assert said.memory_mb == pytest.approx(44.0 * 1024, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "memory_gb"),
    [
        ({"depth": 12, "total_batch": 2**18}, 93.6),
        ({"depth": 14, "total_batch": 2**18}, 126.0),
        ({"depth": 12, "total_batch": 2**18, "width": 1024}, 123.8),
        ({"depth": 9, "width": 640, "total_batch": 2**18}, 60.2),
        ({"depth": 9, "width": 640, "total_batch": 2**18, "mlp_ratio": 4.5}, 63.1),
    ],
)
def test_memory_is_what_other_sessions_reported(changes, memory_gb):
    assert forecast(karpathy_setup(**changes), H200, 300.0).memory_mb / 1024 == pytest.approx(memory_gb, rel=0.012)


def test_an_h200_fits_what_an_h100_does_not():
    large = karpathy_setup(depth=12, total_batch=2**18)
    assert forecast(large, H200, 300.0).failure is None
    failure = forecast(large, H100, 300.0).failure
    assert failure is not None
    assert failure.outcome == "oom"
    assert failure.at_frac < 0
    assert failure.reason.startswith("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate")
    assert "GiB" in failure.reason


def test_every_published_coefficient_says_where_it_is_from():
    provenance = shipped().provenance
    assert len(provenance["sha256"]) >= 2
    assert provenance["rows"]["distinct"] > 4000
    for effect in (*KNOB_EFFECTS, *STRUCTURE_EFFECTS):
        assert effect.source
        assert effect.standing in ("measured", "assumed")


# ---- Windows and repeats ----


@given(st.text("SL", min_size=1, max_size=7), st.integers(1, 60))
def test_windows_are_counted_as_a_walk_over_the_layers_counts_them(pattern, depth):
    long = sum(pattern[n % len(pattern)] == "L" or n == depth - 1 for n in range(depth))
    assert count_windows(pattern, depth)[:2] == (long, depth - long)


def test_rows_repeat_only_where_the_loader_outruns_several_passes():
    assert fresh_share(2, 1.2, 1.7) == 1.0
    assert fresh_share(2, 3.0, 1.7) == pytest.approx(0.5)
    assert fresh_share(2, 3.0, 0.8) == 1.0  # the queue of kernels holds it back
    assert 0.5 < fresh_share(4, 3.0, 1.7) < 1.0


# ---- Devices and budgets ----


def test_more_time_and_faster_devices_score_better():
    setup = karpathy_setup(total_batch=2**18)
    by_budget = [bpb(setup, H100, budget_s) for budget_s in (10, 60, 300, 600, 3600)]
    assert by_budget == sorted(by_budget, reverse=True)
    assert by_budget[0] < 2.0
    assert by_budget[-1] > 0.85
    assert bpb(setup, H200) < bpb(setup, H100)


@pytest.mark.parametrize("name", sorted(GPU_CLASSES))
def test_every_class_gets_a_forecast(name):
    said = forecast(karpathy_setup(rows=16, total_batch=2**18), GPU_CLASSES[name], 300.0)
    assert 0.9 < said.val_bpb < 1.6
    assert said.steps > 20
    assert 0.0 < said.utilisation <= 1.0
    assert said.startup_s > 0
    assert said.score_s > 0


# ---- Outside the data ----

GOOD = {"total_batch": 2**18, "aspect_ratio": 80, "weight_decay": 0.1, "warmdown_ratio": 0.65, "final_lr_frac": 0.03}
SWEEPS = {
    "depth": ([24, 30, 40, 80, 200, 1000], [4, 3, 2, 1]),
    "aspect_ratio": ([128, 160, 256, 512, 2048], [32, 16, 1]),
    "total_batch": ([2**n for n in range(21, 30)], [2**n for n in range(16, 10, -1)]),
    "matrix_lr": ([0.2, 0.5, 1, 10, 100, 1e4], [0.005, 1e-3, 1e-4, 1e-6]),
    "embedding_lr": ([2, 5, 10, 100, 1e6], [0.01, 1e-3, 1e-5]),
    "unembedding_lr": ([0.05, 0.2, 1, 10], [5e-4, 1e-5, 1e-7]),
    "scalar_lr": ([2, 5, 50, 1e4], [0.05, 1e-3, 1e-6]),
    "weight_decay": ([0.5, 1, 3, 10, 40], [0.0, -0.5, -5]),
    "warmup_ratio": ([0.3, 0.5, 0.8, 1.0], []),
    "warmdown_ratio": ([0.8, 0.9, 1.0], [0.1, 0.0]),
    "final_lr_frac": ([0.2, 0.5, 1.0], []),
    "head_dim": ([256, 512, 1024], [64, 32, 16]),
}


@pytest.mark.parametrize("base", [{}, GOOD], ids=["default", "good"])
@pytest.mark.parametrize("knob", sorted(SWEEPS))
def test_scores_only_get_worse_on_the_way_out_of_the_data(knob, base):
    for values in SWEEPS[knob]:
        scores = [bpb(_changed(base, knob, value)) for value in values]
        assert scores == sorted(scores), f"{knob} {values}: {scores}"
        assert all(score > shipped().quality.best for score in scores)


def _changed(base: dict, knob: str, value: float) -> Setup:
    changes = {**base, knob: value}
    if knob == "total_batch":
        changes["rows"] = min(128, max(int(value) // 2048, 1))
    return karpathy_setup(**changes)


_LOWEST_GAIN = sum(min(0.0, *(bpb for _, bpb in effect.points)) for effect in KNOB_EFFECTS)


@settings(max_examples=150, deadline=None)
@given(
    depth=st.integers(1, 64), aspect_ratio=st.integers(1, 300), head_dim=st.sampled_from([16, 64, 128, 256]),
    batch=st.integers(11, 26), rows=st.integers(0, 9), rate=st.tuples(*[st.floats(-4, 4)] * 4),
    weight_decay=st.floats(0, 3), warmup_ratio=st.floats(0, 1), warmdown_ratio=st.floats(0, 1),
    final_lr_frac=st.floats(0, 1), window_pattern=st.text("SL", min_size=1, max_size=6),
    rope_base=st.floats(1e2, 1e8), attention_scale=st.floats(0.1, 10), softcap=st.sampled_from([0.0, 1.0, 15.0, 90.0]),
)  # fmt: skip
def test_no_setup_is_a_bargain_or_nonsense(batch, rows, rate, **changes):
    rates = dict(zip(("embedding_lr", "unembedding_lr", "matrix_lr", "scalar_lr"), rate, strict=True))
    centres = {"embedding_lr": 0.6, "unembedding_lr": 0.004, "matrix_lr": 0.04, "scalar_lr": 0.5}
    total = 2**batch
    setup = karpathy_setup(
        **changes,
        **{name: centres[name] * 10**power for name, power in rates.items()},
        total_batch=total,
        rows=max(1, min(2**rows, total // 2048)),
    )
    for gpu in (ROOMY, H100):
        said = forecast(setup, gpu, 300.0)
        assert shipped().quality.floor + _LOWEST_GAIN < said.val_bpb < 3.3
        assert said.steps >= 12
        assert math.isfinite(said.bpb_per_ln_steps)
        assert said.bpb_per_ln_steps <= 0
        assert loss_at(said, 1.0) == pytest.approx(said.loss_end)


def test_absurd_sizes_run_out_of_memory_at_once():
    for setup in (karpathy_setup(depth=10**9), karpathy_setup(width=128 * 10**7), karpathy_setup(rows=10**8)):
        failure = forecast(setup, H200, 300.0).failure
        assert failure is not None
        assert failure.outcome == "oom"


@pytest.mark.parametrize(
    "changes", [{"matrix_lr": 1e6}, {"matrix_lr": math.nan}, {"attention_scale": 0.0}, {"weight_decay": 1e4},
                {"embedding_lr": math.inf}, {"scalar_lr": -1e30}],
)  # fmt: skip
def test_numbers_that_leave_their_range_end_a_run_as_nan(changes):
    said = forecast(karpathy_setup(**changes), H100, 300.0)
    assert said.failure is not None
    assert said.failure.outcome == "nan"
    assert 0 <= said.failure.at_frac < 1
    assert math.isfinite(said.val_bpb)


# ---- The curve ----


@pytest.mark.parametrize("changes", [{}, {"warmup_ratio": 0.2}, {"warmdown_ratio": 0.0}, {"final_lr_frac": 0.5}])
def test_the_curve_falls_from_an_untrained_model_to_the_score(changes):
    said = forecast(karpathy_setup(**changes), H100, 300.0)
    losses = [loss_at(said, n / 50) for n in range(51)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(math.log(8192))
    assert losses[-1] / math.log(2) / shipped().curve.bytes_per_token == pytest.approx(said.val_bpb)


def test_the_curve_falls_quicker_than_a_power_while_rates_warm_down():
    constant = forecast(karpathy_setup(warmdown_ratio=0.0), H100, 300.0)
    falling = msgspec.structs.replace(forecast(karpathy_setup(), H100, 300.0), loss_end=constant.loss_end)
    late, end = 0.75, 1.0
    assert loss_at(falling, late) - loss_at(falling, end) > loss_at(constant, late) - loss_at(constant, end)


# ---- Beyond the fitted knobs ----


def test_measured_structures_change_the_score_by_what_was_measured():
    plain = karpathy_setup(total_batch=2**18)
    for effect in STRUCTURE_EFFECTS:
        changed = bpb(msgspec.structs.replace(plain, structure=frozenset({effect.name})))
        if effect.absolute:
            assert changed == pytest.approx(effect.bpb, abs=0.02)
        else:
            assert changed - bpb(plain) == pytest.approx(effect.bpb, abs=1e-6)


def test_an_unknown_structure_gains_nothing_and_is_said():
    plain = karpathy_setup()
    changed = msgspec.structs.replace(plain, structure=frozenset({"trigram"}))
    assert bpb(changed) == bpb(plain)
    assert unmodelled_knobs(plain) == ()
    assert "trigram" in unmodelled_knobs(changed)
    assert any("ROPE_BASE" in said for said in unmodelled_knobs(karpathy_setup(rope_base=1e7)))
    for knob, value in {"matrix_lr": 0.0, "embedding_lr": -0.6, "warmdown_ratio": 5.0, "depth": 40}.items():
        said = unmodelled_knobs(karpathy_setup(**{knob: value}))[0]
        assert said.startswith(f"{knob.upper()} = {value:g}, beyond the measured")


def test_an_edit_of_unknown_quality_costs_time_but_never_gains_by_saving_it():
    plain = karpathy_setup()
    usual = cost_of(plain)

    def edited(factor: float) -> Setup:
        cost = Cost(round(usual.params * factor), usual.flops_per_token * factor)
        return msgspec.structs.replace(plain, cost=cost, unmodelled=("MLP changed",))

    quick, slow = forecast(edited(0.5), H100, 300.0), forecast(edited(2.0), H100, 300.0)
    assert quick.steps > forecast(plain, H100, 300.0).steps > slow.steps
    assert quick.val_bpb == bpb(plain, H100)
    assert slow.val_bpb > bpb(plain, H100) + 0.02
    assert slow.memory_mb > quick.memory_mb


def test_other_knobs_have_their_measured_effects():
    plain = bpb(karpathy_setup())
    for changes, effect in (
        ({"rope_base": 200_000.0}, -0.0012), ({"softcap": 30.0}, 0.0049), ({"softcap": 0.0}, 0.01),
        ({"ns_steps": 3}, 0.01), ({"muon_beta2": 0.98}, 0.0), ({"short_window_ratio": 0.125}, -0.0006),
        ({"mlp_ratio": 3.0}, 0.0048), ({"skip_init": 0.0}, 0.0035),
    ):  # fmt: skip
        assert bpb(karpathy_setup(**changes)) - plain == pytest.approx(effect, abs=1e-6), changes
