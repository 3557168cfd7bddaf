"""`fork`: a new session that begins with the evidence of another, as it stood at one of its moments."""

from __future__ import annotations

from typing import Any

import click

from core.session import resolve_session
from tui.cli.options import Amount, has_screen, json_option, plain_option, print_json, session_argument, speed_option


@click.command()
@session_argument
@click.option("--at-event", type=click.IntRange(min=1), help="From right after this event (default: the newest).")
@click.option("--at", help="From a moment: 3:25:00, 50%, '#1234', r34 (its end) or e12 (proposed).")
@click.option("--name", help="Name of the new session (default: the parent's, with -fork).")
@click.option("--hint", default="", help="What its researcher is told first.")
@click.option("--researcher", help="Who goes on: builtin or claude (default: as in the parent).")
@click.option("--model", help="With claude: the model (default: the parent's).")
@click.option("--effort", help="With claude: how hard it thinks: low, medium, high, xhigh, max.")
@click.option("--claude-endpoint", metavar="sim|URL", help="With claude: who serves the model (see 'run').")
@click.option("--hours", type=Amount(0, 1e5, min_open=True), help="Stop after this much time from here on.")
@click.option("--runs", type=click.IntRange(min=1), help="Stop after this many runs from here on.")
@click.option("--gpu-hours", type=Amount(0, 1e8, min_open=True), help="Stop after this much device time from here on.")
@click.option("--max-usd", type=Amount(0, 1e8), help="Spend at most this much on the model's API from here on.")
@click.option("--rest", is_flag=True, help="Give it what the parent had left of its limits at that moment.")
@click.option("--until-limits", is_flag=True, help="Go on until a limit, also where the evidence says nothing is left.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Its seed (default: made of its parent's).")
@speed_option
@click.option("--detach", is_flag=True, help="Start it and return at once.")
@json_option
@plain_option
def fork(session: str, **asked: Any) -> int:
    """Start a new session from a moment of another one.

    It keeps the runs, verdicts and code up to there, and may have another hint, researcher or limits; the parent is not
    touched. Runs that were in flight then are cancelled in the copy and queued again. Without limits of its own it has
    those of its parent, counted from the fork.
    """
    if asked["at"] is not None and asked["at_event"] is not None:
        raise click.UsageError("--at and --at-event exclude each other")
    from tui.fork import AskedFork, forked_session
    from tui.launch import start_engine

    detach, as_json = asked.pop("detach"), asked.pop("as_json")
    plain = asked.pop("plain") or not has_screen()
    folder = forked_session(resolve_session(session), AskedFork(**asked, watched=not plain and not detach))
    start_engine(folder)
    name = folder.config().name
    if as_json:
        print_json({"session": name, "id": folder.path.name, "path": str(folder.path)})
    elif detach:
        click.echo(f"session {name} works on its own; 'autoresearch-tui attach {name}' shows it")
    if detach:
        return 0
    from tui.cli.watch import watch_live

    return watch_live(folder, plain=plain, started_here=True)
