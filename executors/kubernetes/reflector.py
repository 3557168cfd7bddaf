"""Keeps a copy of the cluster's objects of one kind: list, watch from there, and both again after any trouble."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from executors.kubernetes.client import WATCH_S, Cluster, KubeError

RELIST_S: Final = 300.0
"""Real seconds after which everything is listed anew, in case a server forgot to tell something."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_LASTED_S: Final = 5.0
"""A watch that lived so long was one, even if there was nothing to tell; one that ends at once is trouble."""
_STALE_LISTS: Final = 3
"""Lists older than what was known before, after which the cluster must have been restored from a backup."""
_REFUSALS: Final = frozenset({403, 404, 405})

Json = dict[str, Any]


class Reflector:
    """Follows the objects of a kind over lost connections, expired histories and servers that come back.

    Args:
        cluster: see client.
        kind: by plural name, such as `pods`.
        labels: a selector; empty for all.
        on_change: takes (ADDED, MODIFIED or DELETED, object). What was missed while nobody watched is told on the
            next list, a deletion with the last state that was known.
        on_state: told (True, "") when the copy is fresh again, (False, why) when it may be stale, or why changes.
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
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[bool] = self._loop.create_future()
        self._told: tuple[bool, str] | None = None
        self._version = ""  # where the next watch begins; empty: list first
        self._newest = ""  # the newest version that was ever heard of
        self._stale = 0
        self._heard = False
        self._relist_at_s = 0.0
        self.refusal = ""
        self.lists = 0
        self.watches = 0

    def objects(self) -> Iterable[Json]:
        """The copy."""
        return list(self._known.values())

    async def synced(self) -> bool:
        """Wait for the first list; False where the server refuses it, with the reason in `refusal`.

        An exception of `on_change` in that list is raised here too, so that nobody waits for ever.
        """
        return await asyncio.shield(self._first)

    async def run(self) -> None:
        """Follow until cancelled, or refused before the first list. Raises what the callbacks raise."""
        try:
            await self._follow()
        except Exception as error:
            if not self._first.done():
                self._first.set_exception(error)
                self._first.exception()  # whoever runs us hears of it in any case
            raise
        finally:
            if not self._first.done():
                self._first.cancel()

    async def _follow(self) -> None:
        bound_s = self._pauses_s[0]
        while True:
            begun_s, self._heard = self._loop.time(), False
            trouble = await self._round()
            if self.refusal:
                return
            lasted = self._loop.time() - begun_s >= min(_LASTED_S, self._watch_s / 2)
            if self._heard or lasted:
                bound_s = self._pauses_s[0]
            if trouble is None and lasted:
                continue  # it ended as watches do
            if trouble is not None and (trouble.status == 410 or not (self._heard or lasted)):
                self._version = ""  # its history is gone, or it may not be the server that it was
            asked_s = min((trouble and trouble.retry_after_s) or 0.0, self._pauses_s[1])
            await asyncio.sleep(asked_s + random.uniform(0.0, bound_s))  # noqa: S311  jitter is no secret
            bound_s = min(self._pauses_s[1], bound_s * 2)

    async def _round(self) -> KubeError | None:
        """List if need be, and watch once; the trouble that ended it."""
        try:
            if not self._version or self._loop.time() >= self._relist_at_s:
                await self._list()
            await self._watch()
        except KubeError as error:
            if error.status in _REFUSALS and not self._first.done():
                self.refusal = error.message
                self._first.set_result(False)
            elif error.status != 410:
                self._tell(up=False, why=error.message)
            return error
        return None

    def _tell(self, *, up: bool, why: str = "") -> None:
        if self._told != (up, why):
            self._told = (up, why)
            self._on_state(up, why)

    async def _list(self) -> None:
        """Take the objects of one moment, and tell what is different from what was known."""
        listing = await self._cluster.list(self._kind, labels=self._labels, tries=1)
        self.lists += 1
        restored = _older(listing.resource_version, self._newest)
        if restored and self._stale < _STALE_LISTS:
            self._stale += 1
            raise KubeError(0, "Stale", f"the server's {self._kind} are older than what it told before")
        self._stale = 0
        there = {obj["metadata"]["uid"]: obj for obj in listing.items}
        for uid in [uid for uid in self._known if uid not in there]:
            self._on_change("DELETED", self._known.pop(uid))
        for uid, obj in there.items():
            self._take(uid, obj)
        self._version = self._newest = listing.resource_version
        self._relist_at_s = self._loop.time() + RELIST_S * random.uniform(0.8, 1.2)  # noqa: S311
        self._tell(up=True)
        if not self._first.done():
            self._first.set_result(True)

    async def _watch(self) -> None:
        """Take changes from where the last watch or list ended."""
        self.watches += 1
        changes = self._cluster.watch(
            self._kind,
            self._version,
            labels=self._labels,
            timeout_s=self._watch_s,
            on_open=lambda: self._tell(up=True),
        )
        async with contextlib.aclosing(changes):
            async for what, obj in changes:
                version = str(obj["metadata"]["resourceVersion"])
                if _older(version, self._version):
                    raise KubeError(0, "Stale", f"the server told of {self._kind} what is older than it told before")
                self._version = self._newest = version
                self._heard = True
                uid = obj["metadata"].get("uid", "")
                if what == "DELETED" and self._known.pop(uid, None) is not None:
                    self._on_change(what, _lean(obj))
                elif what in ("ADDED", "MODIFIED"):
                    self._take(uid, obj)

    def _take(self, uid: str, obj: Json) -> None:
        """Take one state of an object, unless it is the one that is known."""
        known = self._known.get(uid)
        if known is not None and known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        self._known[uid] = _lean(obj)
        self._on_change("ADDED" if known is None else "MODIFIED", obj)


def _lean(obj: Json) -> Json:
    """Without who wrote which field: half of an object's size, and nothing that we ask."""
    obj["metadata"].pop("managedFields", None)
    return obj


def _older(one: str, other: str) -> bool:
    """Whether a resource version is below another one, where both are numbers (as etcd's are)."""
    return one.isdecimal() and other.isdecimal() and int(one) < int(other)
