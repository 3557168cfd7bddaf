"""The form of a new session: which fields there are, what they mean as options of `run`, what doctor has to say."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import click

from core.executor import ExecutorError
from tui.cli.kube_options import settings_of
from tui.cli.run import run
from tui.create import Asked
from tui.doctor import MODEL, TRAINING, Row
from tui.palette import Role
from tui.text import clean

API, OWN, SIM = "Claude API", "own server", "simulated"
MINE = "my cluster"

Values = Mapping[str, str]
"""What stands in the fields; an empty text is the default."""


class Field(NamedTuple):
    """One line of the form. `name` is an option of `run`; a field without choices is a text."""

    name: str
    label: str
    choices: tuple[str, ...] = ()
    default: str = ""
    """In the words of a placeholder: what an empty field means."""


class Facts(NamedTuple):
    """What the form has to know of this machine.

    `executors` and `researchers` can be loaded; `planned` executors are spoken of but not built yet. `has_key`:
    whether a model's key is in the environment; `base_url`: whether an endpoint is.
    """

    executors: tuple[str, ...]
    researchers: tuple[str, ...]
    planned: tuple[str, ...] = ()
    has_key: bool = False
    base_url: bool = False
    python: str = ""


class Refused(NamedTuple):
    """Why a session cannot begin, and the field that it is about; empty where it is about none."""

    sentence: str
    field: str = ""


class Note(NamedTuple):
    """A line beside a choice."""

    text: str
    role: Role


_SIMULATED: Final = ("gpus", "hours", "runs", "name", "seed", "speed", "faults")
_REAL: Final = ("gpus", "hours", "runs", "gpu_hours", "budget_seconds", "name", "seed", "target", "train_python")
_CLUSTER: Final = (
    *("kube_endpoint", "context", "namespace", "image", "data", "gpus", "hours", "runs", "gpu_hours", "budget_seconds"),
    *("name", "seed"),
)
_CLAUDE: Final = ("claude_endpoint", "url", "model", "max_usd")

_LABELS: Final = {
    "executor": "executor",
    "researcher": "researcher",
    "gpus": "devices",
    "hours": "hours",
    "runs": "runs",
    "gpu_hours": "device-hours",
    "budget_seconds": "run budget s",
    "name": "name",
    "seed": "seed",
    "speed": "speed",
    "faults": "faults",
    "target": "target",
    "kube_endpoint": "cluster",
    "context": "context",
    "namespace": "namespace",
    "image": "image",
    "data": "data",
    "train_python": "Python",
    "claude_endpoint": "model by",
    "url": "server URL",
    "model": "model",
    "max_usd": "at most $",
}


def fields(values: Values, facts: Facts) -> list[Field]:
    """The fields that belong to the present choices, in their order."""
    executor = values.get("executor", "sim")
    names = ["executor", "researcher"]
    if values.get("researcher") == "claude":
        names += [name for name in _CLAUDE if name != "url" or values.get("claude_endpoint") == OWN]
    names += {"sim": _SIMULATED, "kubernetes": _CLUSTER}.get(executor, _REAL)
    return [Field(name, _LABELS[name], _choices(name, facts), _default(name, executor, facts)) for name in names]


def every_field(facts: Facts) -> list[Field]:
    """All fields that can ever be seen, each once, in the order of the form."""
    names = dict.fromkeys(("executor", "researcher", *_CLAUDE, *_CLUSTER[:5], *_REAL[:5], *_SIMULATED, *_REAL))
    return [Field(name, _LABELS[name], _choices(name, facts)) for name in names]


def first_values(facts: Facts) -> dict[str, str]:
    """What is chosen at first: the simulation, which needs nothing, and a model that can be asked."""
    endpoint = OWN if facts.base_url else API if facts.has_key else SIM
    return {"executor": "sim", "researcher": "builtin", "claude_endpoint": endpoint, "kube_endpoint": SIM}


def _choices(name: str, facts: Facts) -> tuple[str, ...]:
    if name == "executor":
        return tuple(dict.fromkeys((*_first("sim", "local", "kubernetes", of=facts.executors), *facts.planned)))
    if name == "researcher":
        return _first("builtin", "claude", of=facts.researchers)
    if name == "kube_endpoint":
        return (SIM, MINE)
    return (API, SIM, OWN) if name == "claude_endpoint" else ()


def _first(*wanted: str, of: Sequence[str]) -> tuple[str, ...]:
    """Names in a pleasant order: the wanted ones first, those of other packages behind."""
    return (*(name for name in wanted if name in of), *(name for name in of if name not in wanted))


def _default(name: str, executor: str, facts: Facts) -> str:
    """What an empty field means."""
    from core.claude.settings import DEFAULT_USD, Settings
    from executors.kubernetes.settings import KubeSettings
    from sim.mix import DEFAULT_MIX
    from tui.create import SIMULATED_HOURS

    simulated = executor == "sim"
    return {
        "gpus": DEFAULT_MIX if simulated else "all there are",
        "context": "the kubeconfig's",
        "namespace": "the context's",
        "image": KubeSettings().image,
        "data": KubeSettings().data,
        "hours": f"{SIMULATED_HOURS:g}, where no other limit is given" if simulated else "no limit",
        "runs": "no limit",
        "gpu_hours": "no limit",
        "budget_seconds": "300 on a GPU, 20 on a CPU",
        "name": "by devices and seed" if simulated else "by executor and time",
        "seed": "drawn",
        "speed": "2 to 3 minutes in all; or max, or 200",
        "faults": "default; or none, harsh, preemption=0.1",
        "target": "the train.py that comes along",
        "train_python": facts.python,
        "url": "ANTHROPIC_BASE_URL" if facts.base_url else "http://localhost:11434",
        "model": Settings().model,
        "max_usd": f"{DEFAULT_USD:g}",
    }.get(name, "")


def asked_of(values: Values, facts: Facts) -> Asked | Refused:
    """The options that the form stands for: each text is read exactly as the command line would read it."""
    options: dict[str, Any] = {}
    shown = fields(values, facts)
    if any(field.name == "url" for field in shown) and not values.get("url", "").strip() and not facts.base_url:
        return Refused("give the URL of a server that speaks the Messages API, such as http://localhost:11434", "url")
    for field in shown:
        if field.name == "url":
            continue
        text = _text(field.name, values)
        if text is None:
            continue
        try:
            options[field.name] = _read(field.name, text)
        except click.ClickException as wrong:
            return Refused(wrong.message, field.name)
    try:
        settings = settings_of(options, wanted=values.get("executor") == "kubernetes")
    except ExecutorError as wrong:
        return Refused(str(wrong), "data")
    return Asked(**options, kubernetes=settings, watched=True)


def command_words(values: Values, facts: Facts) -> str:
    """The same as a command line, to be learnt by the way."""
    words = ["autoresearch-tui", "run"]
    for field in fields(values, facts):
        text = None if field.name == "url" else _text(field.name, values)
        if text is not None and (field.name, text) != ("researcher", "builtin"):
            words += [f"--{field.name.replace('_', '-')}", shlex.quote(text)]
    return " ".join(words)


def _text(name: str, values: Values) -> str | None:
    """What an option of `run` is given; None where it is left out."""
    text = values.get(name, "").strip()
    if name == "kube_endpoint":
        return "sim" if text == SIM else None
    if name != "claude_endpoint":
        return text or None
    return {API: "", SIM: "sim", OWN: values.get("url", "").strip() or None}.get(text, text)


def _read(name: str, text: str) -> Any:
    option = next(option for option in run.params if option.name == name)
    return option.process_value(click.Context(run), text)


def about_executor(values: Values, facts: Facts, rows: Sequence[Row], *, examined: bool) -> list[Note]:
    """What is known of the chosen executor: what doctor found so far, each failing row with its fix."""
    executor = values.get("executor", "sim")
    if executor not in facts.executors:
        return [Note(f"{executor} is not built yet: this version has {', '.join(facts.executors)}", Role.FAILED)]
    elsewhere = executor in ("sim", "kubernetes")
    skipped = MODEL | (TRAINING if elsewhere else frozenset())
    notes = []
    if executor == "sim" or (executor == "kubernetes" and values.get("kube_endpoint", SIM) == SIM):
        notes.append(Note("SIMULATED: nothing is trained; needs no GPU, no key", Role.CONFIRMED))
    elif executor == "kubernetes":
        notes.append(Note("'autoresearch-tui doctor --kubernetes' says what the cluster lacks", Role.TEXT))
    for row in rows:
        if row.what in skipped or (row.verdict == "ok" and row.what not in TRAINING):
            continue
        notes += _row_notes(row)
    if not examined:
        notes.append(Note("looking at this machine…", Role.MUTED))
    return notes


def about_researcher(values: Values, facts: Facts) -> list[Note]:
    """What is to be known of the chosen researcher before it costs anything."""
    if values.get("researcher") != "claude":
        return []
    endpoint = values.get("claude_endpoint", "")
    if endpoint == SIM:
        return [Note("SIMULATED model: needs no key, costs nothing", Role.CONFIRMED)]
    if endpoint == API and not facts.has_key:
        words = "no key: ANTHROPIC_API_KEY is not set here; set it, or choose the simulated model"
        return [Note(words, Role.FAILED)]
    if endpoint == API:
        return [Note("real money: the limit below is kept", Role.WAITING)]
    return []


_SIGNS: Final[dict[Literal["ok", "warn", "fail"], tuple[str, Role]]] = {
    "ok": ("✓", Role.OBSERVED),
    "warn": ("!", Role.WAITING),
    "fail": ("×", Role.FAILED),
}


def _row_notes(row: Row) -> list[Note]:
    sign, role = _SIGNS[row.verdict]
    notes = [Note(f"{sign} {row.what}: {clean(row.found)}", role)]
    return [*notes, Note(f"  → {clean(row.fix)}", Role.TEXT)] if row.fix else notes


def refusal_of(error: Exception, sentence: str, asked: Asked) -> Refused:
    """Which field a failure of `new_session` is about; the sentence is the command line's own."""
    from core.registry import UnknownName
    from core.session import SessionError
    from core.target import TargetError
    from tui.cli import UserError

    if isinstance(error, UserError):
        of_own = error.about == "claude_endpoint" and asked.claude_endpoint not in ("", "sim")
        return Refused(sentence, "url" if of_own else error.about)
    if isinstance(error, UnknownName):
        return Refused(sentence, "researcher" if " researcher " in sentence else "executor")
    if isinstance(error, ExecutorError):
        return Refused(sentence, "gpus")
    if isinstance(error, TargetError):
        return Refused(sentence, "target")
    if isinstance(error, SessionError) and asked.name and repr(asked.name) in sentence:
        return Refused(sentence, "name")
    return Refused(sentence)


def facts_of(environment: Mapping[str, str], planned: Sequence[str] = ("kubernetes",)) -> Facts:
    """What this machine has, by its entry points and environment; keys are looked for, never shown."""
    from core.registry import EXECUTORS, RESEARCHERS, names
    from core.secrets import KEY_NAMES

    executors = tuple(names(EXECUTORS))
    return Facts(
        executors=executors,
        researchers=tuple(names(RESEARCHERS)),
        planned=tuple(name for name in planned if name not in executors),
        has_key=any(environment.get(name) for name in KEY_NAMES),
        base_url=bool(environment.get("ANTHROPIC_BASE_URL")),
        python=sys.executable,
    )
