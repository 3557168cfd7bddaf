"""The console behind the screen: answers as of any moment, stopped at will, saved whole; each trouble in a sentence."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import time
from pathlib import Path

import duckdb
import pytest

from core.projection import SNAPSHOT_NAME
from core.session import SessionFolder
from core.sql import SqlError, Table, materialise
from core.sql_console import FileTaken, Moment, SqlConsole
from core.sql_history import SqlHistory
from tests.support.snapshots import append, published
from tests.support.story import session, write_journal

pytestmark = pytest.mark.processes

EVENTS = session(experiments=20, ended=True)
END = len(EVENTS)
RUNS = "select count(*) filter (where ended_t_s is not null) as ended, (select n from projection) as n from runs"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A session that ended; nobody writes to it."""
    return published(tmp_path_factory.mktemp("sessions") / "mar5", EVENTS)


@pytest.fixture
def console(ended, tmp_path, monkeypatch):
    """A console on the ended session; it may write to the current folder."""
    monkeypatch.chdir(tmp_path)
    yield (made := console_on(ended, tmp_path))
    made.close()


def console_on(folder: Path, tmp_path: Path) -> SqlConsole:
    return SqlConsole(SessionFolder(folder), SqlHistory(tmp_path / "history.jsonl"))


async def ask(console: SqlConsole, sql: str, n: int, *, live: bool = False, heard: list[str] | None = None) -> Table:
    say = (lambda words: None) if heard is None else heard.append
    return (await console.ask(sql, Moment(n, live), say)).table


