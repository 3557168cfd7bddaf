"""PID 1 of a pod: runs one attempt under the launcher, tells its progress on stdout and its result as its last word.

Standard library only: it travels with the launcher (see executors.kubernetes.manifest), and is started as

    python -E -s -S -B -m executors.pod        in the folder that holds `executors` and harness.py
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from executors import folder as attempt_folder
from executors.nvml import Gpu, Sampler
from executors.output import Ended
from executors.podlog import Voice
from executors.sandbox import Place
from executors.scoring import CHECKPOINT_CAP_BYTES
from executors.supervisor import supervise

ATTEMPT_DIR: Final = Path(os.environ.get("AR_ATTEMPT_DIR", "/autoresearch/attempt"))
WORK_DIR: Final = Path(os.environ.get("AR_WORK_DIR", "/work"))
CACHE_DIR: Final = Path(os.environ.get("AR_CACHE_DIR", "/cache"))
SHARED_MEMORY: Final = "/dev/shm"  # noqa: S108  the pod's own
LAST_WORD: Final = Path(os.environ.get("AR_TERMINATION_LOG", "/dev/termination-log"))
MOST_LAST_WORD_BYTES: Final = 3000
"""Kubernetes keeps 4,096 bytes, of which only the tail."""
EXITS: Final[Mapping[str, int]] = {"ok": 0, "crash": 1, "nan": 81, "oom": 82, "timeout": 83, "infrastructure": 87}
UNHEALTHY, NO_DATA, CONTRACT_BROKEN, OUR_SIDE, TERMINATED = 84, 85, 86, 87, 143
END_CAP_S: Final = 15.0
"""From being told to end to a forced end; the manifest's grace period is 20 s."""
_SHORTENED: Final = ("reason", "note")


class Deadline:
    """Ends the attempt where it is told to from outside, or takes longer than all its own limits allow.

    The launcher asks `over` ten times a second. Should it not come back from wherever it is (a disk that hangs), a
    thread writes the last word in its stead.

    Args:
        attempt: its id.
        deadline_s: from now; None for none.
    """

    def __init__(self, attempt: str, deadline_s: float | None) -> None:
        self._attempt = attempt
        self._deadline_s = deadline_s
        self._until_s = time.monotonic() + deadline_s if deadline_s is not None else None
        self._told = threading.Event()
        self.done = threading.Event()
        signal.signal(signal.SIGTERM, self._on_term)
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def terminated(self) -> bool:
        """Whether we were told to end."""
        return self._told.is_set()

    def over(self) -> Ended | None:
        """Why the attempt has to end now, or None."""
        if self._told.is_set():
            return Ended("terminated", "the pod was told to end")
        if self._until_s is not None and time.monotonic() > self._until_s:
            return Ended("timeout", f"the pod's {self._deadline_s:g} s were over")
        return None

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self._told.set()

    def _watch(self) -> None:
        left_s = None if self._until_s is None else max(0.0, self._until_s - time.monotonic())
        self._told.wait(left_s)
        if self.done.wait(END_CAP_S):
            return
        end = self.over() or Ended("timeout", "the pod's time was over")
        code = TERMINATED if self.terminated else EXITS["timeout"]
        finish({"attempt": self._attempt, "outcome": end.outcome, "reason": f"{end.reason}; it hung"}, code)


def missing_data(spec: Mapping[str, Any]) -> str:
    """Why the corpus is not there; empty where it is."""
    corpus = Path(str(spec["corpus_dir"]))
    try:
        meta = json.loads((corpus / "meta.json").read_bytes())
        empty = [name for name in ("train", "val", "token_bytes") if not (corpus / f"{name}.bin").stat().st_size]
    except (OSError, ValueError) as error:
        why = type(error).__name__
        return f"there is no whole corpus in {corpus} ({why}): run `autoresearch-tui prepare --kubernetes`"
    wanted = spec.get("corpus_sha256")
    if wanted and meta.get("sha256") != wanted:
        return f"the corpus in {corpus} is not the one of this session"
    return f"{empty[0]}.bin in {corpus} is empty" if empty else ""


def last_word(result: Mapping[str, Any]) -> bytes:
    """The result as JSON that fits: texts are cut before anything else goes."""
    told: dict[str, Any] = {"ar": 1, **{key: value for key, value in result.items() if value is not None}}
    data = json.dumps(told).encode()
    for key in _SHORTENED:
        if len(data) > MOST_LAST_WORD_BYTES and isinstance(told.get(key), str):
            told[key] = told[key][: max(0, len(told[key]) - (len(data) - MOST_LAST_WORD_BYTES))]
            data = json.dumps(told).encode()
    return data


