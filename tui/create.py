"""Making a session: check all that can be checked before it begins, then write its folder."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from core.events import Limits
from core.executor import ExecutorError
from core.profile import Profile, choose_profile
from core.registry import EXECUTORS, RESEARCHERS, UnknownName, names
from core.session import SessionConfig, SessionError, SessionFolder, all_sessions, check_name, create_session
from core.target import copy_target, find_program, known_overrides, locate_target, read_program, read_source
from core.version import installed_version
from tui.claude import research_options
from tui.cli import UserError
from tui.cli.options import absolute
from tui.progress import Tell, progress

_PROBE: Final = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec('torch') else 3)"
SIMULATED_HOURS: Final = 8.0
_SEEDS: Final = 10_000
"""A drawn seed is short enough to be typed again."""
_WATCH_S: Final = 150.0
"""How long watching a whole simulated session should take: long enough to see it, short enough to stay."""
_PACED_WITHOUT_LIMIT: Final = 200.0
MOST_SOCKET_SPEED: Final = 240.0
"""A simulated cluster behind sockets keeps up with this (python -m bench.kube)."""


Show = Callable[[str], AbstractContextManager[Tell]]
"""Opens a display of progress by its label."""


class Asked(msgspec.Struct, kw_only=True, frozen=True):
    """What a person asked of a new session; None where nothing was said. The fields are the options of `run`.

    `speed` is "max", or session seconds per second; `watched` says whether a screen will follow.
    """

    executor: str = "local"
    researcher: str = "builtin"
    gpus: str | None = None
    hours: float | None = None
    runs: int | None = None
    gpu_hours: float | None = None
    max_usd: float | None = None
    budget_seconds: float | None = None
    budget_steps: int | None = None
    seed: int | None = None
    name: str | None = None
    target: str | None = None
    program: str | None = None
    corpus: str | None = None
    train_python: str | None = None
    sandbox: Literal["auto", "none"] = "auto"
    speed: str | None = None
    faults: str | None = None
    until_limits: bool = False
    model: str | None = None
    economy: bool = False
    effort: str | None = None
    claude_endpoint: str | None = None
    on_refusal: str | None = None
    fallback_model: str | None = None
    autopilot_runs: int | None = None
    claude_faults: str | None = None
    claude_mind: str | None = None
    claude_timeout_s: float | None = None
    kubernetes: Any = None
    kube_faults: str | None = None
    watched: bool = False


class _Place(msgspec.Struct, kw_only=True, frozen=True):
    """What the executor decides about a session."""

    profile: Profile
    python: str = ""
    corpus_dir: str = ""
    corpus_sha256: str = ""
    gpus: str | None = None
    limits: Limits
    simulated: bool = False
    speed: float | None = None
    most_speed: float | None = None
    options: dict[str, Any] = {}
    title: str


def new_session(asked: Asked, show: Show = progress) -> SessionFolder:
    """Check everything that can be checked before, then make the session's folder.

    Args:
        asked: by whom, where, how much.
        show: shows how far something is that takes long.

    Raises:
        UserError, UnknownName, ExecutorError, TargetError, SessionError: one sentence for the person.
    """
    _check_names(asked)
    target_dir = absolute(asked.target) if asked.target else locate_target()
    research = research_options(asked)
    now_s = time.time()
    seed = asked.seed if asked.seed is not None else secrets.randbelow(_SEEDS)
    place = _place(asked, seed, now_s, show)
    overrides = known_overrides(target_dir / "train.py", place.profile.overrides)
    read_source(target_dir / "train.py", overrides)
    program = read_program(absolute(asked.program) if asked.program else find_program(target_dir))
    budget_s, budget_kind = _budget(asked, place.profile)
    config = SessionConfig(
        session=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_s))}-{secrets.token_hex(2)}",
        name=asked.name or free_name(place.title),
        title=asked.name or place.title,
        created_unix_s=round(now_s, 3),
        seed=seed,
        executor=asked.executor,
        researcher=asked.researcher,
        limits=msgspec.structs.replace(place.limits, usd=research.get("max_usd", place.limits.usd)),
        target_dir="",
        corpus_dir=place.corpus_dir,
        corpus_sha256=place.corpus_sha256,
        python=place.python,
        budget_s=budget_s,
        budget_kind=budget_kind,
        seq_len=place.profile.seq_len,
        eval_tokens=place.profile.eval_tokens,
        profile=place.profile.name,
        overrides=overrides,
        gpus=place.gpus,
        sandbox=asked.sandbox,
        simulated=place.simulated,
        speed=place.speed,
        most_speed=place.most_speed,
        options=place.options
        | ({"until_limits": True} if asked.until_limits else {})
        | ({"research": research} if research else {}),
        version=installed_version(),
    )
    return create_session(config, lambda path: copy_target(target_dir, path, program))


def check_python(asked: str | None) -> str:
    """The interpreter that trains, with torch in it. Raises UserError."""
    python = str(absolute(asked)) if asked else sys.executable
    if shutil.which(python) is None:
        raise UserError(f"there is no Python at {python}: give one with --train-python PATH", about="train_python")
    try:
        probe = subprocess.run([python, "-P", "-c", _PROBE], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        sentence = f"the Python at {python} does not run ({type(error).__name__}): give another one"
        raise UserError(sentence, about="train_python") from None
    if probe.returncode != 0:
        raise UserError(
            f"torch is not installed in {python}: install 'autoresearch-tui[train]' there, or name a Python that has "
            "it with --train-python PATH; '--executor sim' needs none",
            about="train_python",
        )
    return python


def _place(asked: Asked, seed: int, now_s: float, show: Show) -> _Place:
    if asked.executor == "sim":
        return _simulated(asked, seed)
    if asked.executor == "kubernetes":
        return _cluster(asked, seed, now_s)
    return _real(asked, now_s, show)


def _cluster(asked: Asked, seed: int, now_s: float) -> _Place:
    """A Kubernetes cluster, real or simulated; what it has, only its executor can see."""
    from executors.kubernetes.access import Access
    from executors.kubernetes.settings import to_options

    if asked.corpus or asked.sandbox != "auto" or asked.train_python:
        raise UserError(
            "--corpus, --sandbox and --train-python are this machine's: a cluster's pods have their own (see --data, "
            "--image)",
            2,
        )
    settings = asked.kubernetes
    options: dict[str, Any] = {"kubernetes": to_options(settings)}
    if settings.endpoint:
        return _simulated_cluster(asked, seed, options)
    if asked.speed is not None or asked.faults is not None:
        raise UserError("--speed and --faults belong to a simulated cluster: add --kube-endpoint sim", 2)
    Access.resolve(settings.kubeconfig, settings.context, settings.namespace)  # before there is a session
    return _Place(
        profile=choose_profile("cuda" if settings.gpu_resource else "cpu"),
        gpus=asked.gpus,
        limits=_limits(asked, asked.hours),
        options=options,
        title=f"kubernetes-{time.strftime('%m%d-%H%M', time.localtime(now_s))}",
    )


def _simulated_cluster(asked: Asked, seed: int, options: dict[str, Any]) -> _Place:
    """The whole path through real sockets, with nobody's cluster: its time can be paced, but it cannot jump."""
    simulated = _simulated(msgspec.structs.replace(asked, speed="1" if asked.speed == "max" else asked.speed), seed)
    if asked.speed == "max":
        raise UserError(
            f"a cluster behind sockets cannot run at --speed max: give at most {MOST_SOCKET_SPEED:g}", 2, about="speed"
        )
    speed = min(MOST_SOCKET_SPEED, simulated.speed or MOST_SOCKET_SPEED)
    if asked.speed is not None and simulated.speed is not None and simulated.speed > MOST_SOCKET_SPEED:
        raise UserError(
            f"a cluster behind sockets keeps up with at most --speed {MOST_SOCKET_SPEED:g}", 2, about="speed"
        )
    return msgspec.structs.replace(
        simulated,
        speed=speed,
        most_speed=MOST_SOCKET_SPEED,
        options=simulated.options | options | ({"kube_faults": asked.kube_faults} if asked.kube_faults else {}),
        title=f"kube-{simulated.title}",
    )


