"""Really starts a pod like a run's on each product: what only a real pod can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from core.executor import ExecutorError
from executors.kubernetes import manifest
from executors.kubernetes.checks import Check
from executors.kubernetes.client import Cluster
from executors.kubernetes.errand import Errand, Patience, Stuck, errand_spec, unique
from executors.kubernetes.nodes import NodeDevices
from executors.kubernetes.settings import KubeSettings

RUN_S: Final = 120.0
"""For the canary itself: Python and torch from a cold volume take half a minute at the worst."""
PLACED_S: Final = 120.0
BROKEN_S: Final = 20.0
OLDEST_PYTHON: Final = (3, 11)
_SCRIPT: Final = """
import json, os, sys
found = {"python": sys.version.split()[0]}
try:
    import numpy, torch
    found["torch"] = torch.__version__
    found["gpus"] = torch.cuda.device_count()
    found["gpu"] = torch.cuda.get_device_name(0) if found["gpus"] else ""
    if found["gpus"]:
        torch.ones(8, device="cuda").sum().item()
except Exception as error:
    found["error"] = (type(error).__name__ + ": " + str(error))[:300]
try:
    found["corpus"] = str(json.load(open("/data/meta.json"))["sha256"])[:64]
except Exception as error:
    found["data"] = (type(error).__name__ + ": " + str(error))[:200]
closed = []
for folder in ("/work", "/tmp", "/dev/shm"):
    try:
        with open(os.path.join(folder, "canary"), "w") as file:
            file.write("x")
    except OSError:
        closed.append(folder)
found["closed"] = closed
import ctypes
found["landlock"] = ctypes.CDLL(None).syscall(444, None, 0, 1)
message = json.dumps({"ar": 1, "attempt": "r0.1", "outcome": "ok", "val_bpb": 1.0, "tier": "unconfined",
    "confinement": "none", "found": found})
print(message, flush=True)
with open("/dev/termination-log", "w") as file:
    file.write(message)
"""
_EVENTS: Final = "see the namespace's events: kubectl get events"

Json = dict[str, Any]


async def canaries(cluster: Cluster, settings: KubeSettings, nodes: Sequence[NodeDevices]) -> AsyncIterator[Check]:
    """A canary for each product, all at once; rows come as they are known, and every Job is deleted in any case."""
    sample: dict[str, NodeDevices | None] = {node.product: node for node in reversed(nodes) if node.usable}
    tasks = [
        asyncio.ensure_future(_canary(cluster, settings, product, node))
        for product, node in (sample or {"": None}).items()
    ]
    try:
        for done in asyncio.as_completed(tasks):
            for check in await done:
                yield check
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _canary(cluster: Cluster, settings: KubeSettings, product: str, node: NodeDevices | None) -> list[Check]:
    what = f"canary {node.cls if node is not None else product}".strip()
    longest_s = PLACED_S + settings.startup_s + RUN_S
    try:
        body = canary_job(settings, product, node, unique("canary"))
        told = await Errand(cluster, body, Patience(PLACED_S, BROKEN_S, longest_s)).run()
    except ExecutorError as error:
        return [Check("fail", what, str(error), "mend the overlay")]
    except Stuck as stuck:
        if stuck.busy:
            return [Check("warn", what, str(stuck), "run it again when the cluster has room")]
        return [Check("fail", what, str(stuck), _fix(str(stuck), settings))]
    found = (told.seen.result or {}).get("found")
    if not isinstance(found, dict):
        return [Check("fail", what, told.seen.reason or "its pod left no word", _EVENTS)]
    return findings(what, found, settings)


def canary_job(settings: KubeSettings, product: str, node: NodeDevices | None, session: str) -> Json:
    """The Job of a run, but for what it runs and what it needs of a session. Raises ExecutorError."""
    body = manifest.job(
        errand_spec(10.0), session, settings,
        product=product, sample=node, avoid_nodes=(), inputs={}, code="none", wall_s=RUN_S,
    )  # fmt: skip
    pod = body["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container |= {"command": [settings.python, "-c", _SCRIPT], "workingDir": "/tmp"}  # noqa: S108  the container's own
    of_a_session = ("code", "attempt")
    container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] not in of_a_session]
    pod["volumes"] = [one for one in pod["volumes"] if one["name"] not in of_a_session]
    body["spec"]["ttlSecondsAfterFinished"] = 60
    return body


def findings(what: str, found: Mapping[str, Any], settings: KubeSettings) -> list[Check]:
    """What a canary saw, row by row."""
    rows = [_computing(what, found, settings)]
    if found.get("data"):
        fix = "autoresearch-tui prepare --kubernetes fills it"
        rows.append(Check("fail", what, f"the corpus cannot be read in the pod ({found['data']})", fix))
    else:
        rows.append(Check("ok", what, f"reads the corpus {str(found.get('corpus'))[:12]}"))
    if closed := found.get("closed"):
        text = f"cannot write to {', '.join(map(str, closed))} in the pod"
        rows.append(Check("fail", what, text, "see what --overlay does to volumes and securityContext"))
    if int(found.get("landlock") or 0) <= 0:
        fix = "nodes with Linux 5.13 or newer and its Landlock on; containerd 1.6 or newer"
        rows.append(Check("warn", what, "no Landlock in the pod: scores will be marked `unconfined`", fix))
    return rows


def _computing(what: str, found: Mapping[str, Any], settings: KubeSettings) -> Check:
    """Python, torch and the GPU."""
    python, torch, gpus = str(found.get("python")), found.get("torch"), int(found.get("gpus") or 0)
    if tuple(int(part) for part in python.split(".")[:2] if part.isdecimal()) < OLDEST_PYTHON:
        fix = f"an image with Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer as {settings.python}, by --image"
        return Check("fail", what, f"the image has Python {python}", fix)
    if found.get("error"):
        fix = f"an image with torch and numpy, by --image; {settings.image} was used"
        return Check("fail", what, f"torch does not work in the pod: {found['error']}", fix)
    if settings.gpu_resource and gpus == 0:
        fix = "runtime_class: nvidia in --cluster FILE, or an image with CUDA"
        return Check("fail", what, f"torch {torch} sees no GPU", fix)
    if settings.gpu_resource and gpus > 1:
        fix = "the device plugin and the container runtime have to keep GPUs apart: see NVIDIA's container toolkit"
        return Check("fail", what, f"the pod asked for one GPU and sees {gpus}", fix)
    gpu = f" on {found['gpu']}" if found.get("gpu") else ""
    return Check("ok", what, f"Python {python}, torch {torch}{gpu}")


def _fix(words: str, settings: KubeSettings) -> str:
    """What to do about a canary that does not start."""
    if "image" in words:
        return f"see that the nodes can pull {settings.image}; name another with --image, or image_pull_secrets"
    if "volume" in words or "claim" in words:
        return f"see --data ({settings.data}) and kubectl describe pvc"
    return _EVENTS
