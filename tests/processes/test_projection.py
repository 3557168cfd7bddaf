"""The projection process: it answers, ends with its purpose, and nothing is lost or doubled when it is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.projection import SNAPSHOT_NAME
from core.projection.client import Projection, ProjectionFailed
from core.projection.store import Store
from tests.support.snapshots import append, ask, contents, journal_bytes, published
from tests.support.story import Story, session, with_runs, write_journal

pytestmark = pytest.mark.processes


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "core.projection", str(folder), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)


async def test_the_process_publishes_on_request_and_ends_with_the_session(tmp_path):
    story = Story()
    story.experiment()
    write_journal(tmp_path / "journal", story.events)
    projection = Projection(tmp_path)
    await projection.start()
    assert await projection.publish(len(story.events)) == len(story.events)
    for _ in range(3):
        story.experiment()
        wanted = asyncio.create_task(projection.publish(len(story.events)))
        await asyncio.sleep(0)  # the request may reach the process before the events do
        append(tmp_path, story.events)
        assert await wanted == len(story.events)
        assert ask(tmp_path, "select last_n from sessions") == [(len(story.events),)]
    story.end()
    append(tmp_path, story.events)
    assert await projection.publish(len(story.events)) == len(story.events)
    assert await projection.close() == 0
    assert ask(tmp_path, "select status, end_reason from sessions") == [("ended", "the limit of 8 h is reached")]


async def test_a_request_that_was_given_up_does_not_answer_the_next(tmp_path):
    story = Story()
    story.experiment()
    write_journal(tmp_path / "journal", story.events)
    projection = Projection(tmp_path)
    await projection.start()
    early = len(story.events)
    story.experiment()
    given_up = asyncio.create_task(projection.publish(early))
    await asyncio.sleep(0)
    given_up.cancel()
    append(tmp_path, story.events)
    assert await projection.publish(len(story.events)) == len(story.events)
    assert ask(tmp_path, "select count(*) from experiments") == [(2,)]
    assert await projection.close() == 0


def test_the_process_ends_when_its_engine_is_gone_after_publishing_all(tmp_path):
    """A closed pipe is all that is left of an engine that was killed."""
    events = session(experiments=5)
    write_journal(tmp_path / "journal", events)
    process = start(tmp_path)
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert ask(tmp_path, "select last_n, status from sessions") == [(len(events), "running")]


def test_the_process_says_where_the_journal_is_damaged(tmp_path):
    write_journal(tmp_path / "journal", session(experiments=6))
    lines = journal_bytes(tmp_path).splitlines(keepends=True)
    lines[40] = b"\0" * (len(lines[40]) - 1) + b"\n"
    (tmp_path / "journal" / "000001.jsonl").write_bytes(b"".join(lines))
    process = start(tmp_path)
    out, err = process.communicate(b"publish 60\n", timeout=30)
    assert process.returncode == 1
    assert out.startswith(b"failed the journal is damaged in ")
    assert err.count(b"\n") == 1
    assert b"000001.jsonl at byte" in err
    assert ask(tmp_path, "select n from projection") == [(40,)]


async def test_the_client_says_when_there_will_be_no_snapshot(tmp_path):
    write_journal(tmp_path / "journal", session(experiments=6))
    lines = journal_bytes(tmp_path).splitlines(keepends=True)
    lines[40] = b"rubbish\n"
    (tmp_path / "journal" / "000001.jsonl").write_bytes(b"".join(lines))
    projection = Projection(tmp_path)
    await projection.start()
    with pytest.raises(ProjectionFailed, match=r"damaged|has ended"):
        await projection.publish(60)
    assert await projection.close() == 1


def test_kill_minus_nine_at_any_moment_loses_and_doubles_nothing(tmp_path):
    """Processes are killed while they ingest and publish; what remains is what one undisturbed pass makes."""
    events = with_runs(150, 6000, devices=8)
    expected = contents(published(tmp_path / "whole", events))
    whole = journal_bytes(tmp_path / "whole")
    folder = tmp_path / "killed" / "whole"  # the folder names the session, in the rows too
    (folder / "journal").mkdir(parents=True)
    journal = folder / "journal" / "000001.jsonl"
    rounds, seen = 6, []
    for number in range(rounds):
        journal.write_bytes(whole[: len(whole) * (number + 1) // (rounds + 1)])
        process = start(folder)
        deadline_s = time.monotonic() + 20
        marker = folder / ("projection.duckdb", "projection.duckdb.wal", SNAPSHOT_NAME)[number % 3]
        stamp = marker.stat().st_mtime_ns if marker.exists() else 0
        while time.monotonic() < deadline_s and not (marker.exists() and marker.stat().st_mtime_ns != stamp):
            os.sched_yield()
        process.kill()
        process.wait()
        keeper = Store(folder)
        seen.append(keeper.position().n)
        keeper.close()
    assert seen == sorted(seen)
    assert seen[-1] > 0, "no process got anything done before it was killed"
    journal.write_bytes(whole)
    process = start(folder)
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert contents(folder) == expected


def test_rebuild_and_usage_on_the_command_line(tmp_path):
    events = session(experiments=3)
    write_journal(tmp_path / "journal", events)
    assert start(tmp_path, "--rebuild").wait(timeout=30) == 0
    assert ask(tmp_path, "select n from projection") == [(len(events),)]
    assert start(tmp_path, "--nonsense").wait(timeout=30) == 2