def finish(result: Mapping[str, Any], code: int) -> None:
    """Write the last word and end the container. Nothing of the trainer lives by now: nobody writes after us."""
    try:
        with LAST_WORD.open("wb") as file:
            file.write(last_word(result))
    except OSError as error:
        sys.stderr.write(f"the result cannot be written to {LAST_WORD}: {error}\n")
        code = OUR_SIDE
    os._exit(code)


def exit_code(result: Mapping[str, Any]) -> int:
    """What the pod says by its exit code, for where its last word is lost."""
    if result["outcome"] == "terminated":
        return TERMINATED
    if result["outcome"] == "crash" and result.get("contract"):
        return CONTRACT_BROKEN
    return EXITS.get(str(result["outcome"]), OUR_SIDE)


def _lay_out(spec: Mapping[str, Any]) -> Path:
    """The attempt's folder, as the launcher wants it."""
    folder = WORK_DIR / str(spec["attempt"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(ATTEMPT_DIR / "train.py", folder / "train.py")
    shutil.copyfile(Path(__file__).resolve().parent.parent / "harness.py", folder / "harness.py")
    return folder


def _cache(spec: Mapping[str, Any], folder: Path) -> str:
    """Where the trainer keeps what it compiles: with other runs of the session on this class of device, or alone."""
    session = os.environ.get("AR_RUN", "")
    cls = re.sub(r"[^\w.-]", "-", str(spec["device"].get("cls") or "device"))
    shared = CACHE_DIR / session / cls if session and os.access(CACHE_DIR, os.W_OK) else None
    for place in filter(None, (shared, folder / "cache")):
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        return str(place)
    return ""


def _gpu(device: Mapping[str, Any]) -> tuple[Gpu | None, str]:
    """The device, and what is wrong with it before a run is wasted on it. Without NVML nobody can say."""
    if device.get("kind") != "cuda":
        return None, ""
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return None, "there is no GPU in this pod: is the node's device plugin, or runtimeClass nvidia, missing?"
    try:
        gpu = Gpu()
    except OSError:
        return None, ""
    product = str(device.get("name") or "")
    return gpu, gpu.sickness("" if product == device.get("cls") else product)


def _harden() -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(4, 0)  # PR_SET_DUMPABLE: no process of our user reads our memory or descriptors
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, where we are not PID 1
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    cap = CHECKPOINT_CAP_BYTES if hard == resource.RLIM_INFINITY else min(hard, CHECKPOINT_CAP_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (cap, cap))


def _run(spec: Mapping[str, Any], deadline: Deadline, gpu: Gpu | None) -> dict[str, Any]:
    """Run the attempt; the result as the launcher has it, and what was seen of the GPU."""
    folder = _lay_out(spec)
    if not attempt_folder.take(folder):
        return {"outcome": "infrastructure", "reason": "the attempt ran here before"}
    sampler = Sampler(gpu.sample) if gpu is not None else None
    voice = Voice(folder, sampler.since_last if sampler is not None else dict)
    place = Place((SHARED_MEMORY,), _cache(spec, folder), deadline.over)
    result = supervise(folder, spec, place)
    voice.end()
    if gpu is not None and sampler is not None:
        sampler.end()
        result["gpu"] = {"name": gpu.name, **sampler.summary()}
        if result["outcome"] in {"crash", "infrastructure"} and (fault := gpu.sickness("")):
            result |= {"outcome": "infrastructure", "reason": fault, "gpu_sick": True}
    return result


def main() -> None:
    """Run the attempt of this pod."""
    os.umask(0o077)
    _harden()
    try:
        spec = json.loads((ATTEMPT_DIR / "spec.json").read_bytes())
        attempt = {"attempt": str(spec["attempt"])}
        device = dict(spec["device"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        finish({"outcome": "infrastructure", "reason": f"spec.json cannot be read: {error}"}, OUR_SIDE)
        return
    seconds = os.environ.get("AR_DEADLINE_S", "")
    deadline = Deadline(attempt["attempt"], float(seconds) if seconds.isdecimal() else None)
    gpu, sick = _gpu(device)
    for reason, code in ((sick, UNHEALTHY), (missing_data(spec), NO_DATA)):
        if reason:
            finish({**attempt, "outcome": "infrastructure", "reason": reason}, code)
    began_s = time.monotonic()
    try:
        result = _run(spec, deadline, gpu)
    except OSError as error:
        result = {"outcome": "infrastructure", "reason": f"the attempt's folder cannot be made: {error.strerror}"}
    deadline.done.set()
    code = UNHEALTHY if result.pop("gpu_sick", False) else exit_code(result)
    finish({**result, **attempt, "wall_s": round(time.monotonic() - began_s, 3)}, code)


if __name__ == "__main__":
    main()
