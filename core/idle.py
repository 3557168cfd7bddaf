"""Why devices do not train: puts every device-second of a session down to a use or to a cause, from its events."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

import msgspec

if TYPE_CHECKING:
    from core.events import RunFinished, RunProgress, RunStarted
    from core.state import Run, SessionState

Cause = Literal[
    "empty queue",
    "researcher thinking",
    "model away",
    "no fitting run",
    "research ended",
    "limit",
    "paused",
    "stopping",
    "drained",
    "down",
    "pending",
    "image",
    "start-up",
]
"""Why a device-second went neither into training nor into scoring.

`empty queue`: nothing waits while other runs are under way. `researcher thinking`: nothing waits while a model is being
asked, or nothing waits and nothing runs, so only the researcher can go on. `model away`: nothing waits because the API
fails, declines, or is not to be paid any more. `no fitting run`: what waits is pinned to other device classes.
`research ended`: the researcher has nothing left. `drained`: a person keeps new runs from the device. `pending`: a run
is on its way to the device, and has not started; `Run.waiting` may say why. `image`: the same, and its image could not
be fetched. `start-up`: the run has started and does not train yet.
"""

Use = Cause | Literal["training", "scoring"]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)

_MS: Final = 1000
_LONGEST_S: Final = 1e12
"""Times beyond this are cut: a journal may hold any number, and the reducer refuses none."""


class Spell(NamedTuple):
    """A stretch of one device's time, put down to one use. Session milliseconds."""

    device: str
    device_class: str
    use: Use
    from_ms: int
    to_ms: int


class Place(msgspec.Struct, omit_defaults=True):
    """What a device does at present, and since when. Of an attempt, as far as its events tell."""

    cls: str
    since_ms: int
    kind: Literal["free", "drained", "down", "run"]
    attempt: str = ""
    started_ms: int | None = None
    trains_ms: int | None = None
    scores_ms: int | None = None


class Book(msgspec.Struct, omit_defaults=True):
    """All that an `IdleFold` knows; whole milliseconds, so that sums are exact.

    `t_ms` is where it has got to, `spent_ms` sums what is settled, `free` counts the free devices of a class.
    """

    t_ms: int = 0
    spent_ms: dict[Use, int] = {}
    places: dict[str, Place] = {}
    free: dict[str, int] = {}


def cause_now(state: SessionState, cls: str) -> Cause:
    """Why a device of a class that is there, not drained and has no run has none."""
    now = state.now
    if now.stop or now.ended is not None:
        return "stopping"
    if now.paused:
        return "paused"
    if now.limits_hit:
        return "limit"
    if None in state.queued or cls in state.queued:
        return "pending"
    if state.queued:
        return "no fitting run"
    if now.research_ended is not None:
        return "research ended"
    if now.model is not None and now.model.status is not None and now.model.status.status not in ("working", "waiting"):
        return "model away"
    thinking = now.model is not None and now.model.in_flight is not None
    return "empty queue" if state.flying and not thinking else "researcher thinking"


class IdleFold:
    """Kept by the reducer beside the state; constant cost per event, however many devices and runs there are.

    What holds for all free devices of a class is counted once per class; the time of a device with a run is settled
    when the run ends, and until then taken from what it reports.

    Args:
        book: where to go on from.
        on_spell: called with every settled stretch of time, in order for each device. It has to be there from the first
            event on, and costs as many calls as there are free devices whenever the cause of a class changes.
    """

    __slots__ = ("_on_spell", "_why", "book")

    def __init__(self, book: Book | None = None, on_spell: Callable[[Spell], None] | None = None) -> None:
        self.book = book if book is not None else Book()
        self._on_spell = on_spell
        self._why: dict[str, list[tuple[int, Cause]]] = {}

    def advance(self, state: SessionState, t_s: float) -> None:
        """Let time pass; `state` is as it was all that time, before the event that happens now."""
        book, t_ms = self.book, _ms(t_s)
        passed_ms = t_ms - book.t_ms
        if passed_ms <= 0:
            return
        for cls, count in book.free.items():
            cause = cause_now(state, cls)
            book.spent_ms[cause] = book.spent_ms.get(cause, 0) + count * passed_ms
            if self._on_spell is not None:
                known = self._why.setdefault(cls, [])
                if not known or known[-1][1] != cause:
                    known.append((book.t_ms, cause))
        book.t_ms = t_ms

    def take_device(self, state: SessionState, device: str, end: RunFinished | None = None) -> None:
        """See what a device does after an event that may have changed it; `end` is how its attempt ended."""
        now = state.now.devices.get(device)
        if now is None:
            return
        run = state.now.runs.get(now.run) if now.run is not None else None
        attempt = run.attempt if run is not None else ""
        kind: Literal["free", "drained", "down", "run"] = "run"
        if now.run is None:
            kind = "down" if not now.up else "drained" if device in state.now.drained else "free"
        place = self.book.places.get(device)
        if place is not None:
            if (place.kind, place.attempt) == (kind, attempt) and (kind == "run" or place.cls == now.cls):
                return
            self._settle(device, place, end)
        self.book.places[device] = Place(now.cls, self.book.t_ms, kind, attempt)
        if kind == "free":
            self.book.free[now.cls] = self.book.free.get(now.cls, 0) + 1

    def take_report(self, state: SessionState, device: str, event: RunStarted | RunProgress) -> None:
        """An attempt has started, or trains: known only about, until its end says it."""
        place = self.book.places.get(device)
        if place is None or place.attempt != event.attempt:
            return
        if place.started_ms is None:
            place.started_ms = self.book.t_ms
        frac = getattr(event, "frac", 0.0)
        if frac > 0.0 and place.trains_ms is None:
            target = state.now.started.target if state.now.started is not None else None
            budget_s = target.budget_s if target is not None and target.budget_kind != "steps" else 0.0
            place.trains_ms = max(place.started_ms, self.book.t_ms - _ms(min(1.0, frac) * budget_s))
        if frac >= 1.0 and place.scores_ms is None:
            place.scores_ms = self.book.t_ms

    def begin_again(self, state: SessionState, run: Run) -> None:
        """A run's place was taken back, and it waits for one again: what it has had so far is settled."""
        device, place = state.now.devices.get(run.device), self.book.places.get(run.device)
        if device is not None and device.run == run.run and place is not None:
            self._settle(run.device, place, None)
            self.book.places[run.device] = Place(place.cls, self.book.t_ms, "run", place.attempt)

    def open_spells(self) -> Iterator[Spell]:
        """What `on_spell` was not told yet, as it looks at the last event."""
        for device, place in self.book.places.items():
            yield from _spells(device, place, self.book.t_ms, self._why.get(place.cls, []), None)

    def spent_s(self, state: SessionState, t_s: float | None = None) -> dict[Use, float]:
        """Device-seconds by use and cause, up to the last event or to a later session second.

        They sum to the time that has passed since each device was first seen.
        """
        book = self.book
        to_ms = book.t_ms if t_s is None else max(book.t_ms, _ms(t_s))
        spent_ms: dict[Use, int] = dict(book.spent_ms)
        for cls, count in book.free.items():
            cause = cause_now(state, cls)
            spent_ms[cause] = spent_ms.get(cause, 0) + count * (to_ms - book.t_ms)
        for device, place in book.places.items():
            for spell in _spells(device, place, to_ms, [], None):
                spent_ms[spell.use] = spent_ms.get(spell.use, 0) + spell.to_ms - spell.from_ms
        return {use: total_ms / _MS for use, total_ms in spent_ms.items() if total_ms}

    def _settle(self, device: str, place: Place, end: RunFinished | None) -> None:
        book = self.book
        for spell in _spells(device, place, book.t_ms, self._why.get(place.cls, []), end):
            if place.kind != "free":  # that of free devices was counted while it passed
                book.spent_ms[spell.use] = book.spent_ms.get(spell.use, 0) + spell.to_ms - spell.from_ms
            if self._on_spell is not None:
                self._on_spell(spell)
        if place.kind == "free":
            book.free[place.cls] -= 1
            if not book.free[place.cls]:
                del book.free[place.cls]
                self._why.pop(place.cls, None)


