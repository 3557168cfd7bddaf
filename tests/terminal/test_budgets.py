"""What the screen costs on a real terminal: the budgets of `bench.screen`, with margins for a busy machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.screen import Busy, key_to_frame_ms, measure
from tests.support.story import session, write_journal

pytestmark = pytest.mark.processes

WATCHED_S = 3.0


def test_an_idle_screen_sends_nothing_and_rests(tmp_path: Path) -> None:
    events = session(experiments=40, devices=16, ended=True)
    cost = measure(write_journal(tmp_path / "journal", events), len(events), seconds=WATCHED_S)
    assert cost.bytes_per_s < 100
    assert cost.cpu_percent < 15


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_sixteen_busy_devices_stay_within_the_budget_of_a_slow_link(tmp_path: Path, size: tuple[int, int]) -> None:
    busy = Busy(tmp_path / "journal")
    cost = measure(busy.folder, busy.events, seconds=WATCHED_S, each_s=busy, size=size)
    assert 0 < cost.bytes_per_s < 18_000
    assert cost.cpu_percent < 30
    assert cost.rss_mb < 150


def test_a_thousand_devices_do_not_fill_a_core(tmp_path: Path) -> None:
    busy = Busy(tmp_path / "journal", devices=1_024, experiments=500)
    cost = measure(busy.folder, busy.events, seconds=WATCHED_S, each_s=busy)
    assert cost.bytes_per_s > 0
    assert cost.cpu_percent < 50


def test_a_key_is_answered_at_once_while_events_arrive(tmp_path: Path) -> None:
    median_ms, _ = key_to_frame_ms(tmp_path / "journal", keys=30)
    assert median_ms < 200
