"""One simulated cluster behind one socket: everything wired together, and handles for those who test against it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from aiohttp import web

from core.clock import Clock
from core.executor import Device
from sim.kubernetes_api.cluster import NAMESPACE, World, furnish
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.http import MOST_BODY_BYTES, Api, User
from sim.kubernetes_api.jobs import JobController
from sim.kubernetes_api.kubelet import Container, Kubelet
from sim.kubernetes_api.scheduler import Scheduler
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.surrogate import Surrogate
from sim.world.world import World as Course

TOKEN: Final = "simulated"  # noqa: S105  it opens nothing but a simulation

Json = dict[str, Any]


class ApiServer:
    """A cluster and its API on loopback.

    Args:
        clock: the cluster's time.
        devices: its GPUs, as sim.mix names them.
        course: what becomes of attempts; None where no pod is ever to run.
        seed: of the cluster's own chance.
        rates: of sim.kubernetes_api.surrogate.KINDS.
        epoch_s: the UTC second at which the clock is 0.
        status_s: how long a Job takes to say what became of its pod.
    """

    def __init__(
        self,
        clock: Clock,
        devices: Sequence[Device],
        course: Course | None,
        *,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        epoch_s: float = 0.0,
        status_s: float = 1.0,
    ) -> None:
        self.clock, self._course, self._rates = clock, course, dict(rates or {})
        self._epoch_s = epoch_s
        self.store = Store(clock, epoch_s)
        self.world = World(self.store, clock, seed)
        self._tries: Counter[str] = Counter()
        furnish(self.store, devices)
        self.kubelet = Kubelet(self.world, self._container)
        self.scheduler = Scheduler(self.world, self.kubelet.bound)
        self.users: dict[str, User] = {TOKEN: User("researcher")}
        self.api = Api(self.store, self.world.logs, self.users, lambda: epoch_s + clock.touch(), self._own)
        self.api.delete_pod = self.kubelet.delete
        self.jobs = JobController(self.world, self.kubelet.delete, self.api.orphaned, status_s=status_s)
        self.store.subscribe(self._forget_slots)
        self._runner: web.ServerRunner | None = None
        self._site: web.TCPSite | None = None
        self.port = 0
        self.over = False
        """Whether the session that it was made for has ended."""

    async def open(self, port: int = 0) -> str:
        """Listen; returns the URL."""
        logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # clients that go away are what it is for
        server = web.Server(self.api.handle, access_log=None, client_max_size=MOST_BODY_BYTES)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        await self._listen(port)
        return f"http://127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        self.api.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def away(self, real_s: float) -> None:
        """Refuse connections for so many real seconds, as an API server does that is replaced."""
        if self._runner is None or self._site is None:
            raise AssertionError("it does not listen")
        await self._site.stop()
        server = self._runner.server
        for connection in list(server.connections) if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(real_s)
        await self._listen(self.port)

    def kubeconfig(self, path: Path, *, token: str = TOKEN, namespace: str = NAMESPACE) -> Path:
        """Write a kubeconfig for this server, for this user alone."""
        name = "simulated"
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        }  # fmt: skip
        partial = path.with_name(f"{path.name}.partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            yaml.safe_dump(config, file)
        partial.replace(path)
        return path

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        self.port = self._site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    def _container(self, kubelet: Kubelet, pod: Json) -> Container:
        if self._course is None:
            raise AssertionError("this cluster runs no pods")
        job = str((pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name"))
        self._tries[job] += 1
        return Surrogate(self.world, self._course, self._rates, kubelet, pod, self._tries[job] - 1)

    def _forget_slots(self, kind: str, what: str, obj: Json) -> None:
        if kind == "pods" and (what == "DELETED" or (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")):
            self.world.slots.get((obj.get("spec") or {}).get("nodeName", ""), {}).pop(obj["metadata"]["uid"], None)

    async def _own(self, path: str, body: Json) -> Json:
        """Requests to the simulation itself."""
        if path == "/sim/speed":
            self._pace(float(body["speed"]))
        elif path == "/sim/faults" and "away_s" in body:
            self._away = asyncio.ensure_future(self._soon_away(float(body["away_s"])))
        elif path == "/sim/faults":
            self.api.faults.clear()
            for fault in body.get("faults") or ():
                self.api.faults.add(msgspec.convert(fault, Fault))
        elif path == "/sim/over":
            self.over = True
        elif path == "/sim/node":
            (self.kubelet.lose_node if body["lost"] else self.kubelet.return_node)(str(body["name"]))
        return {
            "now_s": self.clock.touch(),
            "requests": self.api.requests,
            "gpus_in_use": self.scheduler.in_use(),
            "gpus_peak": self.scheduler.peak,
            "faults_met": self.api.faults.met,
        }

    async def _soon_away(self, real_s: float) -> None:
        await asyncio.sleep(0.05)
        await self.away(real_s)

    def _pace(self, speed: float) -> None:
        if speed == 0.0:
            self.clock.pause()
            return
        self.clock.resume()
        with contextlib.suppress(ValueError):  # a cluster in real time has one speed
            self.clock.set_speed(speed)
