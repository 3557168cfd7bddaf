"""The home screen: the sessions there are, live; open, replay, resume or delete one, or start a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol

from rich.text import Text
from textual.app import ComposeResult, SystemCommand
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widgets import Footer, Static

from core.glance import Glance
from tui.bindings import KEYS, TITLES, Where, bindings_for, places_in
from tui.cli import sentence_of
from tui.create import Asked
from tui.doctor import Row
from tui.look import LookApp, charset_of, look_of
from tui.palette import style_of
from tui.progress import Tell
from tui.screens.ask import AskYes
from tui.screens.help import HelpScreen
from tui.screens.new_session import NewSession
from tui.shelf import Sessions
from tui.terminal import Settings
from tui.text import cut, wrap
from tui.view.form import Facts
from tui.view.home import HomeRow, Order, about_lines, chosen, delete_question, home_row
from tui.widgets.session_list import NEW, SessionList
from tui.widgets.virtual_table import VirtualTable

_GATHER_S: Final = 0.1


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
        self._leaving: set[str] = set()
        self._shown: tuple[object, ...] = ()
        self._rows: dict[str, tuple[Glance, HomeRow]] = {}
        self._due = False

    def compose(self) -> ComposeResult:
        """Top to bottom."""
        yield SessionList(id="sessions")
        yield Static(id="notice", markup=False)
        yield Static(id="about", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Show what is known at once; the rest comes as it is read."""
        self.query_one(SessionList).focus()
        self.show_sessions()
        self.run_worker(self._sessions.follow(self._news), group="sessions", exit_on_error=True)

    def on_resize(self) -> None:
        """Lines are cut to another width."""
        self.show_sessions()

    def notify_style_update(self) -> None:
        """Other colours in another theme."""
        super().notify_style_update()
        if self.is_mounted:
            self._shown = ()
            self.show_sessions()

    def _news(self) -> None:
        """Show what is new together with what comes right behind it: a list that is filled has news by the hundred."""
        if not self._due:
            self._due = True
            self.set_timer(_GATHER_S, self._show_news)

    def _show_news(self) -> None:
        self._due = False
        self.show_sessions()

    def _row(self, one: Glance) -> HomeRow:
        """A session in words; they hold as long as nothing is known anew."""
        known = self._rows.get(one.session)
        if known is None or known[0] is not one:
            self._rows[one.session] = known = (one, home_row(one))
        return known[1]

    def show_sessions(self) -> None:
        """Show the list as it is now; where nothing changed this costs nothing."""
        if not self.is_mounted:
            return
        table = self.query_one(SessionList)
        rows = [self._row(one) for one in chosen(self._sessions.glances, table.needle, self.order)]
        problem, leaving, look = self._sessions.problem, frozenset(self._leaving), look_of(self.app)
        shown = (rows, self.order, problem, leaving, look)
        if shown != self._shown:
            self._shown = shown
            table.show_rows(rows, leaving, self.order, look, plain=charset_of(self.app) == "ascii")
            if any(row.session == self._at for row in rows):
                table.go_to(self._at)
                self._at = ""
            notice = self.query_one("#notice", Static)
            notice.update(problem)
            notice.display = bool(problem)
        self._show_about()

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
        key = self.query_one(SessionList).cursor_key
        return next((one for one in self._sessions.glances if one.session == key), None) if key else None

    def on_virtual_table_row_highlighted(self, event: VirtualTable.RowHighlighted) -> None:  # noqa: ARG002
        """Say more of the row under the cursor."""
        self._show_about()

    def on_virtual_table_row_selected(self, event: VirtualTable.RowSelected) -> None:
        """Enter or a click on a session, or on the offer of a new one."""
        if event.key == NEW:
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
        table = self.query_one(SessionList)
        table.focus()
        table.open_line(table.needle)

    def on_session_list_filtered(self) -> None:
        """Filter while it is typed."""
        self.show_sessions()

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

    def action_leave(self) -> None:
        """Take the filter away; where there is none, leave."""
        table = self.query_one(SessionList)
        if table.needle:
            table.line_changed("")
            table.draw_foot()
        else:
            self.app.exit(None)

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


class HomeApp(LookApp[HomeChoice]):
    """Leaves with a choice or with none; `order` is then how the list was sorted.

    Args:
        sessions: what is listed.
        deeds: what can be done with them.
        facts: what a new session may be asked to use.
        at: the session that the cursor begins on; empty for the offer of a new one.
        order: how the list is sorted at first.
        settings: how the person wants it to look; None: the settings of this process.
    """

    TITLE = "autoresearch-tui"
    CSS_PATH = "../app.tcss"
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (16, "-tall")]  # noqa: RUF012

    def __init__(
        self,
        sessions: Sessions,
        deeds: Deeds,
        facts: Facts,
        *,
        at: str = "",
        order: Order | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(settings)
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
        """The table of keys, as commands by name: those of the screen, of the terminal and of the widgets."""
        nodes: list[tuple[DOMNode, list[Where]]] = [(screen, places_in(screen)), (self, ["terminal"])]
        nodes += [(node, places_in(node)) for node in screen.query("*")]
        for node, places in nodes:
            for key in KEYS:
                if key.where in places:
                    says = key.says if node in (screen, self) else f"{TITLES[key.where]}: {key.says}"
                    call = partial(self.run_action, key.action, default_namespace=node)
                    yield SystemCommand(says[0].upper() + says[1:], self.shown(key), call)
