"""What the device grid shows: each device with its run, or in words why it is free."""

from __future__ import annotations

from typing import Literal, NamedTuple

from core.state import DeviceState, Run, SessionState
from tui.raster.ticks import duration
from tui.text import clean

DeviceStatus = Literal["running", "starting", "scoring", "free", "lost"]


class DeviceRow(NamedTuple):
    """One device. `frac`, `util` are shares of 1; `words` say why it is free or gone, or what it runs."""

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


class DevicesView(NamedTuple):
    """Input of the `DeviceGrid` widget; devices are grouped by class, in the order in which they were seen."""

    rows: tuple[DeviceRow, ...] = ()

    @property
    def busy(self) -> int:
        """How many devices have a run."""
        return sum(1 for row in self.rows if row.run)


def devices_view(state: SessionState, now_s: float, *, engine_alive: bool = True) -> DevicesView:
    """Project the devices.

    Args:
        now_s: the session second of the source's clock, for how long a device is idle.
        engine_alive: whether a process works on the session.

    Idle times change once a minute: an idle screen must stay silent.
    """
    common = _why_idle(state, engine_alive=engine_alive)
    waiting = frozenset() if common else _classes_waited_for(state)
    ended = state.now.research_ended is not None
    rows = [
        _row(state, device, now_s, common or _why_free(device.cls, waiting, research_ended=ended))
        for device in _grouped(state)
    ]
    return DevicesView(tuple(rows))


def _grouped(state: SessionState) -> list[DeviceState]:
    first_seen: dict[str, int] = {}
    for device in state.now.devices.values():
        first_seen.setdefault(device.cls, len(first_seen))
    return sorted(state.now.devices.values(), key=lambda device: first_seen[device.cls])


def _row(state: SessionState, device: DeviceState, now_s: float, why_free: str) -> DeviceRow:
    run = state.now.runs.get(device.run) if device.run is not None else None
    name, cls, node = clean(device.device), clean(device.cls), clean(device.node)
    if run is not None:
        return _busy_row(state, run, DeviceRow(name, cls, node, "running"))
    since = _since(now_s - device.since_t_s)
    if not device.up:
        reason = clean(device.lost_reason)
        return DeviceRow(name, cls, node, "lost", words=f"lost{since}{': ' + reason if reason else ''}")
    return DeviceRow(name, cls, node, "free", words=f"free{since}: {why_free}")


def _busy_row(state: SessionState, run: Run, row: DeviceRow) -> DeviceRow:
    status: DeviceStatus = "running"
    if run.status != "running":
        status = "starting"
    elif run.frac >= 1.0:
        status = "scoring"
    proposal = state.experiment(run.exp)
    title = clean(proposal.title) if proposal is not None else ""
    return row._replace(
        status=status,
        run=run.run,
        exp=run.exp,
        frac=run.frac,
        util=run.util,
        loss=run.loss,
        curve=tuple(loss for _, loss in run.curve),
        words=f"cancelling: {clean(run.cancel)}" if run.cancel is not None else title,
    )


def _since(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f" {duration(minutes * 60)}" if minutes > 0 else ""


def _why_idle(state: SessionState, *, engine_alive: bool) -> str:
    """Why no device of the session starts a run; empty where only the queue can say."""
    now = state.now
    if now.ended is not None:
        return "session failed" if now.ended.failed else "session ended"
    if not engine_alive:
        return "no engine is running, the session can be resumed"
    if now.stop:
        return "session is stopping"
    if now.paused:
        return "paused"
    if now.limits_hit:
        limit = next(iter(now.limits_hit.values()))
        return f"limit: {clean(limit.detail or limit.limit)}"
    return ""


def _why_free(cls: str, waiting: frozenset[str | None], *, research_ended: bool) -> str:
    if None in waiting or cls in waiting:
        return "starting a run"
    if waiting:
        classes = ", ".join(sorted(clean(wanted) for wanted in waiting if wanted))
        return f"queue holds only runs for {classes}"
    return "queue empty, the researcher has ended" if research_ended else "queue empty, the researcher is thinking"


def _classes_waited_for(state: SessionState) -> frozenset[str | None]:
    """The device classes that queued and owed runs ask for; None is any class."""
    now = state.now
    queued = {now.runs[run].cls for queue in (now.queue_first, now.queue) for run in queue if run in now.runs}
    return frozenset(queued | {owed.cls for owed in now.owed})
