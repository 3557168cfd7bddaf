"""Homes for tests: session folders of every condition, and a list of sessions that is fixed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from core.events import AnyEvent, Limits
from core.figures import figures_of
from core.glance import Glance, with_figures
from core.reduce import fold
from core.session import SessionConfig, SessionFolder
from tests.support.story import session, write_journal
from tui.create import Asked
from tui.doctor import Row
from tui.progress import Tell

CREATED_S = 1_772_704_800.0
"""2026-03-05 10:00 UTC."""


def config(name: str, **fields: object) -> SessionConfig:
    """What was asked for; only what a list shows matters."""
    given = {
        "session": f"id-{name}",
        "name": name,
        "created_unix_s": CREATED_S,
        "seed": 1,
        "executor": "local",
        "researcher": "builtin",
        "limits": Limits(hours=8.0),
        "target_dir": "",
        "corpus_dir": "",
        "python": "python",
        "budget_s": 300.0,
        "budget_kind": "gpu",
        "seq_len": 2048,
        "eval_tokens": 2**20,
        "profile": "h100",
        "version": "0.1.0",
    }
    return SessionConfig(**(given | fields))


def add_session(home: Path, name: str, events: list[AnyEvent] | None = None, **fields: object) -> SessionFolder:
    """A session's folder in a home; without events its engine never wrote any."""
    folder = SessionFolder(home / "sessions" / f"id-{name}")
    folder.runs_dir.mkdir(parents=True)
    folder.write(folder.meta_path, config(name, **fields))
    if events is not None:
        write_journal(folder.journal_dir, events)
    return folder


def seen(name: str, *, experiments: int = 6, ended: bool = True, live: bool = False, **fields: object) -> Glance:
    """A glance at a session that never was on a disk, with the figures of a synthetic story."""
    plain = Glance(
        folder=f"/home/ada/sessions/id-{name}",
        session=f"id-{name}",
        name=name,
        live=live,
        created_unix_s=CREATED_S,
        executor="local",
        researcher="builtin",
        limits=Limits(hours=8.0),
        size=12_300_000,
    )
    figures = figures_of(fold(session(experiments=experiments, ended=ended)), engine_alive=live)
    folder = SessionFolder(Path(plain.folder))
    return msgspec.structs.replace(with_figures(plain, figures, folder), **fields)


class FixedSessions:
    """A list that changes when a story says so."""

    def __init__(self, *glances: Glance, problem: str = "") -> None:
        self.glances, self.problem = glances, problem
        self.changed: Callable[[], None] = lambda: None

    async def follow(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    async def look(self) -> bool:
        return True

    def become(self, *glances: Glance) -> None:
        self.glances = glances
        self.changed()


class FakeDeeds:
    """Remembers what was asked of it; `refusal` is raised by whatever is asked next, `rows` are what doctor finds."""

    def __init__(self, *rows: Row) -> None:
        self.asked: list[Asked | str] = []
        self.refusal: Exception | None = None
        self.rows = rows
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def _do(self, asked: Asked | str) -> None:
        assert self.may_go_on.wait(20.0)
        self.asked.append(asked)
        if self.refusal is not None:
            raise self.refusal

    def start(self, asked: Asked, tell: Tell) -> str:
        tell(0.4, "preparing the corpus")
        self._do(asked)
        return "id-new"

    def resume(self, session: str) -> str:
        self._do(f"resume {session}")
        return "an engine works on it again"

    def delete(self, session: str) -> None:
        self._do(f"delete {session}")

    def examine(self) -> Iterator[Row]:
        yield from self.rows
