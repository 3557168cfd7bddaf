"""The curve's and the loss curves' projections: who stands where, in what role, and what the steps say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import Incumbent, RunFinished
from core.keyframe import keyframe, restore
from core.statistics import interval_of, noise
from tests.support.runs import Session
from tui.palette import Role
from tui.raster.braille import Points, Window
from tui.raster.chart import draw_chart, frame_of
from tui.view.curve import CurveView, curve_view, describe
from tui.view.curve_chart import Sight, chart_of, fitted, full_window, legend, xs_of
from tui.view.loss import MOST_RUNS, loss_chart, loss_legend, loss_view


@pytest.fixture
def session():
    session = Session()
    session.baseline()
    return session


def test_a_session_without_runs_has_a_curve_that_says_so():
    view = curve_view(Session().state)
    assert view.reference == "H100-80GB"
    assert legend(view, Sight()) == []
    chart = chart_of(view, Sight(), full_window(view, Sight()), None, 60, plain=False)
    assert "no finished run yet" in draw_chart(chart, 60, 10).text(0)


def test_roles_follow_the_verdict_and_what_it_rests_on(session):
    for exp, verdict, tested in (("e2", "kept", True), ("e3", "rejected", True), ("e4", "undecided", True)):
        session.propose(exp)
        session.run(exp, 0.99)
        session.judge(exp, verdict, tested=tested)
    session.propose("e5")
    session.run("e5", 0.98, reason="screen")
    session.judge("e5", "undecided", tested=False)
    session.propose("e6")
    session.run("e6", 0.97)
    expected = [Role.KEPT] * 4 + [Role.REJECTED, Role.UNDECIDED, Role.NOMINATED, Role.UNDECIDED]
    assert curve_view(session.state).roles.tolist() == expected


def test_failures_cancelled_runs_other_classes_and_foreign_scores_are_set_apart(session):
    session.propose("e2", "try\x1b[31m this")
    session.run("e2", None, outcome="oom", failure="CUDA out of\nmemory")
    session.run("e2", None, outcome="cancelled")
    session.run("e2", 0.5, "gpu2")
    session.run("e2", 0.4, tier="self_reported")
    view = curve_view(session.state)
    assert view.roles[3:].tolist() == [Role.FAILED, Role.BLANK, Role.DIM, Role.DIM]
    assert view.observed.value.min() > 0.9
    assert describe(view, 3) == "r4 e2 CUDA out of memory try this at 0:40"
    assert describe(view, 5) == "r6 e2 0.5000 H200-141GB try this at 1:00"
    assert describe(view, 0) == "r1 e1 1.0002 kept the baseline at 0:10"


def test_observed_falls_with_every_better_run_on_the_reference_class(session):
    session.propose("e2")
    for score, device in ((0.99, "gpu1"), (0.995, "gpu0"), (0.1, "gpu2"), (0.98, "gpu0")):
        session.run("e2", score, device)
    observed = curve_view(session.state).observed
    assert observed.x.tolist() == [1, 2, 4, 7]
    assert observed.value.tolist() == [1.0002, 0.9998, 0.99, 0.98]
    assert observed.t_s.tolist() == [10, 20, 40, 70]


def test_confirmed_is_the_incumbents_mean_without_the_runs_that_nominated_it(session):
    session.propose("e2")
    session.run("e2", 0.9, reason="screen")
    for score in (0.981, 0.979):
        session.run("e2", score)
    session.judge("e2", "kept")
    session.add(Incumbent(exp="e2"))
    confirmed = curve_view(session.state).confirmed
    assert confirmed.x.tolist() == [3, 6]
    assert confirmed.value == pytest.approx([1.0, 0.98])
    low, high = interval_of([0.981, 0.979], noise(session.state, "H100-80GB"))
    assert (confirmed.low[1], confirmed.high[1]) == (low, high)


def test_an_incumbent_never_measured_on_the_reference_class_is_not_on_the_curve():
    session = Session()
    session.propose("e1")
    session.run("e1", 1.0, "gpu2", reason="baseline")
    session.add(Incumbent(exp="e1"))
    assert curve_view(session.state).confirmed.x.size == 0


def test_one_score_has_no_interval():
    session = Session()
    session.baseline((1.0,))
    confirmed = curve_view(session.state).confirmed
    assert confirmed.value.tolist() == [1.0]
    assert np.isnan(confirmed.low).all()


def test_an_unchanged_state_gives_the_same_view_back(session):
    first = curve_view(session.state)
    session.start("e1")
    assert curve_view(session.state, first) is first
    session.run("e1", 0.99)
    assert curve_view(session.state, first) is not first


def same(a: CurveView, b: CurveView) -> bool:
    columns = zip((a.facts.t_s, a.facts.val_bpb, a.roles), (b.facts.t_s, b.facts.val_bpb, b.roles), strict=True)
    return (
        a.key == b.key
        and a.facts.runs == b.facts.runs
        and a.facts.exps == b.facts.exps
        and [a.facts.class_of(i) for i in range(len(a.facts.runs))]
        == [b.facts.class_of(i) for i in range(len(b.facts.runs))]
        and all(np.array_equal(x, y, equal_nan=True) for x, y in columns)
    )


scores = st.lists(st.tuples(st.none() | st.floats(0.5, 2.0), st.sampled_from(["gpu0", "gpu2"])), max_size=8)


@settings(max_examples=50, deadline=None)
@given(scores, scores)
def test_a_view_built_on_an_earlier_or_a_later_one_is_as_if_built_anew(before, after):
    session = Session()
    session.baseline()

    def go_on(runs):
        for score, device in runs:
            session.run("e1", score, device, outcome="ok" if score is not None else "crash")

    go_on(before)
    early, frame = curve_view(session.state), keyframe(session.state)
    go_on(after)
    late = curve_view(session.state, early)
    assert same(late, curve_view(session.state))
    assert same(curve_view(restore(frame, session.state.ledger), late), early)


def test_a_view_of_another_session_takes_nothing_over():
    one, other = Session(name="one"), Session(name="other")
    one.baseline((1.0, 1.1))
    other.baseline((2.0, 2.1, 2.2))
    view = curve_view(other.state, curve_view(one.state))
    assert view.facts.val_bpb.tolist() == [2.0, 2.1, 2.2]


def test_the_window_shows_all_runs_and_an_outlier_is_counted(session):
    session.propose("e2")
    for index in range(20):
        session.run("e2", 0.99 + index * 1e-4)
    session.run("e2", 7.0)
    view = curve_view(session.state)
    window = full_window(view, Sight())
    assert (window.x0, window.x1) == (0.5, 24.5)
    assert window.y1 < 1.1
    chart = chart_of(view, Sight(), window, None, 60, plain=False)
    assert chart.notice == "▲ 1 above"
    assert chart_of(view, Sight(), window, None, 60, plain=True).notice == "^ 1 above"
    assert full_window(view, Sight("time"))[:2] == (0.0, 240.0)


def test_a_zoomed_window_takes_the_heights_of_what_it_shows(session):
    session.propose("e2")
    for score in (0.9, 0.8, 0.7):
        session.run("e2", score)
    view = curve_view(session.state)
    window = fitted(view, Sight(), Window(5.5, 6.5, 0.0, 9.0))
    # The confirmed baseline still holds there, so it stays in sight.
    assert window.y0 == pytest.approx(0.7 - 0.3 * 0.06)
    assert window.y1 == pytest.approx(1.0 + 0.3 * 0.06)


def test_the_readout_tells_the_best_values_or_the_marked_run(session):
    view = curve_view(session.state)
    window = full_window(view, Sight())
    words = chart_of(view, Sight(), window, None, 80, plain=False).readout
    assert words.startswith("confirmed 1.0000 ±0.000")
    assert words.endswith("observed 0.9998")
    assert chart_of(view, Sight(), window, None, 80, plain=True).readout.isascii()
    marked = chart_of(view, Sight(), window, 1, 80, plain=False)
    assert marked.readout == "r2 e1 0.9998 kept the baseline at 0:20"
    assert (marked.crosshair.x, marked.crosshair.y, marked.crosshair.role) == (2.0, 0.9998, Role.KEPT)


def test_many_points_are_dots_and_few_are_signs(session):
    session.propose("e2")
    for _ in range(60):
        session.run("e2", 0.99)
    view = curve_view(session.state)
    window = full_window(view, Sight())

    def signs(width):
        layers = chart_of(view, Sight(), window, None, width, plain=False).layers
        return [layer.glyphs for layer in layers if isinstance(layer, Points)][:-1]

    assert all(signs(200))
    assert not any(signs(40))


def test_the_legend_names_only_what_is_there(session):
    assert legend(curve_view(session.state), Sight()) == [
        (Role.CONFIRMED, "confirmed"),
        (Role.OBSERVED, "observed"),
        (Role.KEPT, "kept"),
    ]
    session.run("e1", None, outcome="crash")
    assert legend(curve_view(session.state), Sight())[-1] == (Role.FAILED, "failed")


def test_the_time_axis_stands_at_the_end_of_runs(session):
    assert xs_of(curve_view(session.state), "time").tolist() == [10.0, 20.0, 30.0]
    assert xs_of(curve_view(session.state), "run").tolist() == [1.0, 2.0, 3.0]


def test_device_hours_count_what_each_run_was_given(session):
    """Three runs of ten seconds, one after the other, and one on another device at the same time as a fourth."""
    first = session.start("e1", "gpu1")
    session.run("e1", 1.0)
    finish(session, first)
    view = curve_view(session.state)
    assert xs_of(view, "device") * 3600 == pytest.approx([10, 20, 30, 40, 50])
    assert view.observed.device_h * 3600 == pytest.approx([10, 20])
    assert view.confirmed.device_h * 3600 == pytest.approx([30])
    assert full_window(view, Sight("device")).x1 == pytest.approx(50 / 3600)


def finish(session, run):
    session.add(RunFinished(run=run, attempt=f"{run}.1", seq=9, outcome="ok", val_bpb=1.0, tier="scored"))


def test_a_marked_run_is_held_against_the_incumbent_of_then(session):
    session.propose("e2", "warm-down")
    session.run("e2", 0.99)
    session.judge("e2", "kept")
    session.add(Incumbent(exp="e2"))
    session.propose("e3")
    session.run("e3", 0.991)
    view = curve_view(session.state)
    assert describe(view, 3) == "r4 e2 0.9900 kept \u22120.0100 vs e1 warm-down at 0:40"
    assert "+0.0010 vs e2 a title at 0:50" in describe(view, 4)


def test_other_classes_have_a_sign_of_their_own_and_can_be_hidden(session):
    session.propose("e2")
    session.run("e2", 0.5, "gpu2")
    view = curve_view(session.state)
    window = full_window(view, Sight())
    with_them = draw_chart(chart_of(view, Sight(), window, None, 60, plain=False), 60, 12)
    assert sum(with_them.text(y).count("▵") for y in range(12)) == 1
    hidden = Sight(others=False)
    assert full_window(view, hidden).y0 > 0.9
    without = draw_chart(chart_of(view, hidden, full_window(view, hidden), None, 60, plain=False), 60, 12)
    assert not any("▵" in without.text(y) for y in range(12))
    assert (Role.DIM, "other class") in legend(view, Sight())
    assert (Role.DIM, "other class") not in legend(view, hidden)


def test_the_reader_chooses_which_scores_the_height_is_for(session):
    session.propose("e2")
    for index in range(20):
        session.run("e2", 0.99 + index * 1e-3)
    session.run("e2", 7.0)
    view = curve_view(session.state)
    tops = [full_window(view, Sight(focus=focus)).y1 for focus in ("best", "most", "all")]
    assert tops == sorted(tops)
    assert tops[0] < 1.005
    assert tops[1] < 1.1
    assert tops[2] > 7.0
    chart = chart_of(view, Sight(focus="best"), full_window(view, Sight(focus="best")), None, 60, plain=False)
    assert "above" in chart.notice


def test_a_track_shows_where_a_part_lies_in_the_whole(session):
    view = curve_view(session.state)
    whole = full_window(view, Sight())
    part = whole._replace(x0=2.0, x1=3.5)
    chart = chart_of(view, Sight(), part, None, 60, plain=False, whole=whole)
    assert chart.overview == pytest.approx((0.5, 1.0))
    raster = draw_chart(chart, 60, 12)
    frame = frame_of(chart, 60, 12)
    track = raster.text(frame.track_row)[frame.left :]
    assert track == "─" * (frame.columns // 2) + "━" * (frame.columns - frame.columns // 2)


def test_losses_lie_over_one_curve_of_the_incumbent_on_the_same_class():
    session = Session()
    session.propose("e1", "base")
    session.run("e1", 1.0, "gpu2", losses=(9.0, 8.0))
    session.run("e1", 1.0, "gpu0", losses=(3.0, 2.0))
    session.add(Incumbent(exp="e1"))
    session.propose("e2", parent="e1")
    session.run("e2", None, outcome="crash")
    session.run("e2", 0.9, losses=(2.9, 1.9))
    session.start("e2", losses=(2.8,))
    view = loss_view(session.state, "e2")
    assert [series.label for series in view.series] == ["incumbent e1 r2", "r4", "r5"]
    assert [series.incumbent for series in view.series] == [True, False, False]
    assert view.series[0].points == ((0.5, 3.0), (1.0, 2.0))
    assert loss_legend(view) == [
        (Role.INCUMBENT, "incumbent e1 r2"),
        (Role.SERIES_1, "r4"),
        (Role.SERIES_2, "r5"),
    ]
    text = "".join(draw_chart(loss_chart(view), 60, 12).text(y) for y in range(12))
    assert "1" in text
    assert "2" in text


def test_the_incumbent_is_compared_with_its_parent():
    session = Session()
    session.propose("e1")
    session.run("e1", 1.0, losses=(3.0,))
    session.propose("e2", parent="e1")
    session.run("e2", 0.9, losses=(2.0,))
    session.add(Incumbent(exp="e2"))
    assert [series.label for series in loss_view(session.state, "e2").series] == ["e1 r1", "r2"]


def test_only_the_latest_runs_have_a_curve_and_an_unknown_experiment_has_none():
    session = Session()
    session.propose("e1")
    for _ in range(MOST_RUNS + 2):
        session.run("e1", 1.0, losses=(3.0,))
    assert [series.label for series in loss_view(session.state, "e1").series] == ["r3", "r4", "r5", "r6"]
    empty = loss_view(session.state, "e99")
    assert empty.series == ()
    assert "no loss reported yet" in draw_chart(loss_chart(empty), 60, 10).text(0)
    assert "e99" not in session.state.ledger.runs_of
