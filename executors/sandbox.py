"""Processes of a run, seen from outside: start them confined, count what they use, kill them all.

Standard library only: the local executor copies this file with the supervisor into each attempt's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from executors.output import LauncherError

INSIDE: Final = "/attempt"
INHERITED: Final = ("PATH", "LD_LIBRARY_PATH")
CONFINE: Final = Path(__file__).with_name("confine.py")
CACHE: Final = "/cache"
"""Where a pod may keep what was compiled; there is none on a machine of one's own."""
SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/passwd"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/sys/devices/system"),
    *("/dev/zero", "/dev/urandom", "/dev/random"),
)
"""What a dynamically linked Python with torch reads of a system."""
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
KILL_CAP_S: Final = 15.0
CPU_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Keep freed memory instead of giving it back after every tensor: 8 % fewer CPU seconds a step on small models.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
}

_INSPECT: Final = """
import importlib.util, json, sys
specs = [importlib.util.find_spec(name) for name in ("torch", "numpy")]
print(json.dumps({
    "executable": sys.executable, "prefixes": [sys.prefix, sys.base_prefix, sys.exec_prefix],
    "packages": [spec and spec.submodule_search_locations[0] for spec in specs]}))
"""


@dataclass(frozen=True)
class Interpreter:
    """The Python that has torch, and the folders it needs to see."""

    executable: str
    folders: tuple[str, ...]


