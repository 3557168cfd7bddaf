"""The executor on a simulated cluster, through real sockets: what befalls an attempt, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.executor import (
    AttemptSpec,
    ExecutorConfig,
    ExecutorError,
    ExecutorEvent,
    Finished,
    NeverStarted,
    Notice,
    OpenAttempt,
    Progress,
    Started,
    Waiting,
)
from core.target import locate_target
from executors.kubernetes import names
from executors.kubernetes.executor import KubernetesExecutor
from sim.clock import VirtualClock
from sim.kubernetes_api.cluster import NAMESPACE
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.server import ApiServer
from sim.mix import parse_mix

SOURCE = (locate_target() / "train.py").read_text()
SESSION = "session-1"


class Stage:
    """A cluster, an executor of one session, and all that it told."""

    def __init__(self, folder: Path, clock: VirtualClock, gpus: str = "2xH100", **settings: Any) -> None:
        self.folder, self.clock, self.settings = folder, clock, settings
        self.server = ApiServer(clock, parse_mix(gpus), seed=1)
        self.cluster, self.store = self.server.cluster, self.server.store
        self.told: list[ExecutorEvent] = []

    async def open(self) -> KubernetesExecutor:
        await self.server.open()
        return await self.another()

    async def another(self) -> KubernetesExecutor:
        """An engine's executor, as after a crash of the one before."""
        options = {
            "kubernetes": {"kubeconfig": str(self.server.kubeconfig(self.folder / "kubeconfig")), **self.settings}
        }
        executor = KubernetesExecutor(
            ExecutorConfig(
                session=SESSION,
                session_dir=self.folder,
                target_dir=locate_target(),
                corpus_dir=None,
                python="",
                seed=1,
                clock=self.clock,
                budget_s=300.0,
                budget_kind="gpu",
                seq_len=2048,
                eval_tokens=1 << 20,
                options=options,
            )
        )
        await executor.open(self.take)
        return executor

    def take(self, events: Sequence[ExecutorEvent]) -> None:
        self.told += events

    def of(self, attempt: str, kind: type) -> list[Any]:
        return [event.payload for event in self.told if event.subject == attempt and isinstance(event.payload, kind)]

    def finished(self, attempt: str) -> Finished | None:
        return next(iter(self.of(attempt, Finished)), None)

    def pods(self) -> list[dict[str, Any]]:
        return self.store.list("pods", NAMESPACE)

    async def until(self, condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
        async with asyncio.timeout(timeout_s):
            while not (found := condition()):
                await asyncio.sleep(0.005)
        assert found, what
        return found

    async def end(self, executor: KubernetesExecutor) -> None:
        """End the session, and see that it left nothing."""
        await executor.close(kill=True)
        kinds = ("jobs", "configmaps", "pods")
        await self.until(lambda: not any(self.store.list(kind, NAMESPACE) for kind in kinds), "an empty namespace")


def spec(number: int = 1, attempt: int = 1, cls: str = "H100-80GB") -> AttemptSpec:
    return AttemptSpec(
        f"r{number}", f"r{number}.{attempt}", f"h100-01/{number - 1}", cls, f"rev{number}", SOURCE, number, 300.0, 0.0
    )


def play(folder: Path, scene: Callable[[Stage], Awaitable[None]], gpus: str = "2xH100", **settings: Any) -> None:
    """Play a scene in the loop of a clock that flows 300 times as fast as ours."""
    clock = VirtualClock(speed=300.0)

    async def all_of_it() -> None:
        stage = Stage(folder, clock, gpus, **settings)
        try:
            async with asyncio.timeout(60):
                await scene(stage)
        finally:
            await stage.server.close()
            stage.cluster.close()

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        runner.run(all_of_it())


def test_a_run_is_told_from_start_to_score_and_is_cleaned_up_when_it_is_on_disk(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        await executor.start(spec())
        await executor.start(spec())
        await stage.until(lambda: stage.finished("r1.1"), "a result")
        assert [event.seq for event in stage.told if event.subject == "r1.1"] == sorted(
            {event.seq for event in stage.told if event.subject == "r1.1"}
        )
        [started] = stage.of("r1.1", Started)
        assert started.device.startswith("h100-01/")
        assert len(stage.of("r1.1", Progress)) >= 5
        result = stage.finished("r1.1")
        assert (result.outcome, result.tier) == ("ok", "scored")
        assert 0.9 < result.val_bpb < 1.1
        assert stage.store.list("jobs", NAMESPACE), "it is not on disk yet: the cluster has to keep it"
        await executor.release("r1.1")
        await stage.until(lambda: not stage.store.list("jobs", NAMESPACE), "the Job's end")
        await stage.end(executor)

    play(tmp_path, scene)


def test_a_queue_that_takes_a_run_back_gives_the_same_attempt_another_life(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        await executor.start(spec())
        await stage.until(lambda: stage.of("r1.1", Progress), "progress")
        [job] = stage.store.list("jobs", NAMESPACE)
        stage.cluster.suspend(job)
        await stage.until(lambda: [one for one in stage.of("r1.1", Waiting) if "queue" in one.reason], "that it waits")
        await stage.until(lambda: not stage.pods(), "its pod's end")
        assert stage.finished("r1.1") is None
        [job] = stage.store.list("jobs", NAMESPACE)
        stage.cluster.suspend(job, on=False)
        await stage.until(lambda: stage.finished("r1.1"), "a result")
        assert stage.finished("r1.1").outcome == "ok"
        assert len(stage.of("r1.1", Started)) == 2
        numbers = [event.seq for event in stage.told if event.subject == "r1.1"]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 1999
        await stage.end(executor)

    play(tmp_path, scene)


def test_a_later_engine_finds_its_runs_tells_nothing_twice_and_sweeps_what_was_left(tmp_path):
    async def scene(stage: Stage) -> None:
        first = await stage.open()
        await first.adopt([], {})
        for number in (1, 2):
            await first.start(spec(number))
        await stage.until(lambda: stage.of("r1.1", Progress) and stage.of("r2.1", Started), "progress")
        await first.close(kill=False)
        told = {attempt: max(e.seq for e in stage.told if e.subject == attempt) for attempt in ("r1.1", "r2.1")}
        before = len(stage.told)
        second = await stage.another()
        # r2.1 is said to have ended: its Job is a leftover. r3.1 was ordered and never got there.
        known = [OpenAttempt(spec(1), told["r1.1"], True), OpenAttempt(spec(3), 0, False)]
        await second.adopt(known, {})
        assert stage.of("r3.1", NeverStarted)
        await stage.until(lambda: stage.finished("r1.1"), "a result")
        await stage.until(lambda: len(stage.store.list("jobs", NAMESPACE)) == 1, "the leftover's end")
        fresh = [event.seq for event in stage.told[before:] if event.subject == "r1.1"]
        assert min(fresh) > told["r1.1"]
        assert stage.finished("r2.1") is None
        await stage.end(second)

    play(tmp_path, scene)


def test_somebody_else_s_jobs_with_our_labels_are_left_alone(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        theirs = {
            "kind": "Job", "apiVersion": "batch/v1",
            "metadata": {
                "name": f"ar-{names.run8(SESSION)}-r9-a1", "namespace": NAMESPACE, "labels": names.labels(SESSION),
                "annotations": {names.SESSION: "another"},
            },
            "spec": {"suspend": True, "template": {"metadata": {}, "spec": {"containers": []}}}, "status": {},
        }  # fmt: skip
        stage.store.create("jobs", theirs)
        await executor.adopt([], {})
        await executor.close(kill=True)
        assert [job["metadata"]["name"] for job in stage.store.list("jobs", NAMESPACE)] == [theirs["metadata"]["name"]]

    play(tmp_path, scene)


def test_a_pod_that_somebody_deletes_is_the_world_s_doing(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        await executor.start(spec())
        await stage.until(lambda: stage.of("r1.1", Progress), "progress")
        [pod] = stage.pods()
        stage.cluster.delete_pod_as_somebody(pod)
        ended = await stage.until(lambda: stage.finished("r1.1"), "its end")
        assert ended.outcome == "infrastructure"
        assert "deleted" in ended.reason
        await stage.end(executor)

    play(tmp_path, scene)


def test_a_cancelled_run_on_a_dead_node_is_forced_and_no_gpu_stays_burning(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        await executor.start(spec())
        await stage.until(lambda: stage.of("r1.1", Started), "its start")
        stage.cluster.lose_node("h100-01")
        await executor.cancel("r1.1", "enough")
        ended = await stage.until(lambda: stage.finished("r1.1"), "its end")
        assert ended.outcome == "cancelled"
        await stage.until(lambda: not stage.pods(), "the pod's end by force")
        await stage.end(executor)

    play(tmp_path, scene)


def test_a_refused_pod_holds_the_session_s_runs_and_a_probe_finds_out_when_it_is_mended(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        stage.store.remove("priorityclasses", "", "autoresearch-experiment")
        for number in (1, 2):
            await executor.start(spec(number))
        held = await stage.until(
            lambda: [w for n in (1, 2) for w in stage.of(f"r{n}.1", Waiting) if w.held], "that it is held"
        )
        assert "PriorityClass" in held[0].reason or "priority" in held[0].reason
        await stage.until(
            lambda: [e for e in stage.told if isinstance(e.payload, Notice) and e.payload.level == "error"], "a notice"
        )
        meta = {"name": "autoresearch-experiment"}
        stage.store.create(
            "priorityclasses",
            {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": meta, "value": -100},
        )
        await stage.until(lambda: stage.finished("r1.1") and stage.finished("r2.1"), "both results")
        assert {stage.finished(f"r{n}.1").outcome for n in (1, 2)} == {"ok"}
        notices = [event.payload.text for event in stage.told if isinstance(event.payload, Notice)]
        assert notices[-1] == "", "it is over"
        await stage.end(executor)

    play(tmp_path, scene)


def test_an_api_that_refuses_and_drops_half_of_all_requests_costs_no_run(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        for fault in (
            Fault("status", code=429, reason="TooManyRequests", share=0.2, retry_after_s=0),
            Fault("status", code=500, reason="InternalError", share=0.1),
            Fault("drop", share=0.2),
            Fault("cut", verb="watch", share=0.5),
        ):
            stage.server.api.faults.add(fault)
        for number in range(1, 7):
            await executor.start(spec(number))
        await stage.until(lambda: all(stage.finished(f"r{n}.1") for n in range(1, 7)), "all results", 45.0)
        assert {stage.finished(f"r{n}.1").outcome for n in range(1, 7)} == {"ok"}
        assert stage.server.api.faults.met >= 3
        stage.server.api.faults.clear()
        await stage.end(executor)

    play(tmp_path, scene)


def test_a_train_py_that_no_cluster_takes_is_its_own_fault(tmp_path):
    async def scene(stage: Stage) -> None:
        executor = await stage.open()
        await executor.adopt([], {})
        big = AttemptSpec("r1", "r1.1", "h100-01/0", "H100-80GB", "rev", "#" * 2_000_000, 1, 300.0, 0.0)
        await executor.start(big)
        ended = await stage.until(lambda: stage.finished("r1.1"), "its end")
        assert ended.outcome == "crash"
        assert "2,0" in ended.reason
        await stage.end(executor)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda stage: [stage.store.remove("nodes", "", "h100-01")], "no device"),
        (lambda stage: stage.store.create("resourcequotas", {
            "kind": "ResourceQuota", "apiVersion": "v1", "metadata": {"name": "q", "namespace": NAMESPACE},
            "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}}), "quota"),
        (lambda stage: stage.server.users.clear(), "log in again"),
    ],
    ids=["no nodes", "quota 0", "credentials"],
)  # fmt: skip
def test_what_no_session_can_begin_with_is_one_sentence(tmp_path, change, sentence):
    async def scene(stage: Stage) -> None:
        await stage.server.open()
        change(stage)
        with pytest.raises(ExecutorError, match=sentence):
            await stage.another()

    play(tmp_path, scene)


def test_an_old_server_is_refused_with_its_version(tmp_path, monkeypatch):
    monkeypatch.setattr("sim.kubernetes_api.http.VERSION", "v1.30.4+k3s1")

    async def scene(stage: Stage) -> None:
        with pytest.raises(ExecutorError, match=r"v1\.30\.4\+k3s1.*1\.31"):
            await stage.open()

    play(tmp_path, scene)
