"""The SQL console: a query, its answer pinned to a moment, the tables there are, questions, the answers so far."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static, TextArea

from core.sources import Source
from core.sql_console import Answered, FileTaken, Moment, Saved, Say
from core.sql_questions import QUESTIONS
from tui.bindings import Where, bindings_for
from tui.look import look_of
from tui.messages import ExperimentChosen, MomentWanted
from tui.palette import Role, style_of
from tui.screens.ask import AskText, AskYes
from tui.screens.panes import PaneScreen
from tui.screens.row import RowScreen
from tui.text import clean
from tui.view.sql import (
    AnswerRows,
    Desk,
    Pinned,
    answer_columns,
    answered_words,
    answers_rows,
    experiment_of,
    here_of,
    row_words,
    size_words,
    tab_separated,
    title_words,
)
from tui.view.sql_tables import TABLES_SQL, tables_of
from tui.view.words import count_words
from tui.widgets.schema_list import SchemaList
from tui.widgets.sql_editor import SqlEditor
from tui.widgets.virtual_table import Column, ListRows, TableView, VirtualTable

_TOGETHER: Final = ("query", "answer")
"""Panes that are seen together."""

_QUESTION_COLUMNS: Final = (Column("enter asks", 20, flex=True),)
_ANSWER_COLUMNS: Final = (
    Column("time", 9),
    Column("event", 7, align="right"),
    Column("rows", 6, align="right"),
    Column("query", 10, flex=True),
)


class SqlAsker(Protocol):
    """Asks the session's database, and knows what this person asked before. See core.sql_console."""

    async def ask(self, sql: str, moment: Moment, say: Say) -> Answered:
        """Answer a query as of a moment. Raises SqlError."""

    async def save(self, sql: str, n: int, path: Path, say: Say, *, overwrite: bool = False) -> Saved:
        """Save all rows of a query as of event `n`. Raises FileTaken, SqlError."""

    def history(self) -> list[str]:
        """The person's queries, oldest first."""

    def remember(self, sql: str) -> None:
        """Add a query to them."""

    def file_name(self) -> str:
        """A name that an answer can be saved under."""


