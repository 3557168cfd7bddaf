"""The curve under the reader's hands: zoom by drag and wheel, pan, axes, what is shown; and a view that stays put."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual import events

from tests.support.runs import Session
from tests.tui.test_widgets import session_of, shown, text_of
from tui.view.curve import curve_view
from tui.view.curve_chart import full_window
from tui.widgets.curve import Curve


def long_session(runs: int = 40) -> Session:
    session = session_of()
    session.propose("e3", "another")
    for index in range(runs):
        session.run("e3", 0.99 - 0.0002 * index, "gpu2" if index % 5 == 0 else "gpu0", reason="screen")
    return session


async def test_a_drag_zooms_to_the_stretch_and_is_no_click():
    async with shown(Curve(), (80, 20)) as (pilot, host):
        curve = host.widget
        curve.show(curve_view(long_session().state))
        whole = curve.window
        await pilot.mouse_down(curve, offset=(30, 8))
        await pilot.hover(curve, offset=(40, 8))
        assert any("┃" in line for line in text_of(curve))
        await pilot.hover(curve, offset=(50, 9))
        await pilot.mouse_up(curve, offset=(50, 9))
        assert whole.x0 < curve.window.x0 < curve.window.x1 < whole.x1
        assert curve.window.x1 - curve.window.x0 == pytest.approx((whole.x1 - whole.x0) * 20 / 73, rel=0.1)
        assert curve.cursor_run is None
        assert not any("┃" in line for line in text_of(curve))
        assert any("━" in line and "─" in line for line in text_of(curve))


async def test_a_click_without_a_drag_marks_a_run():
    async with shown(Curve(), (80, 20)) as (pilot, host):
        curve = host.widget
        curve.show(curve_view(long_session().state))
        whole = curve.window
        await pilot.click(curve, offset=(40, 8))
        assert curve.cursor_run is not None
        assert curve.window == whole


async def test_the_wheel_zooms_around_the_pointer():
    async with shown(Curve(), (80, 20)) as (pilot, host):
        curve = host.widget
        curve.show(curve_view(long_session().state))
        whole = curve.window
        await pilot._post_mouse_events([events.MouseScrollUp], curve, offset=(10, 8))
        left = curve.window
        assert left.x1 < whole.x1 - (left.x0 - whole.x0)
        await pilot._post_mouse_events([events.MouseScrollDown], curve, offset=(10, 8))
        assert curve.window == whole


async def test_a_zoomed_view_moves_up_and_down_and_a_whole_one_does_not():
    async with shown(Curve(), (80, 20)) as (pilot, host):
        curve = host.widget
        curve.show(curve_view(long_session().state))
        whole = curve.window
        await pilot.press("k", "up")
        assert curve.window == whole
        await pilot.press("plus", "k")
        zoomed = curve.window
        await pilot.press("j", "down")
        assert curve.window.y0 < zoomed.y0
        assert curve.window.x0 == zoomed.x0
        await pilot.press(*["j"] * 30)
        assert curve.window.y1 > 0.98
        await pilot.press("0")
        assert curve.window == whole


async def test_x_goes_from_runs_to_time_to_device_hours_and_keeps_the_runs_in_sight():
    async with shown(Curve(), (80, 20)) as (pilot, host):
        curve = host.widget
        view = curve_view(long_session().state)
        curve.show(view)
        await pilot.press("l", "plus", "plus")
        before = curve.window
        first, last = int(before.x0 + 1), int(before.x1)
        await pilot.press("x")
        assert text_of(curve)[-1].rstrip().endswith("time")
        assert curve.window.x0 <= view.facts.t_s[first - 1] <= view.facts.t_s[last - 1] <= curve.window.x1
        await pilot.press("x")
        assert text_of(curve)[-1].rstrip().endswith("device-hours")
        await pilot.press("x")
        assert text_of(curve)[-1].rstrip().endswith("runs")


async def test_o_hides_the_other_classes_and_m_changes_the_height():
    async with shown(Curve(), (120, 24)) as (pilot, host):
        curve = host.widget
        curve.show(curve_view(long_session().state))
        assert any("▵" in line for line in text_of(curve))
        await pilot.press("o")
        assert not any("▵" in line for line in text_of(curve))
        assert "other class" not in str(curve.border_subtitle)
        most = curve.window
        await pilot.press("m")
        assert curve.window.y1 < most.y1
        await pilot.press("m", "m")
        assert curve.window == most


arrivals = st.lists(st.tuples(st.none() | st.floats(0.5, 2.0), st.sampled_from(["gpu0", "gpu2"])), max_size=6)
looks = st.lists(
    st.sampled_from(["zoom_in", "zoom_out", "left", "right", "up", "down", "axis", "focus", "others"]), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(looks, st.lists(st.one_of(arrivals, st.integers(0, 20)), max_size=6))
def test_a_zoomed_view_never_moves_whatever_arrives_or_a_replay_does(look, news):
    """`news` holds runs that arrive, and moments that a replay goes to: views of earlier states."""
    session = long_session(12)
    views = [curve_view(session.state)]
    curve = Curve(charset="braille")
    curve.show(views[0])
    keys = {
        "zoom_in": lambda: curve.action_zoom(True),
        "zoom_out": lambda: curve.action_zoom(False),
        "left": lambda: curve.action_pan(-1),
        "right": lambda: curve.action_pan(1),
        "up": lambda: curve.action_shift(1),
        "down": lambda: curve.action_shift(-1),
        "axis": curve.action_axis,
        "focus": curve.action_focus,
        "others": curve.action_others,
    }
    for name in ["zoom_in", *look, "zoom_in"]:
        keys[name]()
    before = curve.window
    assert before != full_window(views[0], curve.sight)
    for each in news:
        if isinstance(each, int):
            curve.show(views[min(each, len(views) - 1)])
        else:
            for score, device in each:
                session.run("e3", score, device, outcome="ok" if score is not None else "crash")
            views.append(curve_view(session.state, views[-1]))
            curve.show(views[-1])
        assert curve.window == before


@pytest.mark.parametrize("size", [(12, 5), (5, 3), (250, 70)])
async def test_a_pane_of_any_size_is_filled(size: tuple[int, int]):
    async with shown(Curve(), size) as (pilot, host):
        host.widget.show(curve_view(long_session().state))
        await pilot.press("plus", "l")
        text_of(host.widget)
