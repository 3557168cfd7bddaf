"""Runs a Job of our own, such as a canary, to its end, and leaves nothing of it in the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from core.executor import AttemptSpec
from executors.kubernetes import manifest, names
from executors.kubernetes.classify import classify
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.janitor import persist
from executors.kubernetes.seen import Seen
from executors.output import sentence

_LOOK_S: Final = 0.5
_DELETE_S: Final = 15.0
_LAST_LINES_S: Final = 2.0

Json = dict[str, Any]


class Patience(NamedTuple):
    """Real seconds to wait: for a place in the cluster, for what seems broken to mend itself, and in all."""

    placed_s: float
    broken_s: float
    longest_s: float


class Stuck(Exception):
    """The Job did not come to its end; the text is a sentence. `busy`: only for want of room, nothing is wrong."""

    def __init__(self, sentence: str, *, busy: bool = False) -> None:
        super().__init__(sentence)
        self.busy = busy


class Told(NamedTuple):
    """How the Job's pod ended, and its last word."""

    seen: Seen
    message: str


def errand_spec(budget_s: float) -> AttemptSpec:
    """What stands for an attempt where a Job is nobody's run."""
    return AttemptSpec("r0", "r0.1", "", "", "", "", 0, budget_s, 0.0)


def unique(word: str) -> str:
    """A name for an errand that nothing else in the cluster has."""
    return f"{word}-{int(time.time())}-{os.urandom(4).hex()}"


class Errand:
    """One Job.

    Args:
        cluster: see client.
        body: the Job; its pod's main container may leave a last word.
        patience: see there.
        inputs: the files of a ConfigMap of the Job's name, if it mounts one.
        on_news: takes a sentence whenever the Job waits for something else.
        on_line: takes each line that its pod prints.
    """

    def __init__(
        self,
        cluster: Cluster,
        body: Json,
        patience: Patience,
        *,
        inputs: Mapping[str, str] | None = None,
        on_news: Callable[[str], None] = lambda _: None,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        self._cluster, self._body, self._patience, self._inputs = cluster, body, patience, inputs
        self._on_news, self._on_line = on_news, on_line
        self._name = str(body["metadata"]["name"])
        self._row, self._row_since_s = "", 0.0
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> Told:
        """Create the Job, wait for its end, and delete it in any case. Raises Stuck."""
        try:
            return await self._to_the_end()
        except KubeError as error:
            raise Stuck(f"the cluster does not go along: {error}") from None
        finally:
            if self._reading is not None:
                self._reading.cancel()
            await asyncio.shield(self._delete())

    async def _delete(self) -> None:
        """By name alone: it is ours alone, and a creation that was cut short may have made it."""
        with contextlib.suppress(KubeError, TimeoutError):
            async with asyncio.timeout(_DELETE_S):  # its deadline and its TTL do it where we cannot
                await persist(lambda: self._cluster.delete("jobs", self._name))

    async def _to_the_end(self) -> Told:
        try:
            job = (await self._cluster.create("jobs", self._body)).object
        except KubeError as error:
            raise Stuck(f"its Job is refused: {error}") from None
        if self._inputs is not None:
            session = str(self._body["metadata"]["annotations"][names.SESSION])
            inputs = manifest.attempt_configmap(self._name, session, errand_spec(0.0), self._inputs, job)
            await self._cluster.create("configmaps", inputs)
        begun_s, said, pod = time.monotonic(), "", None
        while True:
            job, pod, deleted = await self._look(job, pod)
            events = [one for one in (await self._cluster.list("events")).items if names.job_of(one) == self._name]
            seen = classify("r0.1", job, pod, events, cancelled_by_us=False, deleted=deleted)
            if seen.phase == "ended":
                await self._read_to_the_end(pod)
                return Told(seen, _last_word(pod))
            self._lose_patience(seen, time.monotonic(), begun_s)
            if (words := seen.reason or seen.phase) != said:
                said = words
                self._on_news(words)
            if seen.phase == "running" and pod is not None and self._on_line is not None and self._reading is None:
                self._reading = asyncio.ensure_future(self._read(str(pod["metadata"]["name"]), self._on_line))
            await asyncio.sleep(_LOOK_S)

    async def _look(self, job: Json, pod: Json | None) -> tuple[Json, Json | None, bool]:
        """The Job and its pod as they are now, and whether the pod that there was is gone."""
        try:
            job = await self._cluster.get("jobs", self._name)
        except KubeError as error:
            if error.status == 404:
                raise Stuck("somebody deleted its Job") from None
            raise
        found = (await self._cluster.list("pods", labels=f"job-name={self._name}")).items
        return job, found[0] if found else pod, pod is not None and not found

    def _lose_patience(self, seen: Seen, now_s: float, begun_s: float) -> None:
        """Raises Stuck where waiting longer will not help."""
        if seen.row != self._row:
            self._row, self._row_since_s = seen.row, now_s
        words = seen.reason or seen.phase
        if seen.hold and now_s - self._row_since_s >= min(seen.hold_after_s, self._patience.broken_s):
            raise Stuck(words)
        if seen.phase in ("queued", "waiting") and now_s - begun_s >= self._patience.placed_s:
            raise Stuck(f"it got no place within {self._patience.placed_s:g} s: {words}", busy=not seen.hold)
        if now_s - begun_s >= self._patience.longest_s:
            raise Stuck(f"it did not end within {self._patience.longest_s:g} s: {words}")

    async def _read(self, pod: str, on_line: Callable[[str], None]) -> None:
        with contextlib.suppress(KubeError):  # lines are a comfort: the last word comes with the pod's status
            async for _, line in self._cluster.follow_log(pod):
                on_line(sentence(line))

    async def _read_to_the_end(self, pod: Json | None) -> None:
        """What came since the last look, of a pod that was over before it could be followed all of it."""
        if self._reading is None and self._on_line is not None and pod is not None:
            self._reading = asyncio.ensure_future(self._read(str(pod["metadata"]["name"]), self._on_line))
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_LAST_LINES_S)


def _last_word(pod: Json | None) -> str:
    for one in ((pod or {}).get("status") or {}).get("containerStatuses") or ():
        if one.get("name") == names.TRAINER:
            return str(((one.get("state") or {}).get("terminated") or {}).get("message") or "")
    return ""
