"""Fills the cluster's data volume: a Job that runs prepare.py where the corpus is to be, and says what it made."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.executor import AttemptSpec, ExecutorError
from executors.kubernetes import manifest, names
from executors.kubernetes.classify import classify
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.janitor import persist
from executors.kubernetes.settings import KubeSettings

LONGEST_S: Final = 6 * 3600.0
_LOOK_S: Final = 1.0
_SCRIPT: Final = """
import json, os, pathlib, subprocess, sys
data, new = pathlib.Path("/data"), pathlib.Path("/data/.new")
def told():
    return json.loads((data / "meta.json").read_bytes())
if not (data / "meta.json").exists() or "--again" in sys.argv:
    subprocess.run(["rm", "-rf", str(new)], check=True)
    words = [word for word in sys.argv[1:] if word != "--again"]
    command = [sys.executable, "/prepare/prepare.py", "--out", str(new), *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    print(done.stderr, flush=True)
    if done.returncode:
        open("/dev/termination-log", "w").write(json.dumps({"error": done.stderr.strip()[-1500:]}))
        sys.exit(1)
    (data / "meta.json").unlink(missing_ok=True)  # no run may take new tokens for those of the old one
    for name in sorted(os.listdir(new), key=lambda name: name == "meta.json"):  # what makes it whole comes last
        os.replace(new / name, data / name)
    new.rmdir()
meta = told()
keep = ("name", "sha256", "vocab_size", "train_tokens", "val_tokens", "documents")
open("/dev/termination-log", "w").write(json.dumps({key: meta.get(key) for key in keep}))
"""

Json = dict[str, Any]


def prepare_job(settings: KubeSettings, name: str, words: Sequence[str]) -> Json:
    """The Job: the pod of a run on a CPU, whose data volume can be written.

    Args:
        settings: see there; its data has to be a claim.
        name: tells this Job from others.
        words: for prepare.py.

    Raises:
        ExecutorError: the data is no claim, or the overlay cannot be.
    """
    if not settings.data.startswith("pvc:"):
        raise ExecutorError(f"the data is {settings.data}: an image is filled when it is built; prepare fills claims")
    plain = msgspec.structs.replace(settings, gpu_resource="", queue="")
    spec = AttemptSpec("r0", "r0.1", "", "", "prepare", "", 0, LONGEST_S, 0.0)
    body = manifest.job(
        spec, name, plain, product="", sample=None, avoid_nodes=(), inputs={}, code="none", wall_s=LONGEST_S
    )
    pod = body["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container |= {"command": [settings.python, "-c", _SCRIPT, *words], "workingDir": "/tmp"}  # noqa: S108
    gone = ("code", "attempt")
    mounts = [one for one in container["volumeMounts"] if one["name"] not in gone]
    container["volumeMounts"] = [
        *({key: value for key, value in one.items() if key != "readOnly"} for one in mounts),
        {"name": "prepare", "mountPath": "/prepare", "readOnly": True},
    ]
    volumes = [one for one in pod["volumes"] if one["name"] not in (*gone, "data")]
    claim = settings.data.removeprefix("pvc:").partition("/")[0]
    pod["volumes"] = [
        *volumes,
        {"name": "data", "persistentVolumeClaim": {"claimName": claim}},
        {"name": "prepare", "configMap": {"name": body["metadata"]["name"]}},
    ]
    body["spec"]["ttlSecondsAfterFinished"] = 600
    return body


async def fill(
    cluster: Cluster, settings: KubeSettings, prepare_py: str, words: Sequence[str], tell: Callable[[str], None]
) -> Json:
    """Run the Job to its end, and return what the corpus says of itself.

    Args:
        cluster, settings: see there.
        prepare_py: the text of prepare.py.
        words: for it.
        tell: takes a sentence whenever there is news.

    Raises:
        ExecutorError: it did not come to its end; the text is one sentence.
    """
    name = f"prepare-{int(time.time())}"
    try:
        job = (await cluster.create("jobs", prepare_job(settings, name, words))).object
    except KubeError as error:
        raise ExecutorError(f"the cluster refuses the Job: {error}; see doctor --kubernetes") from None
    try:
        spec = AttemptSpec("r0", "r0.1", "", "", "prepare", "", 0, LONGEST_S, 0.0)
        inputs = manifest.attempt_configmap(job["metadata"]["name"], name, spec, {"prepare.py": prepare_py}, job)
        await cluster.create("configmaps", inputs)
        return await _end_of(cluster, job, tell)
    except KubeError as error:
        raise ExecutorError(f"the cluster does not go along: {error}") from None
    finally:
        with contextlib.suppress(KubeError):
            uid = job["metadata"]["uid"]
            await asyncio.shield(persist(lambda: cluster.delete("jobs", job["metadata"]["name"], uid=uid)))


async def _end_of(cluster: Cluster, job: Json, tell: Callable[[str], None]) -> Json:
    name, until_s, said = job["metadata"]["name"], time.monotonic() + LONGEST_S, ""
    while time.monotonic() < until_s:
        pods = (await cluster.list("pods", labels=f"job-name={name}")).items
        events = [one for one in (await cluster.list("events")).items if names.job_of(one) == name]
        seen = classify("r0.1", job, pods[0] if pods else None, events, cancelled_by_us=False)
        words = seen.reason or seen.phase
        message = _last_word(pods[0]) if pods else None
        if message is not None:
            if "error" in message:
                raise ExecutorError(f"prepare.py failed in the cluster: {message['error']}")
            return message
        if seen.phase == "ended" or (seen.hold and seen.hold != "image"):
            raise ExecutorError(f"the corpus could not be made: {words}")
        if words != said:
            said = words
            tell(words)
        await asyncio.sleep(_LOOK_S)
    raise ExecutorError(f"the corpus was not made within {LONGEST_S / 3600:g} h")


def _last_word(pod: Json) -> Json | None:
    """What the pod says of the corpus, once it has ended."""
    for one in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated")
        if ended is not None:
            with contextlib.suppress(msgspec.DecodeError):
                told = msgspec.json.decode(str(ended.get("message") or "").encode())
                return told if isinstance(told, dict) and ("sha256" in told or "error" in told) else None
    return None
