"""What the executor knows of one attempt: its objects in the cluster, and which of its events were told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from core.executor import AttemptSpec

LIFE: Final = 1000
"""Event numbers of one life of an attempt: a pod that the queue took back and gave again begins another."""
STARTED: Final = 100
FINISHED: Final = LIFE - 1
_MOST_EVENTS: Final = 24

Json = dict[str, Any]


@dataclass
class Attempt:
    """One attempt from its order to the end of its objects.

    Event numbers are a function of what happened, not of who looked: within life `g`, waiting is told by `1000 g + 1`
    to `+ 99`, the start by `+ 100`, the pod's line `n` by `+ 100 + n` and the end by `+ 999`, so that an engine that
    comes later tells nothing twice.

    Args:
        spec: as ordered.
        name: of its Job and ConfigMap.
        told: the highest number that the engine has.
        life: counts how often the queue took it back.
        started: whether the present life has told its start.
        cancelled: why it was asked to end.
        ended: nothing more will be told of it.
    """

    spec: AttemptSpec
    name: str
    told: int = 0
    life: int = 0
    started: bool = False
    cancelled: str | None = None
    ended: bool = False
    waiting: str = ""
    held: bool = False
    device: str = ""
    job: Json | None = None
    job_gone: bool = False
    pods: dict[str, Json] = field(default_factory=dict)
    pods_gone: set[str] = field(default_factory=set)
    events: list[Json] = field(default_factory=list)
    waiting_since_s: float = 0.0
    hold_kind: str = ""
    hold_since_s: float = 0.0
    posting: bool = False
    completing: bool = False
    complete_at_s: float = -math.inf
    log_whole: bool = False
    pod_absent: bool = False  # it was looked for, and the cluster has none
    seeking: bool = False
    forced: set[str] = field(default_factory=set)  # uids of its pods that are deleted by force, should they linger
    old: set[str] = field(default_factory=set)  # uids of its Jobs that were taken back

    def resume(self, last_seq: int, *, started: bool) -> None:
        """Go on after the last number that the journal has."""
        self.told, self.life, self.started = last_seq, last_seq // LIFE, started

    @property
    def pod(self) -> Json | None:
        """The newest pod of its Job."""
        if not self.pods:
            return None
        return max(self.pods.values(), key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), _version(pod)))

    @property
    def pod_gone(self) -> bool:
        """Whether the newest pod was deleted from the cluster."""
        pod = self.pod
        return pod is not None and pod["metadata"]["uid"] in self.pods_gone

    @property
    def ever_started(self) -> bool:
        """Whether a pod of it is known to have run, in this life or an earlier one."""
        return self.started or self.told >= STARTED

    @property
    def is_gone(self) -> bool:
        """Whether nothing of it is in the cluster, nor on its way there."""
        there = (self.job is not None and not self.job_gone) or any(uid not in self.pods_gone for uid in self.pods)
        return not there and not self.posting

    def is_old(self, obj: Json) -> bool:
        """Whether an object is, or belongs to, a Job that was taken back."""
        owners = {owner.get("uid") for owner in obj["metadata"].get("ownerReferences", ())}
        return bool(self.old & (owners | {obj["metadata"]["uid"], obj.get("involvedObject", {}).get("uid")}))

    def take(self, kind: str, change: str, obj: Json) -> None:
        """Take a change of one of its objects."""
        if kind == "jobs":
            if self.job is None or obj["metadata"]["uid"] == self.job["metadata"]["uid"] or self.job_gone:
                self.job, self.job_gone = obj, change == "DELETED"
        elif kind == "pods":
            uid = obj["metadata"]["uid"]
            self.pods[uid] = obj
            if change == "DELETED":
                self.pods_gone.add(uid)
        elif change != "DELETED":
            self._take_event(obj)

    def forget_objects(self) -> None:
        """Its Job was taken back: what comes next is another one of the same name."""
        self.job, self.job_gone, self.pod_absent = None, False, False
        self.pods.clear()
        self.pods_gone.clear()
        self.events.clear()

    def next_waiting(self) -> int | None:
        """The number of the next event that says why it waits; None once a life has told enough of that."""
        base = self.life * LIFE
        number = max(self.told, base) + 1
        return number if number < base + STARTED else None

    def begin_life(self) -> None:
        """The queue took its pod back after the start: it begins anew."""
        self.life += 1
        self.started = False

    def _take_event(self, obj: Json) -> None:
        name = obj["metadata"]["name"]
        self.events = [known for known in self.events if known["metadata"]["name"] != name][-_MOST_EVENTS:]
        self.events.append(obj)


def _version(obj: Json) -> int:
    """A resource version as a number, which every etcd-backed server hands out; 0 where it is none."""
    text = str(obj["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0
