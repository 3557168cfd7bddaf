"""The effects page: what it says of designs, and every line exactly as wide as its pane for any data."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from core.designs import Factor, fractional, full
from tests.support.designed import designed, state_of
from tests.support.runs import Session
from tui.raster.effects import place_of, two_lines
from tui.view.effects import ALL_RUNS, DesignLine, EffectLine, EffectsView, PairLine, PairPlot, effects_view
from tui.view.effects_page import Look, boxes_of, design_at, page_of, pair_at

LR, WD, DEPTH = Factor("LR", "0.5", "2.0"), Factor("WD", "0.1", "0.3"), Factor("DEPTH", "8", "10")
MLP = Factor("MLP", "3", "5")


def score(row):
    return 1.0 - 0.005 * row[0] + 0.002 * row[1] - 0.0015 * row[0] * row[1]


def text_of(view, look=None, width=118, height=33):
    raster = page_of(view, look or Look(), width, height)
    return "\n".join(raster.text(y) for y in range(height))


def test_a_session_without_a_design_says_what_would_make_one():
    view = effects_view(Session().state)
    assert view.designs == ()
    assert "no design yet" in text_of(view)
    assert "grid of knobs at two values" in " ".join(text_of(view).split())


def test_a_full_factorial_in_words_and_marks():
    view = effects_view(state_of(designed(full("first", [LR, WD, DEPTH], "which of three matters"), score)))
    assert [line.name for line in view.designs] == ["first on e1", "all runs"]
    assert view.designs[0].progress == "8 of 8 runs, 3 knobs"
    by_name = {line.name: line for line in view.mains}
    assert by_name["LR"].better == "high 2.0"
    assert by_name["WD"].better == "low 0.1"
    assert by_name["DEPTH"].better == ""
    assert not by_name["DEPTH"].active
    said = " ".join(view.notes)
    assert "inside the noise: DEPTH" in said
    assert "planned to find out: which of three matters" in said
    shown = text_of(view)
    assert view.pairs[0].words.startswith("LR × WD: -0.0030")
    assert "they interact" in " ".join(shown.split())
    row = next(line for line in shown.splitlines() if "DEPTH" in line and "either" in line)
    assert "○" in row
    assert "●" not in row


def test_a_half_fraction_says_which_pairs_are_one():
    state = state_of(designed(fractional("half", [LR, WD, DEPTH, MLP], 4, ""), score))
    view = effects_view(state)
    said = " ".join(view.notes)
    assert "resolution IV as planned: main effects are clear of pairs, pairs are mixed with each other" in said
    assert "pairs that cannot be told apart: " in said
    assert "DEPTH × MLP = LR × WD" in said
    assert any("cannot be told from" in pair.words for pair in view.pairs)


def test_a_third_says_which_main_effects_are_mixed_with_pairs():
    view = effects_view(state_of(designed(fractional("third", [LR, WD, DEPTH], 3, ""), score)))
    assert all(pair.plot is None and "cannot be told from" in pair.words for pair in view.pairs)
    assert "main effects are mixed with pairs" in " ".join(view.notes)
    assert "cannot be told from" in text_of(view)


def test_an_unfinished_design_is_honest_about_it():
    view = effects_view(state_of(designed(full("first", [LR, WD, DEPTH], ""), score, done=5)))
    assert view.designs[0].progress == "5 of 8 runs, 3 knobs"
    assert "5 of 8 runs ended" in view.notes[0]
    early = effects_view(state_of(designed(full("first", [LR, WD, DEPTH], ""), score, done=1)))
    assert early.mains == ()
    assert "no effect can be told yet" in " ".join(text_of(early).split()).lower()


def test_the_model_of_all_runs_is_one_of_the_designs():
    state = state_of(designed(full("first", [LR, WD, DEPTH], ""), score))
    view = effects_view(state, ALL_RUNS)
    assert view.designs[view.chosen].name == "all runs"
    assert "always moved along with others" in " ".join(view.notes)


def test_foreign_names_are_made_harmless():
    evil = "\x1b[31mLR\x1b[0m\u202e[b]"
    state = state_of(designed(full("\x1b]0;owned\x07d", [Factor(evil, "0.5", "2.0"), WD], "\x1b[2J"), score))
    shown = text_of(effects_view(state))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "LR[b]" in shown


def test_plain_pages_are_ascii():
    view = effects_view(state_of(designed(full("first", [LR, WD, DEPTH], "why"), score)))
    for width, height in ((118, 33), (78, 19)):
        assert text_of(view, Look(charset="ascii"), width, height).isascii()


def test_a_click_finds_what_it_shows():
    view = effects_view(state_of(designed(full("first", [LR, WD, DEPTH], ""), score)))
    look = Look()
    lines = text_of(view, look).splitlines()
    row = next(y for y, line in enumerate(lines) if "all runs" in line)
    assert design_at(view, 118, 33, 3, row) == 1
    assert design_at(view, 118, 33, 60, row) is None
    box = boxes_of(view, 118, 33).pairs
    for index in range(len(view.pairs)):
        assert pair_at(view, look, 118, 33, box.left + 3, box.top + 1 + index) == index
    assert pair_at(view, look, 118, 33, box.left + 3, box.top) is None


any_float = st.floats(allow_nan=True, allow_infinity=True)
numbers = st.tuples(any_float, any_float, any_float)
words = st.text(max_size=30).map(lambda text: "".join(c for c in text if c.isprintable() and cell_len(c) in (1, 2)))
mains = st.builds(
    lambda name, numbers, active, better, back: EffectLine(name, name, *numbers, active, better, back),
    words,
    numbers,
    st.booleans(),
    words,
    st.none() | numbers,
)
plots = st.builds(
    lambda a, b, levels, lines: PairPlot(a, b, levels, levels, ((lines[0], lines[1]), (lines[2], lines[3])), False),
    words,
    words,
    st.tuples(words, words),
    st.tuples(numbers, numbers, numbers, numbers),
)
pairs = st.builds(
    lambda first, second, numbers, active, mixed, said, plot: PairLine(
        first, second, *numbers, active, mixed, said, plot
    ),
    words,
    words,
    numbers,
    st.booleans(),
    st.integers(0, 300),
    words,
    st.none() | plots,
)
lines = st.builds(lambda name, kind, progress: DesignLine((name, ""), name, kind, progress), words, words, words)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(lines, max_size=6),
    st.lists(mains, max_size=30),
    st.lists(pairs, max_size=12),
    st.lists(words, max_size=5),
    st.integers(1, 250),
    st.integers(1, 70),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(["braille", "blocks", "ascii"]),
)
def test_a_page_is_exactly_as_large_as_its_pane_for_any_data(
    designs, mains, pairs, notes, width, height, pair, top, charset
):
    view = EffectsView(tuple(designs), max(0, len(designs) - 1), tuple(mains), tuple(pairs), tuple(notes))
    raster = page_of(view, Look(pair, top, charset), width, height)
    assert raster.roles.shape == (height, width)
    for y in range(height):
        assert cell_len(raster.text(y)) == width


@settings(max_examples=100, deadline=None)
@given(
    st.lists(numbers, min_size=4, max_size=4), words, words, st.integers(1, 250), st.integers(1, 70),
    st.sampled_from(["braille", "blocks", "ascii"]),
)  # fmt: skip
def test_two_lines_are_exactly_as_large_as_asked(estimates, knob, level, width, height, charset):
    raster = two_lines((estimates[:2], estimates[2:]), (knob, knob), (level, "b"), ("a", level), width, height, charset)
    assert [cell_len(raster.text(y)) for y in range(height)] == [width] * height


@given(any_float, any_float, any_float, st.integers(-3, 200))
def test_a_place_is_inside_or_nowhere(value, low, high, cells):
    place = place_of(value, (low, high), cells)
    assert place is None or 0 <= place < cells
    if math.isnan(value):
        assert place is None


@pytest.mark.parametrize(
    ("value", "cell"), [(-1.0, 0), (0.0, 5), (0.999, 9), (1.0, 9), (1.001, None), (math.nan, None)]
)
def test_places_in_ten_cells(value, cell):
    assert place_of(value, (-1.0, 1.0), 10) == cell
