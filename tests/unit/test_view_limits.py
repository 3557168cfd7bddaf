"""Limits: how far each is, at which rate, and which binds first."""

from __future__ import annotations

import pytest

from core.events import LimitHit, SessionEnded
from core.reduce import fold
from core.state import SessionState
from tests.support.story import Story
from tests.support.talks import Talk
from tui.view.limits import LimitRow, limits_view


def state_of(**limits: float) -> tuple[SessionState, float]:
    story = Story()
    story.events[0].limits = type(story.events[0].limits)(**limits)
    for _ in range(6):
        story.experiment("an idea", runs=1)
    return fold(story.events), story.t_s


def rows(state: SessionState, now_s: float) -> dict[str, LimitRow]:
    return {row.name: row for row in limits_view(state, now_s).rows}


def test_each_limit_says_what_is_used_and_when_it_binds() -> None:
    state, now_s = state_of(hours=8.0, runs=100, gpu_hours=10.0)
    found = rows(state, now_s)
    assert set(found) == {"session time", "runs", "device-hours", "failures in a row"}
    assert found["runs"].used == "6 of 100"
    assert found["runs"].share == pytest.approx(0.06)
    assert found["runs"].binds.startswith("in ")
    assert found["session time"].used.endswith("of 8 h")
    assert found["failures in a row"] == LimitRow("failures in a row", "0 of 20", 0.0, "after 20 more")


def test_the_limit_that_binds_first_is_named() -> None:
    state, now_s = state_of(hours=8.0, runs=8)
    assert "runs will bind first" in limits_view(state, now_s).first
    state, now_s = state_of(hours=1.0, runs=10_000)
    assert "session time will bind first" in limits_view(state, now_s).first


def test_the_present_rate_is_that_of_the_last_hour_not_of_the_session() -> None:
    state, now_s = state_of(gpu_hours=100.0)
    busy, idle = rows(state, now_s)["device-hours"], rows(state, now_s + 7_200.0)["device-hours"]
    assert busy.binds.startswith("in ")
    assert idle.binds == "not at this rate"


def test_a_limit_that_was_reached_says_so_and_an_ended_session_forecasts_nothing() -> None:
    story = Story()
    story.experiment("an idea")
    story.add(LimitHit(limit="hours", detail="8 h are used"))
    held = limits_view(fold(story.events), story.t_s)
    assert held.rows[0].binds == "reached: 8 h are used"
    assert held.first == "No new run starts: a limit is reached."
    story.add(SessionEnded(reason="limit"))
    over = limits_view(fold(story.events), story.t_s)
    assert over.first == ""
    assert over.rows[1].binds == "not reached"


def test_dollars_count_what_lost_answers_may_have_cost() -> None:
    talk = Talk(usd=10.0)
    talk.epoch()
    talk.asks()
    talk.t_s += 600.0
    talk.answers(usd=2.5)
    found = rows(talk.state, talk.t_s)["dollars"]
    assert found.used == "$2.50 of $10.00"
    assert found.share == 0.25
    assert found.binds == "in 30:00"
    assert limits_view(SessionState(), 0.0).rows == ()
