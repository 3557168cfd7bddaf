"""Measures the Kubernetes executor against the simulated cluster, over real sockets: runs, faults, kills, outages."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.sim import PROGRAM
from core.clock import RealClock
from core.events import RunFinished, RunIntent, RunStarted, RunWaiting
from core.executor import AttemptSpec, ExecutorConfig, ExecutorEvent, Started
from core.journal import scan
from core.reduce import fold
from core.session import SessionFolder, all_sessions
from core.target import locate_target
from executors.kubernetes.access import Access
from executors.kubernetes.client import Cluster
from executors.kubernetes.executor import KubernetesExecutor
from sim.clock import VirtualClock
from sim.kubernetes_api.server import ApiServer
from sim.mix import parse_mix
from tests.support.kube import left_in, request

LARGE = "832xH100,192xH200"


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


async def creates_per_s(jobs: int = 400) -> float:
    """Jobs that our client creates a second, with the bucket wide open."""
    server = ApiServer(RealClock(), parse_mix("8xH100"))
    await server.open()
    with tempfile.TemporaryDirectory() as folder:
        access = Access.resolve(str(server.kubeconfig(Path(folder) / "kubeconfig")))
        cluster = await Cluster.connect(access, submit_per_s=1e6)
        begin_s = time.perf_counter()
        await asyncio.gather(*(cluster.create("jobs", small_job(number)) for number in range(jobs)))
        spent_s = time.perf_counter() - begin_s
        await cluster.close()
    await server.close()
    return jobs / spent_s


async def seen_ms(clock: VirtualClock, folder: Path, runs: int = 64) -> tuple[float, float, int]:
    """Milliseconds from a pod's start in the cluster until the executor tells it (median, worst), and logs followed."""
    server = ApiServer(clock, parse_mix("64xH100"))
    await server.open()
    began: dict[str, float] = {}
    seen: dict[str, float] = {}
    all_seen = asyncio.Event()

    def on_change(kind: str, _what: str, obj: dict) -> None:
        if kind == "pods" and (obj.get("status") or {}).get("phase") == "Running":
            began.setdefault(obj["metadata"]["annotations"]["autoresearch.dev/attempt"], time.perf_counter())

    def on_events(events: Sequence[ExecutorEvent]) -> None:
        for event in events:
            if isinstance(event.payload, Started):
                seen.setdefault(event.subject, time.perf_counter())
        if len(seen) == runs:
            all_seen.set()

    server.store.subscribe(on_change)
    options = {"kubernetes": {"kubeconfig": str(server.kubeconfig(folder / "kubeconfig"))}}
    executor = KubernetesExecutor(
        ExecutorConfig(
            session="bench", session_dir=folder, target_dir=locate_target(), corpus_dir=None, python="", seed=1,
            clock=clock, budget_s=300.0, budget_kind="gpu", seq_len=2048, eval_tokens=1 << 20, options=options,
        )
    )  # fmt: skip
    await executor.open(on_events)
    await executor.adopt([], {})
    source = (locate_target() / "train.py").read_text()
    for number in range(1, runs + 1):
        await executor.start(
            AttemptSpec(f"r{number}", f"r{number}.1", "", "H100-80GB", "rev", source, number, 300.0, 0.0)
        )
    await all_seen.wait()
    delays_ms = sorted((seen[attempt] - began[attempt]) * 1e3 for attempt in seen)
    follows = len(executor._follows)
    await executor.close(kill=True)
    server.cluster.close()
    await server.close()
    return statistics.median(delays_ms), delays_ms[-1], follows


