"""`run`: make a session, start its engine, watch it."""

from __future__ import annotations

from typing import Any

import click

from tui.cli.kube_options import kube_options, settings_of
from tui.cli.options import Amount, Count, has_screen, plain_option, screen_options, speed_option


@click.command()
@click.option(
    "--executor", default="local", show_default=True, help="Where runs happen: local (a GPU or CPU), kubernetes, sim."
)
@click.option(
    "--researcher", default="builtin", show_default=True, help="Who proposes: builtin (no key needed), or claude."
)
@click.option(
    "--gpus",
    help="Use only these devices, e.g. 2xCPU or 1xH100-80GB (default: all there are); with sim the cluster to "
    "simulate (default: 13xH100,3xH200).",
)
@click.option("--hours", type=Amount(0, 1e5, min_open=True), help="Stop after this much time (sim: 8).")
@click.option("--runs", type=Count(min=1), help="Stop after this many runs.")
@click.option("--gpu-hours", type=Amount(0, 1e8, min_open=True), help="Stop after this much device time.")
@click.option(
    "--until-limits", is_flag=True, help="Go on until a limit, also where the evidence says that nothing is left."
)
@click.option("--max-usd", type=Amount(0, 1e8), help="Spend at most this much on the model's API (claude: 10).")
@click.option("--model", help="With claude: the model (default: claude-opus-5-5).")
@click.option("--economy", is_flag=True, help="With claude: a cheaper model.")
@click.option("--effort", help="With claude: how hard it thinks: low, medium, high, xhigh, max.")
@click.option(
    "--claude-endpoint",
    metavar="sim|URL",
    help="With claude: sim, a simulated model that needs no key, or a server that speaks the Messages API.",
)
@click.option(
    "--on-refusal",
    type=click.Choice(["fallback", "pause"]),
    help="With claude: where the model declines, ask its fallback (default), or pause at once.",
)
@click.option("--fallback-model", help="With claude: the fallback to ask.")
@click.option(
    "--autopilot-runs",
    type=Count(0, 1_000_000),
    help="With claude: what the builtin researcher may propose while the model cannot (default: up to the limits).",
)
@click.option("--claude-faults", hidden=True, help="Faults of the simulated model: third, none, share=0.5,seed=3.")
@click.option("--claude-mind", hidden=True, help="A way in which the simulated model misbehaves.")
@click.option("--claude-timeout-s", type=Amount(0, 1e5, min_open=True), hidden=True)
@click.option(
    "--budget-seconds",
    type=Amount(0, 1e6, min_open=True),
    help="Training time of a run: GPU seconds, or CPU seconds on a CPU (default 300 and 20).",
)
@click.option(
    "--budget-steps",
    type=Count(min=1),
    hidden=True,
    help="A fixed number of steps instead: for tests, as it favours bigger models.",
)
@click.option("--seed", type=Count(0, 2**63 - 1), help="Seed of the session (default: drawn).")
@click.option("--name", help="Name of the session (default: the executor and the time).")
@click.option(
    "--target",
    type=click.Path(file_okay=False),
    help="A folder with your own train.py (and harness.py, if it has one).",
)
@click.option(
    "--program",
    type=click.Path(dir_okay=False),
    help="What the research is for, as text for a researcher that reads it (default: the target's program.md).",
)
@click.option("--corpus", type=click.Path(file_okay=False), help="A corpus made by 'prepare' (default: the stdlib's).")
@click.option("--train-python", type=click.Path(dir_okay=False), help="A Python that has torch (default: this one).")
@click.option(
    "--sandbox",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Confine train.py with bubblewrap where it works, or not at all.",
)
@speed_option
@click.option(
    "--faults", help="With sim: default, none, harsh, or rates such as preemption=0.1,device_loss=0.02,seed=7."
)
@click.option("--kube-faults", hidden=True, help="Faults of simulated pods: 2% of each kind, or eviction=0.1,...")
@kube_options
@click.option("--detach", is_flag=True, help="Start it and return at once.")
@plain_option
@screen_options
def run(**asked: Any) -> int:
    """Start a session and watch it.

    Closing the screen, Ctrl-C or a dropped link leave the session working: 'attach' finds it again.
    """
    if asked["budget_seconds"] and asked["budget_steps"]:
        raise click.UsageError("--budget-seconds and --budget-steps exclude each other")
    if asked["until_limits"] and not (
        asked["hours"] or asked["runs"] or asked["gpu_hours"] or asked["executor"] == "sim"
    ):
        raise click.UsageError("--until-limits needs a limit: --hours, --runs or --gpu-hours")
    from tui.create import Asked, new_session
    from tui.launch import start_engine

    asked["kubernetes"] = settings_of(asked, wanted=asked["executor"] == "kubernetes")
    detach, plain = asked.pop("detach"), asked.pop("plain") or not has_screen()
    folder = new_session(Asked(**asked, watched=not plain and not detach))
    start_engine(folder)
    name = folder.config().name
    if detach:
        click.echo(f"session {name} works on its own; 'autoresearch-tui attach {name}' shows it")
        return 0
    from tui.cli.watch import watch_live

    return watch_live(folder, plain=plain, started_here=True)
