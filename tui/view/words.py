"""How numbers read on every screen: session time, scores, differences, counts."""

from __future__ import annotations

from collections.abc import Mapping

from core.idle import Cause
from core.summary import EarlyStops

MINUS = "−"


def clock_words(seconds: float) -> str:
    """Session time as h:mm:ss (or m:ss below an hour)."""
    whole = int(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest_s = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest_s:02d}" if hours else f"{minutes}:{rest_s:02d}"


def age_words(seconds: float) -> str:
    """How long ago, coarsely, so that it seldom changes: `now`, `12m`, `3h`, `2d`."""
    minutes = int(max(0.0, seconds)) // 60
    if minutes < 60:
        return f"{minutes}m" if minutes else "now"
    return f"{minutes // 60}h" if minutes < 48 * 60 else f"{minutes // 1440}d"


def score_words(val_bpb: float | None) -> str:
    """A val_bpb with the four digits that noise leaves meaning to, or nothing."""
    return "" if val_bpb is None else f"{val_bpb:.4f}"


def delta_words(delta: float | None) -> str:
    """A signed difference in bits per byte, with a real minus sign, or nothing."""
    if delta is None:
        return ""
    return f"{MINUS if delta < 0 else '+'}{abs(delta):.4f}"


def count_words(count: int, thing: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def size_words(size: int | None) -> str:
    """Bytes on a disk as `812 kB`, `4.1 MB`, `1.2 GB`; nothing where they are not known."""
    if size is None:
        return ""
    number, unit = size / 1e3, "kB"
    for larger in ("MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1e3, larger
    return f"{number:.1f} {unit}" if unit != "kB" and number < 9.95 else f"{number:.0f} {unit}"


def resolution_words(resolution: int) -> str:
    """`resolution IV`: by custom of the field in Roman numerals."""
    numerals = ("0", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
    return f"resolution {numerals[resolution] if 0 <= resolution < len(numerals) else resolution}"


def stop_words(stops: EarlyStops, *, brief: bool = False) -> str:
    """`40 stopped early, 3.1 device-hours saved; of 6 spared, 0 worth pursuing (at most 39%)`; empty without any.

    In `brief`: `40 stopped early, 0 of 6 spared worth pursuing`.
    """
    if not stops.stopped and not stops.spared:
        return ""
    if brief:
        tested = f", {stops.false:,} of {stops.spared:,} spared worth pursuing" if stops.spared else ""
        return f"{stops.stopped:,} stopped early{tested}"
    saved = f"{stops.stopped:,} stopped early, {stops.saved_gpu_hours:.1f} device-hours saved"
    if not stops.spared:
        return saved
    return f"{saved}; of {stops.spared:,} spared, {stops.false:,} worth pursuing (at most {stops.upper95:.0%})"


def idle_words(idle_s: Mapping[Cause, float], device_s: float, *, most: int = 11) -> str:
    """Why devices did not train, as `12% idle: 9% start-up, 3% pending`; empty where they always did.

    Args:
        idle_s: device-seconds by cause; device_s: all device-seconds.
        most: how many causes are named, the longest first; less than half a percent is not named.
    """
    share = sum(idle_s.values()) / device_s if device_s > 0 else 0.0
    if share < 0.005:
        return ""
    named = sorted(idle_s.items(), key=lambda item: -item[1])[:most]
    causes = [f"{seconds / device_s:.0%} {cause}" for cause, seconds in named if seconds / device_s >= 0.005]
    return f"{share:.0%} idle" + (f": {', '.join(causes)}" if causes else "")
