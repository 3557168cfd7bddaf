"""Training-loss curves of one experiment's runs, laid over the incumbent's."""

from __future__ import annotations

from textual.strip import Strip

from tui.raster.chart import draw_chart
from tui.terminal import CharsetName
from tui.view.loss import LossView, loss_chart, loss_legend
from tui.widgets.lines import LineWidget, strip_of


class LossCurve(LineWidget):
    """`show(LossView)` draws loss against the share of the budget; each curve ends in its legend's number."""

    def __init__(
        self,
        *,
        title: str = "training loss",
        charset: CharsetName | None = None,
        id: str | None = None,  # noqa: A002
        classes: str | None = None,
    ) -> None:
        super().__init__(charset=charset, id=id, classes=classes, title=title)
        self._view = LossView()

    def show(self, view: LossView) -> None:
        """Show one experiment's curves; an equal view costs nothing."""
        if view != self._view:
            self._view = view
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        self.set_legend(loss_legend(self._view))
        raster = draw_chart(loss_chart(self._view), width, height, self.charset)
        look = self.look
        return [strip_of(raster.spans(y), look=look) for y in range(height)]