def _real(asked: Asked, now_s: float, show: Show) -> _Place:
    """Where training is real: it needs torch and a corpus."""
    if asked.speed is not None or asked.faults is not None:
        raise UserError("--speed and --faults belong to a simulated session: add --executor sim", 2)
    python = check_python(asked.train_python)
    profile = _real_profile(asked)
    corpus_dir, corpus_sha256 = _corpus(asked.corpus, show)
    return _Place(
        profile=profile,
        python=python,
        corpus_dir=str(corpus_dir),
        corpus_sha256=corpus_sha256,
        gpus=asked.gpus,
        limits=_limits(asked, asked.hours),
        title=f"{asked.executor}-{time.strftime('%m%d-%H%M', time.localtime(now_s))}",
    )


def _simulated(asked: Asked, seed: int) -> _Place:
    """Where nothing is real: any cluster, no torch, no corpus, and time that can be paced."""
    from sim.artefact import Profiler
    from sim.faults import parse_faults
    from sim.mix import DEFAULT_MIX, parse_mix

    if asked.budget_steps or asked.corpus or asked.sandbox != "auto":
        raise UserError("--budget-steps, --corpus and --sandbox mean nothing in a simulated session: leave them out", 2)
    gpus = DEFAULT_MIX if asked.gpus is None else asked.gpus
    faults = asked.faults or "default"
    try:
        mix = parse_mix(gpus)
    except ExecutorError as error:
        raise UserError(str(error), 2, about="gpus") from None
    try:
        parse_faults(faults)
    except ExecutorError as error:
        raise UserError(str(error), 2, about="faults") from None
    python = check_python(asked.train_python) if asked.train_python else sys.executable
    profiler = Profiler.find(python, Path(), confined_only=asked.researcher != "builtin")
    unlimited = asked.hours is None and asked.runs is None and asked.gpu_hours is None
    hours = SIMULATED_HOURS if unlimited else asked.hours
    return _Place(
        profile=choose_profile("cuda", min(gpu.memory_mb for gpu in mix)),
        gpus=gpus,
        limits=_limits(asked, hours),
        simulated=True,
        speed=paced(asked.speed, hours, watched=asked.watched),
        python=python,
        options={"faults": faults, "profiler": profiler.kind if profiler is not None else ""},
        title=f"sim-{sum(mix.values())}gpu-s{seed}",
    )


