"""What the device grid shows: each device with its run, or in words why it is free."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from core.idle import CAUSES, Cause, cause_now
from core.state import DeviceState, Run, SessionState
from core.summary import early_stops
from tui.raster.ticks import duration
from tui.text import clean
from tui.view.words import idle_words, stop_words

DeviceStatus = Literal["running", "starting", "scoring", "free", "lost", "draining", "drained"]
_LEGEND_CAUSES: Final = 3
_WORDS: Final[dict[Cause, str]] = {
    "stopping": "session is stopping",
    "pending": "starting a run",
    "research ended": "queue empty, the researcher has ended",
    "researcher thinking": "queue empty, the researcher is thinking",
    "empty queue": "queue empty while other runs go on",
}


class DeviceRow(NamedTuple):
    """One device. `frac`, `util` are shares of 1; `words` say why it is free or gone, or what it runs.

    `device` is its name made harmless, `key` the name that the session knows it by; `why` is why it is free, without
    since when.
    """

    device: str
    cls: str
    node: str
    status: DeviceStatus
    run: str = ""
    exp: str = ""
    frac: float = 0.0
    util: float | None = None
    loss: float | None = None
    curve: tuple[float, ...] = ()
    words: str = ""
    why: str = ""
    mem_mb: float | None = None
    memory_mb: int = 0
    key: str = ""

    @property
    def busy(self) -> bool:
        """Whether it works on a run. That of a lost device is not known to go on."""
        return bool(self.run) and self.status != "lost"


class DevicesView(NamedTuple):
    """Input of the `DeviceGrid` widget; devices are grouped by class and node, in the order in which they were seen.

    `idle` says why devices did not train so far, all of them and the whole session taken together; `stops` what
    stopping clear losers early has saved.
    """

    rows: tuple[DeviceRow, ...] = ()
    idle: str = ""
    stops: str = ""

    @property
    def busy(self) -> int:
        """How many devices work on a run."""
        return sum(1 for row in self.rows if row.busy)


@dataclass(slots=True)
class Made:
    """What was made last, and from what: of many devices few change from tick to tick, and often none does.

    The whole `view` holds for the state at `position` from one session second until another.
    """

    rows: dict[str, tuple[tuple[object, ...], DeviceRow]] = field(default_factory=dict)
    view: DevicesView = field(default_factory=DevicesView)
    position: tuple[int, bool] | None = None
    holds_s: tuple[float, float] = (0.0, 0.0)


def devices_view(
    state: SessionState, now_s: float, *, engine_alive: bool = True, made: Made | None = None
) -> DevicesView:
    """Project the devices.

    Args:
        now_s: the session second of the source's clock, for how long a device is idle.
        engine_alive: whether a process works on the session.
        made: what earlier calls for the same session made; it spares work and changes nothing.

    Idle times change once a minute: an idle screen must stay silent.
    """
    made = Made() if made is None else made
    position = state.now.n, engine_alive
    if made.position == position and made.holds_s[0] <= now_s < made.holds_s[1]:
        return made.view
    rows, until_s = _rows(state, now_s, made.rows, engine_alive=engine_alive)
    known = made.position is not None and made.position[0] == state.now.n
    idle = made.view.idle if known else _idle_words(state)
    made.view = DevicesView(rows, idle, stop_words(early_stops(state), brief=True))
    made.position, made.holds_s = position, (now_s, until_s)
    return made.view


def _rows(
    state: SessionState, now_s: float, made: dict[str, tuple[tuple[object, ...], DeviceRow]], *, engine_alive: bool
) -> tuple[tuple[DeviceRow, ...], float]:
    """All devices, and until which session second that holds if nothing happens."""
    classes = {device.cls for device in state.now.devices.values()}
    why = {cls: _why_free(state, cls, engine_alive=engine_alive) for cls in classes}
    drained = state.now.drained
    rows: list[DeviceRow] = []
    until_s = math.inf
    for device in _grouped(state):
        run = state.now.runs.get(device.run) if device.run is not None else None
        draining = device.device in drained
        told: tuple[object, ...] = device.seq, device.up, draining
        if run is not None:
            told += _of_run(run)
        else:
            minutes = (now_s - device.since_t_s) // 60
            until_s = min(until_s, device.since_t_s + 60 * (minutes + 1))
            told += (minutes, why[device.cls])
        known = made.get(device.device)
        if known is None or known[0] != told:
            row = _row(state, device, run, draining=draining)
            if run is None:
                row = _idle_row(device, row, now_s, why[device.cls])
            known = made[device.device] = (told, row)
        rows.append(known[1])
    return tuple(rows), until_s


def _idle_words(state: SessionState) -> str:
    """Why devices did not train, up to the last event."""
    spent_s = state.idle.spent_s(state)
    idle_s = {cause: spent_s[cause] for cause in CAUSES if cause in spent_s}
    return idle_words(idle_s, sum(spent_s.values()), most=_LEGEND_CAUSES)


def _grouped(state: SessionState) -> list[DeviceState]:
    first_seen: dict[str, int] = {}
    nodes_seen: dict[tuple[int, str], int] = {}
    for device in state.now.devices.values():
        cls = first_seen.setdefault(device.cls, len(first_seen))
        nodes_seen.setdefault((cls, device.node), len(nodes_seen))

    def place(device: DeviceState) -> tuple[int, int]:
        cls = first_seen[device.cls]
        return cls, nodes_seen[cls, device.node]

    return sorted(state.now.devices.values(), key=place)


def _of_run(run: Run) -> tuple[object, ...]:
    """All of a run that a device's row can depend on: equal ones give equal rows."""
    return (
        *(run.run, run.status, run.frac, run.loss, run.util, run.mem_mb),
        *(len(run.curve), run.cancel, run.stopped_early, run.waiting, run.held),
    )