def joined(first: Spell, second: Spell) -> Spell | None:
    """Two stretches of one device's time as one, or None where there is something between them."""
    if first._replace(from_ms=0, to_ms=0) != second._replace(from_ms=0, to_ms=0) or first.to_ms != second.from_ms:
        return None
    return first._replace(to_ms=second.to_ms)


def _spells(
    device: str, place: Place, to_ms: int, why: list[tuple[int, Cause]], end: RunFinished | None
) -> Iterator[Spell]:
    """Cut what a device did up to `to_ms` into its uses; stretches of no length are left out."""
    cuts: list[tuple[int, Use]]
    if place.kind == "run":
        cuts = _attempt_cuts(place, to_ms, end)
    elif place.kind in ("down", "drained"):
        cuts = [(place.since_ms, "down" if place.kind == "down" else "drained")]
    else:
        first = max(0, bisect_right(why, place.since_ms, key=lambda entry: entry[0]) - 1)
        cuts = [(from_ms, cause) for from_ms, cause in why[first:]]
    from_ms = place.since_ms
    for index, (_, use) in enumerate(cuts):
        until_ms = cuts[index + 1][0] if index + 1 < len(cuts) else to_ms
        if until_ms > from_ms:
            yield Spell(device, place.cls, use, from_ms, until_ms)
            from_ms = until_ms


def _attempt_cuts(place: Place, to_ms: int, end: RunFinished | None) -> list[tuple[int, Use]]:
    """From when an attempt was pending, started up, trained and was scored.

    Start-up is measured from the start on, scoring back from the end; what is between them is training (on a CPU slot
    wall time, where `train_s` counts CPU seconds). An attempt that ended while no engine looked is reported later than
    it happened, all at once: its parts are then laid back from its end.
    """
    started_ms = to_ms if place.started_ms is None else place.started_ms
    trains_ms, scores_ms = place.trains_ms, to_ms if place.scores_ms is None else place.scores_ms
    if end is not None:
        startup_ms, train_ms, score_ms = _ms(end.startup_s), _ms(end.train_s), _ms(end.score_s)
        scores_ms = to_ms - score_ms
        if to_ms - started_ms < startup_ms + score_ms:
            started_ms = to_ms - startup_ms - train_ms - score_ms
        if end.startup_s is not None:
            trains_ms = started_ms + startup_ms
        elif trains_ms is None and end.train_s is not None:
            trains_ms = scores_ms - train_ms
    started_ms = min(max(started_ms, place.since_ms), to_ms)
    trains_ms = to_ms if trains_ms is None else min(max(trains_ms, started_ms), to_ms)
    scores_ms = min(max(scores_ms, trains_ms), to_ms)
    waiting: Cause = "image" if end is not None and end.outcome == "image" else "pending"
    return [(place.since_ms, waiting), (started_ms, "start-up"), (trains_ms, "training"), (scores_ms, "scoring")]


def _ms(seconds: float | None) -> int:
    """Whole milliseconds, the grain of the journal's times."""
    return round(_MS * max(-_LONGEST_S, min(_LONGEST_S, seconds or 0.0)))
