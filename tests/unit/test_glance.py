"""Sessions at a glance: whole and damaged folders, figures that are kept, deleting, a list that stays up to date."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from core.control import EngineGone
from core.figures import Figures, figures_of, kept_figures, read_figures
from core.glance import Glance, glance, with_figures
from core.journal.format import segment_path
from core.reduce import fold
from core.session import (
    EngineInfo,
    SessionError,
    SessionFolder,
    all_sessions,
    delete_session,
    disk_bytes,
    empty_trash,
    session_folders,
)
from core.state import Before
from tests.support.homes import add_session
from tests.support.story import session, write_journal
from tui.shelf import Shelf


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    return tmp_path


def looked_at(folder: SessionFolder) -> Glance:
    return with_figures(glance(folder), read_figures(folder), folder)


# ---- figures ----------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_whole_journal_and_kept_until_it_changes(home):
    events = session(experiments=12, ended=True)
    folder = add_session(home, "mar5", events)
    assert kept_figures(folder) is None
    figures = read_figures(folder)
    assert figures == figures_of(fold(events), engine_alive=False)
    assert figures.summary.state == "ended"
    assert figures.limits.hours == 8.0
    assert kept_figures(folder) == figures
    longer = session(experiments=13, ended=True)
    write_journal(folder.journal_dir, longer)
    assert kept_figures(folder) is None
    assert read_figures(folder).summary.runs.submitted > figures.summary.runs.submitted


def test_what_counts_against_the_limits_of_a_fork_is_its_own(home):
    state = fold(session(experiments=12))
    whole = figures_of(state, engine_alive=True).used
    assert whole.hours > 0.1
    assert whole.gpu_hours > 0.1
    assert whole.runs == state.now.counts.started
    state.now.before = Before(t_s=360.0, runs=3, allocated_s=720.0)
    own = figures_of(state, engine_alive=True).used
    assert own.hours == pytest.approx(whole.hours - 0.1)
    assert own.gpu_hours == pytest.approx(whole.gpu_hours - 0.2)
    assert own.runs == whole.runs - 3


def test_kept_figures_of_another_version_or_damaged_ones_are_read_anew(home):
    folder = add_session(home, "mar5", session(experiments=3))
    figures = read_figures(folder)
    text = folder.figures_path.read_text()
    folder.figures_path.write_text(text.replace('"version": "', '"version": "9.'))
    assert kept_figures(folder) is None
    folder.figures_path.write_text(text[:100])
    assert kept_figures(folder) is None
    assert read_figures(folder) == figures
    assert kept_figures(folder) == figures


def test_the_helper_answers_folders_line_by_line(home):
    whole = add_session(home, "whole", session(experiments=4, ended=True))
    torn = add_session(home, "torn", session(experiments=4))
    data = bytearray(segment_path(torn.journal_dir, 1).read_bytes())
    data[len(data) // 2] ^= 1
    segment_path(torn.journal_dir, 1).write_bytes(data)
    asked = f"{whole.path}\n{home / 'nowhere'}\n{torn.path}\n"
    done = subprocess.run(
        [sys.executable, "-P", "-m", "core.figures"],
        input=asked,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = [msgspec.json.decode(line, type=Figures) for line in done.stdout.splitlines()]
    assert [answer.summary.state for answer in answers] == ["ended", "interrupted", "interrupted"]
    assert "damaged" in answers[2].trouble
    assert 0 < answers[2].summary.runs.submitted < answers[0].summary.runs.submitted


# ---- folders in every condition ---------------------------------------------------------------------------------


def test_a_session_is_seen_with_what_was_asked_for_before_its_journal_is_read(home):
    folder = add_session(home, "mar5", session(experiments=3), simulated=True, executor="sim", researcher="claude")
    seen = glance(folder)
    assert (seen.name, seen.executor, seen.researcher, seen.simulated) == ("mar5", "sim", "claude", True)
    assert seen.state == "reading"
    assert seen.limits.hours == 8.0
    seen = looked_at(folder)
    assert seen.state == "interrupted"
    assert seen.summary is not None
    assert (seen.summary.session, seen.summary.id, seen.summary.simulated) == ("mar5", "id-mar5", True)


def test_an_interrupted_session_says_its_engines_last_words(home):
    folder = add_session(home, "mar5", session(experiments=3))
    folder.write(
        folder.engine_path,
        EngineInfo(pid=1, socket="", version="0", started_unix_s=0.0, error="there is no GPU any more"),
    )
    seen = looked_at(folder)
    assert (seen.state, seen.trouble, seen.fault) == ("interrupted", "there is no GPU any more", "")


def test_what_is_missing_or_damaged_or_newer_is_said_in_words(home):
    half = add_session(home, "half", session(experiments=3, ended=True))
    half.meta_path.unlink()
    lost = add_session(home, "lost")
    (lost.runs_dir / "r1.1").mkdir()
    fresh = add_session(home, "fresh")
    garbled = add_session(home, "garbled")
    garbled.meta_path.write_text("{")
    future = add_session(home, "future")
    future.meta_path.write_text('{"version": "99.1.0", "seed": {}}')
    stray = add_session(home, "stray")
    stray.meta_path.unlink()
    stray.meta_path.mkdir()
    found = {folder.path.name: looked_at(folder) for folder in session_folders()}
    assert {name: one.state for name, one in found.items()} == {
        "id-half": "incomplete",
        "id-lost": "incomplete",
        "id-fresh": "interrupted",
        "id-garbled": "damaged",
        "id-future": "newer",
        "id-stray": "damaged",
    }
    assert "session.json is missing" in found["id-half"].trouble
    half_summary = found["id-half"].summary
    assert half_summary is not None
    assert half_summary.state == "ended"
    assert "yet attempts ran" in found["id-lost"].trouble
    assert "version 99.1.0" in found["id-future"].trouble
    assert fresh.path.name == "id-fresh"
    assert {folder.path.name for folder in all_sessions()} == {
        f"id-{n}" for n in ["lost", "fresh", "garbled", "future", "stray"]
    }


def test_a_journal_with_events_of_a_newer_version_says_so_and_keeps_its_figures(home):
    folder = add_session(home, "mar5", session(experiments=3, ended=True))
    figures = read_figures(folder)
    seen = with_figures(glance(folder), msgspec.structs.replace(figures, unknown_events=2), folder)
    assert seen.state == "newer"
    assert "2 events of it are of a newer version" in seen.trouble
    assert seen.summary is not None
    assert seen.summary.runs.finished


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_may_not_be_read_is_a_row_that_says_so(home):
    folder = add_session(home, "mar5", session(experiments=3))
    folder.path.chmod(0)
    try:
        seen = glance(folder)
        assert (seen.state, "Permission denied" in seen.trouble) == ("damaged", True)
    finally:
        folder.path.chmod(0o700)


# ---- deleting ---------------------------------------------------------------------------------------------------


def test_a_deleted_session_is_gone_with_all_its_files(home):
    folder = add_session(home, "mar5", session(experiments=3))
    (folder.runs_dir / "r1.1").mkdir()
    (folder.runs_dir / "r1.1" / "output.log").write_text("x")
    (folder.runs_dir / "r1.1").chmod(0o500)
    other = add_session(home, "mar6")
    delete_session(folder)
    assert [path.name for path in (home / "sessions").iterdir()] == ["id-mar6"]
    assert other.config().name == "mar6"


def test_a_session_that_an_engine_holds_is_not_deleted(home):
    folder = add_session(home, "mar5", session(experiments=3))
    with folder.lock(), pytest.raises(SessionError, match="an engine works on session mar5"):
        delete_session(folder)
    assert folder.config().name == "mar5"
    delete_session(folder)
    with pytest.raises(SessionError, match="cannot be deleted"):
        delete_session(folder)


def test_what_a_cut_short_deletion_left_is_no_session_and_goes_with_the_next_look(home):
    folder = add_session(home, "mar5", session(experiments=3))
    half = folder.path.with_name(".trash-id-mar5-0")
    folder.path.rename(half)
    (half / "session.json").unlink()
    assert session_folders() == []
    assert all_sessions() == []
    assert empty_trash() == []
    assert list((home / "sessions").iterdir()) == []


def test_a_session_behind_a_link_loses_the_link_only(home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    add_session(elsewhere, "mar5", session(experiments=3))
    (home / "sessions").mkdir()
    (home / "sessions" / "id-mar5").symlink_to(elsewhere / "sessions" / "id-mar5")
    [folder] = session_folders()
    delete_session(folder)
    assert session_folders() == []
    assert (elsewhere / "sessions" / "id-mar5" / "session.json").exists()


def test_the_size_of_a_folder_is_what_it_takes_on_the_disk(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 100_000)
    assert 100_000 <= disk_bytes(tmp_path) < 200_000
    assert disk_bytes(tmp_path / "nowhere") == 0


# ---- the list ---------------------------------------------------------------------------------------------------


class Answers:
    """An engine that answers with these figures, or not."""

    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.gone = False

    async def __call__(self, folder: SessionFolder) -> Figures:
        if self.gone:
            raise EngineGone("it does not answer")
        return self.figures


async def read(folder: SessionFolder) -> Figures:
    return await asyncio.to_thread(read_figures, folder)


async def followed(shelf: Shelf, names: list[str], states: list[str]) -> None:
    """Follow the list until these sessions stand in these states, all measured."""
    reached = asyncio.Event()

    def changed() -> None:
        glances = shelf.glances
        if [g.name for g in glances] == names and [g.state for g in glances] == states and all(g.size for g in glances):
            reached.set()

    following = asyncio.create_task(shelf.follow(changed))
    try:
        async with asyncio.timeout(20.0):
            await reached.wait()
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_list_fills_itself_newest_first(home):
    add_session(home, "old", session(experiments=3, ended=True), created_unix_s=1.0)
    add_session(home, "new", session(experiments=3), created_unix_s=2.0)
    shelf = Shelf(read)
    assert shelf.glances == ()
    await shelf.look()
    assert [one.name for one in shelf.glances] == ["new", "old"]
    await followed(shelf, ["new", "old"], ["interrupted", "ended"])
    again = Shelf(read)
    await again.look()
    assert [one.state for one in again.glances] == ["interrupted", "ended"]


async def test_the_helper_process_reads_what_nobody_has_figures_of(home):
    add_session(home, "mar5", session(experiments=3, ended=True))
    await followed(Shelf(), ["mar5"], ["ended"])


async def test_a_living_session_is_asked_and_one_that_comes_or_goes_is_seen(home):
    folder = add_session(home, "mar5", session(experiments=3))
    engine = Answers(figures_of(fold(session(experiments=5)), engine_alive=True))
    shelf = Shelf(read, engine)
    with folder.lock():
        await shelf.look()
        [one] = shelf.glances
        assert (one.live, one.state) == (True, "running")
        engine.gone = True
        assert not await shelf.look()
        assert shelf.glances == (one,)
    add_session(home, "mar6", created_unix_s=one.created_unix_s + 1)
    await shelf.look()
    assert [(g.name, g.live) for g in shelf.glances] == [("mar6", False), ("mar5", False)]
    delete_session(folder)
    assert await shelf.look()
    assert [g.name for g in shelf.glances] == ["mar6"]


async def test_an_engine_that_falls_silent_is_said_to_be(home, monkeypatch):
    folder = add_session(home, "mar5", session(experiments=3))
    engine = Answers(figures_of(fold(session(experiments=5)), engine_alive=True))
    shelf = Shelf(read, engine)
    with folder.lock():
        await shelf.look()
        engine.gone = True
        monkeypatch.setattr("tui.shelf._SILENCE_S", -1.0)
        await shelf.look()
        [one] = shelf.glances
        assert (one.state, one.trouble) == ("silent", "it does not answer")
        assert one.summary is not None
        engine.gone = False
        await shelf.look()
        assert [g.state for g in shelf.glances] == ["running"]


async def test_a_home_that_cannot_be_listed_says_why(home):
    (home / "sessions").write_text("no folder")
    shelf = Shelf(read)
    assert await shelf.look()
    assert "cannot be listed" in shelf.problem
