"""Pods whose command really runs: as a process of this machine under bubblewrap, with the pod's volumes mounted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sim.kubernetes_api.objects import Obj, main_container, namespace_of
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.work import Container, End, Place, Start, Work

PYTHON_DIR: Final = "/opt/python"
"""Where a container finds its Python: that of this machine, under another name."""
_PATH: Final = f"{PYTHON_DIR}/bin:/usr/local/bin:/usr/bin:/bin"
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc")
_MOST_LINE_BYTES: Final = 64 << 10
_MESSAGE_BYTES: Final = 4096
_UID: Final = 1000


class Machinery:
    """What all such pods share.

    Args:
        store: where ConfigMaps are.
        folder: where each pod gets a folder of its own, which goes with it.
        claims: local folders that stand for persistent volume claims, by name, and for image volumes, by reference.
        python: the interpreter that containers call `python3`; it brings its environment's packages.
    """

    def __init__(self, store: Store, folder: Path, claims: Mapping[str, Path], python: str | None = None) -> None:
        self.store, self.folder, self.claims = store, folder, dict(claims)
        self.python = Path(python or sys.executable)
        self._tasks: set[asyncio.Task[None]] = set()

    def work(self, pod: Obj, place: Place) -> Work:
        """The program of a pod (a `WorkFactory`)."""
        return Process(self, pod, place)

    def run(self, body: Callable[[], Any]) -> None:
        """Let something go on in the event loop."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(body())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def is_there() -> bool:
        """Whether this machine has bubblewrap."""
        return shutil.which("bwrap") is not None


