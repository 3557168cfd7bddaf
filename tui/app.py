"""The screen of one session: one tick polls the source and shows it; keys become actions and commands."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.screen import Screen

from core.bench import Delta
from core.control import EngineGone
from core.sources import LiveSource, Source
from tui.acting.commands import CommandActions, Commands
from tui.acting.copying import CopyActions
from tui.acting.forks import ForkActions, Forks
from tui.acting.moments import TimeActions
from tui.acting.orders import Orders
from tui.acting.views import ViewActions
from tui.bindings import KEYS, TITLES, Where, bindings_for, places_in
from tui.links import file_link
from tui.messages import ExperimentChosen, SourceWanted
from tui.screens.dashboard import Dashboard
from tui.screens.experiment import ExperimentScreen, LogProvider
from tui.screens.panes import Follows, PaneScreen
from tui.screens.sql import SqlAsker
from tui.terminal import Settings
from tui.view.answer import Answer
from tui.view.sql import Desk

_LISTEN_AGAIN_S: Final = 2.0
_POLL_EVENTS: Final = 2_000
_TICK_BUDGET_S: Final = 0.05
"""How long one tick may read events before the screen gets its turn."""


Answers = Callable[[], AsyncIterator[Delta]]
"""Listens to an engine until it is gone. Raises EngineGone."""


class SessionApp(TimeActions, CommandActions, ForkActions, ViewActions, CopyActions):
    """Shows one session, live or in replay.

    Args:
        source: where state and time come from.
        commands: the way to the engine; None where there is none to ask.
        logs: reads the end of an attempt's log; None where there are no logs.
        answers: listens to what the model says just now, as long as the engine works (see core.control.follow); None
            where there is none to listen to.
        forks: forks the session; None where nobody can.
        crash_log: where the traceback of a failure of this screen goes.
        ticks_hz: how often to look for news; 0 leaves ticking to the caller (tests), None to the settings.
        settings: how the person wants it to look; None: the settings of this process.
    """

    TITLE = "autoresearch-tui"
    CSS_PATH = "app.tcss"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (100, "-normal"), (180, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (12, "-tall"), (45, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = bindings_for("everywhere", "time")

    def __init__(
        self,
        source: Source,
        *,
        commands: Commands | None = None,
        logs: LogProvider | None = None,
        answers: Answers | None = None,
        forks: Forks | None = None,
        sql: SqlAsker | None = None,
        crash_log: Path | None = None,
        ticks_hz: float | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(settings)
        self.source = source
        self.live = source if isinstance(source, LiveSource) else None
        self._logs = logs
        self._answers = answers
        self._answer = Answer()
        self.sql = sql
        self.desk = Desk()
        self.commands = commands
        self.forks = forks
        self.orders = Orders()
        self._crash_log = crash_log
        self._ticks_hz = self.settings.ticks_hz if ticks_hz is None else ticks_hz
        self._catching_up = False

    def get_default_screen(self) -> Screen[None]:
        """The session at a glance."""
        return Dashboard(self._answer)

    def on_mount(self) -> None:
        """Start ticking."""
        if self._ticks_hz > 0:
            self.set_interval(1 / self._ticks_hz, self._tick_in_time)
        if self._answers is not None and self.live is not None:
            self.run_worker(self._listen(self._answers, self.live), group="answers", exit_on_error=False)
        self.call_after_refresh(self.tick)

    async def _listen(self, answers: Answers, live: LiveSource) -> None:
        """Take in what a model says; it is shown with the next tick. An engine that comes back is listened to again."""
        while True:
            if live.mode == "live" and live.state.now.model is not None:
                with contextlib.suppress(EngineGone):
                    async for piece in answers():
                        self._answer.take(piece)
            await asyncio.sleep(_LISTEN_AGAIN_S)

    def _tick_in_time(self) -> None:
        if self.terminal_follows():
            self.tick()

    def tick(self) -> None:
        """Take in what is new, within a time budget, and show it. Nothing else polls."""
        self._read()
        self.show_source()

    def _read(self) -> None:
        """Read events for as long as the budget lasts; what is left over is read as soon as the keys had their turn."""
        deadline_s = time.monotonic() + _TICK_BUDGET_S
        if self.live is not None and self.source is not self.live:
            self.live.poll(_POLL_EVENTS)
        self.source.poll(_POLL_EVENTS)
        while self.source.behind and time.monotonic() < deadline_s:
            self.source.poll(_POLL_EVENTS)
        if self.source.behind and not self._catching_up:
            self._catching_up = True
            self.set_timer(0.001, self._catch_up)

    def _catch_up(self) -> None:
        """Go on reading; what is shown on the way is left to the ticks."""
        self._catching_up = False
        self._read()
        if not self.source.behind:
            self.show_source()

    def show_source(self) -> None:
        """Project the source to the topmost screen of panes, and to what lies over it."""
        if not self.is_running:  # a last timer may fire while the screens are taken down
            return
        self.show_orders()
        for screen in reversed(self.screen_stack):
            if isinstance(screen, Follows) and screen.is_mounted:
                screen.show_source(self.source)
            if isinstance(screen, PaneScreen):
                return

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The table of keys, as commands by name: those of the app, of the screen and of each pane in it."""
        yield from self._commands_of("", self, ("everywhere", "terminal", "time"))
        if isinstance(screen, PaneScreen):
            yield from self._commands_of("", screen, ("panes",))
        focused = () if screen.focused is None else (screen.focused,)
        told: set[Where] = set()  # of several lists the one with the focus is meant
        for node in (screen, *focused, *screen.query("*")):
            for place in places_in(node):
                if place in told:
                    continue
                told.add(place)
                yield from self._commands_of(f"{TITLES[place]}: ", node, (place,))

    def _commands_of(self, prefix: str, node: DOMNode, places: tuple[Where, ...]) -> Iterable[SystemCommand]:
        for key in KEYS:
            if key.where in places:
                says = f"{prefix}{key.says}"
                call = partial(self.run_action, key.action, default_namespace=node)
                yield SystemCommand(says[0].upper() + says[1:], self.shown(key), call)

    def action_detach(self) -> None:
        """Close the screen; the engine goes on."""
        self.exit()

    def on_source_wanted(self, event: SourceWanted) -> None:  # noqa: ARG002  names the message
        """A new screen shows what there is."""
        self.show_source()

    def on_experiment_chosen(self, event: ExperimentChosen) -> None:
        """Show an experiment in full."""
        self.push_screen(ExperimentScreen(event.exp, self._logs))

    def after_command(self) -> None:
        """Look for what a command has changed."""
        self.tick()

    def _fatal_error(self) -> None:
        """In place of a traceback over the terminal: a file that holds it, and a sentence that names the file."""
        where = Text()
        if self._crash_log is not None:
            with contextlib.suppress(OSError):
                self._crash_log.parent.mkdir(parents=True, exist_ok=True)
                self._crash_log.write_text(traceback.format_exc(), encoding="utf-8")
                where = Text.assemble("; the details are in ", file_link(self._crash_log))
        said = "The screen failed", where, ". The session is not affected: attach to it again."
        self.panic(Text.assemble(*said))


def run_app(
    source: Source,
    *,
    commands: Commands | None = None,
    logs: LogProvider | None = None,
    answers: Answers | None = None,
    forks: Forks | None = None,
    sql: SqlAsker | None = None,
    crash_log: Path,
) -> int:
    """Run the screen until the reader leaves it; returns the exit code (1 where the screen itself failed)."""
    # A session's state only grows: looking through it for garbage takes a quarter of the time it takes to read it.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    app = SessionApp(source, commands=commands, logs=logs, answers=answers, forks=forks, sql=sql, crash_log=crash_log)
    app.run()
    return app.return_code or 0
