"""The DuckDB projection: rows equal the state, incremental equals rebuilt, nothing is lost or doubled by any end."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import projection
from core.conversation import ModelNow
from core.events import (
    Autopilot,
    DeviceLost,
    DeviceSeen,
    EpochStarted,
    ModelFailed,
    ModelMessage,
    ModelRequest,
    ModelStatus,
    Note,
    PhaseChanged,
)
from core.journal import START
from core.projection import SNAPSHOT_NAME
from core.projection.ingest import Ingester, rebuild
from core.projection.lock import ProjectionBusy, projection_lock
from core.projection.service import Service
from core.projection.store import Store
from core.reduce import fold
from tests.support.messy import Messy
from tests.support.snapshots import append, ask, contents, journal_bytes, published
from tests.support.story import Story, session, write_journal
from tests.support.talking import conversation

DOCS = Path(__file__).parents[2] / "docs" / "sql.md"
ModelTalk = EpochStarted | ModelMessage | ModelFailed | ModelStatus | Autopilot
ISSUE_QUERY = "select revision, count(*), avg(val_bpb) from runs group by all order by 3"


# ---- what the rows say ------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 250), real_time=st.booleans(), ended=st.booleans())
def test_rows_agree_with_the_reducer(seed, count, real_time, ended):
    messy = Messy(seed, real_time=real_time, model=True)
    events = messy.draw(count)
    if ended:
        events = messy.end()
    state = fold(events)
    with tempfile.TemporaryDirectory() as name:
        folder = published(Path(name), events)
        tables = contents(folder)
        runs = {row[0]: row[1:] for row in ask(folder, "select run_id, status, val_bpb, attempts, scored from runs")}
        spent = ask(folder, "select coalesce(sum(ended_t_s - intent_t_s - waited_s), 0) from attempts")
        judged = dict(ask(folder, "select experiment_id, verdict from experiments"))
        train_s = ask(folder, "select coalesce(sum(train_s), 0) from costs")
        [spoken] = ask(
            folder,
            "select count(*) filter (status = 'answered'), count(*) filter (status = 'failed'), "
            "coalesce(sum(usd), 0), coalesce(sum(held_usd), 0), coalesce(sum(output_tokens), 0) from model_requests",
        )
        by_epoch = ask(folder, "select sum(attempts), sum(usd) from model_costs")[0] if spoken[0] else None
        under_way = ask(folder, "select request || '.' || attempt from model_requests where status = 'open'")
    every = [*state.now.runs.values(), *state.ledger.runs]
    assert runs == {
        run.run: (
            run.outcome or run.status,
            run.val_bpb,
            len(run.attempts) + (run.intent_t_s is not None),
            run.scored,
        )
        for run in every
    }
    assert len(tables["runs"]) == len(every)
    assert len(tables["attempts"]) == state.now.counts.attempts
    assert spent[0][0] == pytest.approx(state.now.allocated_s)
    assert train_s[0][0] == pytest.approx(state.now.train_s)
    others = [event for event in state.ledger.talk if not isinstance(event, ModelTalk)]
    assert len(tables["messages"]) == len(others) + len(state.ledger.incumbents)
    assert len(tables["model_messages"]) == len(state.ledger.messages)
    model = state.now.model or ModelNow()
    assert spoken == pytest.approx(
        (model.answers, model.failures, model.usd, model.held_usd, model.usage.output), abs=1e-9
    )
    assert under_way == ([(model.in_flight.req,)] if model.in_flight else [])
    if by_epoch is not None:
        assert by_epoch == (len(tables["model_requests"]), pytest.approx(model.usd))
    assert len(tables["commands"]) == len(state.ledger.commands)
    assert {row[1]: row[2] for row in tables["designs"]} == {event.design: event.n for event in state.ledger.designs}
    assert len(tables["designs"]) == len(state.ledger.designs)
    assert len(tables["phases"]) == sum(isinstance(event, PhaseChanged) for event in events)
    assert len(tables["revisions"]) == len(state.ledger.revisions)
    assert judged == {
        event.exp: None if (verdict := state.verdict(event.exp)) is None else verdict.verdict
        for event in state.ledger.experiments
    }
    assert tables["projection"][0][2] == len(events)


def test_views_on_a_session_done_by_hand(tmp_path):
    story = Story(devices=2, progress=2)
    base = story.propose("baseline", {}, [1, 2])
    first, second = story.start(base, 1, "gpu0"), story.start(base, 2, "gpu1")
    story.finish(first, 1.0)
    story.finish(second, 1.2)
    better = story.propose("better", {"DEPTH": "9"}, [1])
    third = story.start(better, 1, "gpu0")
    story.finish(third, 0.9)
    fourth = story.start(better, 2, "gpu1")
    story.finish(fourth, None, reason="CUDA error")
    for event in story.events:
        if getattr(event, "run", "") in (first, second) and hasattr(event, "reason") and hasattr(event, "exp"):
            event.reason = "baseline"
    folder = published(tmp_path, story.events)
    board = ask(
        folder,
        "select place, experiment_id, mean_bpb, round(sd_bpb, 6), n, best_bpb, scored_runs, reference "
        "from leaderboard order by place",
    )
    assert board == [(1, base, 1.1, round(0.02**0.5, 6), 2, 1.0, 2, True), (2, better, None, None, 0, 0.9, 1, True)]
    best = ask(folder, "select run_id, best_bpb, improved from best_so_far order by ended_t_s")
    assert best == [(first, 1.0, True), (second, 1.0, False), (third, 0.9, True)]
    assert ask(folder, "select outcome, failure, attempts, last_run_id from failures") == [
        ("crash", "CUDA error", 1, fourth)
    ]
    assert ask(folder, "select knobs->>'DEPTH' from experiments where experiment_id = 'e2'") == [("9",)]
    for up_s, allocated_s, share in ask(folder, "select up_s, allocated_s, allocated_share from utilisation"):
        assert share == pytest.approx(allocated_s / up_s)
        assert 0 < share < 1
    counted = ask(folder, ISSUE_QUERY)
    assert [row[1] for row in counted] == [2, 2]
    assert counted[0][2] == 0.9


def test_designs_and_phases_keep_what_was_declared(tmp_path):
    story = Story()
    story.phase("opening", "nothing is known yet")
    story.declare("opening-1", "which knobs matter")
    folder = published(tmp_path, story.events)
    assert ask(folder, "select phase, why, began_t_s from phases") == [("opening", "nothing is known yet", 0.1)]
    query = "select design, kind, planned_runs, resolution, why, factors->>'$[0][0]' from designs"
    assert ask(folder, query) == [("opening-1", "folded Plackett-Burman", 16, 4, "which knobs matter", "MATRIX_LR")]
    said = ask(folder, "select author, kind, content from messages order by n")
    assert said == [
        ("researcher", "phase_changed", "opening: nothing is known yet"),
        ("researcher", "design_declared", "opening-1: which knobs matter"),
    ]


def test_what_a_model_said_and_cost_is_in_tables(tmp_path):
    story = Story()
    talk = conversation(story)
    talk.fail("overloaded", "the API is overloaded", req=talk.ask(), held_usd=0.2)
    talk.ask(again=True)
    talk.fail("refusal", "it declined", req=talk.ask(again=True), category="frontier_llm")
    talk.ask(again=True)
    folder = published(tmp_path, story.events)
    said = ask(folder, "select thinking, text, tools, usd from model_messages where role = 'assistant' order by n")
    assert said[0][0].startswith("The curve is steep.")
    assert said[0][1:] == ("I begin with depth.", ["submit_experiments"], 0.05)
    assert ask(folder, "select results, failed_results from model_messages where role = 'user' order by n") == [
        (0, 0), (1, 0), (1, 0),
    ]  # fmt: skip
    attempts = "select request, attempt, status, kind, category, usd, held_usd from model_requests order by from_t_s, 2"
    assert ask(folder, attempts)[1:] == [
        ("q2", 1, "answered", None, None, 0.05, 0.0),
        ("q3", 1, "failed", "overloaded", None, 0.0, 0.2),
        ("q3", 2, "lost", None, None, 0.0, 0.45),
        ("q3", 3, "failed", "refusal", "frontier_llm", 0.0, 0.0),
        ("q3", 4, "open", None, None, 0.0, 0.0),
    ]
    assert ask(folder, "select epoch, requests, attempts, answers, failures, usd from model_costs") == [
        (1, 3, 6, 2, 3, 0.1)
    ]


def test_an_absent_device_is_not_idle(tmp_path):
    """A device that was away for half of the time has half of the time up."""
    story = Story(devices=1)
    story.add(DeviceLost(device="gpu0", seq=2, reason="fell off the bus"), 10.0)
    story.add(DeviceSeen(device="gpu0", seq=3, cls="H100-80GB", node="node0"), 20.0)
    story.add(DeviceLost(device="gpu0", seq=4), 5.0)
    story.end()
    folder = published(tmp_path, story.events)
    assert ask(folder, "select up_s, allocated_share from utilisation") == [(15.0, 0.0)]


def test_events_of_a_newer_release_are_counted_not_lost(tmp_path):
    events = session(experiments=2)
    folder = published(tmp_path, events)
    body = b'{"k":"hologram","n":%d,"t":9999.0' % (len(events) + 1)
    with (folder / "journal" / "000001.jsonl").open("ab") as file:
        file.write(b'%s,"crc":"%08x"}\n' % (body, zlib.crc32(body)))
    assert rebuild(folder) is None
    assert ask(folder, "select unknown_events, last_n from sessions") == [(1, len(events) + 1)]


def test_times_are_utc_without_zone_and_everything_has_a_comment(tmp_path):
    folder = published(tmp_path, session(experiments=3))
    types = {kind for (kind,) in ask(folder, "select distinct data_type from duckdb_columns() where not internal")}
    assert "TIMESTAMP" in types
    assert not [kind for kind in types if "ZONE" in kind]
    assert ask(folder, "select strftime(started_at, '%Y-%m-%d %H:%M') from sessions") == [("2023-11-14 22:13",)]
    versions = ask(folder, "select tags['storage_version'] from duckdb_databases() where not internal")
    assert versions == [("v1.5.0+",)]
    uncommented = ask(
        folder,
        "select table_name from duckdb_tables() where comment is null "
        "union all select view_name from duckdb_views() where comment is null and not internal",
    )
    assert uncommented == []


def test_the_documented_queries_answer(tmp_path):
    told = Story()
    conversation(told)
    story = session(experiments=25)
    for event in (event for event in told.events if isinstance(event, ModelTalk | ModelRequest)):
        event.n, event.t = len(story) + 1, story[-1].t
        story.append(event)
    folder = published(tmp_path, story)
    text = DOCS.read_text(encoding="utf-8")
    queries = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(queries) >= 12
    for sql in queries:
        assert ask(folder, sql), f"no rows: {sql}"
    for name in contents(folder):
        assert f"`{name}`" in text, f"{name} is not documented"


# ---- incremental equals rebuilt ---------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10**6), count=st.integers(5, 200))
def test_incremental_equals_rebuilt(data, seed, count):
    """The journal grows by any number of bytes at a time; processes come and go."""
    events = Messy(seed, model=True).draw(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = journal_bytes(published(folder, events))
        expected = contents(folder)
        for path in folder.glob("*.duckdb*"):
            path.unlink()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=4)))
        journal = folder / "journal" / "000001.jsonl"
        keeper = ingester = None
        for cut in [*cuts, len(whole)]:
            journal.write_bytes(whole[:cut])
            if keeper is None or data.draw(st.booleans()):
                if keeper is not None:
                    keeper.close()
                keeper = Store(folder)
                ingester = Ingester(folder / "journal", keeper)
            ingester.ingest()
        keeper.publish()
        keeper.close()
        assert contents(folder) == expected


def test_segments_and_large_batches(tmp_path, monkeypatch):
    """Transactions that end anywhere, over rolled segments, make the same database."""
    events = session(experiments=12, ended=True)
    expected = contents(published(tmp_path / "one" / "session", events))
    monkeypatch.setattr("core.projection.ingest._BATCH", 17)
    got = contents(published(tmp_path / "many" / "session", events, segment_events=40))
    del expected["projection"], got["projection"]
    assert got == expected


def test_a_transaction_that_fails_leaves_nothing(tmp_path, monkeypatch):
    events = session(experiments=6)
    expected = contents(published(tmp_path, events))
    (tmp_path / "projection.duckdb").unlink()
    keeper = Store(tmp_path)
    ingester = Ingester(tmp_path / "journal", keeper)

    def fail(*_):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_set_verdicts", fail)
        with pytest.raises(OSError, match="no space"):
            ingester.ingest()
    assert keeper.position() == START
    assert keeper._con.execute("select count(*) from runs").fetchall() == [(0,)]
    keeper.close()
    keeper = Store(tmp_path)
    Ingester(tmp_path / "journal", keeper).ingest()
    keeper.publish()
    keeper.close()
    assert contents(tmp_path) == expected


@pytest.mark.parametrize("fate", ["shorter", "other", "schema", "garbage"])
def test_a_store_that_does_not_fit_begins_anew(tmp_path, fate, monkeypatch):
    """A power cut took the journal's end, another one continues it, the schema changed, the file is no database."""
    events = session(experiments=8)
    published(tmp_path, events)
    lines = journal_bytes(tmp_path).splitlines(keepends=True)
    journal = tmp_path / "journal" / "000001.jsonl"
    if fate == "shorter":
        journal.write_bytes(b"".join(lines[:-9]))
    elif fate == "other":
        shutil.rmtree(tmp_path / "journal")
        write_journal(tmp_path / "journal", [*session(experiments=8, seed=5)])
    elif fate == "schema":
        changed = tmp_path / "schema.sql"
        changed.write_text(projection._SCHEMA.read_text(encoding="utf-8") + "\nselect 1;\n", encoding="utf-8")
        monkeypatch.setattr(projection, "_SCHEMA", changed)
    else:
        (tmp_path / "projection.duckdb").write_bytes(b"not a database" * 1000)
    keeper = Store(tmp_path)
    ingester = Ingester(tmp_path / "journal", keeper)
    ingester.ingest()
    keeper.publish()
    keeper.close()
    got = contents(tmp_path)
    rebuild(tmp_path)
    assert got == contents(tmp_path)
    assert ingester.n == len(journal.read_bytes().splitlines())


