"""How numbers read on every screen: session time, scores, differences, counts."""

from __future__ import annotations

MINUS = "−"


def clock_words(seconds: float) -> str:
    """Session time as h:mm:ss (or m:ss below an hour)."""
    whole = int(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, rest_s = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{rest_s:02d}" if hours else f"{minutes}:{rest_s:02d}"


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
