"""Events: what the cluster's parts say about objects; the same thing said again is counted, not repeated."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sim.kubernetes_api.objects import Obj, name_of, namespace_of, rfc3339_micro, uid_of
from sim.kubernetes_api.store import Store

_KEEP_S: Final = 3_600.0
"""As long as an API server keeps events by default."""


class Recorder:
    """Writes events into the store, and takes them out after an hour."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, ...], tuple[str, str, float]] = OrderedDict()
        self._number = 0

    def say(
        self,
        about: Obj,
        reason: str,
        message: str,
        *,
        by: str,
        host: str = "",
        warning: bool = False,
        again: bool = True,
    ) -> None:
        """Say something about an object.

        Args:
            about: a Job, a pod or a node.
            by: the component; `host` the node it speaks from.
            again: whether a repetition raises the first event's count; otherwise it is an event of its own.
        """
        key = (uid_of(about), reason, message, by)
        known = self._known.get(key)
        found = self._store.get("events", known[0], known[1]) if known is not None and again else None
        if found is not None:
            self._store.update("events", {**found, **self._once_more(found)})
            return
        body = self._event(about, reason, message, by, host, warning)
        self._store.create("events", body)
        self._known.pop(key, None)
        self._known[key] = (namespace_of(body), name_of(body), self._store.clock.now())
        self._forget_old()

    def _once_more(self, event: Obj) -> Obj:
        """What changes of an event that is said again, in its dialect."""
        if event.get("eventTime") is None:
            return {"count": event["count"] + 1, "lastTimestamp": self._store.now_text()}
        now_s = self._store.epoch_s + self._store.clock.now()
        count = (event.get("series") or {"count": 1})["count"] + 1
        return {"series": {"count": count, "lastObservedTime": rfc3339_micro(now_s)}}

    def _event(self, about: Obj, reason: str, message: str, by: str, host: str, warning: bool) -> Obj:
        self._number += 1
        now_s = self._store.epoch_s + self._store.clock.now()
        now = self._store.now_text()
        namespace = namespace_of(about) or "default"
        involved: Obj = {
            "kind": about.get("kind", ""), "namespace": namespace_of(about), "name": name_of(about),
            "uid": uid_of(about), "apiVersion": about.get("apiVersion", ""),
            "resourceVersion": about["metadata"].get("resourceVersion", ""),
        }  # fmt: skip
        if by == "kubelet" and about.get("kind") == "Pod":
            involved["fieldPath"] = f"spec.containers{{{about['spec']['containers'][0]['name']}}}"
        name = f"{name_of(about)}.{int(now_s * 1e6) * 1000 + self._number % 1000:016x}"
        body: Obj = {
            "kind": "Event", "apiVersion": "v1", "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "reason": reason, "message": message,
        }  # fmt: skip
        kind = "Warning" if warning else "Normal"
        if by == "default-scheduler":  # speaks the newer of the two dialects
            action = {"Scheduled": "Binding", "Preempted": "Preempting"}.get(reason, "Scheduling")
            return body | {
                "source": {}, "firstTimestamp": None, "lastTimestamp": None, "type": kind,
                "eventTime": rfc3339_micro(now_s), "action": action, "reportingComponent": by,
                "reportingInstance": f"{by}-0",
            }  # fmt: skip
        return body | {
            "source": {"component": by} | ({"host": host} if host else {}), "firstTimestamp": now,
            "lastTimestamp": now, "count": 1, "type": kind, "eventTime": None, "reportingComponent": by,
            "reportingInstance": host,
        }  # fmt: skip

    def _forget_old(self) -> None:
        now_s = self._store.clock.now()
        while self._known:
            key, (namespace, name, t_s) = next(iter(self._known.items()))
            if now_s - t_s < _KEEP_S:
                return
            del self._known[key]
            self._store.remove("events", namespace, name)
