"""The benchmark of researchers: the truth, the measures, the worlds, null controls, and that it can be resumed."""

from __future__ import annotations

import math

import msgspec
import pytest

import bench.research as research
from bench.intervals import mean_interval, share_bounds
from bench.nulls import many_nulls, run_nulls
from bench.policies.space import Space
from bench.records import Judged, Record, Records, Setting, code_digest
from bench.research_table import tables
from bench.sessions import baseline_source, read_setup, real_physics
from bench.truth import Optimum, Truth, optimum
from bench.worlds import physics_of, world
from sim.gpus import H100, H200
from sim.world.outlook import Physics


def bowl():
    """A world whose optimum is known: MATRIX_LR at 0.02 and a batch of 2^17, worth 0.01 and 0.02."""
    real = real_physics()

    def forecast(setup, gpu, budget_s):
        away = 0.01 * math.log2(setup.matrix_lr / 0.02) ** 2 + 0.005 * math.log2(setup.total_batch / 2**17) ** 2
        return msgspec.structs.replace(real.forecast(setup, gpu, budget_s), val_bpb=0.96 + away)

    return Physics(real.read, forecast, real.loss_at, real.unmodelled, real.close)


def test_the_optimum_of_a_known_world_is_found():
    truth = Truth(bowl(), baseline_source(), 300.0)
    assert truth.of_constants({}) == pytest.approx(0.99)
    wanted = {"MATRIX_LR", "TOTAL_BATCH_SIZE", "SKIP_INIT"}
    truth.space = Space([dimension for dimension in truth.space.dimensions if dimension.name in wanted])
    found = optimum(truth, restarts=2)
    assert found.val_bpb == pytest.approx(0.96, abs=1e-6)
    assert found.constants["TOTAL_BATCH_SIZE"] == "131072"
    assert float(found.constants["MATRIX_LR"]) == pytest.approx(0.02, rel=0.01)
    assert found.evaluations == truth.evaluations - 1
    assert len(found.found) == 2


def test_a_file_that_fails_has_no_value():
    truth = Truth(real_physics(), baseline_source(), 300.0)
    assert truth.of_constants({"DEPTH": "16", "ASPECT_RATIO": "128", "DEVICE_BATCH_SIZE": "128"}) == math.inf
    assert truth.of_source("DEPTH = 8\n") == math.inf


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(research, "cached_optimum", lambda truth, path: Optimum(0.96, {}, 1, [0.96]))
    monkeypatch.setattr(research, "real_physics", bowl)


def compare(folder, seeds=(1, 2)):
    places = [(0, seed) for seed in seeds]
    return research.compare(folder, ("greedy-waves", "random"), places, gpus="3xH100,H200", hours=1.0)


def test_a_benchmark_goes_on_where_it_was(tmp_path, quick, monkeypatch):
    ran = []
    real_session = research._session
    monkeypatch.setattr(research, "_session", lambda s, *rest: ran.append((s.policy, s.seed)) or real_session(s, *rest))
    first = compare(tmp_path, seeds=(1,))
    assert ran == [("greedy-waves", 1), ("random", 1)]
    with (tmp_path / "sessions.jsonl").open("ab") as file:
        file.write(b'{"setting":{"policy":"gree')  # killed while it wrote
    everything = compare(tmp_path)
    assert ran[2:] == [("greedy-waves", 2), ("random", 2)]
    assert everything[:2] == first
    assert compare(tmp_path) == everything
    assert len(ran) == 4
    for record in everything:
        assert record.devices == 4
        assert record.baseline_bpb == pytest.approx(0.99)
        assert record.baseline_bpb >= record.final_bpb >= record.optimum_bpb
        assert record.knobs_bpb == record.final_bpb
        assert 25 <= record.completed <= record.allowed + 4
        assert 0.0 <= record.unallocated < 0.6
        assert record.tested


