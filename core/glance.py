"""What can be said of a session's folder at a glance, whole or damaged, without folding its journal."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from core.events import Limits
from core.figures import Figures, Stamp, Used, kept_figures, stamp_of
from core.session import SessionConfig, SessionError, SessionFolder
from core.summary import Standing, Summary
from core.version import installed_version

Word = Standing | Literal["reading", "silent", "incomplete", "damaged", "newer"]
"""How a session stands, or why that cannot be said: its journal is not read yet, its engine does not answer, parts of
it are missing, parts cannot be read, a newer release wrote it."""


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A session as lists show it.

    `summary` is None while it is not known; `trouble` says in a sentence what is wrong with the session. `size` is
    what the folder takes on its disk, in bytes; None while it is not known.
    """

    folder: str
    session: str
    name: str
    live: bool = False
    created_unix_s: float | None = None
    executor: str = ""
    researcher: str = ""
    simulated: bool = False
    limits: Limits = Limits()
    used: Used = Used()
    summary: Summary | None = None
    fault: Literal["", "incomplete", "damaged", "newer", "silent"] = ""
    trouble: str = ""
    size: int | None = None
    stamp: Stamp | None = None

    @property
    def state(self) -> Word:
        """One word for how it stands."""
        if self.fault:
            return self.fault
        return "reading" if self.summary is None else self.summary.state


def glance(folder: SessionFolder) -> Glance:
    """Look at a folder: what is asked for, who works on it, what is kept of its figures. Never raises."""
    plain = Glance(folder=str(folder.path), session=folder.path.name, name=folder.path.name)
    try:
        live = folder.engine_alive()
        stamp = stamp_of(folder)
        figures = None if live else kept_figures(folder)
    except OSError as error:
        why = f"{error.filename or folder.path} cannot be read: {error.strerror}"
        return msgspec.structs.replace(plain, fault="damaged", trouble=why, created_unix_s=_age(folder))
    plain = msgspec.structs.replace(plain, live=live, stamp=stamp)
    try:
        seen = _asked(plain, folder.config())
    except SessionError as error:
        newer = _newer_version(folder)
        seen = msgspec.structs.replace(
            plain,
            fault="newer" if newer else "damaged" if folder.meta_path.exists() else "incomplete",
            trouble=newer or str(error),
            created_unix_s=_age(folder),
        )
    return seen if figures is None else with_figures(seen, figures, folder)


def with_figures(seen: Glance, figures: Figures, folder: SessionFolder) -> Glance:
    """The same glance with the session's figures in it, under the name of its folder."""
    own = figures.summary
    summary = msgspec.structs.replace(
        own, session=seen.name, id=seen.session, simulated=own.simulated or seen.simulated
    )
    fault, trouble = seen.fault, seen.trouble
    if figures.trouble and not fault:
        fault, trouble = "damaged", figures.trouble
    elif figures.unknown_events and not fault:
        fault, trouble = "newer", _unknown(figures.unknown_events)
    elif not own.id and not seen.live and not fault and _has_attempts(folder):
        fault = "incomplete"
        trouble = f"the journal in {folder.journal_dir} is missing or empty, yet attempts ran: restore it from a backup"
    elif own.state == "interrupted" and not trouble:
        info = folder.engine()
        trouble = info.error if info is not None else ""
    return msgspec.structs.replace(
        seen,
        summary=summary,
        fault=fault,
        trouble=trouble,
        executor=seen.executor or own.executor,
        researcher=seen.researcher or own.researcher,
        simulated=summary.simulated,
        limits=figures.limits if own.id else seen.limits,
        used=figures.used,
    )


def _asked(plain: Glance, config: SessionConfig) -> Glance:
    return msgspec.structs.replace(
        plain,
        name=config.name,
        created_unix_s=config.created_unix_s,
        executor=config.executor,
        researcher=config.researcher,
        simulated=config.simulated,
        limits=config.limits,
    )


def traces(folder: SessionFolder) -> tuple[object, ...]:
    """What a glance depends on, far cheaper than a glance: as long as it is equal, so is the glance. Never raises."""
    found: list[object] = []
    for path in (folder.path, folder.meta_path, folder.figures_path, folder.engine_path):
        try:
            status = path.stat()
        except OSError as error:
            found.append(error.errno)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode))
    try:
        found += (folder.engine_alive(), stamp_of(folder))
    except OSError as error:
        found.append(error.errno)
    return tuple(found)


class _Made(msgspec.Struct):
    version: str = ""


def _newer_version(folder: SessionFolder) -> str:
    """Why session.json cannot be read, if a newer release made it; else nothing."""
    try:
        made = msgspec.json.decode(folder.meta_path.read_bytes(), type=_Made)
    except (OSError, msgspec.DecodeError):
        return ""
    here = installed_version()
    if _numbers(made.version) <= _numbers(here):
        return ""
    return f"it was made by version {made.version} of autoresearch-tui, and this is {here}: upgrade to go on with it"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _unknown(count: int) -> str:
    events = "1 event of it is" if count == 1 else f"{count} events of it are"
    return f"{events} of a newer version of autoresearch-tui: upgrade to go on with it; what is known can be replayed"


def _has_attempts(folder: SessionFolder) -> bool:
    try:
        return any(folder.runs_dir.iterdir())
    except OSError:
        return False


def _age(folder: SessionFolder) -> float | None:
    """When a folder that does not say when it was made was last changed, in unix seconds."""
    try:
        return folder.path.stat().st_mtime
    except OSError:
        return None
