"""The devices of a cluster as a session sees them: which there are, which pod holds which, which nodes to avoid."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from core.clock import Clock
from core.executor import Device, DeviceLost, DeviceSeen, ExecutorError
from executors.devices import SELECTION
from executors.kubernetes.nodes import NodeDevices

STRIKES: Final = 2
STRIKES_SHARE: Final = 0.25
WINDOW_S: Final = 600.0
"""Runs keep away from a node where so many, and such a share, of the attempts that ended there lately failed by its
fault: a sick GPU fails one attempt after the other at once, a healthy node of eight meets a fault now and then.
"""
QUARANTINE_S: Final = 900.0
"""How long, in session seconds: a node that is mended serves again without anybody telling us."""
_KEPT_STRIKES: Final = 64
_KEPT_ENDS: Final = 64


class Caps:
    """How many devices of which classes the user wants (`13xH100,3xH200`, `H200`, `8`; None: all there are)."""

    def __init__(self, asked: str | None) -> None:
        self._asked = asked or ""
        self._parts: list[tuple[str, int | None]] = []
        for part in filter(None, (word.strip() for word in self._asked.split(","))):
            match = SELECTION.fullmatch(part)
            if match is None:
                raise ExecutorError(
                    f"`{asked}` is no selection of devices: write a number, `8xH100` or `H200`, with commas"
                )
            count = match[1] or match[3]
            self._parts.append(((match[2] or "").upper(), int(count) if count else None))

    def choose(self, devices: Iterable[Device], kept: Iterable[str]) -> list[Device]:
        """Those of the devices that the user wants; ones chosen before stay chosen as long as they are there."""
        if not self._parts:
            return list(devices)
        before = set(kept)
        pool = sorted(devices, key=lambda device: device.device not in before)
        chosen: list[Device] = []
        for prefix, count in self._parts:
            fits = [device for device in pool if device.cls.upper().startswith(prefix) and device not in chosen]
            chosen += fits if count is None else fits[:count]
        return chosen

    def slots(self) -> list[Device]:
        """Devices by the user's word alone, for a cluster that does not show its nodes. Raises ExecutorError."""
        if not self._parts or any(count is None or not prefix for prefix, count in self._parts):
            raise ExecutorError(
                "this cluster does not let you list its nodes: say how many GPUs of which product to use, such as "
                "--gpus 8xNVIDIA-H100-80GB-HBM3, or ask for the ClusterRole in deploy/base"
            )
        asked = self._asked.split(",")
        products = [SELECTION.fullmatch(part.strip()) for part in asked]
        names = [str(match[2]) for match in products if match is not None]
        return [
            Device(f"{name.lower()}/{index}", name, "")
            for name, (_, count) in zip(names, self._parts, strict=True)
            for index in range(count or 0)
        ]


class _Kept(msgspec.Struct):
    """What of a fleet outlives an engine: when nodes failed runs, and until when they are avoided (session seconds)."""

    strikes: dict[str, list[float]] = {}
    away: dict[str, float] = {}


