"""The home screen: the sessions there are, live; open, replay, resume or delete one, or start a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol

from tui.terminal import TICKS_HZ  # noqa: F401  before textual, which reads its settings at import

# isort: split
from rich.text import Text
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from core.glance import Glance
from tui.bindings import KEYS, TITLES, Where, bindings_for
from tui.cli import sentence_of
from tui.create import Asked
from tui.doctor import Row
from tui.look import look_of
from tui.palette import Role, style_of
from tui.progress import Tell
from tui.screens.ask import AskYes
from tui.screens.help import HelpScreen
from tui.screens.new_session import NewSession
from tui.shelf import Sessions
from tui.text import cut, wrap
from tui.view.form import Facts
from tui.view.home import HomeRow, Order, about_lines, chosen, delete_question, home_row
from tui.widgets.virtual_table import Cell, Column, ListRows, TableView, VirtualTable

_NEW: Final = ""
"""The key of the row that starts a session: no session has an empty id."""

_WIDE: Final = 118
_COLUMNS: Final = (
    Column("session", 12, flex=True),
    Column("", 1),
    Column("state", 11),
    Column("best", 6, align="right"),
    Column("done", 5, align="right"),
    Column("size", 6, align="right"),
    Column("made", 5),
    Column("by", 18),
)
_WIDE_COLUMNS: Final = (
    Column("session", 20, flex=True),
    Column("", 1),
    Column("state", 11),
    Column("best", 6, align="right"),
    Column("Δ", 7, align="right"),
    Column("runs", 7, align="right"),
    Column("progress", 15, align="right"),
    Column("size", 7, align="right"),
    Column("started", 16),
    Column("by", 18),
)


class HomeChoice(NamedTuple):
    """What the reader wants to do with which session; `started`: it was begun here just now."""

    session: str
    verb: Literal["attach", "replay"]
    started: bool = False


class Deeds(Protocol):
    """What can be done from here. Each may take long and is called in a thread; a failure becomes a sentence."""

    def start(self, asked: Asked, tell: Tell) -> str:
        """Make a session and start its engine; returns its id."""

    def resume(self, session: str) -> str:
        """Have an engine work on it; returns a sentence."""

    def delete(self, session: str) -> None:
        """Remove it for good."""

    def examine(self) -> Iterator[Row]:
        """What doctor finds, row by row."""


class HomeScreen(Screen[None]):
    """The list, what is chosen in full, a filter."""

    PLACE: ClassVar[Where] = "home"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)

    def __init__(self, sessions: Sessions, deeds: Deeds, at: str, order: Order) -> None:
        super().__init__()
        self._sessions, self._deeds = sessions, deeds
        self._at = at
        self.order = order
        self._needle = ""
        self._leaving: set[str] = set()
        self._version = 0
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Top to bottom."""
        yield VirtualTable(title="sessions", id="sessions", classes="pane")
        yield Static(id="notice", markup=False)
        yield Static(id="about", markup=False)
        yield Input(placeholder="filter: words of name, state, executor, researcher", id="filter", compact=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what is known at once; the rest comes as it is read."""
        self.query_one("#filter", Input).display = False
        self.query_one(VirtualTable).focus()
        self.show_sessions()
        self.run_worker(self._sessions.follow(self.show_sessions), group="sessions", exit_on_error=True)

    def on_resize(self) -> None:
        """Other columns in another width."""
        self.show_sessions()

    def notify_style_update(self) -> None:
        """Other colours in another theme."""
        super().notify_style_update()
        if self.is_mounted:
            self._shown = ()
            self.show_sessions()

    def show_sessions(self) -> None:
        """Show the list as it is now; where nothing changed this costs nothing."""
        if not self.is_mounted:
            return
        rows = [home_row(one) for one in chosen(self._sessions.glances, self._needle, self.order)]
        wide = self.size.width >= _WIDE
        problem = self._sessions.problem
        shown = (rows, wide, self.order, self._needle, problem, frozenset(self._leaving))
        if shown != self._shown:
            self._shown = shown
            self._show_rows(rows, wide=wide)
            notice = self.query_one("#notice", Static)
            notice.update(problem)
            notice.display = bool(problem)
        self._show_about()

    def _show_rows(self, rows: list[HomeRow], *, wide: bool) -> None:
        table = self.query_one(VirtualTable)
        self._version += 1
        cells = [self._new_cells(wide=wide), *(self._cells(row, wide=wide) for row in rows)]
        keys = [_NEW, *(row.session for row in rows)]
        columns = _WIDE_COLUMNS if wide else _COLUMNS
        table.show(TableView(columns, ListRows(cells, keys), version=self._version, empty=""))
        if self._at and self._at in keys:
            table.go_to(self._at)
            self._at = ""
        words = self.order.words() + (f", filter: {self._needle}" if self._needle else "")
        table.border_title = Content(f"sessions {len(rows)}" if rows else "sessions")
        table.border_subtitle = Content(words)

    def _new_cells(self, *, wide: bool) -> tuple[Cell, ...]:
        accent = style_of(Role.OBSERVED, look_of(self.app))
        blank = ("",) * ((len(_WIDE_COLUMNS) if wide else len(_COLUMNS)) - 3)
        return (Text("new session", accent), Text("+", accent), Text("enter", accent), *blank)

    def _cells(self, row: HomeRow, *, wide: bool) -> tuple[Cell, ...]:
        look = look_of(self.app)
        sign = Text("●" if row.live else "○", style_of(Role.OBSERVED if row.live else Role.MUTED, look))
        state = Text("deleting" if row.session in self._leaving else row.state, style_of(row.role, look))
        middle: tuple[str, ...] = (row.best, row.share, row.size, row.started[5:10])
        if wide:
            middle = (row.best, row.gain, row.runs, row.progress, row.size, row.started)
        return (row.name, sign, state, *middle, row.by)

    def _show_about(self) -> None:
        one = self._one()
        about = self.query_one("#about", Static)
        look = look_of(self.app)
        width = max(1, self.size.width - 2)
        text = Text()
        if one is None:
            text.append(cut("Start a session: the simulation needs no GPU and no key.", width))
        else:
            first, *others = about_lines(one)
            lines = [(words, first[1]) for words in wrap(first[0], width)]
            lines += [(cut(words, width), role) for words, role in others]
            text = Text("\n").join(Text(words, style_of(role, look)) for words, role in lines)
        if text != getattr(about, "content", None):
            about.update(text)

    def _one(self) -> Glance | None:
        """The session under the cursor."""
        key = self.query_one(VirtualTable).cursor_key
        return next((one for one in self._sessions.glances if one.session == key), None) if key else None

    def on_virtual_table_row_highlighted(self, event: VirtualTable.RowHighlighted) -> None:  # noqa: ARG002
        """Say more of the row under the cursor."""
        self._show_about()

    def on_virtual_table_row_selected(self, event: VirtualTable.RowSelected) -> None:
        """Enter or a click on a session, or on the offer of a new one."""
        if event.key == _NEW:
            self.action_new()
        else:
            self._open("attach")

    def action_new(self) -> None:
        """The form of a new session, as it was left."""
        self.app.push_screen("new")

    def action_replay(self) -> None:
        """See the session under the cursor from its start."""
        self._open("replay")

    def _open(self, verb: Literal["attach", "replay"]) -> None:
        one = self._one()
        if one is None:
            return
        if one.session in self._leaving or (one.stamp is None or (not one.stamp.size and not one.live)):
            self._tell(one.trouble or f"session {one.name} has no events: there is nothing to see", error=True)
            return
        self.app.exit(HomeChoice(one.session, verb))

    def action_resume(self) -> None:
        """Have an engine work on the session under the cursor, and open it."""
        one = self._one()
        if one is None:
            return
        self._tell(f"resuming {one.name}…")
        self._do(partial(self._deeds.resume, one.session), partial(self._resumed, one.session))

    def _resumed(self, session: str, sentence: str) -> None:
        self._tell(sentence)
        self.app.exit(HomeChoice(session, "attach", started=True))

    def action_delete(self) -> None:
        """Remove the session under the cursor, once the reader has said so twice."""
        one = self._one()
        if one is None or one.session in self._leaving:
            return
        if one.live:
            self._tell(f"An engine works on {one.name}: open it and stop it with Q before you delete it.", error=True)
            return

        def answer(yes: bool | None) -> None:
            if yes:
                self._leaving.add(one.session)
                self.show_sessions()
                self._do(partial(self._deeds.delete, one.session), partial(self._deleted, one))

        self.app.push_screen(AskYes(delete_question(one)), answer)

    def _deleted(self, one: Glance, _nothing: None) -> None:
        self._tell(f"{one.name} is deleted")

    def action_filter(self) -> None:
        """Type words; enter goes back to the list."""
        line = self.query_one("#filter", Input)
        line.display = True
        self.set_focus(line)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._needle = event.value.strip()
        self.show_sessions()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the list, with the filter as it is."""
        event.input.display = bool(event.value)
        self.set_focus(self.query_one(VirtualTable))

    def action_order(self) -> None:
        """Sort by something else."""
        self.order = self.order.next()
        self.show_sessions()

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self.order = self.order._replace(reverse=not self.order.reverse)
        self.show_sessions()

    def action_help(self) -> None:
        """All keys."""
        self.app.push_screen(HelpScreen(self, self.focused))

    def action_redraw(self) -> None:
        """Draw every cell anew, after noise on the line."""
        self.app.refresh(layout=True)

    def action_leave(self) -> None:
        """Take the filter away; where there is none, leave."""
        line = self.query_one("#filter", Input)
        if not line.display:
            self.app.exit(None)
            return
        line.value = ""
        line.display = False
        self.set_focus(self.query_one(VirtualTable))

    def _do(self, deed: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do something that takes a while in a thread; then `done`, or the sentence of its failure."""

        def work() -> None:
            try:
                result = deed()
            except Exception as error:  # noqa: BLE001  whatever it meets, the reader reads it and the screen stays
                self.app.call_from_thread(self._tell, sentence_of(error)[0], error=True)
            else:
                self.app.call_from_thread(done, result)
            self.app.call_from_thread(self.call_later, self._look_again)

        self.run_worker(work, thread=True, group="deeds", exit_on_error=False)

    async def _look_again(self) -> None:
        await self._sessions.look()
        self._leaving.clear()
        self.show_sessions()

    def _tell(self, text: str, *, error: bool = False) -> None:
        self.app.clear_notifications()
        self.app.notify(text, severity="error" if error else "information", markup=False)


class HomeApp(App[HomeChoice]):
    """Leaves with a choice or with none; `order` is then how the list was sorted.

    Args:
        sessions: what is listed.
        deeds: what can be done with them.
        facts: what a new session may be asked to use.
        at: the session that the cursor begins on; empty for the offer of a new one.
    """

    TITLE = "autoresearch-tui"
    CSS_PATH = "../app.tcss"
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (16, "-tall")]  # noqa: RUF012

    def __init__(
        self, sessions: Sessions, deeds: Deeds, facts: Facts, *, at: str = "", order: Order | None = None
    ) -> None:
        super().__init__()
        self._home = HomeScreen(sessions, deeds, at, order or Order())
        self._form = NewSession(deeds.start, deeds.examine, facts)

    @property
    def order(self) -> Order:
        """How the list is sorted."""
        return self._home.order

    def get_default_screen(self) -> Screen[None]:
        """The list."""
        return self._home

    def on_mount(self) -> None:
        """The form stays as it was left, so there is one."""
        self.install_screen(self._form, "new")

    def on_new_session_started(self, event: NewSession.Started) -> None:
        """Watch what was started."""
        self.exit(HomeChoice(event.session, "attach", started=True))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The table of keys, as commands by name: those of the screen and of each widget in it."""
        for node in (screen, *screen.query("*")):
            place = getattr(node, "PLACE", None)
            for key in KEYS:
                if place is not None and key.where == place:
                    says = key.says if node is screen else f"{TITLES[key.where]}: {key.says}"
                    call = partial(self.run_action, key.action, default_namespace=node)
                    yield SystemCommand(says[0].upper() + says[1:], key.shown, call)