def paced(asked: str | None, hours: float | None, *, watched: bool) -> float | None:
    """The pace of a simulation: as asked; else one that is pleasant to watch, and the fastest where nobody watches."""
    from core.clock import parse_speed

    if asked is not None:
        return parse_speed(asked)
    if not watched:
        return None
    return _PACED_WITHOUT_LIMIT if hours is None else max(1.0, round(hours * 3600.0 / _WATCH_S))


def _limits(asked: Asked, hours: float | None) -> Limits:
    return Limits(hours=hours, runs=asked.runs, gpu_hours=asked.gpu_hours, usd=asked.max_usd)


def _check_names(asked: Asked) -> None:
    for group, kind, name in (
        (EXECUTORS, "executor", asked.executor),
        (RESEARCHERS, "researcher", asked.researcher),
    ):
        if name not in names(group):
            raise UnknownName(f"there is no {kind} called {name!r}; installed are: {', '.join(names(group))}")
    if asked.name:
        check_name(asked.name)
        if asked.name in _taken():
            raise UserError(f"there is a session called {asked.name} already; choose another --name", 2, about="name")


def _real_profile(asked: Asked) -> Profile:
    """The profile for the devices that this executor will find. Raises ExecutorError."""
    if asked.executor != "local":
        return choose_profile("cuda")
    from executors.devices import find_slots

    slots = find_slots(asked.gpus)
    smallest_mb = min(slot.device.memory_mb for slot in slots)
    return choose_profile(slots[0].kind, smallest_mb)


def _corpus(asked: str | None, show: Show) -> tuple[Path, str]:
    """The corpus to train on, prepared now if it is the default one and missing. Raises UserError."""
    from tui.corpus import corpus_path, prepare, read_meta

    if asked is not None:
        folder = absolute(asked)
        meta = read_meta(folder)
        if meta is None:
            sentence = f"{folder} is no prepared corpus; make one with 'autoresearch-tui prepare --out {folder}'"
            raise UserError(sentence, about="corpus")
        return folder, str(meta["sha256"])
    folder = corpus_path()
    meta = read_meta(folder)
    if meta is None:
        with show("preparing the corpus from this Python's standard library (once)") as tell:
            meta = prepare(folder, None, 256, tell)
    return folder, str(meta["sha256"])


def _budget(asked: Asked, profile: Profile) -> tuple[float, Literal["cpu", "gpu", "steps"]]:
    if asked.budget_steps:
        return float(asked.budget_steps), "steps"
    kind: Literal["cpu", "gpu"] = "cpu" if profile.budget_kind == "cpu" else "gpu"
    return asked.budget_seconds or profile.budget_s, kind


def _taken() -> set[str]:
    taken = set()
    for folder in all_sessions():
        try:
            taken.add(folder.config().name)
        except SessionError:
            taken.add(folder.path.name)
    return taken


def free_name(wish: str) -> str:
    """The name itself, or with a number behind it where there is a session of that name."""
    taken, name, number = _taken(), wish, 1
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name
