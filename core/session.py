"""Session folders: where they live, what is in them, who holds them, and how a person names one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import platformdirs

from core.events import Limits

_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.02
_TRASH = ".trash-"
"""How the names of folders begin that are being deleted."""
_BLOCK_BYTES = 512
"""The unit of st_blocks, whatever the file system's own blocks are (stat(2))."""
_MAX_SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 108 bytes; the rest is a margin for the kernel's terminator and our suffix."""


class SessionError(Exception):
    """A session cannot be found, made or taken; the text is one sentence for the user."""


SIMULATED_EPOCH_S = 1_767_225_600.0
"""2026-01-01 00:00 UTC, when every simulated session begins: its journal must not depend on when it was made."""


class SessionConfig(msgspec.Struct, kw_only=True, frozen=True):
    """What the person asked for: written once into session.json, read by every engine of the session.

    `title` is the name before it was made unique in this home. `speed` is that of a simulated session, in session
    seconds per second; None: as fast as it can, or as `most_speed` allows. `options` belong to the executor, but for
    `until_limits`: whether the researcher goes on where its evidence says that nothing is left. `forked_from` is the
    name of the session that this one begins with the evidence of (see core.fork).
    """

    session: str
    name: str
    created_unix_s: float
    seed: int
    executor: str
    researcher: str
    limits: Limits
    target_dir: str
    corpus_dir: str
    corpus_sha256: str = ""
    python: str
    budget_s: float
    budget_kind: Literal["cpu", "gpu", "steps"]
    seq_len: int
    eval_tokens: int
    profile: str
    overrides: dict[str, Any] = {}
    gpus: str | None = None
    sandbox: Literal["auto", "none"] = "auto"
    simulated: bool = False
    title: str = ""
    speed: float | None = None
    most_speed: float | None = None
    options: dict[str, Any] = {}
    version: str = ""
    forked_from: str = ""


class EngineInfo(msgspec.Struct, kw_only=True, frozen=True):
    """The process that holds (or last held) a session; liveness comes from the lock, not from here."""

    pid: int
    socket: str
    version: str
    started_unix_s: float
    error: str = ""


