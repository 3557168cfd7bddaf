"""One simulated cluster behind one socket: everything wired together, and handles for those who test against it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml
from aiohttp import web

from core.clock import Clock
from sim.faults import Faults, preset
from sim.kubernetes_api.admission import admit_pod
from sim.kubernetes_api.cluster import NAMESPACE, Cluster
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.http import MOST_BODY_BYTES, Api, User
from sim.kubernetes_api.store import Store
from sim.mix import Mix

TOKEN: Final = "simulated"  # noqa: S105  it opens nothing but a simulation

Json = dict[str, Any]


class ApiServer:
    """A cluster and its API on loopback.

    Args:
        clock: the cluster's time.
        mix: its GPUs.
        faults: of the simulated world; none by default.
        seed: of the world and of the cluster's own chance.
        epoch_s: the UTC second at which the clock is 0.
        cluster: more of what sim.kubernetes_api.cluster.Cluster takes.
    """

    def __init__(
        self,
        clock: Clock,
        mix: Mix,
        faults: Faults | None = None,
        *,
        seed: int = 0,
        epoch_s: float = 0.0,
        **cluster: Any,
    ) -> None:
        self.clock = clock
        self.store = Store(clock, epoch_s)
        faults = preset("none") if faults is None else faults
        self.cluster = Cluster(self.store, mix, faults, seed, admit=admit_pod, **cluster)
        self.cluster.open()
        self.users: dict[str, User] = {TOKEN: User("researcher")}
        self.api = Api(self.store, self.cluster.logs, self.users, lambda: epoch_s + clock.touch(), self._own)
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
        self.cluster.close()
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
            (self.cluster.lose_node if body["lost"] else self.cluster.return_node)(str(body["name"]))
        return {
            "now_s": self.clock.touch(),
            "requests": self.api.requests,
            "gpus_in_use": self.cluster.gpus_in_use(),
            "gpus_peak": self.cluster.peak_gpus_in_use,
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
