"""Zooming and panning: from one window on the data to the next, never losing the data from sight."""

from __future__ import annotations

import math

from tui.raster.braille import Window

SMALLEST_SHARE = 1e-3
"""How far one can zoom in: the window's share of all the data."""

EDGE_SHARE = 0.25
"""So much of the window stays over the data when it is moved up or down."""


def zoomed(window: Window, factor: float, centre_x: float, full: Window) -> Window:
    """The window scaled in x by `factor` (below 1: closer) around `centre_x`, kept inside `full`.

    Only x is scaled: what y range shows the runs then in sight is for the caller to say.
    """
    whole = full.x1 - full.x0
    span = min(whole, max(whole * SMALLEST_SHARE, (window.x1 - window.x0) * factor))
    at = (centre_x - window.x0) / (window.x1 - window.x0)
    at = min(1.0, max(0.0, at)) if math.isfinite(at) else 0.5
    return _inside(window._replace(x0=centre_x - at * span, x1=centre_x + (1 - at) * span), full)


def panned(window: Window, share: float, full: Window) -> Window:
    """The window moved in x by a share of its own span, kept inside `full`."""
    shift = (window.x1 - window.x0) * share
    return _inside(window._replace(x0=window.x0 + shift, x1=window.x1 + shift), full)


def spanning(x0: float, x1: float, full: Window) -> Window:
    """The window from one x to another, not closer than one can zoom in."""
    least = (full.x1 - full.x0) * SMALLEST_SHARE
    middle, half = (x0 + x1) / 2, max(least, x1 - x0) / 2
    return _inside(full._replace(x0=middle - half, x1=middle + half), full)


def shifted(window: Window, share: float, low: float, high: float) -> Window:
    """The window moved in y by a share of its own span, as far as it still shows something between two values."""
    span = window.y1 - window.y0
    y0 = min(max(window.y0 + share * span, low - span * (1 - EDGE_SHARE)), high - span * EDGE_SHARE)
    return window._replace(y0=y0, y1=y0 + span)


def holding(window: Window, x: float, full: Window) -> Window:
    """The window itself where it shows `x`, else moved as little as needed (and a tenth more) to show it."""
    span = window.x1 - window.x0
    if x < window.x0:
        moved = window._replace(x0=x - span / 10, x1=x + span * 9 / 10)
    elif x > window.x1:
        moved = window._replace(x0=x - span * 9 / 10, x1=x + span / 10)
    else:
        return window
    return _inside(moved, full)


def _inside(window: Window, full: Window) -> Window:
    span = min(window.x1 - window.x0, full.x1 - full.x0)
    x0 = min(max(window.x0, full.x0), full.x1 - span)
    return window._replace(x0=x0, x1=x0 + span)