class Fleet:
    """Devices and nodes of one session.

    Args:
        caps: what the user wants of them.
        clock: session time.
        path: where the faults of nodes are remembered for a later engine.

    `most` is how many devices a quota allows (None: any number).
    """

    def __init__(self, caps: Caps, clock: Clock, path: Path) -> None:
        self._caps, self._clock, self._path = caps, clock, path
        self._nodes: dict[str, NodeDevices] = {}
        self._devices: dict[str, Device] = {}
        self._held: dict[str, str] = {}  # device -> attempt
        self._strikes: dict[str, list[float]] = {}
        self._ends: dict[str, deque[float]] = {}
        self._away: dict[str, float] = {}  # until when runs keep away from a node
        self.most: int | None = None
        with contextlib.suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            self._strikes, self._away = kept.strikes, kept.away

    @property
    def devices(self) -> list[Device]:
        """Those that may have runs now."""
        return list(self._devices.values())

    @property
    def quarantined(self) -> list[str]:
        """Nodes that runs keep away from, sorted; never more than half of the nodes, or the fault is not theirs."""
        bad = sorted(node for node, until_s in self._away.items() if until_s > self._clock.now())
        return bad if not self._nodes or len(bad) * 2 <= len(self._nodes) else []

    def product(self, cls: str) -> str:
        """The product, as nodes are labelled, of a device class; empty where no node has it."""
        return next((node.product for node in self._nodes.values() if node.cls == cls), "")

    def sample(self, cls: str) -> NodeDevices | None:
        """The node of a class with the least room for each of its devices: what fits there fits anywhere."""
        fitting = [node for node in self._nodes.values() if node.cls == cls and node.count]
        return min(fitting, key=lambda node: (node.cpus_each, node.memory_bytes_each), default=None)

    def fix(self, slots: Iterable[Device]) -> None:
        """Take devices by the user's word, where nodes cannot be seen."""
        self._devices = {device.device: device for device in slots}

    def take_nodes(self, nodes: Iterable[NodeDevices]) -> list[tuple[str, DeviceSeen | DeviceLost]]:
        """See what the nodes have; returns what changed, device by device."""
        self._nodes = {node.name: node for node in nodes}
        bad = set(self.quarantined)
        there = [
            Device(f"{node.name}/{index}", node.cls, node.name, node.memory_mb)
            for node in self._nodes.values()
            if node.usable and node.name not in bad
            for index in range(node.count)
        ]
        wanted = self._caps.choose(there, self._devices)[: self.most]
        chosen = {device.device: device for device in wanted}
        before, self._devices = self._devices, chosen
        changes: list[tuple[str, DeviceSeen | DeviceLost]] = [
            (name, DeviceLost(self._why_lost(device))) for name, device in before.items() if name not in chosen
        ]
        changes += [
            (name, DeviceSeen(device.cls, device.node, device.memory_mb))
            for name, device in chosen.items()
            if before.get(name) != device
        ]
        return changes

    def again(self) -> list[tuple[str, DeviceSeen | DeviceLost]]:
        """What changed by time alone: nodes that went into quarantine or came back."""
        return self.take_nodes(list(self._nodes.values())) if self._nodes else []

    def place(self, attempt: str, node: str, cls: str, wish: str) -> str:
        """The device that an attempt holds which was placed on a node: its wish if that is there and free."""
        self.free(attempt)
        there = [device.device for device in self._devices.values() if device.node == node and device.cls == cls]
        there = there or [name for name in (wish,) if name]
        free = [name for name in there if name not in self._held]
        device = wish if wish in free else (free or there or [f"{node}/0"])[0]
        self._held[device] = attempt
        return device

    def free(self, attempt: str) -> None:
        """An attempt holds nothing any more."""
        for device in [name for name, holder in self._held.items() if holder == attempt]:
            del self._held[device]

    def ended(self, node: str, *, blamed: bool) -> bool:
        """An attempt ended on a node, `blamed`: by its fault; whether that puts the node into quarantine."""
        now_s = self._clock.now()
        ends = self._ends.setdefault(node, deque(maxlen=_KEPT_ENDS))
        ends.append(now_s)
        if not blamed:
            return False
        strikes = [t_s for t_s in self._strikes.get(node, ()) if t_s > now_s - WINDOW_S] + [now_s]
        self._strikes[node] = strikes
        lately = sum(t_s > now_s - WINDOW_S for t_s in ends)
        if len(strikes) >= STRIKES and len(strikes) >= STRIKES_SHARE * lately:
            self._away[node] = now_s + QUARANTINE_S
        self._keep()
        return node in self.quarantined

    def _keep(self) -> None:
        while len(self._strikes) > _KEPT_STRIKES:
            del self._strikes[next(iter(self._strikes))]
        self._away = {node: until_s for node, until_s in self._away.items() if until_s > self._clock.now()}
        with contextlib.suppress(OSError):
            partial = self._path.with_suffix(".partial")
            partial.write_bytes(msgspec.json.encode(_Kept(self._strikes, self._away)))
            partial.replace(self._path)

    def _why_lost(self, device: Device) -> str:
        node = self._nodes.get(device.node)
        if device.node in self.quarantined:
            return f"kept away from {device.node}: runs failed there lately by no fault of theirs"
        if node is None:
            return f"node {device.node} is gone"
        return node.why_not or f"node {device.node} has fewer GPUs than before"


def by_class(devices: Iterable[Device]) -> Mapping[str, int]:
    """How many devices there are of each class."""
    counts: dict[str, int] = {}
    for device in devices:
        counts[device.cls] = counts.get(device.cls, 0) + 1
    return counts
