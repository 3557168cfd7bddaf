"""The whole way on a cluster whose pods are real processes: a corpus is prepared, a canary looks, a run trains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.executor import AttemptSpec, ExecutorConfig, ExecutorError, ExecutorEvent, Finished, Progress, Started
from core.target import locate_target
from executors.kubernetes.access import Access
from executors.kubernetes.checks import Check
from executors.kubernetes.client import Cluster
from executors.kubernetes.examine import examine
from executors.kubernetes.executor import KubernetesExecutor
from executors.kubernetes.prepare_job import fill
from executors.kubernetes.settings import KubeSettings, to_options
from sim.clock import VirtualClock
from sim.kubernetes_api.cluster import CLAIM, NAMESPACE
from sim.kubernetes_api.process import Machinery
from sim.kubernetes_api.server import ApiServer
from sim.mix import parse_mix
from tests.support.attempts import HONEST

pytestmark = [
    pytest.mark.processes,
    pytest.mark.training,
    pytest.mark.skipif(not Machinery.is_there(), reason="no bubblewrap on this machine"),
]
PREPARE = (locate_target() / "prepare.py").read_text()
TEXT = "the cat sat on the mat and the dog did not\n" * 60


class Place:
    """A cluster of one node whose pods really run, on CPUs, at the pace of this machine."""

    def __init__(self, folder: Path, clock: VirtualClock) -> None:
        self.folder, self.clock = folder, clock
        self.data = folder / "data"
        self.data.mkdir()
        (folder / "pods").mkdir()
        self.server = ApiServer(clock, parse_mix("1xH100"), seed=1, work=self._work)
        self.machinery = Machinery(self.server.store, folder / "pods", {CLAIM: self.data})
        claim = self.server.store.get("persistentvolumeclaims", NAMESPACE, CLAIM)
        assert claim is not None
        claim["spec"]["accessModes"] = ["ReadWriteMany"]
        self.server.store.update("persistentvolumeclaims", claim)

    def _work(self, pod: Any, place: Any) -> Any:
        return self.machinery.work(pod, place)

    @property
    def settings(self) -> KubeSettings:
        taint = {"key": "nvidia.com/gpu", "operator": "Exists"}  # the only nodes there are
        config = str(self.folder / "kubeconfig")
        return KubeSettings(kubeconfig=config, gpu_resource="", cpu_slots=2, tolerations=[taint])

    async def prepare(self, *words: str) -> tuple[dict[str, Any], list[str]]:
        told: list[str] = []
        cluster = await Cluster.connect(Access.resolve(self.settings.kubeconfig))
        try:
            return await fill(cluster, self.settings, PREPARE, words, told.append), told
        finally:
            await cluster.close()

    async def examine(self) -> list[Check]:
        return [row async for row in examine(self.settings, canary=True)]


def play(folder: Path, scene: Callable[[Place], Awaitable[None]]) -> None:
    """Play a scene in the cluster's loop, and see that it left nothing there."""
    clock = VirtualClock(speed=1.0)

    async def all_of_it() -> None:
        place = Place(folder, clock)
        await place.server.open()
        place.server.kubeconfig(folder / "kubeconfig")
        try:
            async with asyncio.timeout(120):
                await scene(place)
                while any(place.server.store.list(kind, NAMESPACE) for kind in ("jobs", "pods", "configmaps")):
                    await asyncio.sleep(0.05)
        finally:
            await place.server.close()

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        runner.run(all_of_it())


def test_a_corpus_is_prepared_a_canary_reads_it_and_a_run_trains_on_it(tmp_path):
    async def scene(place: Place) -> None:
        source = place.data / "sources"
        source.mkdir()
        for number in range(40):
            (source / f"{number}.txt").write_text(f"{number}: {TEXT}")
        meta, told = await place.prepare("--source", "/data/sources")
        assert meta["sha256"], told
        assert not meta["was_there"]
        assert "reading the sources" in told
        again, _ = await place.prepare("--source", "/data/sources")
        assert (again["was_there"], again["sha256"]) == (True, meta["sha256"])

        rows = await place.examine()
        assert not [row for row in rows if row.verdict == "fail"], rows
        assert any(row.what == "canary CPU" and meta["sha256"][:12] in row.found for row in rows)

        events = await train(place, HONEST)
        started = next(event.payload for event in events if isinstance(event.payload, Started))
        assert started.device is not None
        assert [event.payload for event in events if isinstance(event.payload, Progress)]
        [end] = [event.payload for event in events if isinstance(event.payload, Finished)]
        assert (end.outcome, end.corpus) == ("ok", meta["sha256"]), end
        assert end.val_bpb is not None
        assert 0 < end.val_bpb < 9
        assert end.confinement

    play(tmp_path, scene)


async def train(place: Place, source: str) -> list[ExecutorEvent]:
    """Run one attempt to its end, as a session's engine does."""
    told: list[ExecutorEvent] = []
    over = asyncio.Event()

    def take(events: Sequence[ExecutorEvent]) -> None:
        told.extend(events)
        if any(isinstance(event.payload, Finished) for event in events):
            over.set()

    config = ExecutorConfig(
        session="real", session_dir=place.folder, target_dir=locate_target(), corpus_dir=None, python="", seed=1,
        clock=place.clock, budget_s=10.0, budget_kind="steps", seq_len=32, eval_tokens=512,
        options={
            "kubernetes": to_options(place.settings), "max_steps": 4},
    )  # fmt: skip
    executor = KubernetesExecutor(config)
    devices = await executor.open(take)
    await executor.adopt([], {})
    await executor.start(AttemptSpec("r1", "r1.1", devices[0].device, "CPU", "rev", source, 1, 10.0, 0.0))
    await over.wait()
    await executor.release("r1.1")
    await executor.close(kill=True)
    return told


def test_sources_that_hold_nothing_are_a_sentence(tmp_path):
    async def scene(place: Place) -> None:
        with pytest.raises(ExecutorError, match=r"prepare\.py failed in the cluster: .*nowhere"):
            await place.prepare("--source", "/nowhere")
        assert not (place.data / "meta.json").exists()

    play(tmp_path, scene)
