"""Devices summed up by class and by node: how many work, how hard, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tui.palette import Role
from tui.raster.braille import Span
from tui.view.device_names import short_name
from tui.view.devices import DeviceRow

LOST_NODES: Final = 2
"""So many lost nodes are named beside their class."""


class Group(NamedTuple):
    """Neighbouring devices of one class, or of one node of it.

    `util` is the mean over the `measured` devices, of 1; `lost_nodes` names the nodes of which every device is lost.
    Of devices whose run the cluster does not take yet, `held` need mending, and `waits` says why of one.
    """

    name: str
    first: int
    devices: int
    busy: int
    free: int
    lost: int
    drained: int
    util: float | None
    measured: int
    why: str
    lost_nodes: tuple[str, ...] = ()
    waiting: int = 0
    held: int = 0
    waits: str = ""


class Groups(NamedTuple):
    """All devices by class, and by node within each; `nodes_of` counts the nodes of each class."""

    classes: tuple[Group, ...] = ()
    nodes: tuple[Group, ...] = ()
    nodes_of: tuple[int, ...] = ()


def groups_of(rows: Sequence[DeviceRow]) -> Groups:
    """Sum up neighbours; the projection has put those that belong together beside each other."""
    nodes: list[Group] = []
    classes: list[str] = []
    nodes_of: list[int] = []
    first = 0
    for index in range(1, len(rows) + 1):
        row = rows[first]
        if index < len(rows) and rows[index].node == row.node and rows[index].cls == row.cls:
            continue
        if not classes or classes[-1] != row.cls:
            classes.append(row.cls)
            nodes_of.append(0)
        nodes_of[-1] += 1
        nodes.append(_node(row.node, rows[first:index], first))
        first = index
    found, at = [], 0
    for cls, count in zip(classes, nodes_of, strict=True):
        found.append(_class(cls, nodes[at : at + count]))
        at += count
    return Groups(tuple(found), tuple(nodes), tuple(nodes_of))


def _node(name: str, rows: Sequence[DeviceRow], first: int) -> Group:
    statuses = [row.status for row in rows]
    utils = [row.util for row in rows if row.util is not None]
    busy = sum(1 for row in rows if row.busy)
    return Group(
        name=name,
        first=first,
        devices=len(rows),
        busy=busy,
        free=statuses.count("free"),
        lost=statuses.count("lost"),
        drained=statuses.count("draining") + statuses.count("drained"),
        util=sum(utils) / len(utils) if utils else None,
        measured=len(utils),
        why=next((row.why for row in rows if row.why), ""),
        waiting=statuses.count("waiting"),
        held=statuses.count("held"),
        waits=next((row.words for status in ("held", "waiting") for row in rows if row.status == status), ""),
    )


def _class(name: str, nodes: Sequence[Group]) -> Group:
    known = sum(node.measured for node in nodes)
    util = sum(node.util * node.measured for node in nodes if node.util is not None)
    return Group(
        name=name,
        first=nodes[0].first,
        devices=sum(node.devices for node in nodes),
        busy=sum(node.busy for node in nodes),
        free=sum(node.free for node in nodes),
        lost=sum(node.lost for node in nodes),
        drained=sum(node.drained for node in nodes),
        util=util / known if known else None,
        measured=known,
        why=next((node.why for node in nodes if node.why), ""),
        lost_nodes=tuple(short_name(node.name) for node in nodes if node.name and node.lost == node.devices),
        waiting=sum(node.waiting for node in nodes),
        held=sum(node.held for node in nodes),
        waits=next((node.waits for node in sorted(nodes, key=lambda node: not node.held) if node.waits), ""),
    )


def group_words(group: Group) -> list[Span]:
    """`H100-80GB 13/16 busy · util 93% · 1 lost · 2 free: paused`."""
    spans: list[Span] = [(group.name, Role.TEXT), (f" {group.busy}/{group.devices} busy", Role.MUTED)]
    if group.util is not None:
        spans.append((f" · util {group.util:.0%}", Role.OBSERVED))
    if group.lost:
        lost = "all" if group.lost == group.devices else group.lost
        named = f" ({', '.join(group.lost_nodes[:LOST_NODES])})" if group.lost_nodes else ""
        spans.append((f" · {lost} lost{named}", Role.LOST))
    if group.held:
        spans.append((f" · {group.held} {group.waits}", Role.FAILED))
    if group.waiting:
        why = "wait" if group.held else group.waits.replace("waits", "wait", 1)
        spans.append((f" · {group.waiting} {why}", Role.WAITING))
    if group.drained:
        spans.append((f" · {group.drained} drained", Role.WAITING))
    if group.free:
        why = f": {group.why}" if group.why else ""
        spans.append((f" · {group.free} free{why}", Role.MUTED))
    return spans