class Process:
    """The program of one pod (see sim.kubernetes_api.work.Work). Size limits of volumes and memory are not enforced."""

    def __init__(self, machinery: Machinery, pod: Obj, place: Place) -> None:
        self._machinery, self._pod, self._place = machinery, pod, place
        self._spec = main_container(pod)
        self._folder: Path | None = None
        self._outer: asyncio.subprocess.Process | None = None
        self._inner_pid = 0
        self._killed = self._ended = False

    # -- Work

    def refused(self) -> bool:
        return False

    def plan(self) -> Start:
        now_s = self._machinery.store.clock.now()
        return Start(now_s, now_s, "" if self._program() else "command")

    def begin(self, container: Container) -> None:
        self._machinery.run(lambda: self._run(container))

    def end(self) -> None:
        self._ended = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._inner_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._inner_pid, number)

    # -- the process

    async def _run(self, container: Container) -> None:
        code, message = 128, ""
        self._folder = Path(tempfile.mkdtemp(prefix="pod-", dir=self._machinery.folder))
        try:
            if not self._killed:
                code = await self._execute(container)
            termination = (self._folder / "termination-log").read_bytes()
            message = termination[-_MESSAGE_BYTES:].decode(errors="replace")
        except OSError as error:
            message = f"the process could not be started: {error}"
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._killed:
            container.clock.touch()
            container.exit(End(code, message))

    async def _execute(self, container: Container) -> int:
        read_fd, write_fd = os.pipe()
        try:
            process = self._outer = await asyncio.create_subprocess_exec(
                *self._arguments(write_fd), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT, pass_fds=(write_fd,), limit=_MOST_LINE_BYTES, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(write_fd)
        assert process.stdout is not None
        reading = asyncio.get_running_loop().create_task(self._print(process.stdout, container))
        self._inner_pid = await _child_pid(read_fd)
        if self._killed or self._ended:
            self._signal(signal.SIGKILL if self._killed else signal.SIGTERM)
        code = await process.wait()
        self._inner_pid = 0
        await reading
        return code

    async def _print(self, stream: asyncio.StreamReader, container: Container) -> None:
        while True:
            try:
                line = await stream.readuntil(b"\n")
            except asyncio.IncompleteReadError as error:
                line = error.partial
            except asyncio.LimitOverrunError as error:
                line = await stream.readexactly(error.consumed)
            if not line:
                return
            container.clock.touch()
            container.print(line.decode(errors="replace").rstrip("\n"))

    # -- the container

    def _program(self) -> list[str]:
        """The command with its arguments; empty where there is no such program in the container."""
        words = [*(self._spec.get("command") or ()), *(self._spec.get("args") or ())]
        if not words:
            return []
        places = f"{self._machinery.python.parent}:/usr/local/bin:/usr/bin:/bin"
        found = words[0].startswith(PYTHON_DIR) or shutil.which(words[0], path=places) is not None
        return words if found else []

    def _arguments(self, info_fd: int) -> list[str]:
        assert self._folder is not None
        termination = self._folder / "termination-log"
        termination.touch()
        options = [
            "bwrap", "--unshare-all", "--die-with-parent", "--as-pid-1", "--uid", str(_UID), "--gid", str(_UID),
            "--info-fd", str(info_fd), *self._system(), "--proc", "/proc", "--dev", "/dev", *self._mounts(),
            "--bind", str(termination), self._spec.get("terminationMessagePath", "/dev/termination-log"),
            "--clearenv", "--setenv", "PATH", _PATH, "--setenv", "HOME", "/",
        ]  # fmt: skip
        for name, value in self._environment().items():
            options += ["--setenv", name, value]
        return [*options, "--chdir", self._spec.get("workingDir", "/"), "--", *self._program()]

    def _system(self) -> list[str]:
        """The container's image: this machine's system, read-only, and its Python with its packages."""
        options: list[str] = []
        for path in _SYSTEM:
            if Path(path).is_symlink():
                options += ["--symlink", str(Path(path).readlink()), path]
            elif Path(path).is_dir():
                options += ["--ro-bind", path, path]
        python = self._machinery.python
        options += ["--ro-bind", str(python.parent.parent), PYTHON_DIR]
        home = python.resolve().parent.parent
        if not str(home).startswith("/usr"):
            options += ["--ro-bind", str(home), str(home)]
        return options

    def _mounts(self) -> list[str]:
        options: list[str] = []
        volumes = {volume["name"]: volume for volume in self._pod["spec"].get("volumes") or ()}
        for mount in self._spec.get("volumeMounts") or ():
            source, writable = self._volume(volumes[mount["name"]])
            if mount.get("subPath"):
                source = source / mount["subPath"]
            read_only = mount.get("readOnly") or not writable
            options += ["--ro-bind" if read_only else "--bind", str(source), mount["mountPath"]]
        return options

    def _volume(self, volume: Obj) -> tuple[Path, bool]:
        """Where a volume is on this machine, and whether it can be written to."""
        assert self._folder is not None
        claim, image = volume.get("persistentVolumeClaim"), volume.get("image")
        if claim is not None or image is not None:
            name = str((claim or {}).get("claimName") or (image or {}).get("reference"))
            if name not in self._machinery.claims:
                raise FileNotFoundError(f"no folder stands for the volume {name}")
            return self._machinery.claims[name], claim is not None and not claim.get("readOnly")
        folder = self._folder / "volumes" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if "configMap" not in volume:
            return folder, True
        source = volume["configMap"]
        found = self._machinery.store.get("configmaps", namespace_of(self._pod), source["name"]) or {}
        data = found.get("data") or {}
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            file = folder / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data[item["key"]], encoding="utf-8")
        return folder, False

    def _environment(self) -> dict[str, str]:
        meta = self._pod["metadata"]
        fields = {
            "spec.nodeName": self._place.node, "metadata.uid": meta["uid"], "metadata.name": meta["name"],
            "metadata.namespace": meta["namespace"],
        }  # fmt: skip
        found: dict[str, str] = {}
        for variable in self._spec.get("env") or ():
            source = variable.get("valueFrom") or {}
            path = (source.get("fieldRef") or {}).get("fieldPath", "")
            found[variable["name"]] = str(fields.get(path, "")) if source else str(variable.get("value", ""))
        return found


async def _child_pid(read_fd: int) -> int:
    """The process that bubblewrap started, as it says itself; 0 where it ended before that."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb"))
    try:
        return int(json.loads(await reader.read())["child-pid"])
    except (ValueError, KeyError):
        return 0
    finally:
        transport.close()
