"""The bare command: the home screen where there is a terminal, else what to run instead."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator

from core.session import SessionError, SessionFolder, sessions_dir
from tui.cli import UserError
from tui.cli.options import has_screen, no_screen_words
from tui.create import Asked
from tui.doctor import Row
from tui.progress import Tell
from tui.screens.home import HomeApp, HomeChoice
from tui.shelf import Shelf
from tui.view.form import facts_of
from tui.view.home import Order


def home() -> int:
    """Show the sessions, open the one that is chosen, and come back to it; returns an exit code."""
    if not has_screen():
        raise UserError(
            f"the home screen needs {no_screen_words()}; without it 'autoresearch-tui run --executor sim --plain' "
            "simulates a session, 'autoresearch-tui sessions' lists them, --help shows all commands",
            2,
        )
    at, order = "", Order()
    while True:
        app = HomeApp(Shelf(), HomeDeeds(), facts_of(os.environ), at=at, order=order)
        choice = app.run()
        if choice is None:
            return app.return_code or 0
        code = _open(choice)
        if code != 0:
            return code
        at, order = choice.session, app.order


def _open(choice: HomeChoice) -> int:
    from tui.cli.watch import watch_live, watch_replay

    folder = _folder(choice.session)
    if choice.verb == "replay":
        return watch_replay(folder)
    return watch_live(folder, plain=False, started_here=choice.started)


def _folder(session: str) -> SessionFolder:
    return SessionFolder(sessions_dir() / session)


class HomeDeeds:
    """What the home screen can do, as the commands do it. Failures are those of the commands."""

    def start(self, asked: Asked, tell: Tell) -> str:
        """As `run` does."""
        from tui.create import new_session
        from tui.launch import start_engine

        @contextlib.contextmanager
        def show(label: str) -> Iterator[Tell]:
            yield lambda share, words: tell(share, f"{label}: {words}")

        folder = new_session(asked, show)
        name = folder.config().name
        tell(0.0, f"starting the engine of {name}…")
        try:
            start_engine(folder)
        except SessionError as error:
            raise UserError(f"{error}; session {name} is in the list: r tries again") from None
        return folder.path.name

    def resume(self, session: str) -> str:
        """As `resume` does."""
        from core.control import new_client, request
        from tui.launch import start_engine

        folder = _folder(session)
        if not folder.engine_alive():
            start_engine(folder)
            return f"an engine works on {folder.config().name} again"
        reply = asyncio.run(request(folder, "resume", client=new_client("home")))
        if not reply.ok:
            raise UserError(f"{folder.config().name}: {reply.text}")
        return reply.text

    def delete(self, session: str) -> None:
        """As `delete` does."""
        from tui.cli.delete import remove

        remove(_folder(session))

    def examine(self) -> Iterator[Row]:
        """As `doctor` does."""
        from tui.doctor import examine

        return examine(None)
