"""A person's queries: the newest are kept, once each, for that person alone."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from core.sql_history import MOST, SqlHistory, history_path


def test_queries_come_back_oldest_first_and_once_each(tmp_path: Path) -> None:
    history = SqlHistory(tmp_path / "state" / "sql-history.jsonl")
    assert history.queries() == []
    for sql in ("select 1", "from runs\nwhere scored", "select 1", "select 'é'"):
        history.add(sql)
    assert SqlHistory(tmp_path / "state" / "sql-history.jsonl").queries() == [
        "from runs\nwhere scored",
        "select 1",
        "select 'é'",
    ]


def test_only_its_owner_may_read_it_and_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "sql-history.jsonl"
    history = SqlHistory(path)
    for number in range(MOST + 20):
        history.add(f"select {number}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    queries = history.queries()
    assert (len(queries), queries[0], queries[-1]) == (MOST, "select 20", f"select {MOST + 19}")


def test_a_damaged_or_foreign_file_costs_no_more_than_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "sql-history.jsonl"
    path.write_bytes(b'"select 1"\n\xff\xfe\n{"a": 1}\n[1\n"select 2"\n')
    history = SqlHistory(path)
    assert history.queries() == ["select 1", "select 2"]
    history.add("select 3")
    assert history.queries() == ["select 1", "select 2", "select 3"]
    history.add("x" * 100_000)
    assert len(history.queries()) == 3


def test_two_screens_lose_none_of_each_other_s(tmp_path: Path) -> None:
    path = tmp_path / "sql-history.jsonl"

    def many(name: str) -> None:
        for number in range(40):
            SqlHistory(path).add(f"{name} {number}")

    threads = [threading.Thread(target=many, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(SqlHistory(path).queries()) == 80


def test_it_lives_where_this_program_lives(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    assert history_path() == tmp_path / "home" / "sql-history.jsonl"
    monkeypatch.delenv("AUTORESEARCH_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert history_path().parent.parent == tmp_path / "state"
