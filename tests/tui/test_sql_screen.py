"""The SQL console as its readers use it: stories told with keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from core.replay import ReplaySource
from core.session import SessionFolder
from core.sources import LiveSource, Source
from core.sql_console import Moment, SqlConsole
from core.sql_history import SqlHistory
from core.sql_questions import QUESTIONS
from tests.support.asking import Asker
from tests.support.story import session, write_journal
from tui.app import SessionApp
from tui.bindings import KEYS
from tui.screens.dashboard import Dashboard
from tui.screens.experiment import ExperimentScreen
from tui.screens.row import RowScreen
from tui.screens.sql import SqlAsker, SqlScreen
from tui.widgets.sql_editor import SqlEditor

WIDE, NARROW = (120, 40), (80, 24)
EVENTS = session(experiments=12, ended=True)
END = len(EVENTS)


@pytest.fixture(autouse=True)
def _fast_pilot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pilot's waits between keys are long; what a story needs it waits for itself."""
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
    monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.001)


@contextlib.asynccontextmanager
async def console(
    folder: Path,
    asker: SqlAsker | None,
    *,
    alive: bool = True,
    source: Source | None = None,
    size: tuple[int, int] = WIDE,
) -> AsyncIterator[tuple[SessionApp, Pilot[None]]]:
    """The session's screen with the console open, and its first question answered where it can be."""
    if source is None:
        source = LiveSource(write_journal(folder / "journal", EVENTS), lambda: alive, clock=lambda: 0.0)
    app = SessionApp(source, sql=asker, ticks_hz=0)
    async with app.run_test(size=size, notifications=True) as pilot:
        app.tick()
        while app.source.behind:
            app.tick()
        await press(pilot, "s")
        yield app, pilot


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def typed(pilot: Pilot[None], text: str) -> None:
    """Replace the query."""
    editor = editor_of(pilot.app)
    editor.focus()
    editor.put("")
    await pilot.pause()
    editor.insert(text)
    await pilot.pause()


def editor_of(app) -> SqlEditor:
    return app.screen.query_one(SqlEditor)


def text_of(app) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def reads(pilot: Pilot[None], *words: str) -> None:
    """Wait until all these words stand on the screen."""
    for _ in range(500):
        if all(word in text_of(pilot.app) for word in words):
            return
        await pilot.pause(0.01)
    shown = text_of(pilot.app)
    for word in words:
        assert word in shown


async def test_s_opens_the_console_with_a_useful_answer(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "select place", "deeper: DEPTH 8 → 9", f"3 rows as of event #{END}", "Took 0.2 s.")
        await reads(pilot, "3 tables", "leaderboard", "view", "4 questions", "failures by cause", "5 answers")
        assert asker.asked == [(QUESTIONS[0].sql, Moment(END, live=True))]
        assert isinstance(app.focused, SqlEditor)
        await press(pilot, "escape", "escape")
        assert isinstance(app.screen, Dashboard)
        await press(pilot, "s")
        await reads(pilot, "deeper: DEPTH 8 → 9")
        assert len(asker.asked) == 1, "what lay on the desk still does"


@pytest.mark.parametrize("keys", [("f5",), ("ctrl+r",), ("ctrl+j",), ("semicolon", "enter")])
async def test_a_query_runs_by_any_of_the_keys_that_terminals_deliver(tmp_path: Path, keys: tuple[str, ...]) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (_, pilot):
        await typed(pilot, "from messages")
        await press(pilot, *keys)
        await reads(pilot, "nothing left to try")
        assert asker.asked[-1][0].startswith("from messages")