def small_job(number: int) -> dict:
    """A Job that waits for ever: no node has what it asks for."""
    container = {"name": "trainer", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "64"}}}
    spec = {"restartPolicy": "Never", "containers": [container], "nodeSelector": {"none": "such"}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    meta = {"name": f"job-{number}"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {"backoffLimit": 0, "template": template},
    }


def session(home: str, words: tuple[str, ...], kills: int, away_s: float) -> dict:
    """Run a session to its end, killing its engine so many times and taking the API away once; what it showed."""
    os.environ["AUTORESEARCH_HOME"] = home
    command = [
        str(PROGRAM),
        "run",
        "--executor",
        "kubernetes",
        "--kube-endpoint",
        "sim",
        "--seed",
        "5",
        "--detach",
        *words,
    ]
    begin_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    [folder] = all_sessions()
    rng, memory_mb, gone = random.Random(3), 0.0, 0
    away_cpu = None
    while True:
        time.sleep(rng.uniform(1.0, 4.0))
        info = folder.engine()
        if not folder.engine_alive() or info is None:
            break
        memory_mb = max(memory_mb, peak_mb(info.pid))
        if away_s and ended(folder) > 20:
            before_s = cpu_s(info.pid)
            request(folder, "/sim/faults", {"away_s": away_s})
            time.sleep(away_s)
            away_cpu, away_s = (cpu_s(info.pid) - before_s) / away_s, 0.0
        if gone < kills:
            os.kill(info.pid, signal.SIGKILL)
            gone += 1
            resume(folder)
    return report(folder, time.perf_counter() - begin_s, memory_mb, gone, away_cpu)


def ended(folder: SessionFolder) -> int:
    """Attempts that have ended so far."""
    return sum(isinstance(event, RunFinished) for event, _ in scan(folder.journal_dir))


def resume(folder: SessionFolder) -> None:
    """Start the next engine, as `resume` does."""
    while folder.engine_alive():
        time.sleep(0.01)
    with folder.log_path.open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "core.engine", str(folder.path)], stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True, cwd=folder.path,
        )  # fmt: skip
    until_s = time.monotonic() + 60
    while not folder.engine_alive() and time.monotonic() < until_s:
        time.sleep(0.01)


def report(folder: SessionFolder, wall_s: float, memory_mb: float, kills: int, away_cpu: float | None) -> dict:
    """What the journal and the cluster say of a session that has ended."""
    events = [event for event, _ in scan(folder.journal_dir)]
    state = fold(events)
    doubled = {
        kind.__name__: [
            name for name, count in Counter(e.attempt for e in events if isinstance(e, kind)).items() if count > 1
        ]
        for kind in (RunIntent, RunFinished)
    }
    intended = {event.attempt for event in events if isinstance(event, RunIntent)}
    finished = {event.attempt for event in events if isinstance(event, RunFinished)}
    outcomes = Counter(event.outcome for event in events if isinstance(event, RunFinished))
    cluster = request(folder, "/sim/faults", {})
    return {
        "runs": state.now.counts.started,
        "attempts": len(intended),
        "outcomes": dict(outcomes),
        "lost": sorted(intended - finished),
        "doubled": {kind: names for kind, names in doubled.items() if names},
        "leaked": {kind: names for kind, names in left_in(folder).items() if names},
        "peak_gpus": cluster["gpus_peak"],
        "kills": kills,
        "waiting_told": sum(isinstance(event, RunWaiting) for event in events),
        "started_told": sum(isinstance(event, RunStarted) for event in events),
        "wall_s": round(wall_s, 1),
        "engine_peak_mb": round(memory_mb, 1),
        "away_cpu_share": away_cpu,
        "our_children_peak_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1),
        "ended": state.now.ended.reason if state.now.ended is not None else None,
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--gpus", default=LARGE)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--away", type=float, default=0.0)
    parser.add_argument("--speed", default="60")
    parser.add_argument("--kube-faults", default="2%")
    parser.add_argument("--creates", action="store_true")
    asked = parser.parse_args()
    if asked.creates:
        print(f"creates: {asyncio.run(creates_per_s()):.0f} a second")
        clock = VirtualClock(speed=1.0)
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=clock.event_loop) as runner:
            median_ms, worst_ms, follows = runner.run(seen_ms(clock, Path(folder)))
        print(f"a start is seen after {median_ms:.0f} ms, at worst {worst_ms:.0f} ms; {follows} logs followed")
    with tempfile.TemporaryDirectory() as home:
        words = (
            "--gpus",
            asked.gpus,
            "--runs",
            str(asked.runs),
            "--speed",
            asked.speed,
            "--kube-faults",
            asked.kube_faults,
        )
        print(json.dumps(session(home, words, asked.kills, asked.away), indent=2))


if __name__ == "__main__":
    main()
