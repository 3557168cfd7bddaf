"""The processes of a run: starts them, confined as well as the machine can.

Standard library only: the local executor copies this file with the supervisor into each attempt's folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from executors.output import Ended, LauncherError

INSIDE: Final = "/attempt"
INHERITED: Final = ("PATH", "LD_LIBRARY_PATH")
CONFINE: Final = Path(__file__).with_name("confine.py")
SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/passwd"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/sys/devices/system"),
    *("/dev/zero", "/dev/urandom", "/dev/random"),
)
"""What a dynamically linked Python with torch reads of a system."""
GPU_SYSTEM: Final = ("/sys", "/proc/driver", "/proc/devices", "/proc/modules", "/proc/version", "/proc/filesystems")
"""What CUDA's driver reads beyond that."""
CPU_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Keep freed memory instead of giving it back after every tensor: 8 % fewer CPU seconds a step on small models.
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
}

_TRY: Final = """
import ctypes, sys
try:
    open(sys.argv[1])
except OSError:
    sys.exit(bool(sys.argv[2:]) and ctypes.CDLL("libcuda.so.1").cuInit(0))
sys.exit(1)
"""
"""Succeeds where our files stay out of reach and CUDA, if there is to be any, starts."""

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


@dataclass(frozen=True)
class Place:
    """What the place of a run adds to it.

    Attributes:
        writable: folders that its trainer may write beside its own, gone when the place is.
        cache: a folder for what the trainer compiles, empty for none. It may outlive the run, so a model server, which
            has seen validation text, cannot write there.
        over: why the attempt has to end now, or None.
    """

    writable: tuple[str, ...] = ()
    cache: str = ""
    over: Callable[[], Ended | None] = lambda: None


class Sandbox:
    """How the roles of one attempt are started: confined as well as this machine can.

    Args:
        attempt: the attempt's folder; its `out` and `tmp` are the only places a trainer can write.
        interpreter: from `inspect_interpreter`.
        device: the spec's device, {kind, index, ...}.
        seed: seeds Python's string hashes, so that a run repeats exactly.
        wanted: "auto" or "none".
        hidden: folders that must stay invisible even where a visible one holds them.
        place: what the trainer may use beyond the attempt's folder.
    """

    def __init__(
        self,
        attempt: Path,
        interpreter: Interpreter,
        device: Mapping[str, Any],
        seed: int,
        wanted: str,
        hidden: Sequence[Path],
        place: Place,
    ) -> None:
        self.attempt = attempt
        self._place = place
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
        """Start `harness.py ROLE CONFIG`. Only `fds` are inherited.

        `writable` opens the folder `out` and what the place has; else all that is written goes with the role.

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
            env=self._environment(writable=writable),
            cwd=self._tmp(writable=writable),
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

    def _tmp(self, *, writable: bool) -> Path:
        """A role's temporary folder, from outside: the trainer's and the model server's have nothing in common."""
        return self.attempt / ("tmp" if writable else "tmp-serve")

    def _environment(self, *, writable: bool) -> dict[str, str]:
        tmp = "/tmp" if self._bwrap is not None else str(self._tmp(writable=writable))  # noqa: S108 - the private one
        on_gpu = self._device["kind"] == "cuda"
        cache = self._place.cache if writable else ""
        return environment(
            ({} if on_gpu else CPU_ENVIRONMENT)
            | ({"TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"} if cache else {})
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
        words = ["-I", "-S", "-c", _TRY, str(self.attempt / "progress.log")]
        words += ["cuda"] if self._device["kind"] == "cuda" else []
        command = [*self._confine(writable=True), self._interpreter.executable, *words]
        try:
            done = subprocess.run(
                command, env=self._environment(writable=True), cwd=self.attempt, timeout=60, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0

    def _confine(self, *, writable: bool) -> list[str]:
        if self._bwrap is None:
            return self._filter(writable=writable) if self._filters else []
        folders = [folder for folder in map(os.path.abspath, self._interpreter.folders) if Path(folder).is_dir()]
        visible = ["/usr", *_outermost(folder for folder in folders if not _is_under(folder, "/usr"))]
        masks = [str(path) for path in self._hidden if any(_is_under(str(path), folder) for folder in visible)]
        cache = self._place.cache if writable else ""
        return [
            *(self._bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
            *_system_mounts(on_gpu=self._device["kind"] == "cuda"),
            # Before the folders, which may lie in it: an environment below /tmp has to stay visible.
            *(("--bind", str(self.attempt / "tmp"), "/tmp") if writable else ("--tmpfs", "/tmp")),  # noqa: S108 - a private one
            *(word for folder in visible for word in ("--ro-bind", folder, folder)),
            *(word for path in masks for word in ("--tmpfs", path)),
            *(("--bind", cache, cache) if cache else ()),
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
        own = [self._place.cache] if self._place.cache and writable else []
        if self._bwrap is not None:  # what is not to be seen is not mounted
            script = f"{INSIDE}/confine.py"
            read, write = ["/"], ["/tmp", "/dev", *([f"{INSIDE}/out"] if writable else [])]  # noqa: S108
        else:
            script = str(CONFINE)
            nodes = [str(node) for node in Path("/dev").glob("nvidia*")] if on_gpu else []
            libraries = [*self._interpreter.folders, *os.environ.get("LD_LIBRARY_PATH", "").split(":")]
            read = [*SYSTEM, *(GPU_SYSTEM if on_gpu else ()), *(folder for folder in libraries if folder)]
            read = [path for folder in read for path in _without(_real(folder), self._hidden)]
            read += [str(self.attempt / name) for name in ("train.py", "harness.py", "out")]
            write = ["/dev/null", *nodes, str(self._tmp(writable=writable))]
            own += [str(self.attempt / "out"), *self._place.writable] if writable else []
        rules = [word for path in read for word in ("--read", path)]
        rules += [word for path in (*write, *own) for word in ("--write", path)]
        rules += ["--gpu"] if on_gpu else []
        return [self._interpreter.executable, "-I", "-S", "-B", script, *rules, "--"]


def _is_under(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _real(folder: str) -> str:
    """Without links, but for /proc/self, which is another one for each process."""
    return folder if folder.startswith("/proc/") else os.path.realpath(folder)


def _without(folder: str, hidden: Sequence[Path]) -> list[str]:
    """`folder`, or where it holds something hidden, all that it holds beside that: Landlock's rules can only add."""
    if Path(folder) in hidden:
        return []
    if not any(_is_under(str(path), folder) for path in hidden):
        return [folder]
    inside = sorted(entry.path for entry in os.scandir(folder) if not entry.is_symlink())
    return [path for entry in inside for path in _without(entry, hidden)]


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
