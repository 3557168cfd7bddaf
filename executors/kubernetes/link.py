"""The cluster as one session sees it: the connection, what is watched, its devices, and how it fares."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from core.executor import Device, Emit, ExecutorConfig, ExecutorError
from core.registry import cluster_factory
from executors.kubernetes import names, tasks
from executors.kubernetes.access import Access
from executors.kubernetes.attempts import Json
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.fleet import Caps, Fleet
from executors.kubernetes.janitor import persist
from executors.kubernetes.nodes import devices as devices_of
from executors.kubernetes.notices import Notices
from executors.kubernetes.reflector import Reflector
from executors.kubernetes.settings import KubeSettings

OLDEST: Final = (1, 31)
"""Since then a Job says in its own status why its pod was ended (podFailurePolicy is stable)."""
AWAY_S: Final = 30.0
"""Real seconds without the API before a person hears of it: shorter gaps are every cluster's daily life."""
_PACE_S: Final = 0.25
_STILL: Final = 4
"""Looks that find time standing still before it counts as a pause."""

OnChange = Callable[[str, str, Json], None]


class Link:
    """Connects, watches the session's Jobs and pods, the namespace's events and the nodes.

    Args:
        config, settings: of the session.
        on_change: takes (kind, change, object) of the session's own objects.
        on_devices: takes changes of devices.
        emit: takes what is told of the cluster as a whole.
    """

    def __init__(
        self,
        config: ExecutorConfig,
        settings: KubeSettings,
        on_change: OnChange,
        on_devices: Callable[[Sequence[tuple[str, Any]]], None],
        emit: Emit,
    ) -> None:
        self._config, self._settings = config, settings
        self._on_change, self._on_devices = on_change, on_devices
        self.notices = Notices(emit)
        self.fleet = Fleet(Caps(config.gpus), config.clock, config.session_dir / "kubernetes-nodes.json")
        self._reflectors: dict[str, Reflector] = {}
        self._away: dict[str, tuple[float, asyncio.TimerHandle]] = {}  # kind: (since, when a person hears of it)
        self._tasks: list[asyncio.Task[None]] = []
        self._nodes_seen = False
        self._node_look: asyncio.TimerHandle | None = None

    async def open(self) -> list[Device]:
        """Connect and see what is there. Raises ExecutorError."""
        access = await self._access()
        self.cluster = await Cluster.connect(
            access, in_flight=self._settings.in_flight, submit_per_s=self._settings.submit_per_s
        )
        try:
            await self._check_version()
            await self._watch()
            if self._settings.endpoint:
                self._tasks.append(tasks.begin(self._keep_pace()))
            return await self._find_devices()
        except BaseException:
            await self.close()
            raise

    def begin(self) -> None:
        """The engine listens now."""
        self.notices.begin()

    def known(self) -> Iterator[tuple[str, Json]]:
        """The session's own objects, as they are known now: Jobs first."""
        for kind in ("jobs", "pods", "events"):
            for obj in self._reflectors[kind].objects():
                if kind == "events" or self.is_mine(obj):
                    yield kind, obj

    def is_mine(self, obj: Json) -> bool:
        """Whether an object was made by this session: others may carry our labels."""
        annotations = obj["metadata"].get("annotations") or {}
        return bool(annotations.get(names.SESSION) == self._config.session)

    def pod_there(self, uid: str) -> bool:
        """Whether a pod is still in the cluster, as far as is known."""
        return any(pod["metadata"]["uid"] == uid for pod in self._reflectors["pods"].objects())

    async def pods_of(self, job: str) -> list[Json]:
        """The pods that a Job has in the cluster now, asked for until there is an answer. Raises KubeError."""
        found: list[Json] = []

        async def ask() -> None:
            found[:] = (await self.cluster.list("pods", labels=f"batch.kubernetes.io/job-name={job}")).items

        await persist(ask)
        return [pod for pod in found if self.is_mine(pod)]

    async def close(self, *, over: bool = False) -> None:
        """Let go of the cluster; a simulated one is told where the session is `over`."""
        if over and self._settings.endpoint:
            with contextlib.suppress(KubeError):
                await self.cluster.post_raw("/sim/over", {})
        for _, handle in self._away.values():
            handle.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.cluster.close()

    # -- connecting

    async def _access(self) -> Access:
        settings = self._settings
        if not settings.endpoint:
            return Access.resolve(settings.kubeconfig, settings.context, settings.namespace)
        config = self._config
        path = await asyncio.to_thread(
            cluster_factory(settings.endpoint),
            config.session_dir,
            config.gpus,
            config.seed,
            config.options,
            start_s=config.clock.now(),
            speed=config.clock.rate,
        )
        return Access.resolve(str(path), None, "")

    async def _check_version(self) -> None:
        """Refuse a server whose Jobs do not say why their pods ended. Raises ExecutorError."""
        try:
            text = await self.cluster.version()
        except KubeError:
            return  # it answered a moment ago: what comes next will say what is wrong
        found = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
        if len(found) == len(OLDEST) and found < OLDEST:
            raise ExecutorError(f"the server is Kubernetes {text}: it has to be {OLDEST[0]}.{OLDEST[1]} or newer")

    async def _watch(self) -> None:
        """List everything once and watch it from there. Raises ExecutorError."""
        label = f"{names.RUN}={names.run8(self._config.session)}"
        wanted = {"jobs": label, "pods": label, "events": "", "nodes": ""}
        for kind, labels in wanted.items():
            self._reflectors[kind] = Reflector(
                self.cluster, kind, labels, self._changed(kind), functools.partial(self._state, kind)
            )
            self._tasks.append(tasks.begin(self._reflectors[kind].run()))
        for kind in ("jobs", "pods", "events"):
            await self._synced(kind)
        self._nodes_seen = await self._reflectors["nodes"].synced()

    async def _synced(self, kind: str) -> None:
        """Wait for the first list. Raises ExecutorError where it is refused."""
        if not await self._reflectors[kind].synced():
            why = self._reflectors[kind].refusal
            raise ExecutorError(
                f"{kind} in the namespace {self.cluster.namespace} cannot be watched: {why}; "
                "`autoresearch-tui doctor --kubernetes` names what is missing"
            )

    def _changed(self, kind: str) -> Callable[[str, Json], None]:
        if kind == "nodes":
            return lambda _change, _obj: self._on_node()
        if kind == "events":
            return lambda change, obj: self._on_change(kind, change, obj)
        return lambda change, obj: self._on_change(kind, change, obj) if self.is_mine(obj) else None

    # -- devices

    async def _find_devices(self) -> list[Device]:
        """The devices that nodes have, or that the user names where nodes are not shown. Raises ExecutorError."""
        if not self._nodes_seen:
            self.fleet.fix(Caps(self._config.gpus).slots())
            return self.fleet.devices
        most = await self._quota()
        self.fleet.most = most
        found, refused = devices_of(self._reflectors["nodes"].objects(), self._settings)
        self.fleet.take_nodes(found)
        if self.fleet.devices:
            return self.fleet.devices
        if most == 0:
            raise ExecutorError(
                f"the quota of the namespace {self.cluster.namespace} allows no {self._settings.gpu_resource}: "
                "ask its administrator for some"
            )
        why = "; ".join(dict.fromkeys(refusal.reason for refusal in refused)) or (
            f"no node offers {self._settings.gpu_resource}"
        )
        asked = f" that --gpus {self._config.gpus} names" if self._config.gpus and found else ""
        raise ExecutorError(f"there is no device in this cluster{asked}: {why}")

    async def _quota(self) -> int | None:
        """How many GPUs the namespace's quotas allow; None where they set no bound, or cannot be seen."""
        try:
            quotas = (await self.cluster.list("resourcequotas")).items
        except KubeError:
            return None
        name = f"requests.{self._settings.gpu_resource}"
        bounds = [quota.get("spec", {}).get("hard", {}).get(name) for quota in quotas]
        numbers = [int(bound) for bound in bounds if bound is not None and str(bound).isdecimal()]
        return min(numbers, default=None)

    def _on_node(self) -> None:
        """A node changed: look at all of them once the burst is over."""
        if self._node_look is None and self._nodes_seen:
            self._node_look = asyncio.get_running_loop().call_later(0.05, self._look_at_nodes)

    def _look_at_nodes(self) -> None:
        self._node_look = None
        found, _ = devices_of(self._reflectors["nodes"].objects(), self._settings)
        self._on_devices(self.fleet.take_nodes(found))

    # -- how the cluster fares

    def _state(self, kind: str, up: bool, why: str) -> None:
        """A watch lost or found its server, or has another reason why it cannot reach it."""
        loop = asyncio.get_running_loop()
        since_s, handle = self._away.pop(kind, (loop.time(), None))
        if handle is not None:
            handle.cancel()
        if up:
            if not self._away:
                self.notices.say("api", "", "info")
            return
        at_s = since_s + (0.0 if self.cluster.refused_credentials else AWAY_S)
        self._away[kind] = since_s, loop.call_at(at_s, self.notices.say, "api", _away_sentence(why), "error")

    async def _keep_pace(self) -> None:
        """Let a simulated cluster's time flow as the session's: a person changes its speed, a live model slows it."""
        told, still = self._config.clock.rate, 0
        while True:
            await asyncio.sleep(_PACE_S)
            rate = self._config.clock.rate
            still = still + 1 if rate == 0.0 else 0
            if rate == told or 0 < still < _STILL:  # a computation freezes the session for an instant: not a pause
                continue
            with contextlib.suppress(KubeError):
                await self.cluster.post_raw("/sim/speed", {"speed": rate})
                told = rate


def _away_sentence(why: str) -> str:
    return f"the Kubernetes API does not answer ({why}); runs go on, and are seen to once it is back"
