"""What a machine has and lacks for a session, one row per check, each failing row with its fix."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

import core
from core.executor import ExecutorError
from core.secrets import KEY_NAMES
from core.session import home
from core.target import TargetError, locate_target
from tui.cli import UserError

if TYPE_CHECKING:
    from executors.kubernetes.checks import Check
    from executors.kubernetes.settings import KubeSettings

_FREE_MB = 1024
_TORCH = (2, 13)


class Row(msgspec.Struct, frozen=True):
    """One check: `warn` costs something (a tier, a comfort), `fail` keeps a session from running."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""


TRAINING: Final = frozenset({"torch", "devices", "corpus", "sandbox"})
"""Checks that matter only where training is real."""
MODEL: Final = frozenset({"model key"})
"""Checks that matter only where the researcher is a model."""


def examine(train_python: str | None) -> Iterator[Row]:
    """Run the checks one after the other, each when it is asked for; none of them changes anything."""
    yield _python()
    yield _core()
    yield _target()
    yield _home()
    yield _torch(train_python)
    yield _devices()
    yield _corpus()
    yield _sandbox()
    yield _model_key(os.environ)
    yield _detach()


def examine_cluster(settings: KubeSettings, *, canary: bool) -> Iterator[Row]:
    """Run the checks of a cluster, each when it is asked for; the canaries' Jobs are deleted in any case."""
    from executors.kubernetes.examine import examine as look

    with asyncio.Runner() as runner, _cluster_of(settings) as reachable:
        checks = look(reachable, canary=canary)
        while (check := runner.run(_next(checks))) is not None:
            yield Row(check.verdict, check.what, check.found, check.fix)


async def _next(checks: AsyncIterator[Check]) -> Check | None:
    return await anext(checks, None)


@contextlib.contextmanager
def _cluster_of(settings: KubeSettings) -> Iterator[KubeSettings]:
    """The settings of a cluster that is there: a simulated one lives for as long as it is looked at."""
    if not settings.endpoint:
        yield settings
        return
    from core.registry import cluster_factory

    with tempfile.TemporaryDirectory() as folder:
        path = cluster_factory(settings.endpoint)(Path(folder), None, 1, {}, start_s=0.0, speed=60.0)
        yield msgspec.structs.replace(settings, endpoint="", kubeconfig=str(path))


def _python() -> Row:
    found = f"Python {sys.version.split()[0]} at {sys.executable}"
    return Row("ok", "python", found)


def _core() -> Row:
    """Our package is called `core`, as many are: another one may shadow it."""
    ours = Path(__file__).resolve().parent.parent / "core"
    found = Path(core.__file__).resolve().parent
    if found == ours:
        return Row("ok", "core", str(found))
    fix = "install autoresearch-tui into an environment of its own (pipx or uv tool install)"
    return Row("fail", "core", f"{found} is imported instead of {ours}", fix)


def _target() -> Row:
    try:
        return Row("ok", "target", str(locate_target()))
    except TargetError as error:
        return Row("fail", "target", str(error), "install autoresearch-tui again")


def _home() -> Row:
    folder = home()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Row("fail", "home", f"{folder} cannot be written", "set AUTORESEARCH_HOME to a folder of yours")
    free_mb = shutil.disk_usage(existing).free // 2**20
    if free_mb < _FREE_MB:
        return Row("warn", "home", f"{folder}, {free_mb} MB free", "free some space: a session that fills a disk waits")
    return Row("ok", "home", f"{folder}, {free_mb // 1024} GB free")


def _torch(train_python: str | None) -> Row:
    from tui.create import check_python

    try:
        python = check_python(train_python)
    except UserError as error:
        sentence, _, fix = str(error).partition(": ")
        return Row("fail", "torch", sentence, fix)
    code = "import torch; print(torch.__version__, 'CUDA' if torch.cuda.is_available() else 'CPU only')"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return Row("fail", "torch", f"import torch fails in {python}: {last[0]}", "install torch there again")
    found = f"{done.stdout.strip()}, in {python}"
    version = tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:2])
    if version < _TORCH:
        fix = f"install torch {_TORCH[0]}.{_TORCH[1]} there: older ones lack the attention that train.py uses on a GPU"
        return Row("warn", "torch", found, fix)
    return Row("ok", "torch", found)


def _devices() -> Row:
    from executors.devices import find_slots

    try:
        slots = find_slots(None)
    except ExecutorError as error:
        return Row("fail", "devices", str(error))
    classes = sorted({slot.device.cls for slot in slots})
    return Row("ok", "devices", f"{len(slots)} ({', '.join(classes)})")


def _corpus() -> Row:
    from tui.corpus import corpus_path, read_meta

    meta = read_meta(corpus_path())
    if meta is None:
        return Row("warn", "corpus", "none yet", "'autoresearch-tui prepare' makes it; 'run' does so by itself")
    return Row("ok", "corpus", f"{meta['name']}, {meta['train_tokens']:,} tokens, sha256 {meta['sha256'][:12]}")


def _sandbox() -> Row:
    """What keeps a run's code away from the targets and the result; without it, scores say so."""
    from executors.confine import probe

    no_bwrap, fix = _no_bubblewrap()
    no_filters = probe()
    if not no_bwrap and not no_filters:
        return Row("ok", "sandbox", "bubblewrap, Landlock and seccomp work")
    if not no_filters:
        return Row("ok", "sandbox", f"Landlock and seccomp work ({no_bwrap}: file names and times can be seen)")
    if not no_bwrap:
        return Row("ok", "sandbox", f"bubblewrap works ({no_filters}: it stands alone)")
    return Row("warn", "sandbox", f"scores will be marked `unconfined`: {no_bwrap}, {no_filters}", fix)


def _no_bubblewrap() -> tuple[str, str]:
    """Why bubblewrap does not work here, and what to do about it; empty where it does."""
    if shutil.which("bwrap") is None:
        return "no bubblewrap", "install the package bubblewrap"
    command = ["bwrap", "--ro-bind", "/", "/", "--unshare-all", "--dev", "/dev", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode == 0:
        return "", ""
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    fix = "allow unprivileged user namespaces, or accept the tier `unconfined`"
    return f"bubblewrap does not work here ({last})", fix


def _model_key(environment: Mapping[str, str]) -> Row:
    """Whether a model's client finds a key; what it is stays unsaid."""
    found = [name for name in KEY_NAMES if environment.get(name)]
    if found:
        return Row("ok", "model key", f"{found[0]} is set")
    fix = f"set {KEY_NAMES[0]} before you start; a simulated model and the builtin researcher need none"
    return Row("warn", "model key", f"neither {' nor '.join(KEY_NAMES)} is set", fix)


def _detach() -> Row:
    """Systemd can be set to kill what a user leaves behind at logout."""
    try:
        text = Path("/etc/systemd/logind.conf").read_text()
    except OSError:
        return Row("ok", "detach", "nothing known that ends processes at logout")
    lines = [line.split("#")[0].replace(" ", "").lower() for line in text.splitlines()]
    if "killuserprocesses=yes" in lines:
        fix = "run 'loginctl enable-linger', or start the session inside 'systemd-run --user --scope'"
        return Row("warn", "detach", "systemd kills what you leave running at logout", fix)
    return Row("ok", "detach", "engines survive a logout")
