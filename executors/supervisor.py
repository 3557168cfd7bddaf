"""The launcher of one attempt: owns its clock, its deadline, its processes and its result, and outlives the engine.

Standard library only. The local executor copies this package (without itself) into the attempt's folder and starts

    python -E -s -S -B -m executors.supervisor        with the attempt's folder as working directory

It reads spec.json, runs trainer, model server and scorer (harness.py), and writes progress.log, output.log and,
last and atomically, exit.json. A file named `cancel` in the folder asks it to stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import math
import os
import resource
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from executors import folder as attempt_folder
from executors.output import Ended, LauncherError, OutputLog, sentence
from executors.processes import Tree, memory_limit_mb
from executors.sandbox import Place, Sandbox, inspect_interpreter
from executors.scoring import CHECKPOINT, CHECKPOINT_CAP_BYTES, Scoring, seal

PROGRESS_LINES: Final = 24
TICK_S: Final = 0.1
IMPORT_CAP_S: Final = 300.0
EOF_CAP_S: Final = 10.0
PRESTART_S: Final = {"cpu": 2.0, "cuda": 12.0}
"""How long before the deadline the model server may start: about its import of torch (and CUDA's start)."""

STAGES: Final = {
    "import": "train.py was still being imported",
    "build": "build() had not returned",
    "train": "train() had not asked for its first batch",
    "save": "train() had returned without a batch",
}


def _number(value: object) -> float | None:
    """A finite number, or None: what a trainer says about itself is checked like any input."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1e15 else value


def _count(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


class Launcher:
    """One attempt, from spec.json to its result."""

    def __init__(self, folder: Path, spec: Mapping[str, Any], place: Place) -> None:
        self.folder = folder
        self._place = place
        self.spec = spec
        self.result: dict[str, Any] = {}
        self._device: Mapping[str, Any] = spec["device"]
        self._tree = Tree()
        self._log = OutputLog(folder / "output.log")
        self._selector = selectors.DefaultSelector()
        self._progress_fd = os.open(folder / "progress.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._seq = 0
        self._said: dict[str, dict[str, Any]] = {}  # the last message of each kind from the trainer
        self._partial_line = b""
        self._started_s = self._loaded_s = time.monotonic()
        self._clock_start: tuple[float, float] | None = None  # (CPU s, wall s) at the first batch
        self._last_line: tuple[float, float] = (0.0, 0.0)
        self._memory_limit_mb = memory_limit_mb() / self.spec.get("slots", 1)

    # ------------------------------------------------------------------------------------------ the phases

    def run(self) -> None:
        """Go through all phases; `result` then holds the score. Raises Ended or LauncherError."""
        self._check_parts()
        interpreter = inspect_interpreter(self.spec["python"])
        for name in ("out", "tmp", "tmp-serve"):
            (self.folder / name).mkdir(exist_ok=True)
        hidden = [Path(self.spec["corpus_dir"]).resolve(), self.folder.parent.resolve()]
        self._sandbox = Sandbox(
            self.folder, interpreter, self._device, self.spec["seed"], self.spec["sandbox"], hidden, self._place
        )
        confinement = self._sandbox.confinement
        self.result |= {
            "confinement": confinement,
            "tier": "unconfined" if confinement == "none" else "scored",
        }
        self._scoring = Scoring(self.spec, self._meta, self._sandbox, self._memory_limit_mb)
        self._train()
        begin_s = time.monotonic()
        self.result["checkpoint_sha256"] = seal(self.folder / "out" / CHECKPOINT)
        self.result |= self._scoring.score(self._check_cancel)
        self.result["score_s"] = round(time.monotonic() - begin_s, 3)

    def _check_parts(self) -> None:
        """Are harness and corpus what the spec says? A fault here is ours, never the revision's."""
        if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
            raise LauncherError("this kernel does not list the children of a process, so no run can be bounded")
        try:
            digest = hashlib.sha256((self.folder / "harness.py").read_bytes()).hexdigest()
        except OSError:
            raise LauncherError("harness.py is missing in the attempt's folder") from None
        if digest != self.spec["harness_sha256"]:
            raise LauncherError("harness.py is not the one that the session recorded")
        corpus = Path(self.spec["corpus_dir"])
        try:
            self._meta: Mapping[str, Any] = json.loads((corpus / "meta.json").read_bytes())
            whole = all((corpus / f"{name}.bin").stat().st_size for name in ("train", "val", "token_bytes"))
        except (OSError, ValueError):
            whole = False
        if not whole:
            raise LauncherError(f"there is no whole corpus in {corpus}: run `autoresearch-tui prepare`")
        if min(self._meta["val_tokens"], self.spec["eval_tokens"], self._meta["train_tokens"]) <= self.spec["seq_len"]:
            raise LauncherError(f"the corpus in {corpus} is shorter than one sequence of {self.spec['seq_len']} tokens")
        self._train_tokens = (corpus / "train.bin").open("rb")
        self.result["corpus_sha256"] = self._meta["sha256"]

    def _train(self) -> None:
        """Start the trainer, serve it, stop it in time; end with no process of it left."""
        trainer = self._start_trainer()
        late = ""
        look_at_s = 0.0
        try:
            while trainer.poll() is None and not late:
                self._serve_io(max(0.0, look_at_s - time.monotonic()))
                if time.monotonic() >= look_at_s:
                    self._tree.reap(trainer)
                    late = self._look()
                    look_at_s = time.monotonic() + self._next_look_s()
        finally:
            cpu_s, _ = self._tree.sample()
            self._note_times(cpu_s)
            self._tree.kill(keep=trainer)
            self._drain()
            self._log.finish()
            done = self._said.get("done", {})
            mem_mb = _number(done.get("mem_mb"))
            self.result["mem_mb"] = round(self._tree.peak_mb if mem_mb is None else mem_mb, 1)
            step = self._said.get("progress", {})
            self.result["steps"] = _count(done.get("steps", step.get("step")))
            self.result["tokens"] = _count(done.get("tokens"))
            self.result["params"] = _count(self._said.get("stage", {}).get("params"))
        self._judge(trainer.wait(), late)

    def _judge(self, status: int, late: str) -> None:
        """Decide whether the dead trainer left something to score. Raises Ended if not."""
        has_checkpoint = (self.folder / "out" / CHECKPOINT).exists()
        error = self._said.get("error")
        if error is not None:
            outcome = error["outcome"] if error.get("outcome") in {"oom", "nan"} else "crash"
            if "stage" not in self._said:  # nothing of train.py has run yet
                raise LauncherError(f"torch does not start in {self.spec['python']}: {error.get('reason')}")
            raise Ended(outcome, str(error.get("reason", "")))
        if late and not has_checkpoint:
            raise Ended("timeout", late)
        if has_checkpoint and (late or status == 0) and self._clock_start is not None:
            return
        if "stage" not in self._said:
            raise LauncherError(f"the trainer ended with status {status} before it had loaded train.py")
        signal_number = -status if status < 0 else status - 128  # bubblewrap reports 128 + signal
        if signal_number == signal.SIGKILL:
            raise Ended("oom", "the trainer was killed from outside, most likely by the kernel for want of memory")
        if 0 < signal_number < signal.NSIG:
            raise Ended("crash", f"the trainer died of {signal.Signals(signal_number).name}")
        ended = f"train.py ended its process (status {status}) before there was a checkpoint"
        raise Ended("crash", ended, contract_broken=True)

    # --------------------------------------------------------------------------------------------- trainer

    def _start_trainer(self) -> subprocess.Popen[bytes]:
        progress_r, progress_w = os.pipe()
        output_r, output_w = os.pipe()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(OSError):
            fcntl.fcntl(output_r, fcntl.F_SETPIPE_SZ, 1 << 20)
        config = {
            "train_py": self._sandbox.path("train.py"),
            "out_dir": self._sandbox.path("out"),
            "progress_fd": progress_w,
            "control_fd": theirs.fileno(),
            "seed": self.spec["seed"],
            "device": self._device["kind"],
            "vocab_size": self._meta["vocab_size"],
            "seq_len": self.spec["seq_len"],
            "budget_kind": self.spec["budget_kind"],
            "budget_s": self.spec["budget_s"],
            "max_steps": self.spec.get("max_steps", 0),
        }
        fds = [progress_w, theirs.fileno()]
        self._write_line("started")
        self._started_s = time.monotonic()
        trainer = self._sandbox.start_role("train", config, fds=fds, output=output_w, writable=True)
        for fd in (progress_w, output_w):
            os.close(fd)
        theirs.close()
        self._selector.register(output_r, selectors.EVENT_READ, self._on_output)
        self._selector.register(progress_r, selectors.EVENT_READ, self._on_progress)
        self._selector.register(ours, selectors.EVENT_READ, self._on_request)
        self._selector.register(os.pidfd_open(trainer.pid), selectors.EVENT_READ, lambda _fd: False)  # wakes the loop
        self._control = ours
        return trainer

    def _serve_io(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            handler: Callable[[int], bool] = key.data
            if not handler(key.fd):
                self._selector.unregister(key.fileobj)
                if key.fileobj is not self._control:
                    os.close(key.fd)

    def _on_output(self, fd: int) -> bool:
        data = os.read(fd, 1 << 20)
        self._log.feed(data)
        return bool(data)

    def _on_progress(self, fd: int) -> bool:
        data = os.read(fd, 1 << 16)
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        self._partial_line = self._partial_line[-4096:]
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._on_message(message)
        return bool(data)

    def _on_message(self, message: dict[str, Any]) -> None:
        """Note what the trainer says of itself; any of it may be a lie and only the trainer is hurt by it."""
        message = {name: value for name, value in message.items() if isinstance(value, str | int | float)}
        kind = message.get("kind")
        if kind not in {"stage", "progress", "done", "error"}:
            return
        if kind == "stage":
            if kind not in self._said:
                self._loaded_s = time.monotonic()
            message = self._said.get(kind, {}) | message
        self._said[kind] = message
        if kind == "progress" and self._seq <= PROGRESS_LINES:
            step, frac = _count(message.get("step")), _number(message.get("frac"))
            if step is None or frac is None:
                return
            cpu_s, now_mb = self._tree.sample()
            wall_s = time.monotonic()
            used_s, passed_s = cpu_s - self._last_line[0], wall_s - self._last_line[1]
            self._last_line = (cpu_s, wall_s)
            mem_mb = _number(message.get("mem_mb"))
            self._write_line(
                "progress",
                step=step,
                frac=min(1.0, max(0.0, frac)),
                loss=_number(message.get("loss")),
                # A GPU's utilisation is the executor's to sample; this file must stay stdlib-only.
                util=round(used_s / max(passed_s, 1e-9), 3) if self._device["kind"] == "cpu" else None,
                mem_mb=round(now_mb, 1) if mem_mb is None else mem_mb,
            )

    def _on_request(self, _fd: int) -> bool:
        """Start the clock and hand the training tokens over, read-only: they were out of reach until now."""
        try:
            request = self._control.recv(64)
            if request == b"data" and self._clock_start is None:
                cpu_s, _ = self._tree.sample()
                self._clock_start = self._last_line = (cpu_s, time.monotonic())
                self.result["startup_s"] = round(self._clock_start[1] - self._started_s, 3)
                answer = json.dumps({"dtype": self._meta["dtype"]}).encode()
                socket.send_fds(self._control, [answer], [self._train_tokens.fileno()])
        except ConnectionError:  # the trainer closed its end, or died
            return False
        return bool(request)

    def _drain(self) -> None:
        """Read both pipes to their end: no writer left is the proof that the trainer's tree is dead."""
        until_s = time.monotonic() + EOF_CAP_S
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._control)
        while self._selector.get_map():
            self._serve_io(0.1)
            if time.monotonic() > until_s:
                raise LauncherError("a process of the run survived its end and holds its pipes")

    # ----------------------------------------------------------------------------------- clock and limits

    def _used_s(self, cpu_s: float) -> float:
        """Budget seconds used so far; the start-up before the first batch is free (and capped)."""
        if self._clock_start is None:
            return 0.0
        by_cpu = self.spec["budget_kind"] == "cpu" or (
            self.spec["budget_kind"] == "steps" and self._device["kind"] == "cpu"
        )
        return cpu_s - self._clock_start[0] if by_cpu else time.monotonic() - self._clock_start[1]

    def _left_s(self, cpu_s: float) -> float:
        if self._clock_start is None or self.spec["budget_kind"] == "steps":
            return math.inf
        return float(self.spec["budget_s"]) - self._used_s(cpu_s)

    def _next_look_s(self) -> float:
        """Look again before all cores together could pass the deadline, but not more than 100 times a second."""
        return min(TICK_S, max(0.01, self._left_s(self._tree.cpu_s) / (os.cpu_count() or 1)))

    def _look(self) -> str:
        """Check every limit. Returns why the trainer's time is over, or "". Raises Ended for the rest."""
        cpu_s, now_mb = self._tree.sample()
        self._check_cancel()
        if now_mb > self._memory_limit_mb:
            raise Ended("oom", f"the run used {now_mb:.0f} MiB of memory; {self._memory_limit_mb:.0f} are allowed")
        stage = self._said.get("stage", {}).get("stage")
        left_s = self._left_s(cpu_s)
        now_s = time.monotonic()
        if self._clock_start is None:
            cap_s = self.spec["startup_cap_s"]
            if stage is None and now_s - self._started_s > IMPORT_CAP_S:
                raise LauncherError(f"importing torch took longer than {IMPORT_CAP_S:g} s: is the disk slow?")
            if stage is not None and now_s - self._loaded_s > cap_s:
                return f"{STAGES.get(stage, 'train.py was not ready')} after {cap_s:g} s of start-up"
        elif left_s <= 0:
            what = "the checkpoint was not yet written" if stage == "save" else "train() had not returned"
            unit = "CPU seconds" if self.spec["budget_kind"] == "cpu" else "seconds"
            budget = f"the budget of {self.spec['budget_s']:g} {unit}"
            return f"{what} when {budget} was spent, so there is no checkpoint"
        elif now_s - self._clock_start[1] > self.spec["wall_cap_s"]:
            cap, used = f"{self.spec['wall_cap_s']:g} s of wall time", f"{self._used_s(cpu_s):.1f} s of budget"
            return f"{cap} passed with {used} used, so there is no checkpoint"
        if left_s < PRESTART_S[self._device["kind"]] or stage == "save":
            self._tree.spared.add(self._scoring.start_server().pid)
        return ""

    def _check_cancel(self) -> None:
        if (end := self._place.over()) is not None:
            raise end
        path = self.folder / "cancel"
        if path.exists():
            raise Ended("cancelled", path.read_text(errors="replace"))

    def _note_times(self, cpu_s: float) -> None:
        if self._clock_start is not None:
            self.result["train_s"] = round(self._used_s(cpu_s), 3)

    # -------------------------------------------------------------------------------------------- the end

    def kill_all(self) -> None:
        """Leave no process behind, in any case."""
        self._tree.spared.clear()
        self._tree.kill(keep=None)

    def _write_line(self, kind: str, **fields: Any) -> None:
        self._seq += 1
        os.write(self._progress_fd, json.dumps({"seq": self._seq, "kind": kind, **fields}).encode() + b"\n")


def supervise(folder: Path, spec: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Run the attempt in `folder` and return what belongs into exit.json; raises nothing."""
    begin_s = time.monotonic()
    result: dict[str, Any] = dict.fromkeys(
        ("val_bpb", "tier", "confinement", "train_s", "startup_s", "score_s", "steps", "tokens", "mem_mb",
         "checkpoint_sha256", "corpus_sha256", "eval_tokens", "params")
    )  # fmt: skip
    outcome, reason = "ok", ""
    launcher = None
    try:
        launcher = Launcher(folder, spec, place)
        launcher.run()
    except Ended as end:
        outcome, reason = end.outcome, end.reason
        result["contract"] = "broken" if end.contract_broken else None
    except LauncherError as error:
        outcome, reason = "infrastructure", str(error)
    except Exception as error:  # noqa: BLE001 - whatever fails here is our own side's fault and must be said
        traceback.print_exc()
        outcome, reason = "infrastructure", f"the launcher failed ({type(error).__name__}): see supervisor.log"
    if launcher is not None:
        try:
            launcher.kill_all()
        except LauncherError as error:
            outcome, reason = "infrastructure", str(error)
        result |= launcher.result
    if outcome != "ok":
        result |= {"val_bpb": None, "tier": None}
    wall_s = round(time.monotonic() - begin_s, 3)
    fixed = {"attempt": spec["attempt"], "outcome": outcome, "reason": sentence(reason), "probes": 0}
    return fixed | result | {"wall_s": wall_s}


def _on_term(_number: int, _frame: FrameType | None) -> None:
    raise LauncherError("the launcher was told to end (SIGTERM), as at a shutdown")


def main() -> None:
    """Supervise the attempt in the working directory; does nothing if somebody else has claimed it."""
    os.umask(0o077)
    folder = Path.cwd()
    if not attempt_folder.take(folder):
        sys.exit(0)
    libc = ctypes.CDLL(None)
    libc.prctl(4, 0)  # PR_SET_DUMPABLE: no same-user process reads our memory, environment or descriptors
    libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: daemonised grandchildren come to us
    for name in (signal.SIGHUP, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_term)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file_cap = CHECKPOINT_CAP_BYTES if hard == resource.RLIM_INFINITY else min(hard, CHECKPOINT_CAP_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_cap, file_cap))
    spec = json.loads((folder / "spec.json").read_text())
    result = supervise(folder, spec, Place())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    attempt_folder.write_result(folder, result)
    # Only what explains the run is kept: the revision is in the journal, a checkpoint nobody asks for.
    for folder_name in ("out", "tmp", "tmp-serve", "executors"):
        shutil.rmtree(folder / folder_name, ignore_errors=True)
    for file_name in ("train.py", "harness.py"):
        (folder / file_name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
