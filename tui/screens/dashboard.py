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
from tui.view.devices import Made, devices_view
from tui.view.listing import Listing, is_header
from tui.view.model import model_line
from tui.view.targets import Subject
from tui.view.transcript import transcript_view
from tui.view.verdicts import Told, phase_words, verdicts_view
from tui.widgets.curve import Curve
from tui.widgets.detail_pane import DetailPane
from tui.widgets.device_grid import DeviceGrid, name_of
from tui.widgets.experiment_list import ExperimentList, columns
from tui.widgets.transcript import Transcript
from tui.widgets.virtual_table import TableView

_READ_ON_S: Final = 0.005
"""Between two parts of a long list that is put together: keys come first."""


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
        self._devices_made = Made()
        self._told: tuple[Told, ...] | None = None
        self._phase = ""
        self._listing = Listing()

    def compose_panes(self) -> ComposeResult:
        """Row by row: the left column is measured, the right one is thought; below, why it was judged so."""
        yield Curve(id="curve")
        yield Transcript(id="reasoning")
        yield DeviceGrid(title="2 devices", id="devices")
        yield ExperimentList(id="experiments")
        yield DetailPane(id="experiment")
        with VerticalScroll(id="verdicts"):
            yield Static(id="verdicts-text")

    def on_resize(self) -> None:
        """Side by side in three columns, devices stand below the curve; in two, beside the experiments."""
        devices, experiments = self.query_one(DeviceGrid), self.query_one(ExperimentList)
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
                devices_view(state, source.now_s, engine_alive=source.mode != "engine gone", made=self._devices_made)
            )
        if self.in_view("reasoning"):
            self._show_reasoning(source, changed=changed)
        if not changed:
            return
        if self.in_view("experiments"):
            self._show_experiments(source)
        if self.in_view("curve"):
            self._curve_view = curve_view(state, self._curve_view)
            self.query_one(Curve).show(self._curve_view)
        if self.in_view("experiment"):
            self._show_detail(source)
        if self.in_view("verdicts"):
            self._show_verdicts(verdicts_view(state))

    def under_cursor(self) -> Subject | None:
        """A row of the experiments, which may be the header of a design, or a device."""
        if self._active == "devices":
            row = self.query_one(DeviceGrid).cursor_row
            return None if row is None else Subject("device", name_of(row))
        key = self.query_one(ExperimentList).cursor_key if self._active in ("experiments", "experiment") else None
        return None if key is None else Subject("design" if is_header(key) else "experiment", key)

    def on_curve_run_selected(self, event: Curve.RunSelected) -> None:
        """From a point of the curve to its experiment."""
        if self._curve_view is not None:
            facts = self._curve_view.facts
            self.post_message(ExperimentChosen(facts.exps[facts.runs.index(event.run)]))

    def on_experiment_list_wished(self) -> None:
        """Another order, filter or grouping shows at once."""
        if self._source is not None and self.in_view("experiments"):
            self._show_experiments(self._source)
            self.on_virtual_table_row_highlighted()

    def on_virtual_table_row_highlighted(self) -> None:
        """What stands beside the list is the experiment under its cursor."""
        if self.in_view("experiment") and self._source is not None:
            self._show_detail(self._source)

    def on_device_grid_device_selected(self, event: DeviceGrid.DeviceSelected) -> None:
        """From a device to the experiment that it works on."""
        if event.exp:
            self.post_message(ExperimentChosen(event.exp))

    def _show_experiments(self, source: Source) -> None:
        """The experiments as wished; the border says how."""
        pane = self.query_one(ExperimentList)
        rows = self._listing.show(source.state, pane.wish, source.now_s, look=look_of(self.app))
        count = len(source.state.ledger.experiments)
        empty = "no experiment fits the filter" if count else "no experiments yet"
        pane.show(TableView(columns(count), rows, version=self._listing.version, empty=empty))
        pane.show_fitting(self._listing.fitting(pane.wish))
        name = f"{list(self.PANES).index('experiments') + 1} {self.PANES['experiments']}"
        title = Content(" · ".join(filter(None, (name, self._listing.title(pane.wish)))))
        if pane.border_title != title:
            pane.border_title = title
        if self._listing.behind and not pane.wish.plain:
            self.set_timer(_READ_ON_S, self.on_experiment_list_wished)

    def _show_detail(self, source: Source) -> None:
        """The experiment under the list's cursor; over a design's header the last one stays."""
        exp = self.query_one(ExperimentList).cursor_key
        if exp is None or not is_header(exp):
            self.query_one(DetailPane).show(None if exp is None else detail_view(source.state, exp, source.now_s))

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
            self.query_one(Transcript).set_foot(Content(line))

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
