"""What a person is told before a session is forked from the moment on show."""

from __future__ import annotations

from typing import NamedTuple

from core.sources import Source
from tui.text import clean
from tui.view.words import clock_words, count_words


class ForkView(NamedTuple):
    """The moment, what is brought along in sentences, and what the fields suggest: its parent's name and limits.

    `priced` says whether a model may cost money there.
    """

    n: int
    title: str
    lines: tuple[str, ...]
    name: str
    hours: str
    runs: str
    gpu_hours: str
    usd: str
    priced: bool


def fork_view(source: Source) -> ForkView | None:
    """What forking a source at its moment means; None before anything has happened."""
    state = source.state
    started, counts = state.now.started, len(state.ledger.runs)
    if started is None:
        return None
    flying, limits = len(state.in_flight), started.limits
    verdicts = count_words(len(state.ledger.verdicts), "verdict")
    lines = [f"{count_words(counts, 'run')} and {verdicts} are copied; the session on show goes on as it is."]
    if flying:
        lines.append(f"{count_words(flying, 'run')} in flight: cancelled in the copy, and queued there again.")
    lines.append("Limits count from this moment; where none is given they are those of this session.")
    return ForkView(
        n=source.position,
        title=f"Fork {clean(started.name)} at {clock_words(state.now.t_s)}, event {source.position}",
        lines=tuple(lines),
        name=f"{clean(started.name).removesuffix('-fork')}-fork",
        hours=_amount(limits.hours),
        runs=_amount(limits.runs),
        gpu_hours=_amount(limits.gpu_hours),
        usd=_amount(limits.usd),
        priced=started.researcher == "claude",
    )


class ForkWish(NamedTuple):
    """What was asked of a fork; empty where nothing was said."""

    n: int
    name: str = ""
    hint: str = ""
    hours: str = ""
    runs: str = ""
    gpu_hours: str = ""
    usd: str = ""


def wish_problem(wish: ForkWish) -> str:
    """What is wrong with the numbers of a wish, in a sentence; empty where nothing is."""
    for what, text in (("hours", wish.hours), ("device-hours", wish.gpu_hours), ("dollars", wish.usd)):
        if text and not _is_positive(text):
            return f"{clean(text)[:20]!r} is no number of {what}: write 4 or 0.5"
    if wish.runs and not (wish.runs.isascii() and wish.runs.isdecimal() and int(wish.runs) > 0):
        return f"{clean(wish.runs)[:20]!r} is no number of runs: write 200"
    return ""


def _is_positive(text: str) -> bool:
    try:
        return 0.0 < float(text) < 1e8
    except ValueError:
        return False


def _amount(limit: float | None) -> str:
    return "none" if limit is None else f"{limit:.4g}"
