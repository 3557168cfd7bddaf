"""The filter of the list of experiments: words that a reader types, and which experiments they leave."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from tui.palette import Role
from tui.view.experiments import ExperimentRow

Test = Callable[[ExperimentRow], bool]

STATUSES: Final = ("kept", "rejected", "undecided", "failed", "running", "queued", "unjudged", "incumbent", "stopped")
"""Words that stand for where an experiment stands, and for nothing else."""

_COMPARES: Final = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_COMPARISON: Final = re.compile(r"([<>]=?)(\d*\.?\d+)")
_FIELD: Final = re.compile(r"(design|class|status|title):(.*)", re.DOTALL)
_EXPERIMENT: Final = re.compile(r"e\d+")
_UNFINISHED: Final = re.compile(r"-?([<>]=?\.?|(design|class|status|title):)?")


class ExperimentFilter(NamedTuple):
    """What was typed, and what it asks of an experiment; without tests it leaves all."""

    text: str = ""
    tests: tuple[Test, ...] = ()

    def matches(self, row: ExperimentRow) -> bool:
        """Whether an experiment is left: it passes every test."""
        return all(test(row) for test in self.tests)


def parse_filter(text: str) -> ExperimentFilter:
    """Read a filter. Any text is one: what is not finished yet asks for nothing.

    Words are parted by blanks and must all hold; case does not matter. `kept`, `failed`, `running` and the like are
    where an experiment stands; `e12` is that experiment; `>0.98`, `<=0.975` bound its val_bpb; `design:`, `class:`,
    `status:` and `title:` look into one field only; any other word into id, title, status, design and class;
    `-word` turns a word round.
    """
    words = text.lower().split()
    return ExperimentFilter(" ".join(text.split()), tuple(_test(word) for word in words if _finished(word)))


def _finished(word: str) -> bool:
    return not _UNFINISHED.fullmatch(word)


def _test(word: str) -> Test:
    if word.startswith("-"):
        wanted = _test(word[1:])
        return lambda row: not wanted(row)
    if comparison := _COMPARISON.fullmatch(word):
        compare, bound = _COMPARES[comparison[1]], float(comparison[2])
        return lambda row: row.val_bpb is not None and compare(row.val_bpb, bound)
    if word in STATUSES:
        return _standing(word)
    if field := _FIELD.fullmatch(word):
        return _in_field(field[1], field[2])
    if _EXPERIMENT.fullmatch(word):
        return lambda row: row.exp == word or word in row.title.lower().split()
    return lambda row: any(word in text.lower() for text in (row.title, row.exp, row.status, row.design, row.cls))


def _standing(word: str) -> Test:
    if word == "failed":
        return lambda row: row.role is Role.FAILED
    if word == "kept":  # the baseline too: it is the incumbent without a verdict
        return lambda row: row.role is Role.KEPT
    return lambda row: row.status.startswith(word)


def _in_field(field: str, word: str) -> Test:
    match field:
        case "design":
            return lambda row: word in row.design.lower()
        case "class":
            return lambda row: word in row.cls.lower()
        case "title":
            return lambda row: word in row.title.lower()
        case _:
            return _standing(word) if word in STATUSES else lambda row: word in row.status.lower()