def test_a_record_knows_its_course():
    one = record("builtin", steps=[(0.2, 0.99), (1.0, 0.98), (3.0, 0.975)])
    assert (one.value_at(0.1), one.value_at(1.0), one.final_bpb) == (0.997, 0.98, 0.975)
    assert (one.hours_to(0.98), one.hours_to(0.97)) == (1.0, None)


def record(policy, steps, seed=1):
    setting = Setting(policy=policy, seed=seed, world=0, gpus="4xH100", hours=8.0, code="x")
    return Record(
        setting=setting, devices=4, baseline_bpb=0.997, optimum_bpb=0.97, steps=steps, knobs_bpb=0.98, raw_bpb=0.979,
        completed=300, failed=3, stopped=0, allowed=310, unallocated=0.01, session_s=2.0, researcher_s=0.2,
        tested=[Judged(True, -0.01, -0.012, -0.008, -0.009), Judged(False, 0.001, 0.0, 0.002, -0.001)],
        settled=303, ended="limit hours",
    )  # fmt: skip


def test_the_tables_name_every_policy_and_what_never_happened():
    records = [record("builtin", [(0.5, 0.98), (2.0, 0.971)]), record("builtin", [(0.5, 0.98)], seed=2)]
    records += [record("factorial", [(4.0, 0.98)]), record("factorial", [(4.5, 0.98)], seed=2)]
    said = tables(records, [])
    assert said.count("| builtin |") == said.count("| factorial |") == 5
    assert "never (0/2)" in said
    assert "0.50 ± 0.00 (2/2)" in said
    assert "100.0 % of 2" in said


def test_records_keep_the_last_of_a_setting(tmp_path):
    path = tmp_path / "sessions.jsonl"
    one = record("tpe", [(1.0, 0.98)])
    path.write_bytes(b'{"setting":{"policy":"of another version"}}\n')
    Records(path).add(one)
    assert Records(path).get(one.setting) == one
    assert Records(path).get(msgspec.structs.replace(one.setting, seed=3)) is None


def test_code_is_named_by_what_a_session_depends_on():
    assert code_digest("builtin") != code_digest("tpe") == code_digest("random") != code_digest()


def test_intervals():
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302652729 / math.sqrt(3))
    assert mean_interval([1.0]) == (1.0, math.inf)
    low, high = share_bounds(0, 100)
    assert low == 0.0
    assert high == pytest.approx(1.0 - 0.05**0.01)
    low, high = share_bounds(100, 100)
    assert low == pytest.approx(0.05**0.01)
    assert high == 1.0
    low, high = share_bounds(5, 10)
    assert low == pytest.approx(0.2224411, abs=1e-6)  # beta quantiles, as tables have them
    assert high == pytest.approx(1.0 - low)


def test_null_controls_all_get_a_verdict_and_are_not_run_again(tmp_path):
    nulls = run_nulls(1, "x", 4)
    assert nulls.judged == 4
    assert nulls.kept == 0
    path = tmp_path / "nulls.jsonl"
    path.write_bytes(msgspec.json.encode(nulls) + b"\n")
    assert list(many_nulls(path, 4, "x")) == [nulls]


@pytest.mark.parametrize("number", [9_001, 9_002])
def test_a_world_is_a_function_of_its_number(number):
    this, same = world(number), world(number)
    assert repr(this) == repr(same)
    assert 0.0004 <= this.seed_sd_bpb <= 0.002
    assert this.quadratic == (this.power == 2.0)
    assert 0 < sum(this.above == 0.0) < len(this.above)  # some knobs do nothing
    setup = read_setup(baseline_source())
    physics = physics_of(this, read_setup)
    here, there = (physics.forecast(setup, gpu, 300.0).val_bpb for gpu in (H100, H200))
    assert 0.98 < here < 1.02
    assert -0.009 < there - here < 0.001
    assert this.excess(this.centres) == pytest.approx(0.0)
    assert here > 0.9973 - this.gap_bpb
