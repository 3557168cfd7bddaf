"""Turns events into rows: one fold beside the reducer's that says which rows are new, settled or still open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from core.events import (
    AnyEvent,
    Command,
    DeviceLost,
    DeviceSeen,
    ExperimentProposed,
    Incumbent,
    LimitHit,
    Note,
    ResearchEnded,
    RevisionAdded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunStarted,
    SessionEnded,
    UnknownEvent,
    Verdict,
)
from core.reduce import apply
from core.state import Run, SessionState

Value = str | int | float | bool | datetime | list[int] | None
Row = tuple[Value, ...]
Rows = dict[str, list[Row]]
"""Rows by table, in the order of the columns in schema.sql."""

SETTLED_TABLES: Final = (
    "revisions",
    "experiments",
    "runs",
    "attempts",
    "metrics",
    "messages",
    "verdicts",
    "commands",
)
"""Tables whose new rows are appended once. `runs` and `attempts` hold open rows (no `ended_t_s`) as well."""


class _OpenRun(msgspec.Struct):
    """Wall times of a run that is not finished, which the reducer's state does not keep."""

    queued_at: datetime | None
    started_at: datetime | None = None


class _OpenAttempt(NamedTuple):
    attempt: str
    device: str
    device_class: str
    intent_at: datetime | None
    intent_t_s: float
    started_at: datetime | None = None
    started_t_s: float | None = None


class RowFold:
    """Folds a journal's events and collects what they mean in rows.

    The state is the reducer's own, so that a row never says something else than the screen does.
    """

    def __init__(self) -> None:
        self.state = SessionState()
        self.session_id = ""
        self._epoch_s = 0.0
        self._simulated = False
        self._last_at: datetime | None = None
        self._started_at: datetime | None = None
        self._ended_at: datetime | None = None
        self._down_s: dict[str, float] = {}
        self._open_runs: dict[str, _OpenRun] = {}
        self._open_attempts: dict[str, _OpenAttempt] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._settled: Rows = {table: [] for table in SETTLED_TABLES}

    def drain_settled(self) -> Rows:
        """Rows that will never change again and were not given out before."""
        settled, self._settled = self._settled, {table: [] for table in SETTLED_TABLES}
        return settled

    def drain_verdicts(self) -> dict[str, Verdict]:
        """The newest verdict of each experiment that was judged since the last call."""
        verdicts, self._verdicts = self._verdicts, {}
        return verdicts

    def open_rows(self) -> Rows:
        """Rows that may still change, all of them, as they are now."""
        now = self.state.now
        return {
            "sessions": [self._session_row()] if now.started is not None else [],
            "devices": [self._device_row(name) for name in now.devices],
            "runs": [self._run_row(run, None) for run in now.runs.values()],
            "attempts": [self._attempt_row(run, open_, None, None) for run, open_ in self._open_attempts.items()],
        }

    def take(self, event: AnyEvent | UnknownEvent) -> None:
        """Fold one event that follows the last one."""
        at = self._last_at = self._wall_time(event)
        match event:
            case RunProgress() | RunStarted() | RunFinished():
                self._take_of_attempt(event, at)
            case DeviceSeen() | DeviceLost():
                self._take_of_device(event)
            case ExperimentProposed() | RevisionAdded():
                self._take_proposed(event, at)
            case _:
                apply(self.state, event)
                self._take_other(event, at)

    def _wall_time(self, event: AnyEvent | UnknownEvent) -> datetime | None:
        """UTC, without a zone. Simulated sessions have no wall time: there it is the epoch plus session seconds."""
        if event.k_is_start if False else False:  # pragma: no cover
            return None
        return _utc(event.w if event.w is not None else self._epoch_s + event.t)
