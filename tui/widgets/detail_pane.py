"""One experiment beside the list of all: what and why, the verdict in words, the diff below."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui.text import cut
from tui.view.detail import DetailView, about_text
from tui.widgets.diff import Diff

_TITLE_CELLS = 48


class DetailPane(Vertical):
    """Shows an experiment as far as there is room; the experiment's own screen has its runs, losses and logs."""

    def compose(self) -> ComposeResult:
        """Words over the diff; each scrolls on its own."""
        with VerticalScroll(id="detail-words"):
            yield Static("no experiments yet", id="detail-text", markup=False)
        yield Diff(id="detail-diff")

    def on_mount(self) -> None:
        """Nothing is shown yet."""
        self._view: DetailView | None = None

    def show(self, view: DetailView | None) -> None:
        """Show another experiment, or how this one stands now; an equal view costs nothing."""
        if view == self._view:
            return
        self._view = view
        number = str(self.border_title or "").partition(" ")[0]
        if view is None:
            self.border_title = Content(f"{number} experiment")
            self.query_one("#detail-text", Static).update("no experiments yet")
            self.query_one(Diff).show([])
            return
        self.border_title = Content(f"{number} {view.exp} {cut(view.title, _TITLE_CELLS)}")
        self.query_one("#detail-text", Static).update(about_text(view))
        self.query_one(Diff).show(view.diff)
