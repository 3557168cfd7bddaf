"""The home screen: start a simulated session, or open one of those there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, NamedTuple

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Footer

from tui.bindings import bindings_for
from tui.look import LookApp, look_of
from tui.palette import Role, style_of
from tui.terminal import Settings
from tui.view.words import count_words, score_words
from tui.widgets.virtual_table import Column, ListRows, TableView, VirtualTable


class HomeRow(NamedTuple):
    """One session of the list. `state` is its status in a word, `best` its best confirmed val_bpb."""

    session: str
    name: str
    state: str
    live: bool
    runs: int
    best: float | None
    created: str


class HomeChoice(NamedTuple):
    """What the reader wants to do with which session."""

    session: str
    verb: Literal["start", "attach", "replay"]


_NEW: Final = ""
"""The key of the row that starts a session: no session has an empty id."""

_COLUMNS: Final = (
    Column("session", 12, flex=True),
    Column("", 1),
    Column("state", 19),
    Column("runs", 10, align="right"),
    Column("best", 7, align="right"),
    Column("started", 16),
)


class HomeApp(LookApp[HomeChoice]):
    """Lists sessions, newest first, below the offer of a new one; leaves with a choice or with none.

    Args:
        rows: the sessions.
        offer: what Enter starts: its devices and how long it simulates, in words.
        settings: how the person wants it to look; None: the settings of this process.
    """

    CSS_PATH = "../app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for("home")

    def __init__(self, rows: Sequence[HomeRow], offer: tuple[str, str], settings: Settings | None = None) -> None:
        super().__init__(settings)
        self._rows, self._offer = rows, offer

    def compose(self) -> ComposeResult:
        """The list."""
        yield VirtualTable(title="sessions", id="sessions", classes="pane")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Fill the list."""
        table = self.query_one(VirtualTable)
        look = look_of(self)
        accent = style_of(Role.OBSERVED, look)
        gpus, hours = self._offer
        new = (Text(f"new: {gpus}", accent), Text("+", accent), "simulated", hours, "", "enter starts it")
        cells = [
            (
                row.name,
                Text("●" if row.live else "○", style_of(Role.OBSERVED if row.live else Role.MUTED, look)),
                row.state,
                count_words(row.runs, "run"),
                score_words(row.best),
                row.created,
            )
            for row in self._rows
        ]
        rows = ListRows([new, *cells], [_NEW, *(row.session for row in self._rows)])
        table.show(TableView(_COLUMNS, rows, version=1, empty=""))
        table.border_subtitle = "enter starts or opens"
        table.focus()

    def on_virtual_table_row_selected(self, event: VirtualTable.RowSelected) -> None:
        """Enter or a click on a session, or on the offer of a new one."""
        self.exit(HomeChoice(event.key, "start" if event.key == _NEW else "attach"))

    def action_replay(self) -> None:
        """Leave with the session under the cursor, to see it from its start."""
        key = self.query_one(VirtualTable).cursor_key
        if key:
            self.exit(HomeChoice(key, "replay"))
