"""The rasters: every line exactly as wide as asked for any data, and the right cells in simple pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tui.palette import Role, sign
from tui.raster.blocks import bar, heat, spark
from tui.raster.braille import Band, Line, Points, Steps, Window, rasterise
from tui.raster.chart import Chart, Crosshair, draw_chart, frame_of
from tui.raster.ticks import duration, labels, robust_range, ticks, time_ticks
from tui.raster.window import holding, panned, zoomed
from tui.text import clean, clean_lines, cut, fit, wrap

any_float = st.floats(allow_nan=True, allow_infinity=True)
columns = st.integers(1, 250)
lines = st.integers(1, 70)
charsets = st.sampled_from(["braille", "blocks", "ascii"])
UNIT = Window(0.0, 1.0, 0.0, 1.0)


def array(*values):
    return np.array(values, dtype=np.float64)


def pairs(data):
    x, y = array(*(a for a, _ in data)), array(*(b for _, b in data))
    return x, y


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(any_float, any_float), max_size=30),
    columns,
    lines,
    charsets,
    st.booleans(),
    any_float,
    st.text(),
    st.none() | st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
)
def test_a_chart_is_exactly_as_large_as_asked_for_any_data(
    data, width, height, charset, glyphs, cursor, words, overview
):
    x, y = pairs(data)
    ordered = np.sort(x)
    low, high = robust_range(y)
    x_low, x_high = robust_range(x)
    chart = Chart(
        layers=[
            Band(ordered, y, y, Role.BAND, cursor),
            Points(x, y, Role.REJECTED, glyphs),
            Points(x, y, Role.KEPT, glyphs),
            Steps(ordered, y, Role.OBSERVED, cursor),
            Line(ordered, y, Role.SERIES_1),
        ],
        window=Window(x_low, x_high, low, high),
        x_axis="run",
        failed_x=x,
        crosshair=Crosshair(cursor, cursor, Role.KEPT),
        notice=clean(words),
        readout=clean(words),
        x_name="device-hours",
        overview=overview,
        edges=(cursor, 0.0),
    )
    raster = draw_chart(chart, width, height, charset)
    assert raster.roles.shape == (height, width)
    for y in range(height):
        assert cell_len(raster.text(y)) == width
        assert "".join(text for text, _ in raster.spans(y)) == raster.text(y)
        assert charset != "ascii" or clean(words) or raster.text(y).isascii()


@pytest.mark.parametrize("x_axis", ["run", "time", "share"])
def test_axes_have_round_labels_inside_the_range(x_axis):
    chart = Chart([], Window(0.0, 7200.0, 0.95, 1.0), x_axis)
    raster = draw_chart(chart, 80, 20)
    texts = [raster.text(y) for y in range(20)]
    assert any(line.startswith("0.98┤") for line in texts)
    assert {"run": "2000", "time": "30m", "share": "200000%"}[x_axis] in texts[-1]


def test_a_small_chart_gives_up_its_extras_before_its_data():
    chart = Chart([], Window(0.0, 10.0, 0.9, 1.0), "run", failed_x=array(1.0))
    small, large = frame_of(chart, 10, 3), frame_of(chart, 80, 20)
    assert (small.left, small.columns, small.rows, small.crash_row, small.label_row) == (0, 10, 3, None, None)
    assert large.left > 0
    assert (large.rows, large.crash_row, large.label_row) == (18, 18, 19)


def test_a_braille_dot_lands_in_its_corner():
    raster = rasterise([Points(array(0.0, 1.0), array(0.0, 1.0), Role.REJECTED)], UNIT, 2, 1)
    assert raster.text(0) == "⡀⠈"
    assert raster.roles.tolist() == [[Role.REJECTED, Role.REJECTED]]


def test_marks_differ_by_shape_and_never_leave_their_cell():
    shapes = set()
    for role in (Role.REJECTED, Role.NOMINATED, Role.UNDECIDED, Role.KEPT):
        for corner in (0.0, 1.0):
            raster = rasterise([Points(array(corner), array(corner), role)], UNIT, 3, 3)
            assert np.count_nonzero(raster.roles) == 1
        shapes.add(raster.chars[raster.roles == role][0])
    assert len(shapes) == 4


def test_later_layers_give_the_colour_and_dots_of_both_stay():
    first = Points(array(0.0), array(0.0), Role.REJECTED)
    second = Points(array(0.6), array(1.0), Role.OBSERVED)
    raster = rasterise([first, second], UNIT, 1, 1)
    assert raster.text(0) == "⡈"
    assert raster.roles[0, 0] == Role.OBSERVED


def test_steps_hold_until_the_next_value_and_stop_at_the_end():
    layer = Steps(array(0.0, 0.5, 0.75), array(0.0, 1.0, 0.0), Role.OBSERVED, until=1.0)
    raster = rasterise([layer], UNIT, 4, 3, "ascii")
    assert [raster.text(y) for y in range(3)] == ["  - ", "  --", "-- -"]
    short = rasterise([Steps(array(0.0), array(0.5), Role.OBSERVED, until=0.3)], UNIT, 4, 1, "ascii")
    assert short.text(0) == "--  "


def test_half_blocks_have_two_dots_a_cell():
    points = Points(array(0.1, 0.4, 0.9, 0.9), array(0.1, 0.9, 0.1, 0.9), Role.REJECTED)
    assert rasterise([points], UNIT, 3, 1, "blocks").text(0) == "▄▀█"


def test_a_step_that_began_before_the_window_is_seen_inside_it():
    layer = Steps(array(-10.0, 3.0), array(0.5, 0.1), Role.OBSERVED, until=9.0)
    assert rasterise([layer], UNIT, 4, 1, "ascii").text(0) == "----"


def test_a_falling_step_is_joined_by_an_upright():
    layer = Steps(array(0.0, 0.5), array(1.0, 0.0), Role.OBSERVED, until=1.0)
    raster = rasterise([layer], UNIT, 2, 3)
    assert [raster.text(y).strip() != "" for y in range(3)] == [True, True, True]


def test_points_outside_the_window_and_not_finite_are_not_drawn():
    layer = Points(array(0.5, 0.5, np.nan, 0.5, 2.0), array(np.nan, np.inf, 0.5, 1.5, 0.5), Role.KEPT)
    assert not rasterise([layer], UNIT, 3, 3).roles.any()


def test_the_crosshair_breaks_over_data_and_marks_its_point():
    points = Points(array(0.5), array(0.9), Role.REJECTED)
    chart = Chart([points], UNIT, "share", crosshair=Crosshair(0.5, 0.1, Role.KEPT))
    raster = draw_chart(chart, 9, 10)
    frame = frame_of(chart, 9, 10)
    column = [raster.chars[row, frame.column_of(0.5, UNIT)] for row in range(frame.rows)]
    assert column.count("●") == 1
    assert sum(character not in "│●" for character in column) == 1


def test_failures_stand_in_their_own_row():
    chart = Chart([], Window(0.0, 10.0, 0.0, 1.0), "run", failed_x=array(2.0, 2.01, np.nan, 99.0))
    raster = draw_chart(chart, 40, 10)
    assert raster.text(8).count("×") == 1
    assert not any("×" in raster.text(y) for y in range(8))


def test_one_wild_value_is_left_above_and_a_must_is_not():
    values = [1.0 + 0.001 * (index % 7) for index in range(60)]
    assert robust_range([*values, 5.0])[1] < 1.1
    assert robust_range([*values, 5.0], must=[5.0])[1] > 5.0
    assert robust_range([*values, 1.008])[1] > 1.008
    assert robust_range([1.0, 1.01, 1.02, 1.03, 4.0])[1] < 1.1


@given(st.lists(any_float, max_size=20), st.lists(any_float, max_size=3))
def test_a_range_is_never_empty_and_always_finite(values, must):
    low, high = robust_range(values, must)
    assert low < high
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert all(low <= value <= high for value in must if abs(value) <= 1e300)


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 12), st.booleans())
@example(low=879609.9999999999, span=1e-06, most=6, whole=False)
def test_ticks_are_few_inside_and_labelled_apart(low, span, most, whole):
    high = low + span
    for values in (ticks(low, high, most, whole=whole), time_ticks(low, high, most)):
        assert len(values) <= most
        assert all(low <= value <= high for value in values)
    assert len(set(labels(ticks(low, high, most)))) == len(ticks(low, high, most))


def test_ticks_are_round():
    assert labels(ticks(0.953, 1.004, 6)) == ["0.96", "0.97", "0.98", "0.99", "1.00"]
    assert labels(ticks(0.5, 910.5, 5, whole=True)) == ["200", "400", "600", "800"]
    assert ticks(0.5, 2.5, 8, whole=True) == [1.0, 2.0]
    assert [duration(value) for value in time_ticks(0, 8 * 3600, 5)] == ["0s", "2h", "4h", "6h", "8h"]


@given(any_float, st.integers(-2, 40), st.booleans(), st.lists(any_float, max_size=30))
def test_bars_and_sparks_are_exactly_as_wide_as_asked(share, width, plain, values):
    assert cell_len("".join(bar(share, width, plain=plain))) == max(0, width)
    assert cell_len(spark(values, width, plain=plain)) == max(0, width)
    assert cell_len(heat(share, plain=plain)) == 1


def test_bars_and_sparks_show_what_they_are_given():
    assert bar(0.5, 4) == ("━━", "──")
    assert bar(0.4, 4, plain=True) == ("#", "---")
    assert spark([9.0, 1.0, 2.0, 3.0], 3) == "▁▅█"
    assert spark([2.0, 2.0], 3) == "▁▁ "
    assert [heat(share) for share in (0.0, 0.5, 1.0)] == ["▁", "▅", "█"]


FULL = Window(0.0, 100.0, 0.0, 1.0)


def test_zoom_keeps_its_centre_and_stops_at_the_data():
    closer = zoomed(FULL, 0.5, 50.0, FULL)
    assert (closer.x0, closer.x1) == (25.0, 75.0)
    assert zoomed(closer, 9.0, 50.0, FULL) == FULL
    right = zoomed(FULL, 0.5, 100.0, FULL)
    assert (right.x0, right.x1) == (50.0, 100.0)


@given(st.floats(0.0, 100.0), st.floats(0.01, 100.0), st.floats(0.1, 5.0), st.floats(0.0, 100.0), st.floats(-3.0, 3.0))
def test_windows_stay_inside_the_data(x0, span, factor, centre, shift):
    start = Window(x0, x0 + span, 0.0, 1.0)
    for window in (zoomed(start, factor, centre, FULL), panned(start, shift, FULL)):
        assert window.x0 >= -1e-6
        assert window.x1 <= 100.0 + 1e-6
        assert window.x1 > window.x0


def test_holding_moves_only_when_it_must():
    window = Window(10.0, 20.0, 0.0, 1.0)
    assert holding(window, 15.0, FULL) == window
    assert holding(window, 30.0, FULL)[:2] == (21.0, 31.0)
    assert holding(window, 5.0, FULL)[:2] == (4.0, 14.0)


def test_signs_are_one_cell_and_ascii_where_plain():
    for role in (Role.KEPT, Role.REJECTED, Role.UNDECIDED, Role.NOMINATED, Role.FAILED, Role.CONFIRMED):
        assert cell_len(sign(role)) == 1
        assert sign(role, plain=True).isascii()


@given(st.text())
def test_cleaned_text_is_harmless_and_stays_as_it_is_when_cleaned_again(text):
    harmless = clean(text)
    assert harmless.isprintable()
    assert clean(harmless) == harmless
    assert all(cell_len(character) in (1, 2) for character in harmless)


@pytest.mark.parametrize(
    ("foreign", "expected"),
    [
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://e.vil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("z\u200be\u200dr\ufeffo", "zero"),
        ("two\nlines\tand  tabs", "two lines and tabs"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        ("cafe\u0301 \u65e5\u672c", "caf\u00e9 \u65e5\u672c"),
        ("\x9b31mC1\x07", "C1"),
        ("open \x1b]0;never closed", "open"),
    ],
)
def test_foreign_text_loses_what_could_do_harm(foreign, expected):
    assert clean(foreign) == expected


def test_lines_keep_their_indentation_and_what_was_written_last():
    assert clean_lines("def f():\n\treturn 1\r\nloss 3\rloss 2\n") == ["def f():", "    return 1", "loss 2", ""]


@given(st.text().map(clean), st.integers(0, 30), st.sampled_from(["left", "right"]))
def test_fitted_text_has_exactly_its_cells(text, width, align):
    assert cell_len(fit(text, width, align)) == width
    assert cell_len(cut(text, width)) <= width


@given(st.text().map(clean), st.integers(2, 30))
def test_wrapped_text_fits_and_loses_no_word(text, width):
    wrapped = wrap(text, width)
    assert all(cell_len(line) <= width for line in wrapped)
    assert "".join("".join(wrapped).split()) == "".join(text.split())


def test_text_is_cut_with_an_ellipsis():
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcdef", 6) == "abcdef"
    assert cut("日本語", 4) == "日…"
    assert fit("日本語", 4) == "日… "
    assert cut("abcdef", 4, "...") == "a..."
    assert cut("abcdef", 2, "...") == ".."
    assert cut("abcdef", 2, "") == "ab"
