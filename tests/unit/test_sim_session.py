"""Simulated sessions: one seed gives one journal, at every speed, and whatever the moment the engine was cut off."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from core.events import RunFinished, RunIntent, SessionEnded, Verdict
from core.executor import WORLD_OUTCOMES
from core.journal import scan
from tests.support.simulated import journal_bytes, run_simulated, simulated_engine

CUTS = 14


@pytest.fixture(scope="module", params=["default", "harsh"])
def whole(request, tmp_path_factory):
    """A session that nobody disturbed: its faults and the bytes of its journal."""
    folder = tmp_path_factory.mktemp(request.param)
    run_simulated(simulated_engine(folder, faults=request.param))
    return request.param, journal_bytes(folder)


def test_a_session_does_what_it_is_there_for(whole, tmp_path):
    faults, journal = whole
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "000001.jsonl").write_bytes(journal)
    events = [event for event, _ in scan(tmp_path / "journal")]
    assert isinstance(events[-1], SessionEnded)
    assert all(event.w is None for event in events), "a simulated journal holds no wall time"
    outcomes = Counter(event.outcome for event in events if isinstance(event, RunFinished))
    assert outcomes["ok"] > 50
    assert sum(isinstance(event, Verdict) for event in events) > 20
    if faults == "harsh":
        assert sum(outcomes[outcome] for outcome in WORLD_OUTCOMES) > 5, "the test never met a fault"
    intents = Counter(event.attempt for event in events if isinstance(event, RunIntent))
    assert set(intents.values()) == {1}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(whole, tmp_path):
    faults, journal = whole
    run_simulated(simulated_engine(tmp_path / "again", faults=faults))
    assert journal_bytes(tmp_path / "again") == journal
    run_simulated(simulated_engine(tmp_path / "other", faults=faults, seed=2))
    assert journal_bytes(tmp_path / "other") != journal


def test_a_paced_session_writes_the_same_bytes(whole, tmp_path):
    faults, journal = whole
    run_simulated(simulated_engine(tmp_path, faults=faults, speed=4000.0))
    assert journal_bytes(tmp_path) == journal


@pytest.mark.parametrize("number", range(CUTS))
def test_cut_off_at_any_byte_it_ends_as_if_nothing_had_been(whole, tmp_path, number):
    """Three times each: a journal that ends anywhere, also within a line, within one instant's decisions."""
    faults, journal = whole
    rng = random.Random(number)
    folder = tmp_path / "journal"
    folder.mkdir()
    # Early cuts matter most: there the session is being set up.
    cut = rng.randrange(1, 6000) if number < 3 else rng.randrange(1, len(journal))
    kept = journal[:cut]
    for _ in range(3):
        (folder / "000001.jsonl").write_bytes(kept)
        engine = simulated_engine(tmp_path, faults=faults, hours=1.5)
        run_simulated(engine)
        assert journal_bytes(tmp_path) == journal, f"cut at byte {len(kept)}"
        kept = journal[: rng.randrange(len(kept), len(journal))]
