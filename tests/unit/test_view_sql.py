"""The SQL console's view: widths, moments, what a row points at, what is copied and kept."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.reduce import fold
from core.sql import Table
from tests.support.story import session
from tui.palette import Role
from tui.view.sql import (
    COPY_BYTES,
    AnswerRows,
    Desk,
    Here,
    answer_columns,
    answers_rows,
    experiment_of,
    here_of,
    row_words,
    size_words,
    tab_separated,
    title_words,
)
from tui.view.sql_tables import coloured, listed, tables_of


def table(columns: str, *rows: list, **more) -> Table:
    names = columns.split()
    return Table(names, ["VARCHAR"] * len(names), list(rows), **more)


# ---- columns ----------------------------------------------------------------------------------------------------


def test_numbers_stand_right_and_are_never_cut_texts_give_way():
    answer = Table(
        ["place", "title", "mean_bpb", "d"],
        ["BIGINT", "VARCHAR", "DOUBLE", "DECIMAL(9,2)"],
        [[1, "x" * 90, 0.97361512, 1.5]],
    )
    wide = answer_columns(answer, 200)
    assert [column.right for column in wide] == [True, False, True, True]
    assert [column.width for column in wide] == [5, 48, 10, 4]
    assert [column.flex for column in wide] == [False, True, False, False]
    tight = answer_columns(answer, 40)
    assert [column.width for column in tight] == [5, 18, 10, 4]
    assert [column.width for column in answer_columns(answer, 10)] == [5, 14, 10, 4]


@given(
    names=st.lists(st.text(max_size=70), min_size=1, max_size=6),
    values=st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=90)), min_size=6, max_size=6),
    room=st.integers(0, 200),
)
def test_any_answer_can_be_shown(names, values, room):
    answer = Table(names, ["VARCHAR"] * len(names), [values[: len(names)]])
    columns = answer_columns(answer, room)
    assert all(4 <= column.width <= 48 for column in columns)
    assert sum(column.flex for column in columns) == 1
    shown = "".join([*AnswerRows(answer).row(0), *(column.title for column in columns)])
    assert not [char for char in shown if unicodedata.category(char)[0] == "C"]


# ---- rows -------------------------------------------------------------------------------------------------------


def test_a_row_leads_to_the_experiment_that_it_names_or_whose_run_it_names():
    state = fold(session(experiments=5))
    run = state.ledger.runs[3]
    assert experiment_of(table("run_id experiment_id", [run.run, "e2"]), [run.run, "e2"], state) == "e2"
    assert experiment_of(table("place who", [1, "e3"]), [1, "e3"], state) == "e3"
    assert experiment_of(table("attempt_id", [run.attempt]), [run.attempt], state) == run.exp
    assert experiment_of(table("run_id", ["r9999"]), ["r9999"], state) is None
    assert experiment_of(table("a b", ["every", None]), ["every", None], state) is None


@pytest.mark.parametrize(
    ("columns", "row", "here"),
    [
        ("n t_s content", [40, 12.5, "x"], Here("event", 40)),
        ("last_n", [7], Here("event", 7)),
        ("place n mean_bpb", [1, 3, 0.98], None),
        ("experiment_id ended_t_s", ["e1", 100.5], Here("second", 100.5)),
        ("started_t_s ended_t_s", [None, 100.5], Here("second", 100.5)),
        ("budget_s wall_s", [300.0, 310.0], None),
        ("n sd t_s", [None, 1.0, None], None),
    ],
)
def test_a_row_names_a_moment_by_its_event_or_its_session_second(columns, row, here):
    assert here_of(table(columns, row), row) == here


def test_a_row_in_full_keeps_its_lines_and_nothing_that_drives_a_terminal():
    row = ["+ a\n  - b\x1b[2J", None, 0.5]
    assert list(row_words(table("patch x y", row), row)) == [
        ("patch", ["+ a", "  - b"]),
        ("x", ["NULL"]),
        ("y", ["0.5"]),
    ]


def test_what_is_copied_is_bounded_and_says_how_much_it_is():
    rows = [["a\tb\nc", None, 1]] * 3
    assert tab_separated(table("x y z", *rows), [0], head=False) == ("a b c\t\t1", 1)
    assert tab_separated(table("x y z", *rows), range(3), head=True)[0].splitlines()[0] == "x\ty\tz"
    many = [["x" * 1000]] * 100
    text, copied = tab_separated(table("x", *many), range(100), head=True)
    assert copied < 100
    assert COPY_BYTES - 1100 < len(text) <= COPY_BYTES


# ---- the desk ---------------------------------------------------------------------------------------------------


def test_answers_are_kept_newest_first_and_the_oldest_go_when_they_get_too_large():
    desk = Desk()
    first = desk.pin("select 1", table("a", [1], n=9, t_s=61.0, size_bytes=10), 0.1)
    desk.pin("select\n2", table("a", [1], [2], n=12, t_s=3700.0, truncated=True, size_bytes=10), 0.1)
    cells, keys = answers_rows(desk)
    assert cells == [("> 1:01:40", "#12", "2+", "select 2"), ("  1:01", "#9", "1", "select 1")]
    assert desk.answer(keys[1]) is first
    assert title_words(desk.answers[1]) == "answer · the first 2 rows as of event #12, 1:01:40"
    desk.pin("from large", table("a", size_bytes=2**26), 0.1)
    assert [one.sql for one in desk.answers] == ["from large"], "one that is too large alone is shown all the same"
    for number in range(70):
        desk.pin(f"select {number}", table("a", size_bytes=1), 0.1)
    assert len(desk.answers) == 50
    assert desk.answers[-1].number == desk.asked == 73


@pytest.mark.parametrize(
    ("size", "words"), [(1, "1 byte"), (812, "812 bytes"), (48_123, "48.1 kB"), (12_000_000, "12.0 MB")]
)
def test_sizes_in_words(size, words):
    assert size_words(size) == words


# ---- tables and queries -----------------------------------------------------------------------------------------


def test_tables_unfold_into_their_columns():
    answer = table(
        "t c k m v tm",
        ["best", "n", "BIGINT", None, True, "a view"],
        ["runs", "run_id", "VARCHAR", None, False, "runs"],
        ["runs", "val_bpb", "DOUBLE", "lower is better", False, "runs"],
    )
    tables = tables_of(answer)
    assert [(one.name, one.is_view, len(one.columns)) for one in tables] == [("best", True, 1), ("runs", False, 2)]
    assert [line.key for line in listed(tables, frozenset())] == ["best", "runs"]
    lines = listed(tables, frozenset({"runs"}))
    assert [(line.key, line.name, line.comment) for line in lines] == [
        ("best", "best", "a view"),
        ("runs", "runs", "runs"),
        ("runs.run_id", "run_id", ""),
        ("runs.val_bpb", "val_bpb", "lower is better"),
    ]


def test_keywords_texts_numbers_and_comments_stand_out():
    line = "SELECT selection, 'it''s 1', 2.5 from runs -- where"
    parts = [(line[start:end], role) for start, end, role in coloured(line)]
    assert parts == [
        ("SELECT", Role.KEPT),
        ("'it''s 1'", Role.OBSERVED),
        ("2.5", Role.CONFIRMED),
        ("from", Role.KEPT),
        ("-- where", Role.MUTED),
    ]
    assert list(coloured("'never closed")) == [(0, 13, Role.OBSERVED)]


@given(st.text(max_size=80))
def test_any_line_can_be_coloured(line):
    spans = list(coloured(line))
    assert all(0 <= start < end <= len(line) for start, end, _ in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
