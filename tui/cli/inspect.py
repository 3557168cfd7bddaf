"""Commands that only look: status, sessions, sql."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from typing import Any

import click
import msgspec

from core.control import EngineGone, request
from core.figures import ask_figures, read_figures
from core.glance import Glance, glance, with_figures
from core.journal import scan
from core.reduce import fold
from core.session import SessionFolder, all_sessions, disk_bytes, resolve_session, session_folders, sessions_dir
from core.state import SessionState
from core.summary import Summary, summarise
from tui.cli.options import json_option, print_json, session_argument
from tui.palette import Role
from tui.text import clean, printable
from tui.view.home import HomeRow, Order, chosen, home_row, progress
from tui.words import analysis_lines, summary_lines


@click.command()
@session_argument
@json_option
def status(session: str, as_json: bool) -> None:
    """Say where a session stands: runs, best observed and confirmed, devices, cost, and what the numbers say."""
    from core.analysis import analyse

    folder = resolve_session(session)
    state = state_of(folder)
    summary = as_known_here(folder, summarise(state, engine_alive=folder.engine_alive()))
    analysis = analyse(state)
    if as_json:
        print_json({**msgspec.to_builtins(summary), "analysis": msgspec.to_builtins(analysis)})
        return
    for line in (*summary_lines(summary), *analysis_lines(analysis)):
        click.echo(printable(line))


@click.command()
@json_option
def sessions(as_json: bool) -> None:
    """List the sessions, newest first; damaged ones too, with what is wrong."""
    looks = [_looked_at(folder) for folder in session_folders()]
    found = chosen(looks, "", Order())
    if as_json:
        print_json([_plain(one) for one in found])
        return
    if not found:
        click.echo(f"no sessions in {sessions_dir()}; 'autoresearch-tui run' starts one")
        return
    width = max(len("session"), *(len(clean(one.name)) for one in found))
    for row in (_HEAD, *(home_row(one) for one in found)):
        sign = " " if row is _HEAD else "●" if row.live else "○"
        best = f"{row.state:<11} {row.best:>6} {row.gain:>7} {row.runs:>7} {row.share:>5} {row.of:<11}"
        line = f"{row.name:<{width}} {sign} {best} {row.size:>7} {row.started:<16} {row.by:<18} {row.session}"
        click.echo(line.rstrip())
    for one in found:
        if one.fault:
            click.echo(f"{clean(one.name)}: {clean(one.trouble)}", err=True)


_HEAD = HomeRow("id", "session", False, "state", Role.TEXT, "best", "Δ", "done", "", "runs", "size", "started", "by")


def _looked_at(folder: SessionFolder) -> Glance:
    """All that lists say of a session, its journal read where nobody kept its figures."""
    seen = msgspec.structs.replace(glance(folder), size=disk_bytes(folder.path))
    if seen.summary is not None or seen.stamp is None:
        return seen
    try:
        figures = asyncio.run(ask_figures(folder)) if seen.live else read_figures(folder)
    except EngineGone:
        figures = read_figures(folder)
    return with_figures(seen, figures, folder)


def _plain(one: Glance) -> dict[str, Any]:
    """A session as JSON has it: all of `status --json`, and what the list adds. A damaged one has all the keys."""
    summary = one.summary
    if summary is None:
        empty = summarise(SessionState(), engine_alive=one.live)
        summary = msgspec.structs.replace(
            empty, session=one.name, id=one.session, executor=one.executor, researcher=one.researcher
        )
    done = progress(one)
    return {
        "path": one.folder,
        **msgspec.to_builtins(summary),
        "state": one.state,
        "trouble": one.trouble,
        "live": one.live,
        "bytes": one.size,
        "created_unix_s": one.created_unix_s,
        "session_limits": msgspec.to_builtins(one.limits),
        "progress": None if done is None else done.share,
    }


@click.command()
@click.argument("query")
@click.option("-s", "--session", default="last", help="The session (default: last).")
@click.option("--all", "every", is_flag=True, help="Ask all sessions at once.")
@json_option
def sql(query: str, session: str, every: bool, as_json: bool) -> None:
    """Ask DuckDB: tables runs, experiments, attempts, metrics, verdicts, messages and more (docs/sql.md).

    QUERY is one statement, read-only, e.g. "select revision, count(*), avg(val_bpb) from runs group by all".
    """
    from core import sql as console

    folders = all_sessions() if every else [resolve_session(session)]
    for folder in folders:
        refresh(folder)
    table = console.query([folder.path for folder in folders], query)
    for notice in table.notices:
        click.echo(notice, err=True)
    click.echo(console.json_rows(table) if as_json else console.format_table(table, _width()))


def refresh(folder: SessionFolder) -> None:
    """Have the newest events in the published database: ask the engine, or build it where nobody publishes."""
    with contextlib.suppress(EngineGone):
        asyncio.run(request(folder, "publish"))
        return
    if not folder.duckdb_path.exists() and not folder.engine_alive():
        from core.projection.ingest import rebuild

        rebuild(folder.path)


def summary_of(folder: SessionFolder) -> Summary:
    """Fold a session's journal into its figures. Raises JournalDamaged, SessionError."""
    return as_known_here(folder, summarise(state_of(folder), engine_alive=folder.engine_alive()))


def state_of(folder: SessionFolder) -> SessionState:
    """Fold a session's journal. Raises JournalDamaged."""
    return fold(event for event, _ in scan(folder.journal_dir))


def as_known_here(folder: SessionFolder, summary: Summary) -> Summary:
    """A summary under the name of its folder: equal simulated sessions have equal journals, only that tells them apart.

    Raises SessionError.
    """
    config = folder.config()
    return msgspec.structs.replace(
        summary, session=config.name, id=folder.path.name, simulated=summary.simulated or config.simulated
    )


def _width() -> int:
    """The terminal's width; nothing is cut on its way into a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100_000
