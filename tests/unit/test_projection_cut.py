"""The database of a past moment is exactly what the session's own was then."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.projection import SNAPSHOT_NAME
from core.projection.ingest import cut
from tests.support.messy import Messy
from tests.support.snapshots import append, contents, journal_bytes, published
from tests.support.story import session, write_journal


def cut_contents(folder: Path, n: int) -> dict[str, list[tuple]]:
    """What a cut of a folder's journal holds."""
    into = Path(tempfile.mkdtemp(dir=folder))
    assert cut(folder, n, into, lambda reached: None) == ""
    assert [path.name for path in into.iterdir()] == [SNAPSHOT_NAME]
    return contents(into)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 250), share=st.floats(0, 1))
def test_a_cut_equals_the_projection_of_the_journal_up_to_there(seed, count, share):
    events = Messy(seed, real_time=True, model=True).draw(count)
    n = round(share * len(events))
    with tempfile.TemporaryDirectory() as name:
        whole, part = Path(name) / "whole" / "s1", Path(name) / "part" / "s1"
        for folder in (whole, part):
            folder.mkdir(parents=True)
        write_journal(whole / "journal", events)
        assert cut_contents(whole, n) == contents(published(part, events[:n]))


def test_a_cut_at_the_end_equals_the_session_s_own(tmp_path):
    events = session(experiments=30, ended=True)
    folder = published(tmp_path / "s1", events)
    assert cut_contents(folder, len(events)) == contents(folder)


def test_a_cut_says_how_far_it_is_and_leaves_the_session_s_own_be(tmp_path, monkeypatch):
    monkeypatch.setattr("core.projection.ingest._BATCH", 50)
    events = session(experiments=12)
    folder = published(tmp_path / "s1", events)
    before = (folder / SNAPSHOT_NAME).stat()
    heard: list[int] = []
    (tmp_path / "at").mkdir()
    assert cut(folder, 120, tmp_path / "at", heard.append) == ""
    assert heard == [50, 100, 120]
    assert (folder / SNAPSHOT_NAME).stat() == before
    assert contents(tmp_path / "at") == {**cut_contents(folder, 120)}


def test_a_journal_that_does_not_lead_there_is_said(tmp_path):
    folder = tmp_path / "s1"
    events = session(experiments=5)
    write_journal(folder / "journal", events)
    (tmp_path / "at").mkdir()
    problem = cut(folder, len(events) + 7, tmp_path / "at", lambda reached: None)
    assert f"up to event #{len(events)} only" in problem
    lines = journal_bytes(folder).splitlines(keepends=True)
    lines[20] = b"\0" * (len(lines[20]) - 1) + b"\n"
    (folder / "journal" / "000001.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "damaged").mkdir()
    assert "000001.jsonl" in cut(folder, 40, tmp_path / "damaged", lambda reached: None)


@pytest.mark.parametrize("n", [1, 60])
def test_a_journal_that_grows_meanwhile_changes_nothing(tmp_path, n):
    events = session(experiments=10)
    folder = tmp_path / "s1"
    write_journal(folder / "journal", events[:80])
    before = cut_contents(folder, n)
    append(folder, events)
    assert cut_contents(folder, n) == before
