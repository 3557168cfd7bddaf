"""The form before a fork: its name, a hint, its limits; and what is brought along."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.view.fork import ForkView, ForkWish, wish_problem

_FIELDS: Final = ("name", "hint", "hours", "runs", "gpu_hours", "usd")
_LABELS: Final = ("name", "hint", "hours", "runs", "device-hours", "dollars")


class ForkForm(ModalScreen[ForkWish | None]):
    """Asks how a fork shall be; None where the reader thought better of it. Enter in any field forks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "never mind"),
        Binding("down", "app.focus_next", "next field", show=False),
        Binding("up", "app.focus_previous", "field before", show=False),
    ]

    def __init__(self, view: ForkView) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        """What is brought along, and a line for each thing that may differ."""
        view = self._view
        suggested = (view.name, "what its researcher is told first", view.hours, view.runs, view.gpu_hours, view.usd)
        with VerticalScroll(classes="ask form"):
            yield Static(view.title, classes="form-title", markup=False)
            for line in view.lines:
                yield Static(line, markup=False)
            for field, label, text in zip(_FIELDS, _LABELS, suggested, strict=True):
                if field != "usd" or view.priced:
                    with Horizontal(classes="form-line"):
                        yield Static(label, classes="form-label", markup=False)
                        yield Input(placeholder=text, id=field, compact=True, select_on_focus=False)
            yield Static("enter forks   tab next field   esc never mind", classes="form-keys", markup=False)
            yield Static("", id="problem", markup=False)

    def on_mount(self) -> None:
        """The hint is what a fork is mostly for."""
        self.query_one("#hint", Input).focus()

    def on_input_submitted(self) -> None:
        """Leave with what was asked, or say what is wrong with it."""
        said = {field.id or "": field.value.strip() for field in self.query(Input)}
        wish = ForkWish(n=self._view.n, **said)
        problem = wish_problem(wish)
        if problem:
            self.query_one("#problem", Static).update(problem)
            return
        self.dismiss(wish)
