"""The replay bar: where in the session's time the screen is."""

from __future__ import annotations

from typing import NamedTuple

from core.replay import ReplaySource
from core.sources import Source
from tui.view.words import clock_words


class TimelineView(NamedTuple):
    """`fraction` is the shown moment's share of the session's time; `speed` is empty outside a replay."""

    sign: str
    speed: str
    fraction: float
    time: str
    event: str


def timeline_view(source: Source) -> TimelineView:
    """What the replay bar shows of a source."""
    event = f"#{source.position}"
    if isinstance(source, ReplaySource):
        sign = "▶" if source.playing else "‖"
        fraction = source.now_s / source.span_s if source.span_s > 0 else 1.0
        time = f"{clock_words(source.now_s)} of {clock_words(source.span_s)}"
        speed = f"{source.speed}x" if source.speed is not None else ""
        return TimelineView(sign, speed, min(1.0, fraction), time, f"{event} of {source.last}")
    sign = "●" if source.mode == "live" else "○"
    return TimelineView(sign, "", 1.0, clock_words(source.now_s), event)