class SessionFolder:
    """Paths and locks of one session. `name` in the folder is the session's id."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def journal_dir(self) -> Path:
        """Holds the segments."""
        return self.path / "journal"

    @property
    def runs_dir(self) -> Path:
        """Holds one folder per attempt."""
        return self.path / "runs"

    @property
    def duckdb_path(self) -> Path:
        """The published projection; replaced as a whole."""
        return self.path / "session.duckdb"

    @property
    def meta_path(self) -> Path:
        """The session's configuration."""
        return self.path / "session.json"

    @property
    def engine_path(self) -> Path:
        """Facts of the engine's process."""
        return self.path / "engine.json"

    @property
    def figures_path(self) -> Path:
        """The session's figures as long as nobody works on it (see core.figures)."""
        return self.path / "figures.json"

    @property
    def log_path(self) -> Path:
        """What the engine and its helpers print."""
        return self.path / "engine.log"

    @property
    def socket_path(self) -> Path:
        """Where an engine should listen: in the folder, or in a private temporary folder where that is too long."""
        path = self.path / "control.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
            return path
        private = Path(tempfile.gettempdir()) / f"autoresearch-{os.getuid()}"
        private.mkdir(mode=0o700, exist_ok=True)
        if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
            raise SessionError(f"{private} is not this user's alone; remove it or use a shorter AUTORESEARCH_HOME")
        return private / f"{self.path.name}.sock"

    def config(self) -> SessionConfig:
        """Read session.json. Raises SessionError where it is missing or damaged."""
        try:
            return msgspec.json.decode(self.meta_path.read_bytes(), type=SessionConfig)
        except FileNotFoundError:
            raise SessionError(f"{self.path} holds no session: session.json is missing") from None
        except (msgspec.DecodeError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SessionError(f"{self.meta_path} cannot be read ({why}); restore it or delete the session") from None

    def engine(self) -> EngineInfo | None:
        """Facts of the engine that holds or last held the session, or None."""
        try:
            return msgspec.json.decode(self.engine_path.read_bytes(), type=EngineInfo)
        except (OSError, msgspec.DecodeError):
            return None

    def write(self, path: Path, value: msgspec.Struct) -> None:
        """Replace one of the folder's JSON files as a whole."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def engine_alive(self) -> bool:
        """Whether a living process holds the session's lock."""
        try:
            fd = os.open(self.path / "engine.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the session: one engine at a time. Raises SessionError where another one holds it."""
        fd = os.open(self.path / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock_exclusive(fd):
                holder = self.engine()
                who = f" (pid {holder.pid})" if holder is not None else ""
                raise SessionError(
                    f"another engine{who} works on session {self.path.name}; use 'attach' to see it"
                ) from None
            yield
        finally:
            os.close(fd)


def _lock_exclusive(fd: int) -> bool:
    """Take the lock; somebody who only looks whether it is held has it for an instant, so try for a moment."""
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_LOCK_PAUSE_S)
    return False


def home() -> Path:
    """AUTORESEARCH_HOME, else the platform's data directory."""
    configured = os.environ.get("AUTORESEARCH_HOME")
    return Path(configured).expanduser().absolute() if configured else Path(platformdirs.user_data_dir("autoresearch"))


def forking_dir() -> Path:
    """Where forks are put together: beside the sessions, on the same disk, so that a whole one can be moved there."""
    return home() / "forking"


def sessions_dir() -> Path:
    """The folder that holds one folder per session."""
    return home() / "sessions"


def all_sessions() -> list[SessionFolder]:
    """Every folder with a session.json, oldest first (by creation, then id)."""
    found: list[tuple[float, str, SessionFolder]] = []
    for folder in session_folders():
        if not os.path.lexists(folder.meta_path):
            continue
        try:
            created_unix_s = folder.config().created_unix_s
        except SessionError:
            created_unix_s = folder.meta_path.lstat().st_mtime
        found.append((created_unix_s, folder.path.name, folder))
    return [folder for _, _, folder in sorted(found, key=lambda item: item[:2])]


def session_folders() -> list[SessionFolder]:
    """Every folder that is or was a session's, damaged ones too, by id; what is being deleted is none of them.

    Raises SessionError where they cannot be listed.
    """
    try:
        with os.scandir(sessions_dir()) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SessionError(f"{sessions_dir()} cannot be listed: {error.strerror}") from None
    return [SessionFolder(sessions_dir() / name) for name in names]


def resolve_session(name: str = "last") -> SessionFolder:
    """Find a session by name, id, id prefix, or `last` (the newest).

    Raises:
        SessionError: none or several fit; the text lists what there is.
    """
    sessions = all_sessions()
    if not sessions:
        raise SessionError(f"there is no session in {sessions_dir()}; start one with 'autoresearch-tui run'")
    if name == "last":
        return sessions[-1]
    named = [folder for folder in sessions if _name_of(folder) == name or folder.path.name == name]
    fitting = named or [folder for folder in sessions if folder.path.name.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    if named:
        return named[-1]
    listed = ", ".join(f"{_name_of(folder)} ({folder.path.name})" for folder in (fitting or sessions)[-5:])
    problem = "several sessions begin with" if fitting else "there is no session called"
    raise SessionError(f"{problem} {name!r}; the newest are: {listed}")


def create_session(config: SessionConfig, fill_target: Callable[[Path], None]) -> SessionFolder:
    """Make the folder of a new session, for this user alone.

    Args:
        config: as asked; its `target_dir` becomes the session's own copy.
        fill_target: puts the target's files into the folder that it is given.

    Raises:
        SessionError: the id is taken, or the folder cannot be made.
    """
    check_name(config.name)
    path = sessions_dir() / config.session
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise SessionError(f"a session with the id {config.session} exists already in {sessions_dir()}") from None
    except OSError as error:
        raise SessionError(f"the session folder {path} cannot be made: {error.strerror}") from None
    folder = SessionFolder(path)
    try:
        folder.runs_dir.mkdir(mode=0o700)
        fill_target(path / "target")
        folder.write(folder.meta_path, msgspec.structs.replace(config, target_dir=str(path / "target")))
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)  # half a session is none
        raise
    return folder


def delete_session(folder: SessionFolder) -> None:
    """Remove a session's folder, whole or damaged. It loses its name at once, so that half of it never looks like one.

    Raises:
        SessionError: an engine works on it, it is gone, or it cannot be removed.
    """
    if folder.engine_alive():
        raise SessionError(f"an engine works on session {_name_of(folder)}: stop it before you delete it")
    trash = folder.path.with_name(f"{_TRASH}{folder.path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):  # where no lock can be had, no engine can have it either
                held.enter_context(folder.lock())
            folder.path.rename(trash)
    except OSError as error:
        raise SessionError(f"{folder.path} cannot be deleted: {error.strerror}") from None
    left = empty_trash()
    if trash in left:
        raise SessionError(f"the session is deleted, but some of its files cannot be removed: see {trash}")


def empty_trash() -> list[Path]:
    """Remove what deleting left behind when it was cut short; returns the folders that resist."""
    try:
        trash = [path for path in sessions_dir().iterdir() if path.name.startswith(_TRASH)]
    except OSError:
        return []
    for path in trash:
        if path.is_symlink():
            path.unlink(missing_ok=True)
            continue
        for below, folders, _ in os.walk(path):
            for name in (".", *folders):  # a folder that was made read-only keeps its files
                with contextlib.suppress(OSError):
                    Path(below, name).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)
    return [path for path in trash if os.path.lexists(path)]


def disk_bytes(path: Path) -> int:
    """What a folder takes on its disk; what cannot be looked into counts nothing."""
    total, folders = 0, [path]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
    return total


def check_name(name: str) -> None:
    """Refuse names that a command line or a folder listing cannot carry. Raises SessionError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == "last":
        raise SessionError(
            f"{name!r} cannot name a session: use up to 64 letters, digits, '.', '_' or '-', and not 'last'"
        )


def _name_of(folder: SessionFolder) -> str:
    try:
        return folder.config().name
    except SessionError:
        return folder.path.name
