"""The objects of the simulated cluster, their versions, and the history that watches go on from."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from core.clock import Clock
from sim.kubernetes_api.status import Refused

HISTORY: Final = 20_000
"""Changes that are remembered; a watch from before them gets 410 Gone."""

Json = dict[str, Any]
Change = Callable[[str, str, Json], None]


class Past(NamedTuple):
    """One change."""

    version: int
    kind: str
    what: str
    obj: Json


class Store:
    """Objects as they go over the wire, by plural kind. What is handed out never changes: a change makes a new object.

    Args:
        clock: the cluster's time.
        epoch_s: the UTC second at which that time is 0.
    """

    def __init__(self, clock: Clock, epoch_s: float) -> None:
        self.clock, self.epoch_s = clock, epoch_s
        self._objects: dict[str, dict[tuple[str, str], Json]] = {}
        self._history: deque[Past] = deque()
        self._listeners: list[Change] = []
        self.version = 1
        self.oldest = 1  # the version below which nothing is remembered

    def subscribe(self, listener: Change) -> None:
        """Have (kind, ADDED|MODIFIED|DELETED, object) told after every change, at once."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Change) -> None:
        """Tell it no more."""
        self._listeners.remove(listener)

    def now_text(self, *, micro: bool = False) -> str:
        """The present moment as Kubernetes writes it."""
        at = datetime.fromtimestamp(self.epoch_s + self.clock.touch(), UTC)
        return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if micro else at.strftime("%Y-%m-%dT%H:%M:%SZ")

    # -- objects

    def create(self, kind: str, obj: Json) -> Json:
        """Add an object. Raises Refused where its name is taken."""
        meta = dict(obj["metadata"])
        if not meta.get("name"):
            meta["name"] = meta["generateName"] + _letters(f"{meta['generateName']}{self.version}")
        key = (meta.get("namespace", ""), meta["name"])
        if key in self._of(kind):
            raise Refused(409, "AlreadyExists", f'{_full(kind)} "{meta["name"]}" already exists', kind, meta["name"])
        meta["uid"] = _uid(f"{kind}/{key}/{self.version}")
        meta["creationTimestamp"] = self.now_text()
        return self._put(kind, key, {**obj, "metadata": meta}, "ADDED")

    def update(self, kind: str, obj: Json) -> Json:
        """Replace an object. Raises Refused where it is gone, or another one, or was changed in between."""
        meta = obj["metadata"]
        key = (meta.get("namespace", ""), meta["name"])
        known = self._of(kind).get(key)
        if known is None or known["metadata"]["uid"] != meta.get("uid", known["metadata"]["uid"]):
            raise Refused(404, "NotFound", f'{_full(kind)} "{meta["name"]}" not found', kind, meta["name"])
        if meta.get("resourceVersion", known["metadata"]["resourceVersion"]) != known["metadata"]["resourceVersion"]:
            text = "the object has been modified; please apply your changes to the latest version and try again"
            message = f'Operation cannot be fulfilled on {_full(kind)} "{meta["name"]}": {text}'
            raise Refused(409, "Conflict", message, kind, meta["name"])
        return known if obj == known else self._put(kind, key, obj, "MODIFIED")

    def change(self, kind: str, obj: Json, **parts: Any) -> Json | None:
        """Replace parts of the present state of an object; None where it is gone."""
        meta = obj["metadata"]
        known = self.get(kind, meta.get("namespace", ""), meta["name"])
        if known is None or known["metadata"]["uid"] != meta["uid"]:
            return None
        return self.update(kind, {**known, **parts})

    def remove(self, kind: str, namespace: str, name: str) -> Json | None:
        """Take an object away for good."""
        known = self._of(kind).pop((namespace, name), None)
        if known is None:
            return None
        self.version += 1
        last = {**known, "metadata": {**known["metadata"], "resourceVersion": str(self.version)}}
        self._tell(kind, "DELETED", last)
        return last

    def mark_deleted(self, kind: str, namespace: str, name: str, grace_s: int) -> Json | None:
        """Say of an object that it is to go within so many seconds; a shorter time than before counts."""
        known = self.get(kind, namespace, name)
        if known is None:
            return None
        meta = known["metadata"]
        if meta.get("deletionTimestamp") and meta.get("deletionGracePeriodSeconds", 0) <= grace_s:
            return known
        at = datetime.fromtimestamp(self.epoch_s + self.clock.touch() + grace_s, UTC)
        marks = {"deletionTimestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "deletionGracePeriodSeconds": grace_s}
        return self.update(kind, {**known, "metadata": {**meta, **marks}})

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """An object's present state."""
        return self._of(kind).get((namespace, name))

    def list(self, kind: str, namespace: str = "", match: Callable[[Json], bool] | None = None) -> list[Json]:
        """Objects of a kind by namespace (empty: all) and name."""
        found = sorted(self._of(kind).items())
        return [obj for (place, _), obj in found if namespace in ("", place) and (match is None or match(obj))]

    def values(self, kind: str) -> Mapping[tuple[str, str], Json]:
        """All objects of a kind by (namespace, name)."""
        return self._of(kind)

    # -- history

    def since(self, version: int, kind: str) -> Iterator[Past]:
        """The changes of a kind after a version. Raises Refused where they are forgotten."""
        if version < self.oldest:
            message = f"too old resource version: {version} ({self.oldest})"
            raise Refused(410, "Expired", message)
        return (past for past in self._history if past.version > version and past.kind == kind)

    def compact(self, version: int | None = None) -> None:
        """Forget what was before a version; by default all."""
        self.oldest = self.version if version is None else version
        while self._history and self._history[0].version <= self.oldest:
            self._history.popleft()

    def _of(self, kind: str) -> dict[tuple[str, str], Json]:
        return self._objects.setdefault(kind, {})

    def _put(self, kind: str, key: tuple[str, str], obj: Json, what: str) -> Json:
        self.version += 1
        fresh = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
        self._of(kind)[key] = fresh
        self._tell(kind, what, fresh)
        return fresh

    def _tell(self, kind: str, what: str, obj: Json) -> None:
        self._history.append(Past(self.version, kind, what, obj))
        if len(self._history) > HISTORY:
            self.oldest = self._history.popleft().version
        for listener in list(self._listeners):
            listener(kind, what, obj)


def _uid(text: str) -> str:
    digits = hashlib.sha256(text.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


def _letters(text: str) -> str:
    """Five characters as Kubernetes appends them to a generated name."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    digest = hashlib.sha256(text.encode()).digest()
    return "".join(alphabet[byte % len(alphabet)] for byte in digest[:5])


def _full(kind: str) -> str:
    return f"{kind}.batch" if kind == "jobs" else kind
