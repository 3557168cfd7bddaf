"""The local executor: runs attempts on this machine, each under a launcher that outlives the engine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from core.executor import (
    AttemptSpec,
    Device,
    Emit,
    ExecutorConfig,
    ExecutorError,
    ExecutorEvent,
    Finished,
    NeverStarted,
    OpenAttempt,
    Payload,
    Progress,
    Started,
)
from executors import devices
from executors import folder as attempt_folder
from executors.sandbox import environment
from executors.spec import RESULT_FIELDS, spec_json

LOOK_S: Final = 0.25
KILL_WAIT_S: Final = 30.0


def create(config: ExecutorConfig) -> LocalExecutor:
    """Make the executor (entry point `local`); cheap, no side effect."""
    return LocalExecutor(config)


@dataclass
class _Watch:
    """An attempt that this executor reports on until its end."""

    attempt: str
    device: str
    folder: Path
    seq: int = 0  # the last event that the engine has
    offset: int = 0  # how far progress.log is read
    line_seq: int = 0  # the last complete line's number
    pidfd: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


class LocalExecutor:
    """Implements `core.executor.Executor` on the CUDA devices or CPU cores of this machine.

    `config.options` may hold `startup_cap_s`, `wall_cap_s` and, for the budget kind "steps", `max_steps`.
    """

    external: bool = True

    def __init__(self, config: ExecutorConfig) -> None:
        self._config = config
        self._runs = config.session_dir / "runs"
        self._slots: dict[str, devices.Slot] = {}
        self._watches: dict[str, _Watch] = {}
        self._known: set[str] = set()
        self._cancelled: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._none_left = asyncio.Event()

    async def open(self, emit: Emit) -> list[Device]:
        """Find the devices; check what every run needs. Raises ExecutorError."""
        self._emit = emit
        slots = devices.find_slots(self._config.gpus)
        self._slots = {slot.device.device: slot for slot in slots}
        corpus = self._config.corpus_dir
        if corpus is None or not (corpus / "meta.json").is_file():
            raise ExecutorError(f"there is no prepared corpus in {corpus}: run `autoresearch-tui prepare`")
        if not (self._config.target_dir / "harness.py").is_file():
            raise ExecutorError(f"harness.py is missing in {self._config.target_dir}: install the package again")
        if shutil.which(self._config.python) is None:
            raise ExecutorError(f"there is no Python at {self._config.python}: give another with --train-python")
        self._runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return [slot.device for slot in slots]

    async def start(self, spec: AttemptSpec) -> None:
        """Start an attempt; does nothing if it was ever started. What prevents the start ends the attempt."""
        if spec.attempt in self._known:
            return
        folder = self._runs / spec.attempt
        watch = _Watch(spec.attempt, spec.device, folder)
        if attempt_folder.is_claimed(folder) or attempt_folder.is_held(folder):
            self._settle(watch)
            return
        self._known.add(spec.attempt)
        if spec.device not in self._slots:
            reason = f"the device {spec.device} is not among this session's devices any more"
            self._report(watch, last=Finished("device_lost", reason=reason))
            return
        try:
            self._lay_out(folder, spec)
            watch.process = _launch(folder)
        except OSError as error:
            reason = f"the run's folder runs/{spec.attempt} cannot be made: {error.strerror}"
            self._report(watch, last=Finished("infrastructure", reason=reason))
            return
        self._follow(watch, os.pidfd_open(watch.process.pid))

    async def adopt(self, open_attempts: Sequence[OpenAttempt], device_seq: Mapping[str, int]) -> None:  # noqa: ARG002
        """Settle each open attempt as running, ended, never started or lost; then report on."""
        for known in open_attempts:
            spec = known.spec
            if spec.attempt in self._known:
                continue
            folder = self._runs / spec.attempt
            began = attempt_folder.is_held(folder) or attempt_folder.is_claimed(folder)
            if not began and not known.started and known.last_seq == 0:
                self._emit([ExecutorEvent(spec.attempt, 1, NeverStarted())])
            else:
                self._settle(_Watch(spec.attempt, spec.device, folder, seq=known.last_seq))

    async def cancel(self, attempt: str, reason: str) -> None:
        """Ask an attempt's launcher to end it, and end both if it does not; unknown attempts are left alone."""
        watch = self._watches.get(attempt)
        if watch is None or attempt in self._cancelled:
            return
        self._cancelled.add(attempt)
        asyncio.get_running_loop().call_later(KILL_WAIT_S, self._kill, attempt)
        with contextlib.suppress(OSError):  # a full disk, or no folder any more: then it is killed in a while
            (watch.folder / "cancel.tmp").write_text(reason)
            (watch.folder / "cancel.tmp").rename(watch.folder / "cancel")

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:
        """The end of output.log."""
        with contextlib.suppress(OSError), (self._runs / attempt / "output.log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - max_bytes))
            return log.read()
        return b""

    async def release(self, attempt: str) -> None:
        """A launcher cleans its folder up by itself; what explains the run is kept."""

    async def close(self, *, kill: bool) -> None:
        """Let go of all attempts; with `kill`, end them first and report their ends."""
        if kill:
            for attempt in list(self._watches):
                await self.cancel(attempt, "the session was stopped")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wait_for_none(), KILL_WAIT_S)
            for attempt in list(self._watches):
                self._kill(attempt)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for watch in self._watches.values():
            self._unwatch(watch)
        self._watches.clear()

    def _kill(self, attempt: str) -> None:
        """End a launcher that did not end its attempt when asked to, and whatever it leaves behind."""
        watch = self._watches.get(attempt)
        if watch is None:
            return
        if watch.pidfd is not None:
            signal.pidfd_send_signal(watch.pidfd, signal.SIGKILL)
        _sweep(watch.folder)

    # ------------------------------------------------------------------------------------------- starting

    def _lay_out(self, folder: Path, spec: AttemptSpec) -> None:
        """Write everything that the launcher reads; whatever an interrupted start left is overwritten."""
        package = folder / "executors"
        package.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in attempt_folder.TRAVELLERS:
            shutil.copyfile(Path(__file__).parent / f"{name}.py", package / f"{name}.py")
        harness = (self._config.target_dir / "harness.py").read_bytes()
        (folder / "harness.py").write_bytes(harness)
        (folder / "train.py").write_bytes(spec.source.encode())
        (folder / "spec.json").write_text(json.dumps(self._spec_json(spec, hashlib.sha256(harness).hexdigest())))

    def _spec_json(self, spec: AttemptSpec, harness_sha256: str) -> dict[str, Any]:
        slot = self._slots[spec.device]
        return spec_json(
            spec,
            self._config,
            device={"kind": slot.kind, "index": slot.index, "name": slot.product, "cls": slot.device.cls},
            corpus_dir=str(self._config.corpus_dir),
            python=shutil.which(self._config.python),
            slots=len(self._slots),
            harness_sha256=harness_sha256,
        )

    # ------------------------------------------------------------------------------------------- watching

    def _settle(self, watch: _Watch) -> None:
        """Find out how an attempt that began stands, and report or follow it."""
        self._known.add(watch.attempt)
        held = attempt_folder.is_held(watch.folder)
        result = attempt_folder.read_result(watch.folder)  # after the lock: a launcher writes, then lets go
        if result is not None:
            fields = {name: result[name] for name in RESULT_FIELDS if result.get(name) is not None}
            self._report(watch, last=Finished(**fields, corpus=result.get("corpus_sha256")))
        elif held:
            self._follow(watch, attempt_folder.watch_launcher(watch.folder))
        else:
            _sweep(watch.folder)
            began = attempt_folder.is_claimed(watch.folder)
            what = "died without a result (killed, or the machine went down)" if began else "did not start"
            reason = f"lost: the run's launcher {what}; see runs/{watch.attempt}/supervisor.log"
            self._report(watch, last=Finished("infrastructure", reason=reason))

    def _follow(self, watch: _Watch, pidfd: int | None) -> None:
        self._known.add(watch.attempt)
        self._watches[watch.attempt] = watch
        self._none_left.clear()
        watch.pidfd = pidfd
        if pidfd is not None:
            asyncio.get_running_loop().add_reader(pidfd, self._on_exit, watch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _unwatch(self, watch: _Watch) -> None:
        if watch.pidfd is not None:
            asyncio.get_running_loop().remove_reader(watch.pidfd)
            os.close(watch.pidfd)
            watch.pidfd = None

    def _on_exit(self, watch: _Watch) -> None:
        self._unwatch(watch)
        if watch.process is not None:
            watch.process.wait()
        del self._watches[watch.attempt]
        self._settle(watch)
        if not self._watches:
            self._none_left.set()

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look) if self._watches else None
        for watch in list(self._watches.values()):
            self._report(watch)
            if watch.pidfd is None and not attempt_folder.is_held(watch.folder):
                self._on_exit(watch)

    def _report(self, watch: _Watch, *, last: Finished | None = None) -> None:
        """Emit the new lines of progress.log, and the end; what the engine has seen is skipped."""
        payloads: list[tuple[int, Payload]] = []
        for line in self._new_lines(watch):
            watch.line_seq = line["seq"]
            if line["seq"] > watch.seq:
                payloads.append((line["seq"], _payload(line, watch.device)))
        if payloads:
            payloads[-1] = (payloads[-1][0], self._with_utilisation(watch, payloads[-1][1]))
        if last is not None:
            payloads.append((max(watch.line_seq, watch.seq) + 1, last))
        if payloads:
            watch.seq = payloads[-1][0]
            self._emit([ExecutorEvent(watch.attempt, seq, payload) for seq, payload in payloads])

    def _new_lines(self, watch: _Watch) -> list[dict[str, Any]]:
        """The complete lines of progress.log since the last look."""
        try:
            with (watch.folder / "progress.log").open("rb") as file:
                file.seek(watch.offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        watch.offset += len(whole)
        return [line for line in map(_progress_line, whole.splitlines()) if line is not None]

    def _with_utilisation(self, watch: _Watch, payload: Payload) -> Payload:
        """Sample a GPU when its newest progress is passed on; the launcher measures a CPU slot itself."""
        slot = self._slots.get(watch.device)
        if slot is None or slot.kind != "cuda" or not isinstance(payload, Progress):
            return payload
        util = devices.cuda_utilisation(slot.index)
        return Progress(payload.step, payload.frac, payload.loss, util, payload.mem_mb)

    async def _wait_for_none(self) -> None:
        if self._watches:
            await self._none_left.wait()


def _launch(folder: Path) -> subprocess.Popen[bytes]:
    """Start the launcher, detached. It inherits nothing of the engine's, neither its lock nor its keys.

    Must be called from the main thread, which lives as long as the process.
    """
    with (folder / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-E", "-s", "-S", "-B", "-m", "executors.supervisor"],
            cwd=folder,
            env=environment({}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _progress_line(text: bytes) -> dict[str, Any] | None:
    """A line of progress.log, or None for bytes that no launcher of ours wrote."""
    try:
        line = json.loads(text)
        complete = line["kind"] == "started" or {"step", "frac", "loss", "util", "mem_mb"} <= line.keys()
        return line if complete and isinstance(line["seq"], int) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _payload(line: Mapping[str, Any], device: str) -> Payload:
    if line["kind"] == "started":
        return Started(device)
    return Progress(line["step"], line["frac"], line["loss"], line["util"], line["mem_mb"])


def _sweep(folder: Path) -> None:
    """Kill what a dead launcher left behind: with bubblewrap nothing, without it daemonised grandchildren."""
    mark = f"AUTORESEARCH_ATTEMPT={folder.resolve()}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)
