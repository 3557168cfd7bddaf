"""The bare command: the home screen where there is a terminal, else what to run instead."""

from __future__ import annotations

import time

from core.journal import JournalDamaged
from core.session import SessionError, SessionFolder, all_sessions, resolve_session
from tui.cli import UserError
from tui.cli.options import has_screen, no_screen_words
from tui.create import SIMULATED_HOURS, Asked, new_session
from tui.screens.home import HomeApp, HomeChoice, HomeRow


def home() -> int:
    """Show the sessions, open the one that is chosen, and come back; returns an exit code."""
    if not has_screen():
        raise UserError(
            f"the home screen needs {no_screen_words()}; without it 'autoresearch-tui run --executor sim --plain' "
            "simulates a session, 'autoresearch-tui sessions' lists them, --help shows all commands",
            2,
        )
    from sim.mix import DEFAULT_MIX

    offer = DEFAULT_MIX, f"{SIMULATED_HOURS:g} h"
    code = 0
    while code == 0:
        choice = HomeApp([_row(folder) for folder in reversed(all_sessions())], offer).run()
        if choice is None:
            return 0
        code = _open(choice)
    return code


def _open(choice: HomeChoice) -> int:
    from tui.cli.watch import watch_live, watch_replay

    if choice.verb == "start":
        return _simulate()
    folder = resolve_session(choice.session)
    return watch_live(folder, plain=False) if choice.verb == "attach" else watch_replay(folder)


def _simulate() -> int:
    """Start what the home screen offers, and watch it."""
    from tui.cli.watch import watch_live
    from tui.launch import start_engine

    folder = new_session(Asked(executor="sim", watched=True))
    start_engine(folder)
    return watch_live(folder, plain=False, started_here=True)


def _row(folder: SessionFolder) -> HomeRow:
    """One session's row; a damaged one is listed too, with what is wrong as its state."""
    from tui.cli.inspect import summary_of

    session = folder.path.name
    try:
        config, summary = folder.config(), summary_of(folder)
    except (SessionError, JournalDamaged):
        return HomeRow(session, session, "damaged", live=False, runs=0, best=None, created="")
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(config.created_unix_s))
    live = folder.engine_alive()
    state = f"{summary.state}, simulated" if summary.simulated else summary.state
    return HomeRow(session, config.name, state, live, summary.runs.finished, summary.best.confirmed, created)
