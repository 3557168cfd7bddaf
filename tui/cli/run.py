"""`run`: check what a session needs, make it, start its engine, watch it."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import click

from core.events import Limits
from core.profile import Profile, choose_profile
from core.registry import EXECUTORS, RESEARCHERS, UnknownName, names
from core.session import SessionConfig, SessionFolder, all_sessions, check_name, create_session
from core.target import copy_target, known_overrides, locate_target, read_source
from core.version import installed_version
from tui.cli import UserError
from tui.cli.options import absolute, has_screen, plain_option

_PROBE = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('torch') else 3)"


@click.command()
@click.option("--executor", default="local", show_default=True, help="Where runs happen: a local GPU or CPU.")
@click.option("--researcher", default="builtin", show_default=True, help="Who proposes.")
@click.option("--gpus", help="Use only these devices, e.g. 2xCPU or 1xH100-80GB (default: all there are).")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this much time.")
@click.option("--runs", type=click.IntRange(min=1), help="Stop after this many runs.")
@click.option("--gpu-hours", type=click.FloatRange(min=0, min_open=True), help="Stop after this much device time.")
@click.option("--max-usd", type=click.FloatRange(min=0), help="Spend at most this much on a model's API.")
@click.option(
    "--budget-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Training time of a run: GPU seconds, or CPU seconds on a CPU (default 300 and 20).",
)
@click.option(
    "--budget-steps",
    type=click.IntRange(min=1),
    hidden=True,
    help="A fixed number of steps instead: for tests, as it favours bigger models.",
)
@click.option("--seed", type=int, help="Seed of the session (default: drawn).")
@click.option("--name", help="Name of the session (default: the executor and the time).")
@click.option(
    "--target",
    type=click.Path(file_okay=False),
    help="A folder with your own train.py (and harness.py, if it has one).",
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
@click.option("--detach", is_flag=True, help="Start it and return at once.")
@plain_option
def run(**asked: Any) -> int:
    """Start a session and watch it.

    Closing the screen, Ctrl-C or a dropped link leave the session working: 'attach' finds it again.
    """
    if asked["budget_seconds"] and asked["budget_steps"]:
        raise click.UsageError("--budget-seconds and --budget-steps exclude each other")
    folder = new_session(asked)
    from tui.launch import start_engine

    start_engine(folder)
    name = folder.config().name
    if asked["detach"]:
        click.echo(f"session {name} works on its own; 'autoresearch-tui attach {name}' shows it")
        return 0
    from tui.cli.watch import watch_live

    return watch_live(folder, plain=asked["plain"] or not has_screen(), started_here=True)


def new_session(asked: dict[str, Any]) -> SessionFolder:
    """Check everything that can be checked before, then make the session's folder. Raises UserError."""
    _check_names(asked)
    python = check_python(asked["train_python"])
    target_dir = absolute(asked["target"]) if asked["target"] else locate_target()
    profile = _profile(asked["executor"], asked["gpus"])
    overrides = known_overrides(target_dir / "train.py", profile.overrides)
    read_source(target_dir / "train.py", overrides)
    corpus_dir, corpus_sha256 = _corpus(asked["corpus"])
    budget_s, budget_kind = _budget(asked, profile)
    now_s = time.time()
    session = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(2)}"
    config = SessionConfig(
        session=session,
        name=asked["name"] or _free_name(f"{asked['executor']}-{time.strftime('%m%d-%H%M', time.localtime(now_s))}"),
        created_unix_s=round(now_s, 3),
        seed=asked["seed"] if asked["seed"] is not None else secrets.randbelow(2**31),
        executor=asked["executor"],
        researcher=asked["researcher"],
        limits=Limits(hours=asked["hours"], runs=asked["runs"], gpu_hours=asked["gpu_hours"], usd=asked["max_usd"]),
        target_dir="",
        corpus_dir=str(corpus_dir),
        corpus_sha256=corpus_sha256,
        python=python,
        budget_s=budget_s,
        budget_kind=budget_kind,
        seq_len=profile.seq_len,
        eval_tokens=profile.eval_tokens,
        profile=profile.name,
        overrides=overrides,
        gpus=asked["gpus"],
        sandbox=asked["sandbox"],
        version=installed_version(),
    )
    return create_session(config, lambda path: copy_target(target_dir, path))


def check_python(asked: str | None) -> str:
    """The interpreter that trains, with torch in it. Raises UserError."""
    python = str(absolute(asked)) if asked else sys.executable
    if shutil.which(python) is None:
        raise UserError(f"there is no Python at {python}: give one with --train-python PATH")
    try:
        probe = subprocess.run([python, "-P", "-c", _PROBE], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"the Python at {python} does not run ({type(error).__name__}): give another one") from None
    if probe.returncode != 0:
        raise UserError(
            f"torch is not installed in {python}: install 'autoresearch-tui[train]' there, or name a Python that has "
            "it with --train-python PATH"
        )
    return python


def _check_names(asked: dict[str, Any]) -> None:
    for group, kind in ((EXECUTORS, "executor"), (RESEARCHERS, "researcher")):
        if asked[kind] not in names(group):
            raise UnknownName(f"there is no {kind} called {asked[kind]!r}; installed are: {', '.join(names(group))}")
    if asked["name"]:
        check_name(asked["name"])
        if asked["name"] in _taken():
            raise UserError(f"there is a session called {asked['name']} already; choose another --name", 2)


def _profile(executor: str, gpus: str | None) -> Profile:
    """The profile for the devices that this executor will find. Raises ExecutorError."""
    if executor != "local":
        return choose_profile("cuda")
    from executors.devices import find_slots

    slots = find_slots(gpus)
    smallest_mb = min(slot.device.memory_mb for slot in slots)
    return choose_profile(slots[0].kind, smallest_mb)


def _corpus(asked: str | None) -> tuple[Path, str]:
    """The corpus to train on, prepared now if it is the default one and missing. Raises UserError."""
    from tui.corpus import corpus_path, prepare, read_meta

    if asked is not None:
        folder = absolute(asked)
        meta = read_meta(folder)
        if meta is None:
            raise UserError(f"{folder} is no prepared corpus; make one with 'autoresearch-tui prepare --out {folder}'")
        return folder, str(meta["sha256"])
    folder = corpus_path()
    meta = read_meta(folder)
    if meta is None:
        click.echo("preparing the corpus from this Python's standard library (once)", err=True)
        meta = prepare(folder, None, 256, lambda _fraction, _text: None)
    return folder, str(meta["sha256"])


def _budget(asked: dict[str, Any], profile: Profile) -> tuple[float, Literal["cpu", "gpu", "steps"]]:
    if asked["budget_steps"]:
        return float(asked["budget_steps"]), "steps"
    kind: Literal["cpu", "gpu"] = "cpu" if profile.budget_kind == "cpu" else "gpu"
    return asked["budget_seconds"] or profile.budget_s, kind


def _taken() -> set[str]:
    from core.session import SessionError

    taken = set()
    for folder in all_sessions():
        try:
            taken.add(folder.config().name)
        except SessionError:
            taken.add(folder.path.name)
    return taken


def _free_name(wish: str) -> str:
    taken, name, number = _taken(), wish, 1
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name
