"""Turns events into rows: says beside the one reducer which rows are new, settled or still open."""

from __future__ import annotations

from datetime import datetime

from core.events import (
    AnyEvent,
    CancelRequested,
    Command,
    DesignDeclared,
    DeviceLost,
    DeviceSeen,
    ExperimentProposed,
    ModelFailed,
    ModelMessage,
    ModelRequest,
    PhaseChanged,
    RevisionAdded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunStarted,
    RunWaiting,
    SessionEnded,
    SessionForked,
    SessionStarted,
    UnknownEvent,
    Verdict,
)
from core.idle import CAUSES, IdleFold, Spell, joined
from core.keyframe import forget_texts
from core.projection import rows
from core.projection.rows import Context, OpenAttempt, OpenRequest, Row, RunTimes, Spoken
from core.reduce import apply
from core.state import Run, SessionState

Rows = dict[str, list[Row]]
"""Rows by table, in the order of the columns in schema.sql."""

APPENDED = (
    *("revisions", "experiments", "runs", "attempts", "metrics", "messages", "verdicts", "commands", "idle"),
    *("designs", "phases", "model_messages", "model_requests"),
)
"""Tables that only grow, but for the open rows of `runs` and `attempts` (those without `ended_t_s`), of `idle`, and of
`model_requests`.
"""

AttemptEvent = RunWaiting | RunStarted | RunProgress | RunFinished
ModelTurn = ModelRequest | ModelMessage | ModelFailed
SaidOnce = RevisionAdded | ExperimentProposed | DesignDeclared