async def test_enter_within_a_query_is_a_new_line_and_letters_are_letters(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await typed(pilot, "from runs")
        await press(pilot, "enter", *"qswyYvzp1", "space", "at", "question_mark")
        assert editor_of(app).text == "from runs\nqswyYvzp1 @?"
        assert isinstance(app.screen, SqlScreen)
        assert len(asker.asked) == 1


async def test_errors_stand_in_place_and_the_answer_before_stays(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (_, pilot):
        await reads(pilot, "deeper")
        asker.fails = "SQL error at line 1, column 1: syntax error at or near [bold]\x1b[31m"
        await press(pilot, "f5")
        await reads(pilot, "SQL error at line 1, column 1: syntax error at or near [bold].", "deeper")
        await typed(pilot, "   ")
        await press(pilot, "f5")
        await reads(pilot, "There is no query to run")


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_query_under_way_is_stopped_and_typing_goes_on_meanwhile(tmp_path: Path, key: str) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "deeper")
        asker.hold = True
        await press(pilot, "f5")
        await reads(pilot, "The query is running; esc stops it.")
        await press(pilot, *"abc")
        assert editor_of(app).text.endswith("abc")
        await press(pilot, key)
        await reads(pilot, "Stopped.")
        assert asker.stopped == 1
        assert isinstance(app.screen, SqlScreen)
        asker.hold = False
        await press(pilot, "f5")
        await reads(pilot, "Took 0.2 s.")


async def test_a_second_query_takes_the_place_of_the_one_under_way(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (_, pilot):
        await reads(pilot, "deeper")
        asker.hold = True
        await press(pilot, "f5")
        asker.hold = False
        await typed(pilot, "from messages")
        await press(pilot, "f5")
        await reads(pilot, "nothing left to try", "Took")
        assert asker.stopped == 1


async def test_leaving_the_screen_stops_what_is_under_way(tmp_path: Path) -> None:
    asker = Asker()
    asker.hold = True
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "The query is running")
        app.screen.dismiss()
        await pilot.pause()
        assert isinstance(app.screen, Dashboard)
        for _ in range(100):
            if asker.stopped:
                break
            await pilot.pause(0.01)
        assert asker.stopped == 1


async def test_history_comes_back_with_the_arrows_and_the_draft_after_it(tmp_path: Path) -> None:
    asker = Asker()
    asker.past = ["from old", "from older\nwhere x"]
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "deeper")
        await typed(pilot, "my draft")
        seen = []
        for key in ("ctrl+up", "alt+up", "up", "ctrl+up", "ctrl+down", "ctrl+down", "ctrl+down", "down"):
            await press(pilot, key)
            seen.append(editor_of(app).text)
        first, *_ = QUESTIONS
        assert seen == [
            first.sql,
            "from older\nwhere x",
            "from old",
            "from old",
            "from older\nwhere x",
            first.sql,
            "my draft",
            "my draft",
        ]


async def test_a_row_leads_to_its_experiment_or_opens_in_full(tmp_path: Path) -> None:
    async with console(tmp_path, Asker()) as (app, pilot):
        await reads(pilot, "deeper")
        await press(pilot, "escape", "down", "v")
        assert isinstance(app.screen, RowScreen)
        await reads(pilot, "row 2 of 3", "a wider", "model")
        await press(pilot, "escape", "enter")
        assert isinstance(app.screen, ExperimentScreen)
        await reads(pilot, "1 e2")
        await press(pilot, "s")
        assert isinstance(app.screen, SqlScreen)
        await typed(pilot, "from runs")
        await press(pilot, "f5")
        await reads(pilot, "r99999")
        await press(pilot, "escape", "enter")
        assert isinstance(app.screen, ExperimentScreen), "a run leads to its experiment"
        await press(pilot, "escape", "down", "enter")
        assert isinstance(app.screen, RowScreen), "a run that is not known leads nowhere"


async def test_a_row_s_moment_moves_the_time_of_the_screen(tmp_path: Path) -> None:
    async with console(tmp_path, Asker()) as (app, pilot):
        await typed(pilot, "from messages")
        await press(pilot, "f5")
        await reads(pilot, "nothing left")
        await press(pilot, "escape", "at")
        assert isinstance(app.source, ReplaySource)
        assert app.source.position == 40
        await reads(pilot, f"#40 of {END}")
        await typed(pilot, "from runs")
        await press(pilot, "f5")
        await reads(pilot, "r99999", "as of event #40")
        await press(pilot, "escape", "at")
        assert app.source.now_s == pytest.approx(min(420.0, app.source.span_s))


async def test_answers_are_pinned_to_their_moments(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "deeper")
        await press(pilot, "escape", "H", "H")
        then = app.source.position
        assert 0 < then < END
        await typed(pilot, "from messages")
        await press(pilot, "f5")
        await reads(pilot, "nothing left", f"as of event #{then}")
        assert asker.asked[-1][1] == Moment(then, live=False)
        await press(pilot, "escape", "5", "down", "enter")
        await reads(pilot, "deeper", f"as of event #{END}")
        assert editor_of(app).text == QUESTIONS[0].sql
        assert len(asker.asked) == 2, "an answer is shown again, not asked again"
        await press(pilot, "5", "at")
        assert app.source.position == END
        await press(pilot, "up", "at")
        assert app.source.position == then


async def test_a_question_from_the_list_is_asked(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "deeper")
        await press(pilot, "escape", "4", "down", "down", "enter")
        assert asker.asked[-1][0] == QUESTIONS[2].sql == editor_of(app).text
        assert app.focused.id == "answer"


async def test_names_of_tables_and_columns_go_into_the_query(tmp_path: Path) -> None:
    async with console(tmp_path, Asker()) as (app, pilot):
        await reads(pilot, "leaderboard")
        await typed(pilot, "from ")
        await press(pilot, "escape", "3", "down", "down", "enter")
        await reads(pilot, "one revision, one seed")
        await press(pilot, "l", "down", "down", "enter")
        await reads(pilot, "val_bpb", "validation bits per byte")
        assert editor_of(app).text == "from runs val_bpb "
        await press(pilot, "h")
        assert "validation bits" not in text_of(app)


