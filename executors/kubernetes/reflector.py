"""Keeps a copy of the cluster's objects of one kind: list, watch from there, and both again after any trouble."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from executors.kubernetes.client import WATCH_S, Cluster, KubeError

RELIST_S: Final = 300.0
"""Real seconds after which everything is listed anew, in case a server forgot to tell something."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0

Json = dict[str, Any]


class Reflector:
    """Follows the objects of a kind over lost connections, expired histories and servers that come back.

    Args:
        cluster: see client.
        kind: by plural name, such as `pods`.
        labels: a selector; empty for all.
        on_change: takes (ADDED, MODIFIED or DELETED, object). What was missed while nobody watched is told on the
            next list, a deletion with the last state that was known.
        on_state: told (True, "") when the copy is fresh again, (False, why) when it may be stale.
        watch_s, pauses_s: real seconds; tests are in more of a hurry.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        labels: str,
        on_change: Callable[[str, Json], None],
        on_state: Callable[[bool, str], None],
        *,
        watch_s: float = WATCH_S,
        pauses_s: tuple[float, float] = (_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
    ) -> None:
        self._cluster, self._kind, self._labels = cluster, kind, labels
        self._on_change, self._on_state = on_change, on_state
        self._watch_s, self._pauses_s = watch_s, pauses_s
        self._known: dict[str, Json] = {}  # by uid
        self._first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._version = ""
        self._heard = False
        self.refusal = ""
        self.lists = 0

    def objects(self) -> Iterable[Json]:
        """The copy."""
        return list(self._known.values())

    async def synced(self) -> bool:
        """Wait for the first list; False where the server refuses it, with the reason in `refusal`."""
        return await asyncio.shield(self._first)

    async def run(self) -> None:
        """Follow until cancelled, or refused."""
        pause_s = self._pauses_s[0]
        while True:
            self._heard = False
            try:
                await self._list()
                await self._watch_for_a_while()
            except KubeError as error:
                if error.status in (403, 404, 405) and not error.transient:
                    self._refuse(error.message)
                    return
                if self._heard:  # a server that only cuts every connection is as good as away
                    pause_s = self._pauses_s[0]
                if error.status != 410:  # else its history is gone: the next list tells what we missed
                    self._on_state(False, error.message)
                wait_s = max(pause_s, error.retry_after_s or 0.0)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
                pause_s = min(self._pauses_s[1], pause_s * 2)

    async def _list(self) -> None:
        """Take the objects of one moment, and tell what is different from what was known."""
        listing = await self._cluster.list(self._kind, labels=self._labels)
        self.lists += 1
        there = {obj["metadata"]["uid"]: obj for obj in listing.items}
        for uid in [uid for uid in self._known if uid not in there]:
            self._on_change("DELETED", self._known.pop(uid))
        for obj in listing.items:
            self._take("MODIFIED", obj)
        self._version = listing.resource_version
        self._on_state(True, "")
        if not self._first.done():
            self._first.set_result(True)

    async def _watch_for_a_while(self) -> None:
        """Watch, each time from where the last watch ended, until it is time for a fresh list."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + RELIST_S * random.uniform(0.8, 1.2)  # noqa: S311
        while loop.time() < until_s:
            async for what, obj in self._cluster.watch(
                self._kind, self._version, labels=self._labels, timeout_s=self._watch_s
            ):
                self._version = obj["metadata"]["resourceVersion"]
                self._heard = True
                if what != "BOOKMARK":
                    self._take(what, obj)

    def _take(self, what: str, obj: Json) -> None:
        """Take one state of an object, unless it is older than what is known, or the same."""
        meta = obj["metadata"]
        meta.pop("managedFields", None)
        uid = meta["uid"]
        known = self._known.get(uid)
        if known is not None and _older(meta, known["metadata"]):
            return
        if what == "DELETED":
            if self._known.pop(uid, None) is not None:
                self._on_change(what, obj)
            return
        if known is not None and known["metadata"]["resourceVersion"] == meta["resourceVersion"]:
            return
        self._known[uid] = obj
        self._on_change("ADDED" if known is None else "MODIFIED", obj)

    def _refuse(self, message: str) -> None:
        self.refusal = message
        if not self._first.done():
            self._first.set_result(False)
        else:
            self._on_state(False, message)


def _older(meta: Json, known: Json) -> bool:
    """Whether a resource version is below another one, where both are numbers (as etcd's are)."""
    one, other = str(meta["resourceVersion"]), str(known["resourceVersion"])
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)
