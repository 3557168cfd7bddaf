"""The list of sessions: one row each, sorted and filtered as the reader chose, and the chosen one in full."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from core.glance import Glance
from tui.palette import Role
from tui.text import clean
from tui.view.words import clock_words, count_words, delta_words, score_words, size_words

FAULTS: Final = frozenset({"incomplete", "damaged", "newer", "silent", "failed"})
"""States that a reader should look into."""

_ROLES: Final[dict[str, Role]] = {
    "running": Role.OBSERVED,
    "stopping": Role.WAITING,
    "paused": Role.WAITING,
    "starting": Role.WAITING,
    "interrupted": Role.WAITING,
    "reading": Role.MUTED,
}


class HomeRow(NamedTuple):
    """A session as words. `best` is its best confirmed val_bpb, `gain` that against its baseline, `share` how much is
    done `of` its limit; without one that is the time so far.
    """

    session: str
    name: str
    live: bool
    state: str
    role: Role
    best: str
    gain: str
    share: str
    of: str
    runs: str
    size: str
    started: str
    by: str


class Order(NamedTuple):
    """What the list is sorted by, and whether the other way round than usual."""

    name: str = "started"
    reverse: bool = False

    def next(self) -> Order:
        """The next one of `ORDERS`, the usual way round."""
        names = list(ORDERS)
        return Order(names[(names.index(self.name) + 1) % len(names)])

    def words(self) -> str:
        """As the border says it."""
        return f"by {self.name}" + (", reversed" if self.reverse else "")


def _name(one: Glance) -> Any:
    return one.name.lower()


def _state(one: Glance) -> Any:
    return not one.live, state_word(one)


def _best(one: Glance) -> Any:
    return None if one.summary is None else one.summary.best.confirmed


def _progress(one: Glance) -> Any:
    done = progress(one)
    return None if done is None else -done.share


def _runs(one: Glance) -> Any:
    return None if one.summary is None else -one.summary.runs.finished


def _size(one: Glance) -> Any:
    return None if one.size is None else -one.size


def _started(one: Glance) -> Any:
    return None if one.created_unix_s is None else -one.created_unix_s


ORDERS: Final[dict[str, Callable[[Glance], Any]]] = {
    "started": _started,
    "name": _name,
    "state": _state,
    "best": _best,
    "progress": _progress,
    "runs": _runs,
    "size": _size,
}
"""What a list can be sorted by: newest, lowest and largest first; what is not known comes last."""


class Done(NamedTuple):
    """How much of a limit is used: the share (0 to 1, or more), and the limit in words."""

    share: float
    of: str


def chosen(glances: Sequence[Glance], needle: str, order: Order) -> list[Glance]:
    """The sessions that a filter leaves, sorted. Every word of `needle` must be somewhere in the row's words."""
    wanted = needle.lower().split()
    left = [one for one in glances if all(word in _haystack(one) for word in wanted)] if wanted else list(glances)
    key = ORDERS[order.name]
    known = sorted((one for one in left if key(one) is not None), key=key, reverse=order.reverse)
    return known + [one for one in left if key(one) is None]


def home_row(one: Glance) -> HomeRow:
    """One session in words, all of them clean."""
    summary, word = one.summary, state_word(one)
    best = summary.best if summary is not None else None
    gain = best.confirmed - best.baseline if best and best.confirmed is not None and best.baseline is not None else None
    done = progress(one)
    seconds = summary.seconds if summary is not None else 0.0
    role = Role.FAILED if word in FAULTS else _ROLES.get(word, Role.TEXT)
    return HomeRow(
        session=one.session,
        name=clean(one.name),
        live=one.live,
        state=word,
        role=role,
        best=score_words(best.confirmed) if best is not None else "",
        gain=delta_words(gain) if gain else "",
        share="" if done is None else f"{done.share:.0%}",
        of=clock_words(seconds) if done is None and seconds else "" if done is None else f"of {done.of}",
        runs=f"{summary.runs.finished:,}" if summary is not None and summary.runs.submitted else "",
        size=size_words(one.size),
        started=started_words(one),
        by=by_words(one),
    )


def state_word(one: Glance) -> str:
    """How a session stands: an engine that has not spoken yet is starting."""
    return "starting" if one.live and one.state == "reading" else one.state


def by_words(one: Glance) -> str:
    """Who works on it and where; that nothing of it is real comes first."""
    place = "simulated" if one.simulated else clean(one.executor)
    who = clean(one.researcher)
    return f"{place}, {who}" if place and who else place or who


def started_words(one: Glance) -> str:
    """When it was made, in the machine's own time zone."""
    if one.created_unix_s is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created_unix_s))


def progress(one: Glance) -> Done | None:
    """How much of the limit that is nearest is used; None without a limit."""
    used = limits_used(one)
    return Done(*max(used)) if used else None


def limits_used(one: Glance) -> list[tuple[float, str]]:
    """Of each limit, the share that is used and what it is."""
    used, limits = one.used, one.limits
    found = (
        (used.hours, limits.hours, f"{limits.hours or 0:.4g} h"),
        (float(used.runs), limits.runs, count_words(limits.runs or 0, "run")),
        (used.gpu_hours, limits.gpu_hours, f"{limits.gpu_hours or 0:.4g} gpu-h"),
        (used.usd, limits.usd, f"${limits.usd or 0:.4g}"),
    )
    return [(amount / most, words) for amount, most, words in found if most] if one.summary is not None else []


def about_lines(one: Glance) -> list[tuple[str, Role]]:
    """The chosen session in full: what is wrong or why it ended, its best, its limits, where it is."""
    lines: list[tuple[str, Role]] = []
    summary = one.summary
    if one.trouble:
        lines.append((_sentence(clean(one.trouble)), Role.FAILED if one.fault else Role.WAITING))
    elif summary is not None:
        phase = f", {clean(summary.phase.name)} phase" if summary.phase is not None and one.live else ""
        why = f": {clean(summary.reason)}" if summary.reason else ""
        lines.append((_sentence(f"{summary.state}{phase}{why}"), Role.TEXT))
    if summary is not None and summary.best.confirmed is not None:
        best = summary.best
        around = f" [{best.interval[0]:.4f}, {best.interval[1]:.4f}]" if best.interval is not None else ""
        what = f": {best.experiment} {clean(best.title or '')}" if best.experiment else ""
        lines.append((f"best confirmed {best.confirmed:.4f}{around} on {best.device_class}{what}", Role.TEXT))
    if summary is not None and (summary.runs.submitted or summary.seconds):
        used = ", ".join(f"{share:.0%} of {limit}" for share, limit in limits_used(one))
        runs = summary.runs
        counts = f"{count_words(runs.finished, 'run')} finished, {runs.failed:,} failed, {runs.running:,} running"
        lines.append((f"{counts}; {clock_words(summary.seconds)}" + (f"; {used}" if used else ""), Role.MUTED))
    where = f"{one.folder}" + (f", {size_words(one.size)}" if one.size else "")
    lines.append((clean(where), Role.MUTED))
    return lines


def delete_question(one: Glance) -> str:
    """What deleting costs, before it is done."""
    runs = "" if one.summary is None else f" with {count_words(one.summary.runs.finished, 'finished run')}"
    size = "" if one.size is None else f" ({size_words(one.size)})"
    return f"Delete session {clean(one.name)}{runs}{size} for good? Nothing of {clean(one.folder)} is kept."


def _haystack(one: Glance) -> str:
    words = (one.name, one.session, state_word(one), by_words(one), one.executor, started_words(one))
    return " ".join(words).lower()


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]
