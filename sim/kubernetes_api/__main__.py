"""The process of a simulated cluster: `python -P -m sim.kubernetes_api --folder SESSION ...`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Final

from core.session import SIMULATED_EPOCH_S
from sim.clock import VirtualClock
from sim.faults import parse_faults
from sim.kubernetes_api.endpoint import LOCK
from sim.kubernetes_api.mishaps import parse_mishaps
from sim.kubernetes_api.server import ApiServer
from sim.mix import DEFAULT_MIX, parse_mix

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

    python, cache_dir = asked.python or sys.executable, asked.folder / "profiles"
    return ApiServer(
        clock,
        parse_mix(asked.gpus or DEFAULT_MIX),
        parse_faults(asked.faults or "default"),
        seed=asked.seed,
        epoch_s=SIMULATED_EPOCH_S,
        cluster_seed=int(asked.cluster_seed) if asked.cluster_seed else None,
        mishaps=parse_mishaps(asked.kube_faults),
        physics=lambda seq_len: physics(python, asked.profiler, cache_dir, seq_len=seq_len, confined=True),
    )


if __name__ == "__main__":
    sys.exit(main())
