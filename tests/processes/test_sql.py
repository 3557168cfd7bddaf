"""Untrusted SQL: right answers, one clear sentence for everything else, and no way out of the worker."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.projection import SNAPSHOT_NAME
from core.projection.ingest import rebuild
from core.sql import SqlError, Table, format_table, json_rows, query
from core.sql_worker import Refused, answer
from tests.support.messy import Messy
from tests.support.story import session, write_journal

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def mar5(tmp_path_factory):
    """A published session."""
    folder = tmp_path_factory.mktemp("mar5")
    write_journal(folder / "journal", session(experiments=12, ended=True))
    rebuild(folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another one, with stranger contents."""
    folder = tmp_path_factory.mktemp("other 'quoted'")
    write_journal(folder / "journal", Messy(7).draw(120))
    rebuild(folder)
    return folder


def refusal(folders, sql: str, **options) -> str:
    """The sentence that a query ends with."""
    with pytest.raises(SqlError) as error:
        query(folders, sql, **options)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_the_issues_query_answers(mar5):
    table = query(mar5, "select revision, count(*), avg(val_bpb) from runs group by all order by 3")
    assert table.columns == ["revision", "count_star()", "avg(val_bpb)"]
    assert table.types == ["VARCHAR", "BIGINT", "DOUBLE"]
    assert len(table.rows) == 12
    scores = [row[2] for row in table.rows if row[2] is not None]
    assert scores == sorted(scores)
    assert len(scores) > 5
    assert not table.truncated


def test_values_are_plain(mar5):
    table = query(
        mar5,
        "select timestamp '2026-01-02 03:04:05', now() > timestamp '2026-01-01', date '2026-01-02', "
        r"1.5::decimal(9, 2), 12345678901234567890123::hugeint, '\xAA'::blob, {'a': [1, null]}, map {1: 2}, "
        "'nan'::double, interval 1 day, null",
    )
    values = table.rows[0]
    assert values[:8] == [
        "2026-01-02T03:04:05", True, "2026-01-02", 1.5, 12345678901234567890123, "aa", {"a": [1, None]}, {"1": 2}
    ]  # fmt: skip
    assert values[8] != values[8]
    assert values[10] is None
    assert json.loads(json_rows(table))[0][table.columns[8]] is None


def test_times_with_a_zone_come_as_utc(mar5):
    table = query(mar5, "select timestamptz '2026-01-02 03:04:05+01' as then, 7 as seven; ")
    assert table.columns == ["then", "seven"]
    assert table.rows == [["2026-01-02T02:04:05", 7]]


@pytest.mark.parametrize(
    "sql", ["from runs", "describe runs", "show tables", "summarize runs", "explain from runs", "values (1)",
            "with x as (from runs) select count(*) from x", "pivot runs on status using count(*) group by reason"]
)  # fmt: skip
def test_every_way_of_reading(mar5, sql):
    assert query(mar5, sql).rows


def test_long_answers_are_cut(mar5):
    table = query(mar5, "from range(100000000000)", max_rows=3)
    assert (table.rows, table.truncated) == ([[0], [1], [2]], True)
    assert not query(mar5, "from range(3)", max_rows=3).truncated
    wide = query(mar5, "select repeat('a', 1000000) from range(100)")
    assert wide.truncated
    assert 20 < len(wide.rows) < 40


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", ["SQL error at line 1, column 1:", "selec"]),
        ("select 1,\n  nope\nfrom runs", ["line 2, column 3:", "nope", "not found"]),
        ("select 'é漢', frobnicate(1)", ["line 1, column 14:", "frobnicate"]),
        ("from nosuchtable", ["line 1, column 6:", "nosuchtable"]),
        ("select 'a'::int", ["Could not convert string"]),
        ("", ["no SQL"]),
        ("-- only a comment", ["no SQL"]),
        ("select 1; select 2", ["only one SQL statement"]),
    ],
)
def test_wrong_sql_says_what_and_where(mar5, sql, words):
    sentence = refusal(mar5, sql)
    for word in words:
        assert word in sentence