# ---- publishing -------------------------------------------------------------------------------------------------


def test_a_reader_keeps_what_it_has_open_and_a_full_disk_keeps_the_old_snapshot(tmp_path, monkeypatch):
    story = Story()
    story.experiment()
    folder = published(tmp_path, story.events)
    before = contents(folder)
    reader = duckdb.connect(str(folder / SNAPSHOT_NAME), read_only=True)
    seen = reader.execute("select count(*) from messages").fetchall()
    story.experiment()
    write_journal(folder / "journal", story.events)
    keeper = Store(folder)
    Ingester(folder / "journal", keeper).ingest()

    def full(_source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            keeper.publish()
    assert list(folder.glob("*.partial")) == []
    assert reader.execute("select count(*) from messages").fetchall() == seen
    reader.close()
    assert contents(folder) == before
    keeper.publish()
    keeper.close()
    assert len(contents(folder)["experiments"]) == 2
    assert (folder / SNAPSHOT_NAME).stat().st_mode & 0o777 == 0o600


def test_unasked_snapshots_keep_their_distance(tmp_path, monkeypatch):
    """Within five seconds only a request makes another snapshot; with nothing new, nothing does."""
    now_s = 100.0
    monkeypatch.setattr("core.projection.service.time.monotonic", lambda: now_s)
    story = Story()
    write_journal(tmp_path / "journal", story.events)
    keeper = Store(tmp_path)
    ingester = Ingester(tmp_path / "journal", keeper)
    requests, asking = os.pipe()
    service = Service(tmp_path, requests, os.open(os.devnull, os.O_WRONLY))
    published_n = []
    for age_s, request in ((0.0, b""), (4.9, b""), (5.0, b""), (5.1, b""), (5.2, b"publish 9\n"), (90.0, b"")):
        now_s = 100.0 + age_s
        if request:
            os.write(asking, request)
            service._receive()
        assert not service._step(ingester, keeper)
        published_n.append(ask(tmp_path, "select n from projection")[0][0])
        if age_s < 90:
            story.add(Note(text="more"))
            append(tmp_path, story.events)
    first = published_n[0]
    assert published_n == [first, first, first + 2, first + 2, first + 4, first + 5]
    stamp = (tmp_path / SNAPSHOT_NAME).stat().st_mtime_ns
    now_s += 60.0
    assert not service._step(ingester, keeper)
    keeper.close()
    assert (tmp_path / SNAPSHOT_NAME).stat().st_mtime_ns == stamp


def test_damage_in_the_middle_publishes_what_is_before(tmp_path):
    events = session(experiments=10)
    write_journal(tmp_path / "journal", events)
    lines = journal_bytes(tmp_path).splitlines(keepends=True)
    place = len(lines) // 2
    lines[place] = lines[place].replace(b'"t":', b'"T":', 1)
    (tmp_path / "journal" / "000001.jsonl").write_bytes(b"".join(lines))
    damage = rebuild(tmp_path)
    assert damage is not None
    assert damage.offset == sum(map(len, lines[:place]))
    assert ask(tmp_path, "select n from projection") == [(place,)]


def test_one_process_at_a_time(tmp_path):
    write_journal(tmp_path / "journal", session(experiments=2))
    with projection_lock(tmp_path, wait_s=0.0), pytest.raises(ProjectionBusy, match="stop the session first"):
        rebuild(tmp_path)
    assert rebuild(tmp_path) is None
