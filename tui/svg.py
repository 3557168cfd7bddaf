"""Step plots as SVG files, written by hand: panels over one set of lines, bands for their uncertainty, a legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tui.raster.ticks import labels, robust_range, ticks
from tui.text import clean

WIDTH: Final = 760
PANEL_HEIGHT: Final = 320
_LEFT: Final = 72
_TOP: Final = 16
_X_END: Final = WIDTH - 24
_Y_END: Final = PANEL_HEIGHT - 48
_LEGEND_LINE: Final = 20
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")
"""Told apart by colour-blind readers too. Source: Okabe & Ito 2008, Color Universal Design (without its yellow)."""
_DASHES: Final = ("", "8 3", "2 3", "8 3 2 3")
"""Lines differ by more than their colour."""
_TICKS: Final = 6


class Line(NamedTuple):
    """Values that hold each from its `x` on, the last up to `end`; `low` and `high` bound them, None where unknown."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None]
    high: Sequence[float | None]
    end: float


class Panel(NamedTuple):
    """One plot: what its x axis is, and a line per label of the figure."""

    x_title: str
    lines: Sequence[Line]


class _Scale(NamedTuple):
    """Where values lie in a panel, in pixels."""

    most: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """From the left edge of the figure."""
        return round(_LEFT + (_X_END - _LEFT) * value / self.most, 2)

    def y(self, value: float) -> float:
        """From the top of the panel; what is out of range lies on its edge."""
        inside = min(max(value, self.low), self.high)
        return round(_TOP + (_Y_END - _TOP) * (self.high - inside) / (self.high - self.low), 2)


def step_plot(title: str, description: str, y_title: str, names: Sequence[str], panels: Sequence[Panel]) -> str:
    """The text of a figure whose panels share the range of y.

    Args:
        title, description: what a screen reader says; the title is drawn too.
        names: of the lines, the same in each panel.
    """
    legend_px = _TOP + 24 + _LEGEND_LINE * len(names)
    height = legend_px + PANEL_HEIGHT * len(panels)
    lines = [line for panel in panels for line in panel.lines]
    bounds = [bound for line in lines for bound in (*line.low, *line.high) if bound is not None]
    span = robust_range(bounds, [value for line in lines for value in line.y])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"',
        ' role="img" aria-labelledby="title description" font-family="sans-serif" font-size="12">\n',
        f'<title id="title">{_text(title)}</title>\n<desc id="description">{_text(description)}</desc>\n',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n',
        f'<text x="{_LEFT}" y="{_TOP + 8}" font-size="14" font-weight="bold">{_text(title)}</text>\n',
    ]
    for index, name in enumerate(names):
        y = _TOP + 28 + _LEGEND_LINE * index
        parts.append(f'<path d="M{_LEFT} {y - 4}h28" {_stroke(index)}/>')
        parts.append(f'<text x="{_LEFT + 36}" y="{y}">{_text(name)}</text>\n')
    for index, panel in enumerate(panels):
        scale = _Scale(max((line.end for line in panel.lines), default=0.0) or 1.0, *span)
        parts.append(f'<g transform="translate(0 {legend_px + PANEL_HEIGHT * index})">\n')
        parts += [*_axes(scale, panel.x_title, y_title), *_drawn(panel.lines, scale), "</g>\n"]
    return "".join([*parts, "</svg>\n"])


def _axes(scale: _Scale, x_title: str, y_title: str) -> Iterator[str]:
    marks = ticks(scale.low, scale.high, _TICKS)
    for mark, name in zip(marks, labels(marks), strict=True):
        yield f'<path d="M{_LEFT} {scale.y(mark)}H{_X_END}" stroke="#dddddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{scale.y(mark) + 4:.2f}" text-anchor="end">{name}</text>\n'
    marks = ticks(0.0, scale.most, _TICKS + 3)
    for mark, name in zip(marks, labels(marks), strict=True):
        yield f'<path d="M{scale.x(mark)} {_Y_END}v5" stroke="#444444"/>'
        yield f'<text x="{scale.x(mark)}" y="{_Y_END + 18}" text-anchor="middle">{name}</text>\n'
    yield f'<path d="M{_LEFT} {_TOP}V{_Y_END}H{_X_END}" fill="none" stroke="#444444"/>\n'
    yield f'<text x="{(_LEFT + _X_END) / 2}" y="{_Y_END + 38}" text-anchor="middle">{_text(x_title)}</text>\n'
    turned = f'transform="translate(16 {(_TOP + _Y_END) / 2}) rotate(-90)"'
    yield f'<text {turned} text-anchor="middle">{_text(y_title)}</text>\n'


def _drawn(lines: Sequence[Line], scale: _Scale) -> Iterator[str]:
    """Bands first, so that they hide no line."""
    for index, line in enumerate(lines):
        for left, right, low, high in zip(line.x, [*line.x[1:], line.end], line.low, line.high, strict=False):
            if low is not None and high is not None and right > left:
                corner = f'x="{scale.x(left)}" y="{scale.y(high)}"'
                size = f'width="{scale.x(right) - scale.x(left):.2f}" height="{scale.y(low) - scale.y(high):.2f}"'
                yield f'<rect {corner} {size} fill="{_COLOURS[index % len(_COLOURS)]}" fill-opacity="0.12"/>\n'
    for index, line in enumerate(lines):
        if line.x:
            steps = "".join(f"H{scale.x(x)}V{scale.y(y)}" for x, y in zip(line.x[1:], line.y[1:], strict=True))
            start = f"M{scale.x(line.x[0])} {scale.y(line.y[0])}"
            yield f'<path d="{start}{steps}H{scale.x(line.end)}" {_stroke(index)}/>\n'


def _stroke(index: int) -> str:
    dash = _DASHES[index % len(_DASHES)]
    pattern = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{_COLOURS[index % len(_COLOURS)]}" stroke-width="2"{pattern}'


def _text(words: str) -> str:
    return escape(clean(words))
