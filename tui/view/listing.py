"""The list of experiments as its reader wants it: ordered, filtered, grouped by design, and kept so as they change."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from rich.text import Text

from core.state import Ledger, SessionState
from tui.palette import Look, Role, style_of
from tui.text import clean
from tui.view.experiment_filter import ExperimentFilter
from tui.view.experiments import (
    NOTHING,
    ExperimentRow,
    ExperimentTable,
    Waiting,
    cells_of,
    experiment_row,
    row_words,
    waiting_runs,
)
from tui.view.words import count_words, delta_words

Order = Literal["newest", "best", "delta", "status", "runs"]

ORDERS: Final[dict[Order, tuple[str, str]]] = {
    "newest": ("newest first", "oldest first"),
    "best": ("best first", "worst first"),
    "delta": ("Δ", "Δ reversed"),
    "status": ("by status", "by status reversed"),
    "runs": ("most runs first", "fewest runs first"),
}
"""What each order is called, and what its reverse."""

AT_ONCE: Final = 5_000
"""So many experiments are read at a time: a list of any length is put together over several looks, none of them long.
"""

_RANKS: Final = ("kept", "incumbent", "running", "undecided", "unjudged", "queued", "rejected", "stopped early")
_HEADER: Final = "design:"


class Wish(NamedTuple):
    """What a reader wants to see of the list. `folded` names the designs of which only the header is shown."""

    order: Order = "newest"
    reverse: bool = False
    filter: ExperimentFilter = ExperimentFilter()
    grouped: bool = False
    folded: frozenset[str] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether this is the list as it comes."""
        return self.order == "newest" and not self.filter.tests and not self.grouped

    def next_order(self) -> Wish:
        """The next order round."""
        orders = list(ORDERS)
        return self._replace(order=orders[(orders.index(self.order) + 1) % len(orders)], reverse=False)

    def fold(self, key: str) -> Wish:
        """Fold or unfold the design whose header has this key."""
        return self._replace(folded=self.folded ^ {key.removeprefix(_HEADER)})


def is_header(key: str) -> bool:
    """Whether a row's key is that of a design's header."""
    return key.startswith(_HEADER)


class Group(NamedTuple):
    """A design, and the places in the ledger of those of its experiments that are left, in order."""

    name: str
    members: list[int]


class ListedRows:
    """Rows for a virtual table; entries below zero are headers: -1 the first group's.

    Raises nothing where the state has gone on: rows are what they were when the list was put together.
    """

    def __init__(self, listing: Listing, entries: list[int], groups: list[Group], now_s: float, *, look: Look) -> None:
        self._listing, self._entries, self._groups = listing, entries, groups
        self._now_s, self._look = now_s, look

    def __len__(self) -> int:
        return len(self._entries)

    def key(self, index: int) -> str:
        """An experiment's id, or what names a design's header."""
        entry = self._entries[index]
        return self._listing.rows[entry].exp if entry >= 0 else _HEADER + self._groups[-1 - entry].name

    def index(self, key: str) -> int | None:
        """Where an experiment or a header stands; an experiment that is folded away stands at its header."""
        if is_header(key):
            return self._header(key.removeprefix(_HEADER))
        place = self._listing.place(key)
        if place is None:
            return None
        if place in self._entries:
            return self._entries.index(place)
        name = self._listing.rows[place].design
        return (
            self._header(name) if any(place in group.members for group in self._groups if group.name == name) else None
        )

    def row(self, index: int) -> tuple[str | Text, ...] | Text:
        """The cells of an experiment, or the words of a header."""
        entry = self._entries[index]
        if entry >= 0:
            return cells_of(self._listing.rows[entry], self._now_s, look=self._look)
        folded = index + 1 >= len(self._entries) or self._entries[index + 1] < 0
        words = self._header_words(self._groups[-1 - entry])
        return Text(f"{'▸' if folded else '▾'} {words}", style_of(Role.CONFIRMED, self._look))

    def words(self, index: int) -> str:
        """One row to be copied."""
        entry = self._entries[index]
        return row_words(self._listing.rows[entry]) if entry >= 0 else self._header_words(self._groups[-1 - entry])

    def _header(self, name: str) -> int | None:
        for number, group in enumerate(self._groups):
            if group.name == name:
                return self._entries.index(-1 - number)
        return None

    def _header_words(self, group: Group) -> str:
        rows = [self._listing.rows[place] for place in group.members]
        declared = self._listing.state.design(group.name)
        done, owed = sum(row.done for row in rows), sum(row.owed for row in rows)
        deltas = [row.delta for row in rows if row.delta is not None]
        parts = [f"{group.name or 'no design'}"]
        parts[0] += f" ({clean(declared.kind)})" if declared is not None and declared.kind else ""
        parts += [count_words(len(rows), "experiment"), f"{done}/{owed} runs"]
        parts += [f"best {delta_words(min(deltas))}"] if deltas else []
        parts += [clean(declared.why)] if declared is not None and declared.why else []
        return " · ".join(parts)


