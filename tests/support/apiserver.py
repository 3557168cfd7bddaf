"""API servers for tests of the Kubernetes client: the simulated one, and odd ones that answer whatever a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from core.clock import RealClock
from executors.kubernetes.access import Access
from executors.kubernetes.client import Cluster
from sim.kubernetes_api.cluster import NAMESPACE
from sim.kubernetes_api.server import ApiServer

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    """The simulated API server in this process, with nothing that runs pods, and a client of it."""
    server = ApiServer(RealClock(), {})
    await server.open()
    cluster = await Cluster.connect(Access.resolve(str(server.kubeconfig(folder / "kubeconfig"))), submit_per_s=1000.0)
    try:
        yield server, cluster
    finally:
        await cluster.close()
        await server.close()


@contextlib.asynccontextmanager
async def odd(handler: Handler) -> AsyncIterator[int]:
    """A server that answers everything by `handler`; yields its port."""
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]
    finally:
        await runner.cleanup()


def kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    """Write a kubeconfig of one context."""
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user if user is not None else {"token": "secret-of-old"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": NAMESPACE}}],
    }
    path.write_text(yaml.safe_dump(config))
    return path


def answer(body: Any, status: int = 200, **headers: str) -> web.Response:
    return web.Response(body=json.dumps(body), status=status, content_type="application/json", headers=headers)


def refusal(code: int, reason: str, message: str = "no", **details: Any) -> web.Response:
    return answer(
        {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details},
        code,
    )


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Wait for a state of affairs, and fail where it does not come."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
