"""Fills the cluster's data volume: a Job that runs prepare.py where the corpus is to be, and says what it made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from core.executor import ExecutorError
from executors.kubernetes import manifest
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.errand import Errand, Patience, Stuck, errand_spec, unique
from executors.kubernetes.nodes import own_tolerations
from executors.kubernetes.settings import KubeSettings
from executors.output import sentence

LONGEST_S: Final = 6 * 3600.0
PLACED_S: Final = 900.0
"""For a place and for its volume: some providers take minutes to make one that many nodes can mount."""
_SCRIPT: Final = """
import collections, json, os, pathlib, subprocess, sys
data, new = pathlib.Path("/data"), pathlib.Path("/data/.new")
def end(word, code=0):
    pathlib.Path("/dev/termination-log").write_text(json.dumps(word))
    sys.exit(code)
def made():
    print("reading the sources", flush=True)
    subprocess.run(["rm", "-rf", str(new)], check=True)
    words = [word for word in sys.argv[1:] if word != "--again"]
    command = [sys.executable, "/prepare/prepare.py", "--out", str(new), *words]
    last = collections.deque(maxlen=20)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            print(line, end="", flush=True)
            last.append(line)
    if process.returncode:
        words = [line.strip() for line in last if line.strip()]
        end({"error": words[-1][-500:] if words else "exit code " + str(process.returncode)}, 1)
    (data / "meta.json").unlink(missing_ok=True)  # no run may take new tokens for those of the old one
    for name in sorted(os.listdir(new), key=lambda name: name == "meta.json"):  # what makes it whole comes last
        os.replace(new / name, data / name)
    new.rmdir()
try:
    was_there = (data / "meta.json").exists() and "--again" not in sys.argv
    if not was_there:
        made()
    meta = json.loads((data / "meta.json").read_bytes())
except OSError as error:
    end({"error": str(error)}, 1)
keep = ("name", "sha256", "vocab_size", "train_tokens", "val_tokens", "documents")
end({"was_there": was_there, **{key: meta.get(key) for key in keep}})
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
    # Nodes with GPUs may be all that there are: their taints are tolerated, though no GPU is asked for.
    gpus = [one for one in own_tolerations(settings) if one["effect"] == "NoSchedule"]
    plain = msgspec.structs.replace(settings, gpu_resource="", queue="", tolerations=[*gpus, *settings.tolerations])
    body = manifest.job(
        errand_spec(LONGEST_S), name, plain,
        product="", sample=None, avoid_nodes=(), inputs={}, code="none", wall_s=LONGEST_S,
    )  # fmt: skip
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
    pod["volumes"] = [
        *volumes,
        {"name": "data", "persistentVolumeClaim": {"claimName": _claim(settings)}},
        {"name": "prepare", "configMap": {"name": body["metadata"]["name"]}},
    ]
    body["spec"]["ttlSecondsAfterFinished"] = 600
    return body


async def fill(
    cluster: Cluster, settings: KubeSettings, prepare_py: str, words: Sequence[str], tell: Callable[[str], None]
) -> Json:
    """Run the Job to its end, and return what the corpus says of itself, and whether it `was_there` already.

    Args:
        cluster, settings: see there.
        prepare_py: the text of prepare.py.
        words: for it.
        tell: takes a sentence whenever there is news, and each line that it prints.

    Raises:
        ExecutorError: it did not come to its end; the text is one sentence.
    """
    body = prepare_job(settings, unique("prepare"), words)
    await _check_claim(cluster, settings)
    patience = Patience(PLACED_S, PLACED_S, PLACED_S + settings.startup_s + LONGEST_S)
    inputs = {"prepare.py": prepare_py}
    try:
        told = await Errand(cluster, body, patience, inputs=inputs, on_news=tell, on_line=tell).run()
    except Stuck as stuck:
        raise ExecutorError(f"the corpus could not be made: {stuck}; see doctor --kubernetes") from None
    meta = None
    with contextlib.suppress(msgspec.DecodeError):
        meta = msgspec.json.decode(told.message)
    if isinstance(meta, dict) and meta.get("sha256"):
        return meta
    if isinstance(meta, dict) and meta.get("error"):
        raise ExecutorError(f"prepare.py failed in the cluster: {sentence(str(meta['error']))}")
    raise ExecutorError(f"the corpus could not be made: {told.seen.reason or 'its pod left no word'}")


def _claim(settings: KubeSettings) -> str:
    return settings.data.removeprefix("pvc:").partition("/")[0]


async def _check_claim(cluster: Cluster, settings: KubeSettings) -> None:
    """See that the claim is there, and can be written. Raises ExecutorError."""
    name = _claim(settings)
    try:
        claim = await cluster.get("persistentvolumeclaims", name)
    except KubeError as error:
        if error.status == 404:
            text = f"there is no claim {name} in the namespace {cluster.namespace}"
            raise ExecutorError(f"{text}: kubectl apply -k deploy/base, or name another with --data") from None
        if error.status == 403:  # then the pod will tell
            return
        raise ExecutorError(f"the claim {name} cannot be looked at: {error}") from None
    if set((claim.get("spec") or {}).get("accessModes") or ()) == {"ReadOnlyMany"}:
        text = f"the claim {name} can only be read (ReadOnlyMany)"
        raise ExecutorError(f"{text}: fill its volume through another claim, or take one with ReadWriteMany")