class SqlScreen(PaneScreen):
    """Asks as of the moment that the screen shows: of a live session the newest, of a replay what was known then.

    Args:
        asker: None where there is no database to ask.
        desk: what is kept between two visits.
    """

    PLACE: ClassVar[Where] = "sql"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)
    PANES: ClassVar[dict[str, str]] = {
        "query": "query",
        "answer": "answer",
        "tables": "tables",
        "questions": "questions",
        "answers": "answers",
    }

    def __init__(self, asker: SqlAsker | None, desk: Desk) -> None:
        super().__init__()
        self._asker = asker
        self._desk = desk
        self._begun = False
        self._under_way = 0
        """Counts what was begun; 0 where nothing is under way."""
        self._begins = 0
        self._fitted = (0, 0)
        self._past: list[str] = []
        self._past_at: int | None = None
        self._unsent = ""

    def compose_panes(self) -> ComposeResult:
        """The query over its answer; beside them, where there is room, what to ask of and what was asked."""
        with Vertical(id="asking"):
            yield SqlEditor(self._desk.draft, id="query")
            yield Static(id="said", markup=False)
            yield VirtualTable(id="answer")
        with Vertical(id="side"):
            yield SchemaList(id="tables")
            yield VirtualTable(id="questions")
            yield VirtualTable(id="answers")

    def on_mount(self) -> None:
        """Lay out what the desk holds."""
        super().on_mount()
        questions = ListRows([(question.asks,) for question in QUESTIONS])
        self._list("questions").show(TableView(_QUESTION_COLUMNS, questions, version=1))
        self.query_one(SchemaList).show_tables(self._desk.tables)
        editor = self.query_one(SqlEditor)
        editor.move_cursor(editor.document.end)
        self._show_answers()
        if self._desk.shown is not None:
            self._show_answer(self._desk.shown)
        else:
            self._list("answer").show(TableView(empty="f5 runs the query"))

    def project(self, source: Source, *, changed: bool) -> None:  # noqa: ARG002
        """Fit the answer into its room; and the first time, ask what the console begins with."""
        if self._desk.shown is not None:
            self._show_answer(self._desk.shown)
        if not self._begun and not source.behind:
            self._begun = True
            if not self._desk.asked:
                self.action_run()

    # ---- asking -------------------------------------------------------------------------------------------------

    def action_run(self) -> None:
        """Ask; what is under way is stopped."""
        sql = self.query_one(SqlEditor).text.strip()
        if not sql:
            self._say("There is no query to run: write one, or choose a question.", Role.WAITING)
        elif self._asker is None:
            self._say("There is no database with this recording.", Role.FAILED)
        elif self._source is not None:
            self._past_at = None
            moment = Moment(self._source.position, self._source.mode == "live")
            self._asker.remember(sql)
            self.run_worker(self._ask(self._asker, sql, moment), group="sql", exclusive=True, exit_on_error=False)

    async def _ask(self, asker: SqlAsker, sql: str, moment: Moment) -> None:
        begun = self._begin()
        try:
            answer = await asker.ask(sql, moment, self._pending)
            self._desk.pin(sql, answer.table, answer.took_s)
            self._end(begun)
            self._show_pinned()
            if not self._desk.tables:
                self._desk.tables = tables_of((await asker.ask(TABLES_SQL, moment, _silently)).table)
                self.query_one(SchemaList).show_tables(self._desk.tables)
        except Exception as error:  # noqa: BLE001  whatever a query meets, the reader reads it and the screen stays
            self._failed(begun, error)
        finally:
            self._end(begun)

    def action_cancel(self) -> None:
        """Stop what is under way."""
        if self._under_way:
            self._under_way = 0
            self.workers.cancel_group(self, "sql")
            self._say("Stopped.", Role.WAITING)

    def action_back(self) -> None:
        """Stop what is under way; else to the answer; from there, to the session."""
        if self._under_way:
            self.action_cancel()
        elif self._active != "answer":
            self._activate("answer")
        else:
            self.dismiss()

    def on_sql_editor_submitted(self) -> None:
        """A statement that ends in a semicolon is complete."""
        self.action_run()

    def on_sql_editor_copy_asked(self) -> None:
        """ctrl+c with nothing to copy."""
        self.action_cancel()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep what is being written for the next visit."""
        self._desk.draft = event.text_area.text

    def on_sql_editor_walked(self, event: SqlEditor.Walked) -> None:
        """Show another query of this person's; past the newest, what was being written."""
        editor = self.query_one(SqlEditor)
        if self._past_at is None:
            self._past = self._asker.history() if self._asker is not None else []
            if self._past and self._past[-1] == editor.text.strip():
                self._past.pop()
            self._past_at, self._unsent = len(self._past), editor.text
        self._past_at = min(len(self._past), max(0, self._past_at + event.direction))
        unsent = self._past_at == len(self._past)
        editor.put(self._unsent if unsent else self._past[self._past_at], at_start=event.direction < 0)
        if unsent:
            self._past_at = None

    # ---- the answer ---------------------------------------------------------------------------------------------

    def on_virtual_table_row_selected(self, event: VirtualTable.RowSelected) -> None:
        """From a row to its experiment; from a name into the query; from a question or an answer to itself."""
        match event.table.id:
            case "answer":
                self._open_row(int(event.key))
            case "tables":
                line = self.query_one(SchemaList).line(event.key)
                if line is not None:
                    self.query_one(SqlEditor).insert(f"{line.name} ")
                    if not self.in_view("query"):
                        self._activate("query")
            case "questions":
                self.query_one(SqlEditor).put(QUESTIONS[int(event.key)].sql)
                self.action_run()
                self._activate("answer")
            case _:
                self._desk.shown = self._desk.answer(event.key) or self._desk.shown
                self._show_pinned()
                if self._desk.shown is not None:
                    self.query_one(SqlEditor).put(self._desk.shown.sql)
                self._activate("answer")

    def action_row(self) -> None:
        """The row under the cursor with all of its text."""
        if (found := self._cursor_row()) is not None:
            pinned, index = found
            title = f"row {index + 1:,} of {len(pinned.table.rows):,}"
            self.app.push_screen(RowScreen(title, list(row_words(pinned.table, pinned.table.rows[index]))))

    def action_moment(self) -> None:
        """Move the screen's time to what the row names, else to the moment of the answer."""
        pinned = self._desk.shown
        if self._active == "answers":
            pinned = self._desk.answer(self._list("answers").cursor_key or "") or pinned
        if pinned is None:
            return
        found = self._cursor_row() if self._active != "answers" else None
        here = here_of(pinned.table, pinned.table.rows[found[1]]) if found is not None else None
        if here is None:
            self.post_message(MomentWanted(pinned.table.n))
        elif here.kind == "event":
            self.post_message(MomentWanted(int(here.at)))
        else:
            self.post_message(MomentWanted(None, here.at))

    def action_copy(self, everything: bool) -> None:
        """Copy the row under the cursor, or all rows under their headings."""
        if (found := self._cursor_row()) is None:
            self._say("There is no row to copy.", Role.WAITING)
            return
        table, index = found[0].table, found[1]
        rows = range(len(table.rows)) if everything else [index]
        text, copied = tab_separated(table, rows, head=everything)
        self.app.copy_to_clipboard(text)
        more = f" of {len(rows):,}: a terminal takes no more, w saves all" if copied < len(rows) else ""
        self._say(f"Copied {count_words(copied, 'row')}{more}.", Role.MUTED)

    def _open_row(self, index: int) -> None:
        pinned = self._desk.shown
        if pinned is None or self._source is None:
            return
        exp = experiment_of(pinned.table, pinned.table.rows[index], self._source.state)
        if exp is not None:
            self.post_message(ExperimentChosen(exp))
        else:
            self.action_row()

    def _cursor_row(self) -> tuple[Pinned, int] | None:
        key = self._list("answer").cursor_key
        return (self._desk.shown, int(key)) if self._desk.shown is not None and key is not None else None

    # ---- saving -------------------------------------------------------------------------------------------------

    def action_save(self) -> None:
        """Save all rows of the answer on show to a file."""
        pinned, asker = self._desk.shown, self._asker
        if pinned is None or asker is None:
            self._say("There is no answer to save.", Role.WAITING)
            return

        def named(name: str | None) -> None:
            if name:
                self._save(asker, pinned, Path(name), overwrite=False)

        question = "Save all rows as (a name that ends in .csv, .parquet or .json)"
        self.app.push_screen(AskText(question, asker.file_name()), named)

    def _save(self, asker: SqlAsker, pinned: Pinned, path: Path, *, overwrite: bool) -> None:
        work = self._saving(asker, pinned, path, overwrite=overwrite)
        self.run_worker(work, group="sql", exclusive=True, exit_on_error=False)

    async def _saving(self, asker: SqlAsker, pinned: Pinned, path: Path, *, overwrite: bool) -> None:
        begun = self._begin()
        try:
            saved = await asker.save(pinned.sql, pinned.table.n, path, self._pending, overwrite=overwrite)
            size = size_words(saved.size_bytes)
            self._say(f"Saved {count_words(saved.rows, 'row')} to {clean(str(saved.path))} ({size}).", Role.OBSERVED)
        except FileTaken as taken:
            self._say("", Role.MUTED)

            def answered(yes: bool | None) -> None:
                if yes:
                    self._save(asker, pinned, path, overwrite=True)

            self.app.push_screen(AskYes(f"{clean(str(taken))}. Write over it?"), answered)
        except Exception as error:  # noqa: BLE001  as above
            self._failed(begun, error)
        finally:
            self._end(begun)

    # ---- showing ------------------------------------------------------------------------------------------------

    def _show_pinned(self) -> None:
        """Show the desk's answer as a new one."""
        pinned = self._desk.shown
        if pinned is not None:
            self._show_answer(pinned)
            self._list("answer").action_top()
            self._say(answered_words(pinned), Role.MUTED)
        self._show_answers()

    def _show_answer(self, pinned: Pinned) -> None:
        table = self._list("answer")
        room = table.container_size.width - 1
        if self._fitted == (pinned.number, room):
            return
        self._fitted = pinned.number, room
        columns = tuple(
            Column(column.title, column.width, column.flex, "right" if column.right else "left")
            for column in answer_columns(pinned.table, room)
        )
        table.show(TableView(columns, AnswerRows(pinned.table), version=pinned.number, empty="no rows"))
        table.border_title = Content(f"2 {title_words(pinned)}")

    def _show_answers(self) -> None:
        cells, keys = answers_rows(self._desk)
        version = (self._desk.asked, len(keys), self._desk.shown and self._desk.shown.number)
        self._list("answers").show(TableView(_ANSWER_COLUMNS, ListRows(cells, keys), version=version, empty="none yet"))

    def _list(self, pane: Literal["answer", "questions", "answers"]) -> VirtualTable:
        return self.query_one(f"#{pane}", VirtualTable)

    def in_view(self, pane: str) -> bool:
        """The query and its answer have room together in any terminal, unless one of them has it all."""
        return (pane in _TOGETHER and self.has_class("-together")) or super().in_view(pane)

    def _mark_active(self) -> None:
        self._arrange()
        super()._mark_active()

    def _arrange(self) -> None:
        together = self._active in _TOGETHER
        self.set_class(not together, "-side")
        self.set_class(together and not self.has_class("-zoomed"), "-together")
        super()._arrange()

    def _begin(self) -> int:
        self._begins += 1
        self._under_way = self._begins
        return self._begins

    def _failed(self, begun: int, error: Exception) -> None:
        """Say why; but an error of what was stopped or left behind is nobody's concern."""
        if self._under_way == begun:
            words = clean(str(error)) or type(error).__name__
            self._say(f"{words[0].upper()}{words[1:]}.", Role.FAILED)

    def _end(self, begun: int) -> None:
        """What was begun is over, unless something else was begun meanwhile."""
        if self._under_way == begun:
            self._under_way = 0

    def _pending(self, words: str) -> None:
        if self._under_way:
            self._say(f"{words}; esc stops it.", Role.WAITING)

    def _say(self, words: str, role: Role) -> None:
        if not self.is_mounted:  # what was under way may end after the reader has left
            return
        said = self.query_one("#said", Static)
        said.update(Text(words, style_of(role, look_of(self.app))))
        said.display = bool(words)


def _silently(words: str) -> None:
    """Nobody need know."""
