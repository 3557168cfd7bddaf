"""Which run is booked on which device: no device has two runs, and no run has two devices."""

from __future__ import annotations

from core.state import DeviceState, Run, SessionState


def offer(state: SessionState, name: str) -> None:
    """Offer a device for runs, if it is there, has none and is not drained."""
    device = state.now.devices[name]
    if device.up and device.run is None and name not in state.now.drained:
        state.now.free[name] = None


def move(state: SessionState, run: Run, actual: str) -> None:
    """Book a run that starts on the device that the cluster gave it, instead of the one that its intent wished for.

    A run that wished for the actual device and has not started takes the other's wish: between runs of one class that
    have not started, wishes are as good as each other. Where the actual device is unknown, or has a run that executes,
    the wish stays: the cluster knows more devices than we do, or tells an end late. So there are as many devices taken
    as there are runs under way.
    """
    now = state.now
    wished, there = now.devices.get(run.device), now.devices.get(actual)
    if wished is not None and wished.run != run.run:
        wished = None
    holder = now.runs.get(there.run) if there is not None and there.run is not None else None
    if holder is run:
        return
    if there is None or (holder is not None and not _gives_way(holder, there, wished)):
        run.device = run.device if wished is not None else actual
        return
    there.run, run.device, run.device_class = run.run, actual, there.cls
    there.since_t_s = run.intent_t_s or 0.0
    now.free.pop(actual, None)
    if wished is not None:
        wished.run, wished.since_t_s = None, now.t_s
        if holder is not None:
            wished.run, holder.device, wished.since_t_s = holder.run, wished.device, holder.intent_t_s or 0.0
        offer(state, wished.device)
        state.idle.take_device(state, wished.device)
    state.idle.take_device(state, actual)


def _gives_way(holder: Run, there: DeviceState, wished: DeviceState | None) -> bool:
    """Whether the run that is booked on a device can be booked on the wish of the run that is really there."""
    return holder.status != "running" and wished is not None and wished.cls == there.cls
