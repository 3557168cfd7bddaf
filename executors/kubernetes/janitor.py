"""Cleans up in the cluster: what has ended, what was taken back, what a dead engine left, pods of dead nodes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from core.clock import Clock
from executors.kubernetes import tasks
from executors.kubernetes.client import Cluster, KubeError

LINGERS_S: Final = 60.0
"""A deleted pod that is still there after this many session seconds is on a node that does not answer (measured: such a
pod stays until somebody forces it).
"""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0

Json = dict[str, Any]


class Janitor:
    """Deletes only what it is told to, by name and uid, and keeps trying while the API is away.

    Args:
        cluster: see client.
        clock: session time.
        pod_there: whether a pod of that uid is still in the cluster, as far as is known.
        tell: takes one sentence for the engine's log.
    """

    def __init__(
        self, cluster: Cluster, clock: Clock, pod_there: Callable[[str], bool], tell: Callable[[str], None]
    ) -> None:
        self._cluster, self._clock, self._pod_there, self._tell = cluster, clock, pod_there, tell
        self._tasks: set[asyncio.Task[None]] = set()
        self._tickets = 0

    def remove(self, kind: str, obj: Json, *, after: Callable[[], Awaitable[None]] | None = None) -> None:
        """Delete an object, and what it owns; first comes what `after` does."""
        self.do(lambda: self._remove(kind, obj, after))

    def force_later(self, pod: Json) -> None:
        """Delete a pod for good, should it linger."""
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        self._tickets += 1

        def force() -> None:
            if self._pod_there(uid):
                self._tell(f"pod {name} does not go by itself: its node does not answer; it is deleted by force")
                self.do(lambda: self._force(name, uid))

        self._clock.call_at(self._clock.now() + LINGERS_S, ("kubernetes-force", 0, self._tickets), force)

    def do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something in the background, until it is done."""
        task = tasks.begin(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self, longest_s: float) -> bool:
        """Wait for all of it; False where that took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                while self._tasks:
                    await asyncio.wait(set(self._tasks))
        return not self._tasks

    def stop(self) -> None:
        """Leave the rest to a later engine."""
        for task in self._tasks:
            task.cancel()

    async def remove_all(self, kind: str, labels: str, mine: Callable[[Json], bool]) -> int:
        """Delete everything of a kind that is ours; how many there were. Raises KubeError."""
        found = [obj for obj in (await self._cluster.list(kind, labels=labels)).items if mine(obj)]
        await asyncio.gather(*(self._delete(kind, obj) for obj in found))
        return len(found)

    async def _remove(self, kind: str, obj: Json, after: Callable[[], Awaitable[None]] | None) -> None:
        if after is not None:
            await after()
        await persist(lambda: self._delete(kind, obj))

    async def _delete(self, kind: str, obj: Json) -> None:
        await self._cluster.delete(kind, obj["metadata"]["name"], uid=obj["metadata"]["uid"])

    async def _force(self, name: str, uid: str) -> None:
        await persist(lambda: self._cluster.delete("pods", name, uid=uid, grace_s=0))

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except KubeError as error:
            self._tell(f"cleaning up in the cluster failed: {error}")


async def persist(work: Callable[[], Awaitable[Any]]) -> None:
    """Do something again until the API is not in the way. Raises KubeError where it refuses."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            await work()
        except KubeError as error:
            if not error.transient:
                raise
        else:
            return
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


def uids(objects: Iterable[Json]) -> set[str]:
    """The uids of objects."""
    return {obj["metadata"]["uid"] for obj in objects}
