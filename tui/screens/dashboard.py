"""The session at a glance: the val_bpb curve, the devices, the reasoning, the experiments, the last verdicts."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from core.model_summary import model_summary
from core.sources import Source
from tui.look import look_of
from tui.messages import ExperimentChosen
from tui.palette import Look, style_of
from tui.screens.panes import PaneScreen
from tui.view.answer import Answer, tail_blocks
from tui.view.curve import CurveView, curve_view
from tui.view.detail import detail_view
from tui.view.devices import devices_view
from tui.view.experiments import ExperimentTable
from tui.view.model import model_line
from tui.view.transcript import transcript_view
from tui.view.verdicts import Told, phase_words, verdicts_view
from tui.widgets.curve import Curve
from tui.widgets.detail_pane import DetailPane
from tui.widgets.device_grid import DeviceGrid
from tui.widgets.transcript import Transcript
from tui.widgets.virtual_table import Column, TableView, VirtualTable

_COLUMNS: Final = (
    Column("#", 5, align="right"),
    Column("", 1),
    Column("val_bpb", 9),
    Column("Δ", 7, align="right"),
    Column("runs", 4, align="right"),
    Column("what", 12, flex=True),
)


class Dashboard(PaneScreen):
    """The first screen of a session.

    Args:
        answer: what the model says just now; None where there is nobody to listen to.
    """

    PANES: ClassVar[dict[str, str]] = {
        "curve": "val_bpb",
        "devices": "devices",
        "reasoning": "reasoning",
        "experiments": "experiments",
        "verdicts": "verdicts",
        "experiment": "experiment",
    }
    WIDE_ONLY: ClassVar[frozenset[str]] = frozenset({"experiment"})

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__()
        self._answer = answer
        self._model_line = ""
        self._curve_view: CurveView | None = None
        self._told: tuple[Told, ...] | None = None
        self._phase = ""

    def compose_panes(self) -> ComposeResult:
        """Row by row: the left column is measured, the right one is thought; below, why it was judged so."""
        yield Curve(id="curve")
        yield Transcript(id="reasoning")
        yield DeviceGrid(title="2 devices", id="devices")
        yield VirtualTable(id="experiments")
        yield DetailPane(id="experiment")
        with VerticalScroll(id="verdicts"):
            yield Static(id="verdicts-text")

    def on_resize(self) -> None:
        """Side by side in three columns, devices stand below the curve; in two, beside the experiments."""
        devices, experiments = self.query_one(DeviceGrid), self.query_one(VirtualTable)
        order = [child for child in self.query_one("#panes").children if child in (devices, experiments)]
        if self.wide != (order[0] is experiments):
            first, second = (experiments, devices) if self.wide else (devices, experiments)
            self.query_one("#panes").move_child(first, before=second)
        super().on_resize()

    def project(self, source: Source, *, changed: bool) -> None:
        """Project to the panes in view."""
        state = source.state
        if self.in_view("devices"):
            self.query_one(DeviceGrid).show(
                devices_view(state, source.now_s, engine_alive=source.mode != "engine gone")
            )
        if self.in_view("reasoning"):
            self._show_reasoning(source, changed=changed)
        if not changed:
            return
        if self.in_view("curve"):
            self._curve_view = curve_view(state, self._curve_view)
            self.query_one(Curve).show(self._curve_view)
        if self.in_view("experiments"):
            rows = ExperimentTable(state)
            view = TableView(_COLUMNS, rows, version=self.next_version(), empty="no experiments yet")
            self.query_one(VirtualTable).show(view)
        if self.in_view("experiment"):
            exp = self.query_one(VirtualTable).cursor_key
            self.query_one(DetailPane).show(None if exp is None else detail_view(state, exp, source.now_s))
        if self.in_view("verdicts"):
            self._show_verdicts(verdicts_view(state))

    def on_curve_run_selected(self, event: Curve.RunSelected) -> None:
        """From a point of the curve to its experiment."""
        if self._curve_view is not None:
            facts = self._curve_view.facts
            self.post_message(ExperimentChosen(facts.exps[facts.runs.index(event.run)]))

    def on_virtual_table_row_selected(self, event: VirtualTable.RowSelected) -> None:
        """From a row of the list to its experiment."""
        self.post_message(ExperimentChosen(event.key))

    def on_virtual_table_row_highlighted(self, event: VirtualTable.RowHighlighted) -> None:
        """What stands beside the list is the experiment under its cursor."""
        if self.in_view("experiment") and self._source is not None:
            state, now_s = self._source.state, self._source.now_s
            self.query_one(DetailPane).show(detail_view(state, event.key, now_s))

    def on_device_grid_device_selected(self, event: DeviceGrid.DeviceSelected) -> None:
        """From a device to the experiment that it works on."""
        if event.exp:
            self.post_message(ExperimentChosen(event.exp))

    def _show_reasoning(self, source: Source, *, changed: bool) -> None:
        """What was said; and just now, even where nothing was recorded, what is being said or waited for."""
        state = source.state
        if state.now.model is None and not changed:
            return
        alive = source.mode != "engine gone"
        tail = tail_blocks(state, source.now_s, self._answer if source.mode == "live" else None) if alive else ()
        self.query_one(Transcript).show(transcript_view(state, tail))
        self._show_phase(phase_words(state))
        model = model_summary(state, source.now_s, engine_alive=alive)
        line = "" if model is None else model_line(model)
        if line != self._model_line:
            self._model_line = line
            self.query_one(Transcript).border_subtitle = Content(line)

    def _show_phase(self, phase: str) -> None:
        """Name the phase in the border of the reasoning."""
        if phase != self._phase:
            self._phase = phase
            self.query_one(Transcript).border_title = Content(f"3 reasoning · {phase}" if phase else "3 reasoning")

    def _show_verdicts(self, told: tuple[Told, ...]) -> None:
        if told != self._told:
            self._told = told
            look = look_of(self.app)
            self.query_one("#verdicts-text", Static).update(verdicts_text(told, look=look))


def verdicts_text(told: tuple[Told, ...], *, look: Look) -> Text:
    """Each thing on a line of its own, wrapped where it must."""
    if not told:
        return Text("no verdicts yet")
    lines = [Text.assemble((f"{one.sign} {one.head}", style_of(one.role, look)), f": {one.words}") for one in told]
    return Text("\n").join(lines)