async def test_saving_asks_for_a_name_and_says_where_it_went(tmp_path: Path) -> None:
    asker = Asker()
    async with console(tmp_path, asker) as (app, pilot):
        await reads(pilot, "deeper")
        await press(pilot, "escape", "w")
        assert app.screen.query_one(Input).value == "mar5-sql-1.csv"
        asker.hold = True
        await press(pilot, "enter")
        await reads(pilot, "All rows are being fetched; esc stops it.")
        asker.go.set()
        await reads(pilot, "Saved 25,000 rows to mar5-sql-1.csv (48.1 kB).")
        assert asker.saved == [(QUESTIONS[0].sql, END, Path("mar5-sql-1.csv"))]
        asker.fails = "the folder /nowhere does not exist"
        await press(pilot, "w", "enter")
        await reads(pilot, "The folder /nowhere does not exist.")
        await press(pilot, "w", "escape")
        assert len(asker.saved) == 1


async def test_a_file_is_written_over_only_after_a_yes(tmp_path: Path) -> None:
    asker = Asker()
    asker.taken = {"mar5-sql-1.csv"}
    async with console(tmp_path, asker) as (_, pilot):
        await reads(pilot, "deeper")
        await press(pilot, "escape", "w", "enter")
        await reads(pilot, "mar5-sql-1.csv exists. Write over it?")
        await press(pilot, "n")
        assert asker.saved == []
        await press(pilot, "w", "enter")
        await reads(pilot, "Write over it?")
        await press(pilot, "y")
        await reads(pilot, "Saved 25,000 rows")


async def test_rows_are_copied_as_harmless_text(tmp_path: Path) -> None:
    async with console(tmp_path, Asker()) as (app, pilot):
        await typed(pilot, "from messages")
        await press(pilot, "f5")
        await reads(pilot, "nothing left")
        await press(pilot, "escape", "down", "y")
        assert app.clipboard == "12\t\tred [bold]not markup[/]"
        await reads(pilot, "Copied 1 row.")
        await press(pilot, "Y")
        assert app.clipboard == "n\tt_s\tcontent\n40\t300.5\tnothing left to try\n12\t\tred [bold]not markup[/]"


async def test_what_must_be_known_of_an_answer_stands_beside_it(tmp_path: Path) -> None:
    asker = Asker()
    asker.notices = ["the engine does not answer: this is what it published last"]
    asker.truncated = True
    async with console(tmp_path, asker) as (_, pilot):
        await reads(pilot, "The engine does not", "w saves all of them", "the first 3 rows as of")


async def test_a_recording_without_a_database_says_so(tmp_path: Path) -> None:
    async with console(tmp_path, None) as (app, pilot):
        await reads(pilot, "There is no database with this recording.")
        await press(pilot, "escape", "w", "y", "v", "at", "up")
        assert isinstance(app.screen, SqlScreen)


async def test_a_narrow_terminal_shows_the_query_over_its_answer_and_the_lists_in_turn(tmp_path: Path) -> None:
    async with console(tmp_path, Asker(), size=NARROW) as (app, pilot):
        await reads(pilot, "[1 query]", "select place", "deeper")
        assert "4 questions ──" not in text_of(app)
        await press(pilot, "escape", "4")
        await reads(pilot, "[4 questions]", "failures by cause")
        assert "select place" not in text_of(app)
        await press(pilot, "3", "enter")
        await reads(pilot, "[1 query]", "leaderboard")
        await press(pilot, "escape", "z")
        await reads(pilot, "deeper")
        assert "select place" not in text_of(app)
        await press(pilot, "z", "1")
        await reads(pilot, "deeper", "select")
        for size in ((20, 5), (60, 11), (200, 60), NARROW):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await reads(pilot, "[1 query]", "deeper")


async def test_every_action_is_in_the_palette(tmp_path: Path) -> None:
    async with console(tmp_path, Asker()) as (app, pilot):
        await reads(pilot, "deeper")
        offered = [command.title for command in app.get_system_commands(app.screen)]
        for key in KEYS:
            if key.where in ("sql", "query", "schema"):
                assert any(title.endswith(key.says) for title in offered)
        assert len(offered) == len(set(offered))


async def test_a_real_session_is_asked_as_of_where_its_replay_stands(tmp_path: Path) -> None:
    """The real console, its processes and its files, under the real screen."""
    folder = tmp_path / "mar5"
    write_journal(folder / "journal", EVENTS)
    asker = SqlConsole(SessionFolder(folder), SqlHistory(tmp_path / "history.jsonl"))
    source = ReplaySource(folder / "journal", clock=lambda: 0.0)
    source.history.extend(10_000)
    source.seek_event(100)
    with contextlib.closing(asker):
        async with console(folder, asker, source=source) as (app, pilot):
            await reads(pilot, "rows as of event #100", "best_so_far  ")
            await typed(pilot, "select max(n) as newest, max(last_n) as told from messages, sessions;")
            await press(pilot, "enter")
            await reads(pilot, "1 row as of event #100")
            assert app.desk.shown.table.rows[0][1] == 100
            assert app.desk.shown.table.rows[0][0] <= 100
            assert len(app.desk.tables) > 15
    assert await asyncio.to_thread(SqlHistory(tmp_path / "history.jsonl").queries)
