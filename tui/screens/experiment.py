"""One experiment in full: what and why, its runs, their loss curves, its diff, the log of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static
from textual.worker import Worker, WorkerState

from core.patching import PatchError
from core.revisions import Revisions
from core.sources import Source
from tui.bindings import Where, bindings_for
from tui.look import look_of
from tui.palette import style_of
from tui.screens.panes import PaneScreen
from tui.screens.source import SourceScreen, ask_where_to_save
from tui.text import clean, cut
from tui.view.detail import DetailView, about_text, detail_view
from tui.view.loss import loss_view
from tui.view.targets import Subject
from tui.view.words import score_words
from tui.widgets.diff import Diff
from tui.widgets.log_tail import LogTail
from tui.widgets.loss_curve import LossCurve
from tui.widgets.virtual_table import Column, ListRows, TableView, VirtualTable

LOG_BYTES: Final = 64 * 1024
"""How much of the end of a log is read."""

LOG_EVERY_S: Final = 2.0
"""How often, in session seconds, the log of a running attempt is read again."""

LogProvider = Callable[[str, int], bytes]
"""Reads at most so many last bytes of an attempt's log. Raises OSError where there is none."""


_RUN_COLUMNS: Final = (
    Column("run", 5),
    Column("seed", 10, align="right"),
    Column("device", 16, flex=True),
    Column("status", 11),
    Column("val_bpb", 7),
    Column("time", 7, align="right"),
    Column("note", 10, flex=True),
)


class ExperimentScreen(PaneScreen):
    """Follows one experiment as the source goes on."""

    PLACE: ClassVar[Where] = "experiment"
    BINDINGS: ClassVar[list[BindingType]] = bindings_for(PLACE)
    PANES: ClassVar[dict[str, str]] = {
        "about": "about",
        "runs": "runs",
        "loss": "loss",
        "diff": "diff",
        "log": "log",
    }

    def __init__(self, exp: str, logs: LogProvider | None) -> None:
        super().__init__()
        self._exp = exp
        self._logs = logs
        self._view: DetailView | None = None
        self._attempt = ""
        self._read_at_s: float | None = None

    def compose_panes(self) -> ComposeResult:
        """Row by row; the diff is as high as the about and runs panes together."""
        with VerticalScroll(id="about"):
            yield Static(id="about-text")
        yield Diff(id="diff")
        yield VirtualTable(id="runs")
        yield LossCurve(id="loss")
        yield LogTail(id="log")

    def project(self, source: Source, *, changed: bool) -> None:
        """Project to the panes in view."""
        state = source.state
        if changed:
            view = detail_view(state, self._exp, source.now_s)
            if view is None:
                self._view = None
                self.query_one("#about-text", Static).update("At this moment the experiment is not proposed yet.")
                return
            if view != self._view:
                self._show_detail(view)
            if self.in_view("loss"):
                self.query_one(LossCurve).show(loss_view(state, self._exp))
        self._follow_log(source)

    def under_cursor(self) -> Subject | None:
        """A run of the list where that has the focus, else the experiment."""
        attempt = self.query_one(VirtualTable).cursor_key if self._active == "runs" else None
        return Subject("experiment", self._exp) if attempt is None else Subject("run", attempt.partition(".")[0])

    def action_back(self) -> None:
        """Back to the session."""
        self.dismiss()

    def copied(self) -> str:
        """What is said about the experiment, where no list or text has the focus."""
        view = self._view
        return "" if view is None else f"{view.exp}  {view.title}\n{about_text(view).plain}"

    def action_neighbour(self, by: int) -> None:
        """Show the experiment that was proposed next, or before."""
        if self._source is None:
            return
        ledger = self._source.state.ledger
        place = ledger.experiment_index.get(self._exp)
        if place is None or not 0 <= place + by < len(ledger.experiments):
            self.notify("There is no experiment further on.", markup=False)
            return
        self._exp, self._attempt, self._view = ledger.experiments[place + by].exp, "", None
        self._shown_state = None
        self.query_one(LogTail).say("no run has begun")
        self.query_one(LogTail).border_title = f"{list(self.PANES).index('log') + 1} {self.PANES['log']}"
        self.show_source(self._source)

    def action_source(self) -> None:
        """Show the whole train.py."""
        if (found := self._train_py()) is not None:
            self.app.push_screen(SourceScreen(self._exp, *found))

    def action_save(self) -> None:
        """Take the train.py home."""
        if (found := self._train_py()) is not None:
            ask_where_to_save(self, self._exp, found[1])

    def _train_py(self) -> tuple[str, str] | None:
        """The experiment's revision and its text; says so where it cannot be put together."""
        state = self._source.state if self._source is not None else None
        proposal = state.experiment(self._exp) if state is not None else None
        if state is None or proposal is None:
            return None
        try:
            return proposal.revision, Revisions(state).text(proposal.revision)
        except (KeyError, PatchError) as error:
            self.notify(clean(f"The train.py of {self._exp} cannot be put together: {error}"), markup=False)
            return None

    def on_virtual_table_row_highlighted(self, event: VirtualTable.RowHighlighted) -> None:
        """The log shown is that of the run under the cursor."""
        self._choose_attempt(event.key)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """The end of a log was read, or could not be."""
        if event.worker.group != "log":
            return
        log = self.query_one(LogTail)
        if event.state is WorkerState.SUCCESS and isinstance(event.worker.result, bytes):
            tail = event.worker.result
            log.show(tail, whole=len(tail) < LOG_BYTES)
        elif event.state is WorkerState.ERROR:
            error = event.worker.error
            missing = isinstance(error, FileNotFoundError)
            log.say("this attempt has no log" if missing else clean(f"the log cannot be read: {error}"))

    def _show_detail(self, view: DetailView) -> None:
        self._view = view
        self.query_one("#about").border_title = Content(f"1 {view.exp} {cut(view.title, 60)}")
        self.query_one("#about-text", Static).update(about_text(view))
        self.query_one(VirtualTable).show(self._runs_table(view))
        self.query_one(Diff).show(view.diff)
        if view.runs and self._attempt not in {row.attempt for row in view.runs}:
            self._choose_attempt(view.runs[-1].attempt)

    def _runs_table(self, view: DetailView) -> TableView:
        look = look_of(self.app)
        cells = [
            (
                row.run,
                str(row.seed),
                row.device,
                Text(row.status, style_of(row.role, look)),
                score_words(row.val_bpb),
                row.time,
                row.note,
            )
            for row in view.runs
        ]
        rows = ListRows(cells, [row.attempt or row.run for row in view.runs])
        return TableView(_RUN_COLUMNS, rows, version=self.next_version(), empty="no runs yet")

    def _choose_attempt(self, attempt: str) -> None:
        self._attempt = attempt
        self._read_at_s = None
        self.query_one(LogTail).border_title = f"5 log of {attempt}"

    def _follow_log(self, source: Source) -> None:
        """Read the log of the chosen attempt: once, and again while it may grow."""
        if not self._attempt or not self.in_view("log"):
            return
        if self._logs is None:
            self.query_one(LogTail).say("there are no logs with this recording")
            return
        grows = source.mode == "live" and any(run.attempt == self._attempt for run in source.state.now.runs.values())
        if self._read_at_s is None or (grows and source.now_s - self._read_at_s >= LOG_EVERY_S):
            self._read_at_s = source.now_s
            read = partial(self._logs, self._attempt, LOG_BYTES)
            self.run_worker(read, group="log", thread=True, exclusive=True, exit_on_error=False)