WRITES = (
    "insert into runs (run_id) values ('forged')",
    "update runs set val_bpb = 0",
    "delete from runs",
    "drop table runs",
    "create table forged (a int)",
    "create temp table forged (a int)",
    "create or replace view runs as select 1",
    "with x as (insert into runs by name select 'forged' as run_id returning *) from x",
    "explain analyze insert into runs by name select 'forged' as run_id",
    "truncate runs",
    "alter table runs add column forged int",
    "begin",
    "vacuum",
    "checkpoint",
)
ESCAPES = (
    "copy runs to '{folder}/stolen.csv'",
    "copy (select 1) to '/dev/stdout'",
    "copy runs from '/etc/passwd'",
    "export database '{folder}/stolen'",
    "attach '{folder}/stolen.db'",
    "attach '{other}' as theirs (read_only)",
    "detach s0",
    "from read_csv('/etc/passwd')",
    "from read_text('/etc/passwd')",
    "from read_blob('/proc/self/environ')",
    "from '/etc/passwd'",
    "from glob('/*')",
    "from sniff_csv('/etc/passwd')",
    "from read_json('{folder}/journal/000001.jsonl')",
    "from duckdb_secrets()",
    "install httpfs",
    "load httpfs",
    "set memory_limit = '64GB'",
    "set enable_external_access = true",
    "reset lock_configuration",
    "pragma enable_profiling",
    "call pragma_version()",
    "connect 'quack:localhost'",
    "from request",
    "from query('copy runs to ''stolen.csv''')",
    "select getenv('PATH')",
)


def refused_here(folders, sql: str) -> str:
    """The same in this process: DuckDB's own doors, without the kernel's limits around them."""
    with pytest.raises(Refused) as error:
        list(answer([str(folder / SNAPSHOT_NAME) for folder in folders], sql, 10))
    return str(error.value)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("sql", WRITES)
def test_writes_are_refused(mar5, other, sql, count):
    before = (mar5 / SNAPSHOT_NAME).read_bytes()
    sentence = refused_here([mar5, other][:count], sql)
    assert "refused" in sentence
    assert "read-only" in sentence
    assert (mar5 / SNAPSHOT_NAME).read_bytes() == before


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("sql", ESCAPES)
def test_nothing_outside_can_be_reached(mar5, other, sql, count):
    theirs = str(other / SNAPSHOT_NAME).replace("'", "''")
    refused_here([mar5, other][:count], sql.format(folder=mar5, other=theirs))
    assert not list(mar5.glob("stolen*"))


@pytest.mark.parametrize("sql", [WRITES[0], WRITES[7], ESCAPES[0], ESCAPES[4], ESCAPES[8], ESCAPES[15], ESCAPES[17]])
def test_the_worker_refuses_the_same(mar5, sql):
    refusal(mar5, sql.format(folder=mar5))
    assert not list(mar5.glob("stolen*"))


@pytest.mark.parametrize(
    "sql",
    [
        "select list_sum(range(1, 2000000000))",
        "select length(repeat('a', 2000000000))",
        "select repeat('a', 300000000)",
        "select string_agg(a.loss::varchar || repeat('x', 100000)) from metrics a, metrics b",
    ],
)
def test_too_much_memory_ends_the_query_only(mar5, sql):
    started_s = time.monotonic()
    assert "more memory than it may have" in refusal(mar5, sql, timeout_s=30)
    assert time.monotonic() - started_s < 30


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) from range(1000000000000) t(a) where a * a % 7 = 3",
        "with recursive t as (select 1 as a union all select a + 1 from t) select max(a) from t",
    ],
)
def test_a_query_that_never_ends_is_stopped(mar5, sql):
    children = _children()
    assert "did not end within 1 s" in refusal(mar5, sql, timeout_s=1)
    assert _children() == children