class RowFold:
    """Folds a journal's events and collects what they mean in rows.

    What counts is asked of the reducer's state, so that a row never says something else than the screen does.

    Args:
        session: the session's id; equal simulated sessions have equal journals, but each has a folder of its own.
    """

    def __init__(self, session: str) -> None:
        self.state = SessionState(idle=IdleFold(on_spell=self._take_spell))
        self._id = session
        self._session = rows.SessionTimes()
        self._context = Context()
        self._down_s: dict[str, float] = {}
        self._lost_t_s: dict[str, float] = {}
        self._times: dict[str, RunTimes] = {}
        self._open: dict[str, OpenAttempt] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._spells: dict[str, Spell] = {}
        self._asked: OpenRequest | None = None
        self._lineage: list[str] = []
        self._ran_in: dict[str, str | None] = {}
        self._settled: Rows = {table: [] for table in APPENDED}

    def drain_settled(self) -> Rows:
        """Rows that will never change again and were not given out before."""
        settled, self._settled = self._settled, {table: [] for table in APPENDED}
        return settled

    def drain_verdicts(self) -> list[Verdict]:
        """The newest verdict of each experiment that was judged since the last call."""
        verdicts, self._verdicts = self._verdicts, {}
        return list(verdicts.values())

    def open_rows(self) -> Rows:
        """Rows that may still change, all of them, as they are now."""
        now = self.state.now
        return {
            "sessions": [] if now.started is None else [rows.session(self._id, self.state, now.started, self._session)],
            "devices": [
                rows.device(self._context, device, self._lost_t_s.get(name), self._down_s.get(name, 0.0))
                for name, device in now.devices.items()
            ],
            "runs": [self._run_row(run, None) for run in now.runs.values()],
            "attempts": [
                rows.attempt(self._context, open_.as_of(now.runs[run], now.t_s), None, None)
                for run, open_ in self._open.items()
            ],
            "idle": self._open_idle(),
            "model_requests": [
                rows.model_request(self._context, asked, asked.event.epoch, None, None)
                for asked in [self._asked]
                if asked is not None
            ],
        }

    def take(self, event: AnyEvent | UnknownEvent) -> None:
        """Fold one event that follows the last one."""
        if isinstance(event, SessionStarted):
            self._lineage = forebears(event)
            self._context = Context(self._id, event.simulated, event.epoch, next(iter(self._lineage), None))
        at = self._session.last_at = self._context.wall_time(event)
        match event:
            case RunProgress() | RunStarted() | RunFinished() | RunWaiting():
                self._take_of_attempt(event, at)
            case DeviceSeen() | DeviceLost():
                self._take_of_device(event)
            case RevisionAdded() | ExperimentProposed() | DesignDeclared():
                self._take_of_ledger(event, at)
            case ModelRequest() | ModelMessage() | ModelFailed():
                self._take_of_model(event, at)
            case _:
                apply(self.state, event)
                self._take_other(event, at)
        if isinstance(event, Spoken) and not isinstance(event, SaidOnce):
            self._settled["messages"].append(rows.message(self._context, event, at))
        forget_texts(self.state, event)

    def _take_of_attempt(self, event: AttemptEvent, at: datetime | None) -> None:
        """What an executor reported; the reducer moves the run's `seq` only where the report is not stale."""
        run = self.state.now.runs.get(event.run)
        seq = 0 if run is None else run.seq
        apply(self.state, event)
        if run is None or run.seq == seq:
            return
        if isinstance(event, RunProgress):
            self._settled["metrics"].append(rows.metric(self._context, run, event, at))
        elif isinstance(event, RunStarted | RunWaiting):
            attempt = self._open.get(run.run)
            self._times[run.run].started_at = at if isinstance(event, RunStarted) else None
            if attempt is not None:
                held = attempt.waits(event) if isinstance(event, RunWaiting) else attempt.started(event, at)
                self._open[run.run] = held
        else:
            attempt = self._open.pop(run.run, None)
            if attempt is not None:
                ended = attempt.as_of(run, event.t)
                self._settled["attempts"].append(rows.attempt(self._context, ended, event, at))
            if run.status == "finished":
                self._settle(run, at)
            else:
                self._times[run.run].started_at = None

    def _take_of_device(self, event: DeviceSeen | DeviceLost) -> None:
        """Book absences; the reducer knows which reports are stale."""
        device = self.state.now.devices.get(event.device)
        was_up = device is None or device.up
        apply(self.state, event)
        device = self.state.now.devices.get(event.device)
        if device is None or device.up == was_up:
            return
        if device.up:
            away_s = event.t - self._lost_t_s.pop(event.device)
            self._down_s[event.device] = self._down_s.get(event.device, 0.0) + away_s
        else:
            self._lost_t_s[event.device] = event.t

    def _take_of_ledger(self, event: SaidOnce, at: datetime | None) -> None:
        """What is said once: the ledger refuses repetitions."""
        known = self.state.ledger.lengths()
        apply(self.state, event)
        if self.state.ledger.lengths() == known:
            return
        if isinstance(event, RevisionAdded):
            self._settled["revisions"].append(rows.revision(self._context, event, at))
            return
        if isinstance(event, ExperimentProposed):
            self._settled["experiments"].append(rows.experiment(self._context, event, at))
        else:
            self._settled["designs"].append(rows.design(self._context, event, at))
        self._settled["messages"].append(rows.message(self._context, event, at))

    def _take_of_model(self, event: ModelTurn, at: datetime | None) -> None:
        """A message, or an attempt to get one; one attempt is under way at a time, and the reducer knows which."""
        apply(self.state, event)
        model, asked = self.state.now.model, self._asked
        epoch = model.epoch if model is not None else 0
        if isinstance(event, ModelRequest):
            if asked is not None:
                self._settled["model_requests"].append(
                    rows.model_request(self._context, asked, epoch, None, None, lost=True)
                )
            self._asked = OpenRequest(event, at)
            return
        if isinstance(event, ModelMessage):
            self._settled["model_messages"].append(rows.model_message(self._context, event, at))
            if event.role != "assistant":
                return
        own = asked if asked is not None and asked.event.req == event.req else None
        self._settled["model_requests"].append(rows.model_request(self._context, own, epoch, event, at))
        self._asked = None if own is not None else asked

    def _take_other(self, event: AnyEvent | UnknownEvent, at: datetime | None) -> None:
        """What became certain through an event that the reducer has applied."""
        match event:
            case SessionStarted():
                self._session.started_at = at
            case SessionForked():
                self._take_fork(event, at)
            case SessionEnded():
                self._session.ended_at = at
            case RunQueued() if event.run in self.state.now.runs:
                self._times.setdefault(event.run, RunTimes(at))
            case RunIntent():
                run = self.state.now.runs.get(event.run)
                if run is not None and run.status == "starting" and run.attempt == event.attempt:
                    self._open.setdefault(event.run, OpenAttempt.of(run, at, event.t, self._context.origin))
                    self._ran_in[event.run] = self._context.origin
            case CancelRequested() if event.run in self._times and event.run not in self.state.now.runs:
                # A queued run ends with the request; one that executes ends with its attempt.
                cancelled = self.state.run(event.run)
                assert cancelled is not None, "a run leaves the open part only for the ledger"
                self._settle(cancelled, at)
            case Verdict():
                self._settled["verdicts"].append(rows.verdict(self._context, event, at))
                self._verdicts[event.exp] = event
            case Command():
                self._settled["commands"].append(rows.command(self._context, event, at))
            case PhaseChanged():
                self._settled["phases"].append(rows.phase(self._context, event, at))
            case _:
                pass

    def _take_fork(self, event: SessionForked, at: datetime | None) -> None:
        """What follows is the next generation's; nobody waits any more for what the one before had asked its model."""
        self._session.ended_at, self._session.forked_at, self._session.forked_t_s = None, at, event.t
        self._lineage = self._lineage[1:]
        self._context = self._context._replace(origin=next(iter(self._lineage), None))
        if self._asked is not None:
            epoch = self._asked.event.epoch
            self._settled["model_requests"].append(
                rows.model_request(self._context, self._asked, epoch, None, None, lost=True)
            )
            self._asked = None

    def _take_spell(self, spell: Spell) -> None:
        """A stretch of a device's time; what follows it with the same cause belongs to it."""
        last = self._spells.get(spell.device)
        longer = joined(last, spell) if last is not None else None
        if last is not None and longer is None and last.use in CAUSES:
            self._settled["idle"].append(rows.idle(self._context, last, settled=True))
        self._spells[spell.device] = longer or spell

    def _open_idle(self) -> list[Row]:
        """The last settled stretch of each device, which may yet grow, and those after it."""
        spells = list(self._spells.values())
        place = {spell.device: index for index, spell in enumerate(spells)}
        for spell in self.state.idle.open_spells():
            at = place.get(spell.device)
            longer = joined(spells[at], spell) if at is not None else None
            if at is not None and longer is not None:
                spells[at] = longer
                continue
            place[spell.device] = len(spells)
            spells.append(spell)
        return [rows.idle(self._context, spell, settled=False) for spell in spells if spell.use in CAUSES]

    def _settle(self, run: Run, at: datetime | None) -> None:
        self._settled["runs"].append(self._run_row(run, at))
        del self._times[run.run]
        self._ran_in.pop(run.run, None)

    def _run_row(self, run: Run, ended_at: datetime | None) -> Row:
        experiment = self.state.experiment(run.exp)
        origin = self._ran_in.get(run.run, self._context.origin)
        return rows.run(self._context, run, experiment, self._times[run.run], ended_at, origin)


def forebears(started: SessionStarted) -> list[str]:
    """The sessions that a forked one descends from, as their journals call them, the oldest first."""
    found = []
    while started.fork is not None:
        started = started.fork.origin
        found.append(started.session)
    return found[::-1]
