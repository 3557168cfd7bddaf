"""The process of a simulated cluster: `python -P -m sim.kubernetes_api --folder SESSION ...`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import functools
import os
import signal
import sys
from pathlib import Path
from typing import Final

from core.executor import Device
from core.session import SIMULATED_EPOCH_S
from sim.clock import VirtualClock
from sim.faults import parse_faults
from sim.kubernetes_api.endpoint import LOCK
from sim.kubernetes_api.server import ApiServer
from sim.kubernetes_api.surrogate import KINDS
from sim.mix import DEFAULT_MIX, devices, parse_mix
from sim.world.world import World

_LOOK_S: Final = 2.0
_OVER_S: Final = 20.0
_ALONE_S: Final = 900.0
"""Real seconds without a request after which nobody needs it any more."""


def main() -> int:
    """Serve until nobody needs it, the session's folder is gone, or SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    for name in ("gpus", "faults", "kube-faults", "cluster-seed", "python", "profiler"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=float, default=0.0)
    parser.add_argument("--speed", type=float, default=1.0)
    asked = parser.parse_args()
    os.umask(0o077)
    lock = os.open(asked.folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 0
    clock = VirtualClock(asked.start, speed=asked.speed)
    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        runner.run(_serve(asked, clock))
    return 0


async def _serve(asked: argparse.Namespace, clock: VirtualClock) -> None:
    server = make(asked, clock)
    await server.open()
    server.kubeconfig(asked.folder / "kubeconfig")
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    loop = asyncio.get_running_loop()
    seen, since_s = -1, loop.time()
    while (
        not over.is_set() and asked.folder.exists() and loop.time() - since_s < (_OVER_S if server.over else _ALONE_S)
    ):
        if server.api.requests != seen:
            seen, since_s = server.api.requests, loop.time()
        try:
            await asyncio.wait_for(over.wait(), _LOOK_S)
        except TimeoutError:
            continue
    (asked.folder / "kubeconfig").unlink(missing_ok=True)
    await server.close()


def make(asked: argparse.Namespace, clock: VirtualClock) -> ApiServer:
    """The cluster that was asked for."""
    from sim.world.physics import physics

    found = on_nodes(devices(parse_mix(asked.gpus or DEFAULT_MIX)))
    course = World(
        asked.seed,
        found,
        parse_faults(asked.faults or "default"),
        physics(asked.python or sys.executable, asked.profiler, asked.folder / "profiles", seq_len=2048, confined=True),
        eval_tokens=1 << 20,
        cluster_seed=int(asked.cluster_seed) if asked.cluster_seed else None,
    )
    return ApiServer(clock, found, course, seed=asked.seed, rates=rates(asked.kube_faults), epoch_s=SIMULATED_EPOCH_S)


def on_nodes(found: list[Device]) -> list[Device]:
    """Devices under the names that a cluster's executor gives them: node and number."""
    counts: dict[str, int] = {}
    named = []
    for device in found:
        index = counts[device.node] = counts.get(device.node, -1) + 1
        named.append(Device(f"{device.node}/{index}", device.cls, device.node, device.memory_mb))
    return named


@functools.cache
def rates(text: str) -> dict[str, float]:
    """Rates of faults: `2%` of each kind, or `drained=0.1,evicted=0.02`; empty: none."""
    if not text:
        return {}
    if text.endswith("%"):
        return dict.fromkeys(KINDS, float(text[:-1]) / 100.0)
    found = dict(part.split("=", 1) for part in text.split(","))
    unknown = sorted(found.keys() - set(KINDS))
    if unknown:
        raise ValueError(f"there is no fault {unknown[0]!r}: there is {', '.join(KINDS)}")
    return {name: float(rate) for name, rate in found.items()}


if __name__ == "__main__":
    sys.exit(main())
