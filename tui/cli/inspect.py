"""Commands that only look: status, sessions, sql."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys

import click
import msgspec

from core.control import EngineGone, request
from core.journal import JournalDamaged, scan
from core.reduce import fold
from core.session import SessionError, SessionFolder, all_sessions, resolve_session, sessions_dir
from core.state import SessionState
from core.summary import Summary, summarise
from tui.cli.options import json_option, print_json, session_argument
from tui.text import clean, printable
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
    """List the sessions, newest first."""
    rows = [row for folder in reversed(all_sessions()) if (row := _row(folder)) is not None]
    if as_json:
        print_json([{"path": str(path), **msgspec.to_builtins(summary)} for path, summary in rows])
        return
    if not rows:
        click.echo(f"no sessions in {sessions_dir()}; 'autoresearch-tui run' starts one")
    for _, summary in rows:
        best = summary.best.confirmed
        shown = (f"{best:.4f}" if best is not None else "-") + (" (simulated)" if summary.simulated else "")
        click.echo(
            f"{clean(summary.session):<24} {summary.state:<11} {clean(summary.executor):<10} "
            f"{clean(summary.researcher):<8} {summary.runs.finished:>5} runs  best confirmed {shown}  {summary.id}"
        )


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


def _row(folder: SessionFolder) -> tuple[str, Summary] | None:
    try:
        return str(folder.path), summary_of(folder)
    except (SessionError, JournalDamaged) as error:
        click.echo(printable(f"{folder.path.name}: {error}"), err=True)
        return None


def _width() -> int:
    """The terminal's width; nothing is cut on its way into a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 100_000
