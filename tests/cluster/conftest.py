"""Which cluster the contract is held to: the simulated one, or the one that KUBECONFIG names (`make test-cluster`)."""

from __future__ import annotations

import contextlib
import os
import uuid

import pytest

from core.clock import RealClock
from executors.kubernetes import names
from executors.kubernetes.access import Access
from executors.kubernetes.client import Cluster, KubeError
from sim.kubernetes_api.server import ApiServer
from sim.mix import parse_mix

REAL = bool(os.environ.get("AUTORESEARCH_TEST_CLUSTER"))


@pytest.fixture
async def cluster(tmp_path):
    """A client of the cluster under test; what a test made with its `session` is deleted behind it."""
    server = None
    if REAL:
        access = Access.resolve(None, None, os.environ.get("AUTORESEARCH_TEST_NAMESPACE", ""))
    else:
        server = ApiServer(RealClock(), parse_mix("2xH100"))
        await server.open()
        access = Access.resolve(str(server.kubeconfig(tmp_path / "kubeconfig")))
    found = await Cluster.connect(access)
    found.server = server  # type: ignore[attr-defined]
    yield found
    await found.close()
    if server is not None:
        await server.close()


@pytest.fixture
async def session(cluster):
    """The id of a session that nobody else has; its objects are deleted after the test."""
    name = f"contract-{uuid.uuid4().hex[:12]}"
    yield name
    label = f"{names.RUN}={names.run8(name)}"
    for kind in ("jobs", "configmaps", "pods"):
        with contextlib.suppress(KubeError):
            for obj in (await cluster.list(kind, labels=label)).items:
                await cluster.delete(kind, obj["metadata"]["name"], uid=obj["metadata"]["uid"], grace_s=0)
