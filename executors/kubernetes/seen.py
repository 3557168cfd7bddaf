"""What a look at the cluster says of one attempt: the shape of every verdict, and of a line of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from core.executor import Finished, Outcome
from executors.kubernetes import results
from executors.kubernetes.view import View

Phase = Literal["queued", "waiting", "starting", "running", "ending", "ended"]
"""Queued: not given a place yet. Waiting: something must mend first. Ending: not over, or the last word is missing."""
Blame = Literal["", "node", "gpu"]
Hold = Literal["", "image", "policy", "no_such_node", "manifest", "quota", "data"]
Remedy = Literal["", "recreate_configmap", "force_delete"]


class Seen(msgspec.Struct, frozen=True):
    """One verdict. It is final where it has an outcome.

    `row`: the line of the table. `reason`: one sentence for a person. `note`: what a reader of the score must know.
    `result`: the runner's own figures, if it left valid ones. `blame`: what the fault counts against.
    `hold`: which gate closes, so that nothing more is submitted into the same wall, once this has lasted
    `hold_after_s`. `remedy`: what mends it; `force_delete` only once the pod was given long enough.
    `since`: when it began, by the cluster's clock (RFC 3339; "" unknown).
    """

    row: str
    phase: Phase
    outcome: Outcome | None = None
    reason: str = ""
    note: str = ""
    result: dict[str, Any] | None = None
    node: str = ""
    blame: Blame = ""
    hold: Hold = ""
    hold_after_s: float = 0.0
    remedy: Remedy = ""
    since: str = ""

    def finished(self) -> Finished:
        """The end of the attempt for the engine. Raises ValueError where the verdict is not final."""
        if self.outcome is None:
            raise ValueError(f"an attempt that is {self.phase} has not ended")
        return results.finished(self.outcome, self.reason, self.note, self.result)


class Row(NamedTuple):
    """One line of the table: its name, when it applies, what it says."""

    id: str
    applies: Callable[[View], bool]
    verdict: Callable[[View], Seen]
