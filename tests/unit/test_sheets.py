"""Designs one by one: how far they got, their effects and the corners of their pairs, against what a hand computes."""

from __future__ import annotations

import math

import pytest

from core.analysis.sheets import MOST_PAIRS, design_sheet, designs_of
from core.designs import Factor, fractional, full, screening
from core.keyframe import settled
from core.reduce import apply
from tests.support.designed import designed, state_of

LR, WD, DEPTH = Factor("LR", "0.5", "2.0"), Factor("WD", "0.1", "0.3"), Factor("DEPTH", "8", "10")


def score(row):
    """LR high gains 0.010, WD high costs 0.004; together they gain another 0.006 (half the difference: 0.003)."""
    lr, wd = row[0], row[1]
    return 1.0 - 0.005 * lr + 0.002 * wd - 0.0015 * lr * wd


def sheet_of(events):
    state = state_of(events)
    [listed] = designs_of(state)
    return design_sheet(state, listed)


def test_a_full_factorial_gives_effects_and_corners_as_by_hand():
    sheet = sheet_of(designed(full("first", [LR, WD], "what LR and WD do"), score))
    assert (sheet.listed.design, sheet.listed.kind, sheet.listed.parent) == ("first", "full factorial", "e1")
    assert (sheet.listed.planned, sheet.listed.ended, sheet.listed.scored) == (4, 4, 4)
    values = {effect.name: effect.value for effect in sheet.report.effects.mains}
    assert values == pytest.approx({"LR": -0.010, "WD": 0.004})
    [pair] = sheet.pairs
    assert set(pair.knobs) == {"LR", "WD"}
    assert pair.value == pytest.approx(-0.003)
    first = pair.knobs.index("LR")
    for corner in pair.corners:
        levels = (corner.a, corner.b) if first == 0 else (corner.b, corner.a)
        assert corner.mean == pytest.approx(score(levels))
        assert corner.n == 1
    assert pair.known
    assert pair.aliases == ()


def test_corners_have_the_interval_of_the_runs_behind_them():
    """With as many parameters as runs, a corner is its own run: t(0.975, df) times the noise of one run."""
    sheet = sheet_of(designed(full("first", [LR, WD], ""), score))
    effects = sheet.report.effects
    corner = sheet.pairs[0].corners[0]
    half = (corner.interval[1] - corner.interval[0]) / 2
    assert effects.basis == "noise"
    assert half == pytest.approx(effects.mains[0].interval[1] - effects.mains[0].value)


def test_corners_do_not_feel_what_other_knobs_were_set_to_in_lost_runs():
    lost = iter(range(8))
    sheet = sheet_of(
        designed(
            full("first", [LR, WD, DEPTH], ""),
            lambda row: None if next(lost) == 3 else score(row) + 0.02 * row[2],
        )
    )
    assert (sheet.listed.ended, sheet.listed.scored) == (8, 7)
    pair = next(pair for pair in sheet.pairs if set(pair.knobs) == {"LR", "WD"})
    by_levels = {
        (corner.a, corner.b) if pair.knobs[0] == "LR" else (corner.b, corner.a): corner.mean for corner in pair.corners
    }
    assert by_levels == pytest.approx({levels: score(levels) for levels in by_levels})


def test_a_half_fraction_names_what_a_pair_cannot_be_told_from():
    factors = [LR, WD, DEPTH, Factor("MLP", "3", "5")]
    sheet = sheet_of(designed(fractional("half", factors, 4, ""), score))
    assert sheet.listed.resolution == 4
    [pair] = [pair for pair in sheet.pairs if pair.active]
    [alias] = pair.aliases
    both = {frozenset(pair.knobs), frozenset(alias.name.split(":"))}
    assert both == {frozenset({"LR", "WD"}), frozenset({"DEPTH", "MLP"})}
    assert abs(alias.share) == pytest.approx(1.0)
    assert abs(pair.value) == pytest.approx(0.003)


def test_where_a_pair_equals_a_main_effect_it_has_no_corners():
    sheet = sheet_of(designed(fractional("third", [LR, WD, DEPTH], 3, ""), score))
    assert sheet.listed.resolution == 3
    assert len(sheet.pairs) == 3
    for pair in sheet.pairs:
        assert pair.corners == ()
        assert math.isnan(pair.value)
        [alias] = pair.aliases
        assert {alias.name, *pair.knobs} == {"LR", "WD", "DEPTH"}


def test_a_saturated_screening_shows_pairs_of_the_leading_knobs_as_not_its_own():
    factors = [Factor(f"K{index}", "1", "2") for index in range(7)]
    sheet = sheet_of(designed(screening("wide", factors, ""), lambda row: 1.0 + 0.001 * sum(row)))
    assert len(sheet.pairs) <= MOST_PAIRS
    assert sheet.pairs
    assert not any(pair.known for pair in sheet.pairs)


def test_an_unfinished_design_says_how_far_it_is():
    sheet = sheet_of(designed(full("first", [LR, WD, DEPTH], ""), score, done=5))
    assert (sheet.listed.planned, sheet.listed.ended, sheet.listed.scored) == (8, 5, 5)
    assert sheet.report is not None
    assert sheet.report.effects.runs == 5
    early = sheet_of(designed(full("first", [LR, WD, DEPTH], ""), score, done=2))
    assert (early.listed.ended, early.report, early.pairs) == (2, None, ())


def test_a_set_that_nobody_declared_is_found_by_its_rows():
    state = state_of(designed(full("wave 7", [LR, WD], ""), score, declare=False))
    [listed] = designs_of(state)
    assert (listed.design, listed.kind, listed.resolution, listed.knobs) == ("wave 7", "", None, ("LR", "WD"))
    assert design_sheet(state, listed).report is not None


def test_a_declared_design_without_an_experiment_is_listed():
    state = state_of(designed(full("first", [LR, WD], ""), score)[:-1])
    cut = next(event.n for event in state.ledger.designs)
    early = state_of(designed(full("first", [LR, WD], "why not"), score)[:cut])
    [listed] = designs_of(early)
    assert (listed.design, listed.parent, listed.planned, listed.ended) == ("first", "", 4, 0)
    assert design_sheet(early, listed).report is None


def test_what_is_settled_can_be_looked_at_while_the_state_goes_on():
    events = designed(full("first", [LR, WD, DEPTH], ""), score)
    state = state_of(events[:-6])
    before = settled(state)()
    [listed] = designs_of(before)
    sheet = design_sheet(before, listed)
    for n, event in enumerate(events[-6:], start=len(events) - 5):
        event.n = n
        apply(state, event)
    assert design_sheet(before, listed) == sheet
    assert designs_of(state)[0].ended > listed.ended
