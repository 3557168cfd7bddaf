"""The catalogue fits train.py: every knob is a constant of it, every edit applies, alone and stacked."""

import ast
from itertools import permutations
from pathlib import Path

import pytest

from core.patching import Edit, apply_edits, check_source, read_constants, set_constants
from core.profile import PROFILES, choose_profile
from core.researchers.catalogue import KNOBS, STRUCTURAL, StructuralEdit

SOURCE = (Path(__file__).parents[2] / "train.py").read_text()
CONSTANTS = read_constants(SOURCE)
BY_KEY = {edit.key: edit for edit in STRUCTURAL}


def apply(source: str, edit: StructuralEdit) -> str:
    return apply_edits(source, [Edit(old, new) for old, new in edit.edits])


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_each_knob_is_one_literal_within_its_bounds(knob) -> None:
    value = CONSTANTS[knob.name].value
    stores = [n for n in ast.walk(ast.parse(SOURCE)) if isinstance(n, ast.Name) and n.id == knob.name]
    assert sum(isinstance(node.ctx, ast.Store) for node in stores) == 1
    assert any(isinstance(node.ctx, ast.Load) for node in stores), "a knob must have an effect"
    if knob.kind == "choice":
        others = {repr(ast.literal_eval(text)) for text in knob.choices}
        assert len(others) == len(knob.choices)
        assert others - {repr(value)}
        assert {type(ast.literal_eval(text)) for text in knob.choices} == {type(value)}
    else:
        assert knob.kind in ("log", "linear")
        assert knob.low < knob.high
        assert knob.low <= value <= knob.high
        assert knob.factor > (1 if knob.kind == "log" else 0)
        assert knob.low > 0 or knob.kind == "linear"
        assert knob.integer == isinstance(value, int)
        moved = (
            (value * knob.factor, value / knob.factor)
            if knob.kind == "log"
            else (value + knob.factor, value - knob.factor)
        )
        assert any(knob.low <= at <= knob.high for at in moved), "no step stays within the bounds"
        assert not knob.direction or knob.low <= moved[0 if knob.direction > 0 else 1] <= knob.high
    assert knob.reason.endswith(".")


def test_knobs_are_named_once() -> None:
    assert len({knob.name for knob in KNOBS}) == len(KNOBS)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_profiles_set_sizes_that_fit(profile) -> None:
    sizes = {"DEPTH", "ASPECT_RATIO", "HEAD_DIM", "TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE"}
    assert set(profile.overrides) <= sizes
    constants = read_constants(set_constants(SOURCE, profile.overrides))
    total, rows = (constants[name].value for name in ("TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE"))
    assert total % (rows * profile.seq_len) == 0
    assert profile.eval_tokens % profile.seq_len == 0


def test_the_device_decides_the_profile() -> None:
    chosen = [choose_profile("cuda", memory_mb).name for memory_mb in (0, 8_192, 16_384, 24_564, 40_960, 81_559)]
    assert chosen == ["cuda", "cuda-small", "cuda-small", "cuda-24gb", "cuda-24gb", "cuda"]
    assert choose_profile("cpu").budget_kind == "cpu"
    with pytest.raises(ValueError, match="device kind 'tpu': it must be cpu or cuda"):
        choose_profile("tpu")


@pytest.mark.parametrize("edit", STRUCTURAL, ids=lambda edit: edit.key)
def test_each_edit_applies_whatever_the_knobs_are(edit: StructuralEdit) -> None:
    changed = {knob.name: knob.choices[0] if knob.kind == "choice" else knob.low for knob in KNOBS}
    changed |= {knob.name: int(knob.low) for knob in KNOBS if knob.integer}
    result = apply(set_constants(SOURCE, changed), edit)
    check_source(result)
    assert all(SOURCE.count(old) == 1 for old, _ in edit.edits)
    for name in edit.retires:
        uses = [n for n in ast.walk(ast.parse(result)) if isinstance(n, ast.Name) and n.id == name]
        assert [type(node.ctx) for node in uses] == [ast.Store]


@pytest.mark.parametrize(("first", "second"), list(permutations(BY_KEY, 2)))
def test_edits_stack_in_any_order(first: str, second: str) -> None:
    check_source(apply(apply(SOURCE, BY_KEY[first]), BY_KEY[second]))
    assert (first in BY_KEY[second].conflicts) == (second in BY_KEY[first].conflicts)


def test_all_edits_stack() -> None:
    source = SOURCE
    for edit in STRUCTURAL:
        source = apply(source, edit)
    check_source(source)