async def refusal(console: SqlConsole, sql: str, n: int) -> str:
    with pytest.raises(SqlError) as error:
        await ask(console, sql, n)
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_a_moment_sees_only_what_was_known_then(console):
    heard: list[str] = []
    middle = await ask(console, RUNS, END // 2, heard=heard)
    at_end = await ask(console, RUNS, END)
    assert middle.rows[0][1] == middle.n == END // 2
    assert at_end.rows[0][1] == at_end.n == END
    assert 0 < middle.rows[0][0] < at_end.rows[0][0]
    assert middle.t_s == pytest.approx(EVENTS[END // 2 - 1].t)
    assert any("is being made from the journal: 100 %" in words for words in heard)
    again: list[str] = []
    assert await ask(console, RUNS, END // 2, heard=again) == middle
    assert again == ["The query is running"], "a database that was made is at hand"


async def test_the_moment_before_the_first_event_is_one_too(console):
    assert (await ask(console, "from sessions", 0)).rows == []


async def test_only_so_many_databases_are_kept_and_none_is_left_behind(console):
    for n in (5, 10, 15, 20, 25, 30):
        assert (await ask(console, RUNS, n)).n == n
    room = console._room
    assert len(list(room.glob("at-*"))) == 4
    console.close()
    assert not room.exists()


async def test_a_query_that_is_stopped_ends_at_once_and_the_next_one_is_answered(console):
    endless, runs = "select count(*) from range(1000000000000) t(a) where a % 7 = 3", asyncio.Event()
    task = asyncio.create_task(console.ask(endless, Moment(END, live=False), lambda words: runs.set()))
    await runs.wait()
    began_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - began_s < 5
    assert (await ask(console, "select 7", END)).rows == [[7]]


async def test_wrong_sql_is_a_sentence(console):
    assert "line 1, column" in await refusal(console, "selec 1", END)
    assert "read-only" in await refusal(console, "drop table runs", END // 2)
    assert "files" in await refusal(console, "from read_text('/etc/passwd')", END)


# ---- trouble ----------------------------------------------------------------------------------------------------


async def test_without_a_snapshot_the_journal_answers(tmp_path):
    folder = tmp_path / "mar5"
    write_journal(folder / "journal", EVENTS)
    console = console_on(folder, tmp_path)
    try:
        assert (await ask(console, RUNS, END)).rows[0][1] == END
        assert [path.name for path in folder.iterdir()] == ["journal"], "a reader leaves the session as it is"
    finally:
        console.close()


async def test_a_snapshot_that_lags_behind_or_is_broken_is_not_taken_for_the_moment(tmp_path):
    folder = published(tmp_path / "mar5", EVENTS[:50])
    append(folder, EVENTS)
    console = console_on(folder, tmp_path)
    try:
        assert (await ask(console, RUNS, END)).n == END
        (folder / SNAPSHOT_NAME).write_bytes(b"not a database" * 1000)
        assert (await ask(console, RUNS, 70)).n == 70
    finally:
        console.close()


async def test_a_snapshot_of_another_release_does_not_hide_today_s_tables(tmp_path):
    folder = published(tmp_path / "mar5", EVENTS)
    with duckdb.connect(str(folder / SNAPSHOT_NAME)) as con:
        con.execute("update meta set schema_sha = 'older'")
        con.execute("drop table idle")
    console = console_on(folder, tmp_path)
    try:
        assert (await ask(console, "select count(*) > 0 from idle", END)).rows == [[True]]
    finally:
        console.close()


async def test_a_half_deleted_folder_says_what_is_missing(tmp_path):
    folder = published(tmp_path / "mar5", EVENTS)
    console = console_on(folder, tmp_path)
    shutil.rmtree(folder / "journal")
    assert (await ask(console, RUNS, END)).n == END, "the snapshot is of this very moment"
    (folder / SNAPSHOT_NAME).unlink()
    assert "has no journal any more" in await refusal(console, RUNS, END)
    shutil.rmtree(folder)
    assert "has no journal any more" in await refusal(console, RUNS, END)
    console.close()


async def test_a_journal_that_ends_before_the_moment_is_said(tmp_path):
    folder = published(tmp_path / "mar5", EVENTS[:40])
    console = console_on(folder, tmp_path)
    assert "goes up to event #40 only" in await refusal(console, RUNS, 60)
    console.close()


async def test_an_engine_that_does_not_answer_is_said_beside_the_answer(console, ended):
    table = await ask(console, RUNS, END, live=True)
    assert table.n == END
    assert table.notices == ["the engine does not answer: this is what it published last"]


# ---- saving -----------------------------------------------------------------------------------------------------


async def save(console: SqlConsole, sql: str, name: str, n: int = END, **options):
    return await console.save(sql, n, Path(name), lambda words: None, **options)


async def test_all_rows_are_saved_not_only_those_shown(console, tmp_path):
    saved = await save(console, "select a, a / 3 as third from range(25000) t(a)", "numbers.csv")
    assert (saved.path, saved.rows) == (tmp_path / "numbers.csv", 25_000)
    assert saved.size_bytes == saved.path.stat().st_size
    with saved.path.open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["a", "third"]
    assert [int(line[0]) for line in lines[1:]] == list(range(25_000))
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.csv"], "nothing half-written is left"


async def test_parquet_keeps_types_and_json_is_a_line_each(console):
    sql = (
        "select 1::decimal(9, 2) as price, timestamp '2026-01-02 03:04:05' as at, [1, 2] as list, "
        "'nan'::double as odd, null as nothing, 1 as twice, 2 as twice"
    )
    parquet = await save(console, sql, "types.parquet")
    with duckdb.connect() as con:
        kinds = {name: str(kind) for name, kind, *_ in con.execute(f"from '{parquet.path}'").description}
    assert (kinds["price"], kinds["at"], kinds["list"]) == ("DECIMAL(9,2)", "TIMESTAMP", "INTEGER[]")
    assert len(kinds) == 7
    lines = await save(console, sql, "types.json")
    row = json.loads(lines.path.read_text())
    assert (row["price"], row["list"], row["odd"], row["twice"], row["twice_1"]) == (1.0, [1, 2], None, 1, 2)


async def test_a_past_answer_is_saved_as_it_was(console):
    saved = await save(console, RUNS, "then.csv", n=END // 2)
    assert saved.path.read_text().splitlines()[1].endswith(f",{END // 2}")


@pytest.mark.parametrize("sql", ["describe runs", "show tables", "summarize runs", "values (1, 'a')", "from runs;"])
async def test_every_table_can_be_saved(console, sql):
    assert (await save(console, sql, "any.csv")).rows > 0


async def test_a_file_is_not_written_over_unasked(console, tmp_path):
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(FileTaken):
        await save(console, "select 1", "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "precious"
    assert (await save(console, "select 1 as one", "mine.csv", overwrite=True)).path.read_text() == "one\n1\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows.txt", "end the name with .csv, .parquet or .json"),
        ("rows", "end the name with"),
        ("nowhere/rows.csv", "does not exist"),
        ("folder.csv", "is a folder"),
    ],
)
async def test_a_name_that_cannot_be_is_said(console, tmp_path, name, words):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SqlError, match=words):
        await save(console, "select 1", name)


async def test_what_cannot_be_saved_leaves_no_file(console, tmp_path):
    for sql, words in (("selec 1", "SQL error"), ("explain from runs", "EXPLAIN"), ("drop table runs", "read-only")):
        with pytest.raises(SqlError, match=words):
            await save(console, sql, "never.csv")
    with pytest.raises(SqlError, match="cannot be written"):
        await save(console, "select 1", "/proc/never.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "copy runs to '{room}/stolen.csv'",
        "copy (select 1) to '{room}/stolen.csv'",
        "attach '{room}/stolen.db'",
        "from read_text('/etc/passwd')",
        "select 1); copy runs to '{room}/stolen.csv'; select (1",
        "select 1) ; drop table rows; (select 2",
        "create table whole.other as select 1",
        "with x as (insert into whole.rows select 1 returning *) from x",
    ],
)
def test_a_query_that_is_saved_can_write_nowhere_itself(ended, tmp_path, sql):
    """The worker may write files then, the statement may not."""
    into = tmp_path / "whole" / "whole.duckdb"
    into.parent.mkdir()
    before = (ended / SNAPSHOT_NAME).read_bytes()
    with pytest.raises(SqlError):
        materialise(ended, sql.format(room=tmp_path), into, timeout_s=30)
    assert (ended / SNAPSHOT_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert {path.name for path in into.parent.iterdir()} <= {"whole.duckdb", "whole.duckdb.wal"}


async def test_names_for_files_are_not_taken_yet(console, tmp_path):
    assert console.file_name() == "mar5-sql-1.csv"
    (tmp_path / "mar5-sql-1.csv").touch()
    assert console.file_name() == "mar5-sql-2.csv"