def _children() -> set[Path]:
    """Processes whose parent is this one, dead ones that nobody has reaped among them."""
    mine = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid()):
                mine.add(folder)
    return mine


def test_no_secret_reaches_the_worker(mar5, monkeypatch):
    """The environment is not inherited: seen from outside, while a query runs."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    before, seen = _children(), []

    def watch() -> None:
        deadline_s = time.monotonic() + 20
        while not seen and time.monotonic() < deadline_s:
            for folder in _children() - before:
                with contextlib.suppress(OSError):
                    environment = (folder / "environ").read_bytes()
                    if b"core.sql_worker" in (folder / "cmdline").read_bytes() and environment:
                        seen.append(environment)

    watcher = threading.Thread(target=watch)
    watcher.start()
    query(mar5, "select 1")
    watcher.join()
    assert seen
    assert b"sk-canary" not in seen[0]


def test_no_snapshot_yet(tmp_path, mar5):
    sentence = refusal(tmp_path, "select 1")
    assert tmp_path.name in sentence
    assert SNAPSHOT_NAME in sentence
    (tmp_path / SNAPSHOT_NAME).write_bytes(b"not a database" * 1000)
    assert "cannot be opened" in refusal(tmp_path, "select 1")
    assert "--rebuild" in refusal([tmp_path, mar5], "select 1")


def test_several_sessions_appear_as_one(mar5, other, tmp_path):
    table = query([mar5, tmp_path, other], "select session_id, count(*) from runs group by all order by all")
    alone = [query(folder, "select session_id, count(*) from runs group by all").rows[0] for folder in (mar5, other)]
    assert table.rows == sorted(alone)
    assert len(table.notices) == 1
    assert tmp_path.name in table.notices[0]
    both = query([mar5, other], "select count(*) from leaderboard").rows[0][0]
    assert both == sum(query(folder, "select count(*) from leaderboard").rows[0][0] for folder in (mar5, other))
    assert "no session has" in refusal([tmp_path, tmp_path], "select 1")


# ---- what a reader sees -----------------------------------------------------------------------------------------


def test_tables_are_aligned_and_cut():
    table = Table(
        ["title", "val_bpb", "ok"],
        ["VARCHAR", "DOUBLE", "BOOLEAN"],
        [["a", 1.00367984, True], ["漢字 wide", None, False], ["x" * 90, 12.5, True]],
    )
    lines = format_table(table, 40).splitlines()
    assert lines[0].startswith("title")
    assert all(len(line) <= 40 for line in lines)
    assert "1.0036798" in lines[2]
    assert "NULL" in lines[3]
    assert "…" in lines[4]
    assert lines[-1] == "(3 rows)"
    assert "1.0036798" in format_table(table, 5), "a number that is cut is another number"
    ends = {line.rindex(text) + len(text) for line, text in ((lines[2], "1.0036798"), (lines[4], "12.5"))}
    assert len(ends) == 1


def test_an_empty_and_a_cut_answer():
    assert format_table(Table(["a"], ["INTEGER"], []), 80).splitlines() == ["a", "─", "(0 rows)"]
    assert format_table(Table(["a"], ["INTEGER"], [[1]], True), 80).endswith("(the first 1 row; there are more)")


@given(text=st.text(), name=st.text(min_size=1), width=st.integers(1, 60))
def test_no_text_can_drive_the_terminal(text, name, width):
    shown = format_table(Table([name], ["VARCHAR"], [[text], [[text]], [{text: 1}]]), width)
    assert not [char for char in shown if char != "\n" and unicodedata.category(char)[0] == "C"]
    assert len(shown.splitlines()) == 6


def test_json_keeps_columns_of_one_name_apart():
    rows = json.loads(json_rows(Table(["a", "a", "b"], [""] * 3, [[1, 2, float("inf")], [3, 4, [float("nan")]]])))
    assert rows == [{"a": 1, "a_2": 2, "b": None}, {"a": 3, "a_2": 4, "b": [None]}]