def inspect_interpreter(python: str) -> Interpreter:
    """Ask `python` where it lives, without importing torch. Raises LauncherError if it cannot train."""
    command = [python, "-P", "-s", "-c", _INSPECT]
    try:
        done = subprocess.run(command, env=environment({}), capture_output=True, timeout=60, check=True)
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = f"{type(error).__name__}; it must be 3.11 or newer"
        raise LauncherError(f"the Python {python} does not run ({why}): name another") from error
    for name, where in zip(("torch", "numpy"), found["packages"], strict=True):
        if where is None:
            raise LauncherError(f"{name} is not installed in {python}: install it there, or name another Python")
    folders = [*found["prefixes"], *(str(Path(where).parent) for where in found["packages"])]
    hop = Path(found["executable"])
    while hop.is_symlink():
        hop = hop.parent / hop.readlink()
        folders.append(str(hop.parent))
    return Interpreter(found["executable"], tuple(folders))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """An environment built from an allowlist: nothing of the engine's (keys!) may reach a run.

    bubblewrap itself gets this one too, because its own PID 1 shows it as /proc/1/environ inside.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8"} | inherited | dict(extra)


class Sandbox:
    """How the roles of one attempt are started: in bubblewrap where it works, else plainly.

    Args:
        attempt: the attempt's folder; its `out` and `tmp` are the only places a trainer can write.
        interpreter: from `inspect_interpreter`.
        device: the spec's device, {kind, index, ...}.
        seed: seeds Python's string hashes, so that a run repeats exactly.
        wanted: "auto" or "none".
        hidden: folders that must stay invisible even where a visible one holds them.
    """

    def __init__(
        self,
        attempt: Path,
        interpreter: Interpreter,
        device: Mapping[str, Any],
        seed: int,
        wanted: str,
        hidden: Sequence[Path],
    ) -> None:
        self.attempt = attempt
        self._interpreter = interpreter
        self._device = device
        self._seed = seed
        self._hidden = hidden
        self._bwrap: str | None = None
        self._filters = False
        self.confinement = "none"
        if wanted == "auto":
            self._choose(shutil.which("bwrap"))

    def path(self, name: str) -> str:
        """Where the attempt's file `name` is, as a role sees it."""
        return f"{INSIDE}/{name}" if self._bwrap is not None else str(self.attempt / name)

    def start_role(
        self,
        role: str,
        config: Mapping[str, Any],
        *,
        fds: Sequence[int],
        output: int | IO[bytes],
        writable: bool,
    ) -> subprocess.Popen[bytes]:
        """Start `harness.py ROLE CONFIG`. Only `fds` are inherited; `writable` opens the folder `out`.

        Must be called from the main thread: die-with-parent means the thread, not the process.
        """
        python = [self._interpreter.executable, "-P", "-s", self.path("harness.py"), role, json.dumps(config)]
        confine = self._confine(writable=writable)
        return subprocess.Popen(
            [*confine, *python],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            env=self._environment(),
            cwd=self.attempt / "tmp",
        )

    def start_scorer(self, config: Mapping[str, Any], fds: Sequence[int]) -> subprocess.Popen[bytes]:
        """Start `harness.py score CONFIG`: our own code, which reads the targets and therefore is outside."""
        harness = str(self.attempt / "harness.py")
        return subprocess.Popen(
            [self._interpreter.executable, "-P", "-s", harness, "score", json.dumps(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=fds,
            env=environment({"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}),
            cwd=self.attempt,
        )

    def _environment(self) -> dict[str, str]:
        tmp = "/tmp" if self._bwrap is not None else str(self.attempt / "tmp")  # noqa: S108 - the private one
        on_gpu = self._device["kind"] == "cuda"
        threads = {} if on_gpu else CPU_ENVIRONMENT
        kept = {"TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor", "TRITON_CACHE_DIR": f"{CACHE}/triton"}
        return environment(
            threads
            | (kept if Path(CACHE).is_dir() else {})
            | {
                "HOME": tmp,
                "TMPDIR": tmp,
                "USER": "trainer",
                "PYTHONHASHSEED": str(self._seed % 2**32),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONUNBUFFERED": "1",
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "CUDA_VISIBLE_DEVICES": str(self._device["index"]) if on_gpu else "",
                "AUTORESEARCH_ATTEMPT": str(self.attempt),
            }
        )

    def _choose(self, bwrap: str | None) -> None:
        """Take the strongest confinement that really works here."""
        ways: list[tuple[str | None, bool, str]] = [(None, True, "landlock+seccomp")]
        if bwrap is not None:
            ways = [(bwrap, True, "bwrap+landlock+seccomp"), (bwrap, False, "bwrap"), *ways]
        for self._bwrap, self._filters, self.confinement in ways:
            if self._probe():
                return
        self._bwrap, self._filters, self.confinement = None, False, "none"

    def _probe(self) -> bool:
        """Really run the sandbox once: user namespaces may be off, a kernel may refuse, a folder be missing."""
        command = [*self._confine(writable=True), self._interpreter.executable, "-I", "-S", "-c", "pass"]
        try:
            done = subprocess.run(command, env=self._environment(), cwd=self.attempt, timeout=30, check=False)
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0

    def _confine(self, *, writable: bool) -> list[str]:
        if self._bwrap is None:
            return self._filter(writable=writable) if self._filters else []
        folders = [folder for folder in map(os.path.abspath, self._interpreter.folders) if Path(folder).is_dir()]
        visible = ["/usr", *_outermost(folder for folder in folders if not _is_under(folder, "/usr"))]
        masks = [str(path) for path in self._hidden if any(_is_under(str(path), folder) for folder in visible)]
        return [
            *(self._bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
            *_system_mounts(on_gpu=self._device["kind"] == "cuda"),
            # Before the folders, which may lie in it: an environment below /tmp has to stay visible.
            *(("--bind", str(self.attempt / "tmp"), "/tmp") if writable else ("--tmpfs", "/tmp")),  # noqa: S108 - a private one
            *(word for folder in visible for word in ("--ro-bind", folder, folder)),
            *(word for path in masks for word in ("--tmpfs", path)),
            *("--ro-bind", str(self.attempt / "train.py"), f"{INSIDE}/train.py"),
            *("--ro-bind", str(self.attempt / "harness.py"), f"{INSIDE}/harness.py"),
            *("--ro-bind", str(CONFINE), f"{INSIDE}/confine.py"),
            *("--bind" if writable else "--ro-bind", str(self.attempt / "out"), f"{INSIDE}/out"),
            *("--chdir", "/tmp", "--"),  # noqa: S108
            *(self._filter(writable=writable) if self._filters else []),
        ]

    def _filter(self, *, writable: bool) -> list[str]:
        """The words that confine a role from within (see executors.confine)."""
        on_gpu = self._device["kind"] == "cuda"
        script = f"{INSIDE}/confine.py" if self._bwrap is not None else str(CONFINE)
        if self._bwrap is not None:  # what is not to be seen is not mounted
            read, write = ["/"], ["/tmp", "/dev", *([f"{INSIDE}/out"] if writable else [])]  # noqa: S108
        else:
            own = [str(self.attempt / name) for name in ("train.py", "harness.py", "out")]
            gpu = ["/sys", "/proc/driver", *map(str, Path("/dev").glob("nvidia*"))] if on_gpu else []
            read = [*SYSTEM, *map(os.path.abspath, self._interpreter.folders), *own, *gpu]
            write = [
                "/dev/null",
                *gpu[2:],
                *([str(self.attempt / "out")] if writable else []),
                str(self.attempt / "tmp"),
                CACHE,
            ]
        rules = json.dumps({"read": read, "write": write, "gpu": on_gpu})
        return [self._interpreter.executable, "-I", "-S", "-B", script, rules]


def _is_under(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _outermost(folders: Iterable[str]) -> list[str]:
    """Drop folders that lie in another of them."""
    kept: list[str] = []
    for folder in sorted(set(folders), key=len):
        if not any(_is_under(folder, other) for other in kept):
            kept.append(folder)
    return kept


def _system_mounts(*, on_gpu: bool) -> list[str]:
    """What a dynamically linked Python needs of the system, and a GPU's device nodes; nothing of /etc else."""
    words = ["--proc", "/proc", "--dev", "/dev"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        if Path(name).is_symlink():
            words += ["--symlink", str(Path(name).readlink()), name]
        elif Path(name).is_dir():
            words += ["--ro-bind", name, name]
    for name in ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/nix/store"):
        words += ["--ro-bind-try", name, name]
    if on_gpu:
        words += ["--ro-bind", "/sys", "/sys"]
        for node in Path("/dev").glob("nvidia*"):
            words += ["--dev-bind", str(node), str(node)]
    return words


# ------------------------------------------------------------------------------------ processes, from outside


def children(pid: int) -> list[int]:
    """Process ids of the live (or not yet reaped) children of `pid`; none if it is gone."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def descendants(roots: Iterable[int]) -> list[int]:
    """`roots` and everything below them."""
    found = list(roots)
    for pid in found:
        found += children(pid)
    return found


def resident_mb(pids: Iterable[int]) -> float:
    """Resident memory in MiB, summed over processes: pages that they share count once for each."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / 2**20


def memory_limit_mb() -> float:
    """Four fifths of the RAM that this machine or its container has, in MiB: for all slots together."""
    total = os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            total = min(total, int(Path(name).read_text()))
    return 0.8 * total / 2**20


def _reaped_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Tree:
    """The trainer's processes: whatever descends from this process and is not spared.

    The supervisor is a subreaper, so a daemonised grandchild ends up below it, too.
    """

    def __init__(self) -> None:
        self.spared: set[int] = set()
        self.peak_mb = 0.0
        self._seen_s: dict[tuple[int, str], float] = {}
        self.cpu_s = 0.0
        self._reaped_before_s = _reaped_cpu_s()

    def pids(self) -> list[int]:
        """The live processes of the tree."""
        return descendants(pid for pid in children(os.getpid()) if pid not in self.spared)

    def sample(self) -> tuple[float, float]:
        """Return (CPU seconds ever used by the tree, resident MiB now).

        A child that was waited for is in its parent's count, or in ours. What can still hide, until syscall
        filters forbid it: children that live and die between two samples under a parent that ignores SIGCHLD
        (nobody is charged for them). The cap on wall time bounds that.
        """
        pids = self.pids()
        counted_s = _reaped_cpu_s() - self._reaped_before_s
        for pid in pids:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                own, waited = (int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
                counted_s += (own + waited) / TICKS_PER_S
                self._seen_s[pid, fields[19]] = own / TICKS_PER_S
        self.cpu_s = max(self.cpu_s, counted_s, sum(self._seen_s.values()))
        now_mb = resident_mb(pids)
        self.peak_mb = max(self.peak_mb, now_mb)
        return self.cpu_s, now_mb

    def kill(self, keep: subprocess.Popen[bytes] | None) -> None:
        """Kill the tree until nothing is left; `keep` is reaped by its own Popen object.

        Without a pid namespace a process that forks faster than we list could outrun this for a while.
        Raises LauncherError if something survives: then no checkpoint can be called final.
        """
        until_s = time.monotonic() + KILL_CAP_S
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for pid in children(os.getpid()):
                if keep is not None and pid == keep.pid:
                    keep.poll()
                elif pid not in self.spared:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > until_s:
                raise LauncherError(f"process {pids[0]} of the run cannot be killed: look at it, then go on")
            time.sleep(0.001)
