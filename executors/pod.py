"""PID 1 of a pod: runs one attempt under the launcher, tells its progress on stdout and its result as its last word.

Standard library only: it travels with the launcher (see executors.kubernetes.manifest), and is started as

    python -E -s -S -B -m executors.pod        in the folder that holds `executors` and harness.py
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from executors import folder as attempt_folder
from executors.output import clean
from executors.scoring import CHECKPOINT_CAP_BYTES
from executors.supervisor import supervise

ATTEMPT_DIR: Final = Path(os.environ.get("AR_ATTEMPT_DIR", "/autoresearch/attempt"))
WORK_DIR: Final = Path(os.environ.get("AR_WORK_DIR", "/work"))
LAST_WORD: Final = Path(os.environ.get("AR_TERMINATION_LOG", "/dev/termination-log"))
MOST_LAST_WORD_BYTES: Final = 3000
"""Kubernetes keeps 4,096 bytes, of which only the tail."""
MOST_LINE_BYTES: Final = 8192
MOST_PRINTED_BYTES: Final = 2_000_000
"""Of the trainer's output: a node rotates logs at 10 MB, and then forgets."""
EXITS: Final[Mapping[str, int]] = {"ok": 0, "crash": 1, "nan": 81, "oom": 82, "timeout": 83, "infrastructure": 87}
UNHEALTHY, NO_DATA, TERMINATED = 84, 85, 143
_LOOK_S: Final = 0.25
_SHORTENED: Final = ("reason", "note")


class Voice:
    """The pod's standard output: our own lines, and the trainer's, which can never pass for ours."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets = {"progress.log": 0, "output.log": 0}
        self._left = MOST_PRINTED_BYTES
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, daemon=True)

    def begin(self) -> None:
        """Pass on what the launcher writes, from now on."""
        self._thread.start()

    def end(self) -> None:
        """Pass on the rest."""
        self._over.set()
        self._thread.join(timeout=5.0)

    def _speak(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._look()
        self._look()

    def _look(self) -> None:
        for line in self._new("output.log"):
            self._print_trainers(line)
        for line in self._new("progress.log"):
            self._print_ours(line)

    def _new(self, name: str) -> list[bytes]:
        """The whole lines that were added to a file."""
        try:
            with (self._folder / name).open("rb") as file:
                file.seek(self._offsets[name])
                data = file.read()
        except OSError:
            return []
        end = len(data) if self._over.is_set() else data.rfind(b"\n") + 1
        self._offsets[name] += end
        return data[:end].splitlines()

    def _print_ours(self, line: bytes) -> None:
        try:
            told = {"ar": 1, **json.loads(line)}
        except ValueError:
            return
        if told.get("kind") == "progress" and told.get("util") is None:
            told["util"] = utilisation()
        _write(json.dumps(told))

    def _print_trainers(self, line: bytes) -> None:
        if self._left <= 0:
            return
        text = clean(line.decode(errors="replace"))[:MOST_LINE_BYTES]
        self._left -= len(text) + 1
        if text.lstrip().startswith('{"ar"'):
            text = f"| {text}"
        _write(text if self._left > 0 else "[the rest is left out]")


def _write(text: str) -> None:
    data = text.encode() + b"\n"
    try:
        os.write(1, data)
    except OSError:
        return  # nobody reads: the result goes another way


def utilisation() -> float | None:
    """The share of the last sample period in which the GPU computed; None where nobody can say."""
    words = _nvidia_smi("utilization.gpu")
    try:
        return float(words[0]) / 100.0 if words else None
    except ValueError:
        return None


def _nvidia_smi(fields: str) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return []
    return [word.strip() for word in done.stdout.splitlines()[0].split(",")] if done.stdout.strip() else []


def sickness(device: Mapping[str, Any]) -> str:
    """What is wrong with the GPU before a run is wasted on it; empty where nothing is known to be."""
    if device.get("kind") != "cuda":
        return ""
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return "there is no GPU in this pod: is the node's device plugin, or runtimeClass nvidia, missing?"
    words = _nvidia_smi("name,ecc.errors.uncorrected.volatile.total")
    if len(words) == 2 and words[1].isdecimal() and int(words[1]) > 0:
        return f"{words[0]} has {words[1]} uncorrectable ECC errors"
    return ""


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
        _write(f"the result cannot be written: {error}")
        code = EXITS["infrastructure"]
    os._exit(code)


def _lay_out(spec: Mapping[str, Any]) -> Path:
    """The attempt's folder, as the launcher wants it."""
    folder = WORK_DIR / str(spec["attempt"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(ATTEMPT_DIR / "train.py", folder / "train.py")
    shutil.copyfile(Path(__file__).resolve().parent.parent / "harness.py", folder / "harness.py")
    return folder


def main() -> None:
    """Run the attempt of this pod."""
    os.umask(0o077)
    libc = ctypes.CDLL(None)
    libc.prctl(4, 0)  # PR_SET_DUMPABLE: no process of our user reads our memory or descriptors
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER, where we are not PID 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    cap = CHECKPOINT_CAP_BYTES if hard == resource.RLIM_INFINITY else min(hard, CHECKPOINT_CAP_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (cap, cap))
    try:
        spec = json.loads((ATTEMPT_DIR / "spec.json").read_bytes())
        attempt = {"attempt": spec["attempt"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        finish({"outcome": "infrastructure", "reason": f"spec.json cannot be read: {error}"}, EXITS["infrastructure"])
        return
    for reason, code in ((sickness(spec["device"]), UNHEALTHY), (missing_data(spec), NO_DATA)):
        if reason:
            finish({**attempt, "outcome": "infrastructure", "reason": reason}, code)
    terminated = threading.Event()

    def on_term(_number: int, _frame: FrameType | None) -> None:
        terminated.set()
        (folder / "cancel").write_text("the pod was told to end")

    folder = _lay_out(spec)
    signal.signal(signal.SIGTERM, on_term)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if not attempt_folder.take(folder):
        finish(
            {**attempt, "outcome": "infrastructure", "reason": "the attempt ran here before"}, EXITS["infrastructure"]
        )
    began_s = time.monotonic()
    voice = Voice(folder)
    voice.begin()
    result = {**supervise(folder, spec), **attempt}
    voice.end()
    result["wall_s"] = round(time.monotonic() - began_s, 3)
    if terminated.is_set():
        finish({**result, "outcome": "terminated", "reason": "the pod was told to end"}, TERMINATED)
    finish(result, EXITS.get(str(result["outcome"]), EXITS["infrastructure"]))


if __name__ == "__main__":
    main()
    sys.exit(0)