def _row(state: SessionState, device: DeviceState, run: Run | None, *, draining: bool) -> DeviceRow:
    """A device with its run; one without is not told yet why it has none."""
    name, cls, node = clean(device.device) or "?", clean(device.cls) or "?", clean(device.node)
    status: DeviceStatus = "lost" if not device.up else "draining" if draining else "free"
    if run is None:
        return DeviceRow(name, cls, node, status, key=device.device, memory_mb=device.memory_mb)
    if status == "free":
        status = "starting" if run.status != "running" else "scoring" if run.frac >= 1.0 else "running"
    curve = tuple([loss for _, loss in run.curve])
    words = _lost_words(device) if status == "lost" else _ending_words(run) or _waiting_words(run) or _title(state, run)
    return DeviceRow(  # by position, and at once: thousands of these are made at a time
        *(name, cls, node, status, run.run, run.exp, run.frac, run.util, run.loss, curve, words, "", run.mem_mb),
        *(device.memory_mb, device.device),
    )


def _waiting_words(run: Run) -> str:
    """Why a run is not under way yet, as its executor says; empty where it says nothing."""
    return f"{'held: ' if run.held else ''}{clean(run.waiting)}" if run.waiting and run.status == "starting" else ""


def _title(state: SessionState, run: Run) -> str:
    proposal = state.experiment(run.exp)
    return clean(proposal.title) if proposal is not None else ""


def _idle_row(device: DeviceState, row: DeviceRow, now_s: float, why: str) -> DeviceRow:
    since = _since(now_s - device.since_t_s)
    if row.status == "lost":
        return row._replace(words=_lost_words(device, since))
    if row.status == "draining":
        return row._replace(status="drained", words=f"drained{since}: takes no run")
    return row._replace(words=f"free{since}: {why}", why=why)


def _lost_words(device: DeviceState, since: str = "") -> str:
    reason = clean(device.lost_reason)
    return f"lost{since}{': ' + reason if reason else ''}"


def _ending_words(run: Run) -> str:
    """Why a run that goes on is about to end; empty where it is not."""
    if run.cancel is None:
        return ""
    return clean(run.cancel) if run.stopped_early else f"cancelling: {clean(run.cancel)}"


def _since(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f" {duration(minutes * 60)}" if minutes > 0 else ""


def _why_free(state: SessionState, cls: str, *, engine_alive: bool) -> str:
    """Why a device of a class has no run, in words."""
    now = state.now
    if now.ended is not None:
        return "session failed" if now.ended.failed else "session ended"
    if not engine_alive:
        return "no engine is running, the session can be resumed"
    cause = cause_now(state, cls)
    if cause == "limit":
        limit = next(iter(now.limits_hit.values()))
        return f"limit: {clean(limit.detail or limit.limit)}"
    if cause == "no fitting run":
        wanted = sorted(cls for cls in state.queued if cls)
        classes = ", ".join(f"{clean(cls)}{' (drained)' if state.held_back(cls) else ''}" for cls in wanted)
        return f"queue holds only runs for {classes}"
    return _WORDS.get(cause, cause)
