"""One row of what `doctor --kubernetes` finds."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warn", "fail"]


class Check(NamedTuple):
    """What was looked at, what was found, what to do about it: `warn` costs something, `fail` keeps from running."""

    verdict: Verdict
    what: str
    found: str
    fix: str = ""