class Listing:
    """Keeps the facts of every experiment, and puts them together as wished: what did not change is not read again.

    `rows` holds those that were read, in the order of the ledger.
    """

    def __init__(self) -> None:
        self.rows: list[ExperimentRow] = []
        self.state = SessionState()
        self.version = 0
        """Changes whenever what is listed does."""
        self._ledger: Ledger | None = None
        self._reference: str | None = None
        self._waiting: dict[str, Waiting] = {}
        self._seen = (0, 0, 0)
        self._wish: Wish | None = None
        self._keys: list[tuple[float, int]] = []
        self._left: list[bool] = []
        self._designs: list[str] = []
        self._sorted: list[int] = []
        self._entries: list[int] = []
        self._groups: list[Group] = []
        self._count = 0

    @property
    def behind(self) -> bool:
        """Whether experiments are left to be read by the next look."""
        return len(self.rows) < len(self.state.ledger.experiments) and self._ledger is self.state.ledger

    def place(self, exp: str) -> int | None:
        """Where in the ledger an experiment stands, if it was read."""
        place = self.state.ledger.experiment_index.get(exp)
        return place if place is not None and place < len(self.rows) else None

    def show(
        self, state: SessionState, wish: Wish, now_s: float, *, look: Look = "dark"
    ) -> ListedRows | ExperimentTable:
        """The rows of a state as wished, at a session second."""
        self.state = state
        if wish.plain:
            self._forget()
            self.version += 1
            self._count = len(state.ledger.experiments)
            return ExperimentTable(state, now_s, newest_first=not wish.reverse, look=look)
        changed = self._read(state)
        if self._wish is None or wish != self._wish or changed:
            self._put_together(wish, changed)
            self.version += 1
        return ListedRows(self, self._entries, self._groups, now_s, look=look)

    def title(self, wish: Wish) -> str:
        """What is listed and how, for a border; empty for the list as it comes."""
        parts = [f"{self.fitting(wish)} /{wish.filter.text}"] if wish.filter.tests else []
        if wish.order != "newest" or wish.reverse:
            parts.append(ORDERS[wish.order][wish.reverse])
        parts += ["by design"] if wish.grouped else []
        if self.behind and not wish.plain:
            parts.append(f"reading {len(self.rows) / len(self.state.ledger.experiments):.0%}")
        return " · ".join(parts)

    def fitting(self, wish: Wish) -> str:
        """How many experiments fit the filter, of how many; empty without one."""
        return f"{self._count:,} of {len(self.state.ledger.experiments):,}" if wish.filter.tests else ""

    def _forget(self) -> None:
        self._ledger, self._wish = None, None
        self.rows, self._keys, self._left, self._designs = [], [], [], []
        self._sorted, self._entries, self._groups = [], [], []

    def _read(self, state: SessionState) -> set[int]:
        """Take in what changed since the last look; returns the places of experiments that read otherwise now."""
        ledger, reference = state.ledger, state.reference_class()
        if ledger is not self._ledger or reference != self._reference:
            self._forget()
            self._ledger, self._reference = ledger, reference
            self._waiting, self._seen = {}, (len(ledger.runs), len(ledger.verdicts), len(ledger.incumbents))
        changed = self._news(state)
        for place in changed:
            self.rows[place] = self._row(place)
        for place in range(len(self.rows), min(len(self.rows) + AT_ONCE, len(ledger.experiments))):
            self.rows.append(self._row(place))
            self._designs.append(self.rows[-1].design)
            changed.add(place)
        return changed

    def _news(self, state: SessionState) -> set[int]:
        """Places of the experiments, of those read before, of which something happened since."""
        ledger = state.ledger
        runs, verdicts, incumbents = self._seen
        self._seen = (len(ledger.runs), len(ledger.verdicts), len(ledger.incumbents))
        waiting = waiting_runs(state)
        exps = {exp for exp, _ in self._waiting.items() ^ waiting.items()}
        self._waiting = waiting
        exps.update(run.exp for run in ledger.runs[runs:])
        exps.update(verdict.exp for verdict in ledger.verdicts[verdicts:])
        exps.update(exp for _, exp in ledger.incumbents[incumbents:])
        return {place for exp in exps if (place := self.place(exp)) is not None}

    def _row(self, place: int) -> ExperimentRow:
        proposal = self.state.ledger.experiments[place]
        return experiment_row(self.state, proposal, self._waiting.get(proposal.exp, NOTHING), self._reference)

    def _put_together(self, wish: Wish, changed: set[int]) -> None:
        before, self._wish = self._wish, wish
        reordered = before is None or (before.order, before.reverse) != (wish.order, wish.reverse)
        refiltered = before is None or before.filter.text != wish.filter.text
        known = len(self._keys)
        self._keys += [(0.0, 0)] * (len(self.rows) - known)
        self._left += [True] * (len(self.rows) - known)
        key = _key_of(wish)
        for place in range(len(self.rows)) if reordered else changed:
            self._keys[place] = key(place, self.rows[place])
        for place in range(len(self.rows)) if refiltered else changed:
            self._left[place] = wish.filter.matches(self.rows[place])
        # What was in order stays so but for what changed: sorting that again takes hardly more than looking at it.
        self._sorted = [*range(len(self.rows) - 1, known - 1, -1), *self._sorted]
        self._sorted.sort(key=self._keys.__getitem__)
        left = [place for place in self._sorted if self._left[place]]
        self._count = len(left)
        self._groups = self._grouped(left) if wish.grouped else []
        self._entries = _flattened(self._groups, wish.folded) if wish.grouped else left

    def _grouped(self, places: list[int]) -> list[Group]:
        """Designs in the order of their first experiments."""
        members: defaultdict[str, list[int]] = defaultdict(list)
        for place in places:
            members[self._designs[place]].append(place)
        return [Group(name, found) for name, found in members.items()]


def _flattened(groups: list[Group], folded: frozenset[str]) -> list[int]:
    entries: list[int] = []
    for number, group in enumerate(groups):
        entries.append(-1 - number)
        if group.name not in folded:
            entries += group.members
    return entries


def _key_of(wish: Wish) -> Callable[[int, ExperimentRow], tuple[float, int]]:
    """What experiments are sorted by: what is not measured comes last either way, ties go to the newest."""
    sign = -1.0 if wish.reverse else 1.0

    def value(row: ExperimentRow) -> float | None:
        match wish.order:
            case "best":
                return row.val_bpb
            case "delta":
                return row.delta
            case "runs":
                return -float(row.done)
            case "status":
                return float(_RANKS.index(row.status) if row.status in _RANKS else len(_RANKS))
            case "newest":
                return None

    def key(place: int, row: ExperimentRow) -> tuple[float, int]:
        if wish.order == "newest":
            return -sign * place, 0
        measured = value(row)
        return (math.inf if measured is None or math.isnan(measured) else sign * measured), -place

    return key
