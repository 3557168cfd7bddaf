"""Read one `train.py`: what it asks for, or how a run of it ends."""

from __future__ import annotations

import ast
import contextlib
import math
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from core.patching import PatchError
from core.patching.outline import Outline, outline
from sim.artefact.complaints import OutOfMemoryError
from sim.artefact.cost import Shape, amount_of, kv_heads, structural_cost
from sim.artefact.evaluate import Constants, RaisedError, UnreadableError
from sim.artefact.profiler import Profile, Profiler
from sim.artefact.rehearsal import Rehearsal
from sim.artefact.structure import Structure, shipped, structure_of
from sim.model import Cost, Failure, Setup

NEEDED: Final = ("DEPTH", "ASPECT_RATIO", "HEAD_DIM", "TOTAL_BATCH_SIZE", "DEVICE_BATCH_SIZE")
"""Without these nothing can be said of a file; any other knob that a file lacks has the shipped value."""
KNOBS: Final = (
    *NEEDED, "MLP_RATIO", "WINDOW_PATTERN", "SHORT_WINDOW_RATIO", "ROPE_BASE", "ATTENTION_SCALE", "SOFTCAP",
    "RESIDUAL_INIT", "SKIP_INIT", "EMBEDDING_LR", "UNEMBEDDING_LR", "MATRIX_LR", "SCALAR_LR", "WEIGHT_DECAY",
    "ADAM_BETAS", "MUON_MOMENTUM", "MUON_MOMENTUM_START", "MUON_MOMENTUM_RATIO", "MUON_BETA2", "NS_STEPS",
    "WARMUP_RATIO", "WARMDOWN_RATIO", "FINAL_LR_FRAC", "POLAR_EXPRESS", "LOG_LINES",
)  # fmt: skip
MAX_REASON_CHARS: Final = 240
"""What the harness keeps of an error's text (harness.last_line)."""
LARGEST: Final = 1e30
"""Where a run takes an infinite value in its stride, the surrogate is told a very large one."""
MEASURED: Final = frozenset({"gqa", "geglu"})
"""Features whose code is not compared with anything: it is run where that is possible."""
_RETIRED: Final = {"no-softcap": "SOFTCAP", "plain-muon": "MUON_BETA2"}


class _Ends(Exception):
    """A run of the file ends without a score."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


def read(source: str, *, seq_len: int, vocab_size: int, profiler: Profiler | None = None) -> Setup | Failure:
    """Return what a `train.py` asks for, or how a run of it fails, as far as the file alone tells.

    Args:
        source: the file's text.
        seq_len: tokens in a row.
        vocab_size: different tokens.
        profiler: measures structures that no rule knows; without one they keep the cost of their constants.

    Running out of a device's memory and diverging are not told from here: see sim.surrogate. Costs about 0.1 ms for
    other constants on a structure seen lately, about 0.1 s for a new structure.
    """
    try:
        return _read(source, seq_len, vocab_size, profiler)
    except _Ends as end:
        return end.failure


def _read(source: str, seq_len: int, vocab_size: int, profiler: Profiler | None) -> Setup:
    known = _outline(source)
    try:
        structure = structure_of(source, known.template.digest)
    except UnreadableError as error:
        raise _Ends(Failure("crash", f"the simulator cannot read train.py: it {error}")) from error
    constants = _constants(source, known)
    for name in ("build", "train"):
        if name not in known.template.functions:
            raise _Ends(Failure("crash", f"AttributeError: train.py has no function {name}()"))
    measure = partial(_measure, source, known, profiler, seq_len, vocab_size)
    if any(isinstance(constants.get(name), UnreadableError) for name in KNOBS) and (profile := measure()):
        constants |= profile.constants
    values, assumed = _knobs(structure, constants)
    rehearsal = _rehearse(source, values, structure, seq_len, vocab_size)
    profile = measure() if structure.changes or structure.names & MEASURED else None
    if profile is None:
        _check_names(source, structure)
        _check_owners(source, structure)
    cost, cost_known = _cost(structure, rehearsal, values, profile or measure, vocab_size)
    labels = (*assumed, *structure.changes)
    if not cost_known and not labels:
        labels = ("a size that only a run can tell",)
    what = "quality not modelled" if cost_known else "cost and quality not modelled"
    unmodelled = tuple(f"{label}: {what}" for label in labels)
    try:
        return _setup(rehearsal, values, structure, unmodelled=unmodelled, cost=cost)
    except (TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _Ends(Failure("crash", f"the simulator cannot read the constants: {error}"[:MAX_REASON_CHARS])) from error


# ---- What the file says ----


def _outline(source: str) -> Outline:
    try:
        return outline(source)
    except PatchError as error:
        cause = error.__cause__
        if isinstance(cause, SyntaxError):
            raise _Ends(_failure(cause, line=cause.lineno)) from error
        if "\0" in source:
            null = SyntaxError("source code string cannot contain null bytes")
            raise _Ends(_failure(null, line=None)) from error
        raise _Ends(_failure(cause if isinstance(cause, Exception) else error, line=None)) from error


def _constants(source: str, known: Outline) -> dict[str, Any]:
    """Return the values of all constants; UnreadableError stands for one that the file's text does not tell."""
    values: dict[str, Any] = dict(zip(known.template.names, known.values, strict=True))
    computed = known.template.unsettable.keys() - shipped().unsettable
    if computed:
        try:
            run = Constants(ast.parse(source))
        except RaisedError as raised:
            raise _Ends(_failure(raised.error, line=raised.line)) from raised
        for name in computed:
            if name in run.values:
                values[name] = run.values[name]
            elif name in run.unreadable:
                values[name] = UnreadableError(run.unreadable[name])
    return values


def _knobs(structure: Structure, constants: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the constants' values, and labels for those that are assumed."""
    values = dict(constants)
    assumed: list[str] = []
    retired = {_RETIRED.get(feature) for feature in structure.names}
    base = shipped().constants
    for name in KNOBS:
        value = values.get(name)
        if isinstance(value, UnreadableError):
            raise _Ends(Failure("crash", f"the simulator cannot read {name}: it {value}"))
        if name in values or name in structure.uses:
            continue
        if name in NEEDED:
            raise _Ends(Failure("crash", f"the simulator cannot read {name}: train.py has no such constant"))
        values[name] = base[name]
        if name != "LOG_LINES" and name not in retired:
            assumed.append(name)
    labels = [f"the shipped {', '.join(assumed)} assumed, which the file does not have"] if assumed else []
    if values.get("POLAR_EXPRESS", base["POLAR_EXPRESS"]) != base["POLAR_EXPRESS"]:
        labels.append("POLAR_EXPRESS changed")
    return values, labels


# ---- How a run of it ends ----


def _rehearse(source: str, values: Mapping[str, Any], structure: Structure, seq_len: int, vocab_size: int) -> Rehearsal:
    rehearsal = Rehearsal(values, structure, seq_len=seq_len, vocab_size=vocab_size)
    try:
        rehearsal.run()
    except UnreadableError as error:
        raise _Ends(Failure("crash", f"the simulator cannot read the {error}")) from error
    except Exception as error:
        line = _line_of(source, rehearsal.where)
        raise _Ends(_failure(error, line=line, at_frac=rehearsal.at_frac)) from error
    return rehearsal


def _check_names(source: str, structure: Structure) -> None:
    """A name that the code reads and nothing binds."""
    for name in structure.undefined:
        error = NameError(f"name '{name}' is not defined")
        lines = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name) and node.id == name]
        raise _Ends(_failure(error, line=min(lines)))


def _check_owners(source: str, structure: Structure) -> None:
    """The shipped file asserts that each parameter has an optimizer."""
    for parameter in structure.orphans:
        error = AssertionError(f"the parameter {parameter} must be in exactly one optimizer group")
        raise _Ends(_failure(error, line=_line_of(source, "assert owned.count(")))


def _failure(error: BaseException, *, line: int | None, at_frac: float = -1.0) -> Failure:
    """Say it as the harness does: the last line of the traceback, and the line of train.py (harness.last_line)."""
    outcome = "nan" if isinstance(error, FloatingPointError) else "crash"
    if isinstance(error, OutOfMemoryError | MemoryError):
        outcome = "oom"
    text = traceback.format_exception_only(error)[-1].strip().splitlines()[0][:MAX_REASON_CHARS]
    reason = f"{text} (train.py, line {line})" if line else text
    return Failure(outcome, reason, at_frac)  # type: ignore[arg-type]


def _line_of(source: str, where: str) -> int | None:
    at = source.find(where) if where else -1
    return None if at < 0 else source.count("\n", 0, at) + 1


# ---- What it costs ----


def _measure(source: str, known: Outline, profiler: Profiler | None, seq_len: int, vocab_size: int) -> Profile | None:
    if profiler is None:
        return None
    profile = profiler.profile(source, known, seq_len=seq_len, vocab_size=vocab_size)
    if isinstance(profile, Failure):
        raise _Ends(profile)
    return profile


def _cost(
    structure: Structure,
    run: Rehearsal,
    values: Mapping[str, Any],
    profile: Profile | Callable[[], Profile | None],
    vocab_size: int,
) -> tuple[Cost | None, bool]:
    """Return the cost, None where the shape tells it, and whether it is known at all."""
    if isinstance(profile, Profile):
        return profile.cost, True
    if not structure.features:
        return None, not structure.changes
    shape = Shape(
        depth=values["DEPTH"], width=run.width, head_dim=values["HEAD_DIM"], attended=_attended(values, run.seq_len),
        vocab_size=vocab_size,
    )  # fmt: skip
    try:
        return structural_cost(structure, shape, values), not structure.changes
    except (UnreadableError, ArithmeticError, TypeError, ValueError):
        measured = profile()
        return (None, False) if measured is None else (measured.cost, True)


def _attended(values: Mapping[str, Any], seq_len: int) -> int:
    """Sum the positions that the layers see, without going through them: there may be any number."""
    pattern: str | tuple[Any, ...] = values["WINDOW_PATTERN"]
    depth: int = values["DEPTH"]
    window = min(seq_len, max(1, int(seq_len * values["SHORT_WINDOW_RATIO"])))
    cycles, more = divmod(depth - 1, len(pattern))  # the last layer sees all
    short = cycles * pattern.count("S") + pattern[:more].count("S")
    return short * window + (depth - short) * seq_len


# ---- The setup ----


@lru_cache(maxsize=1)
def _converters() -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    number = _number
    return (
        ("mlp_ratio", "MLP_RATIO", number), ("rope_base", "ROPE_BASE", number),
        ("attention_scale", "ATTENTION_SCALE", number), ("residual_init", "RESIDUAL_INIT", number),
        ("skip_init", "SKIP_INIT", number), ("embedding_lr", "EMBEDDING_LR", number),
        ("unembedding_lr", "UNEMBEDDING_LR", number), ("matrix_lr", "MATRIX_LR", number),
        ("scalar_lr", "SCALAR_LR", number), ("weight_decay", "WEIGHT_DECAY", number),
        ("muon_momentum", "MUON_MOMENTUM", number), ("muon_momentum_start", "MUON_MOMENTUM_START", number),
        ("muon_beta2", "MUON_BETA2", number), ("final_lr_frac", "FINAL_LR_FRAC", number),
        ("muon_momentum_ratio", "MUON_MOMENTUM_RATIO", _share), ("warmup_ratio", "WARMUP_RATIO", _share),
        ("warmdown_ratio", "WARMDOWN_RATIO", _share),
    )  # fmt: skip


def _setup(
    run: Rehearsal, values: Mapping[str, Any], structure: Structure, *, unmodelled: tuple[str, ...], cost: Cost | None
) -> Setup:
    numbers: dict[str, Any] = {}
    for field, name, convert in _converters():
        try:
            numbers[field] = convert(values[name])
        except (TypeError, ValueError) as error:
            reason = f"the simulator cannot read {name} = {values[name]!r}"
            raise _Ends(Failure("crash", reason[:MAX_REASON_CHARS])) from error
    betas, ratio = values["ADAM_BETAS"], values["SHORT_WINDOW_RATIO"]
    return Setup(
        depth=int(values["DEPTH"]), width=run.width, head_dim=int(values["HEAD_DIM"]),
        window_pattern="".join(values["WINDOW_PATTERN"]),
        # What else gets here is a text of digits, which repeated is beyond any row, or is never asked for.
        short_window_ratio=_number(ratio) if isinstance(ratio, int | float) else 1.0,
        softcap=0.0 if "no-softcap" in structure.names else abs(_number(values["SOFTCAP"])),
        total_batch=int(values["TOTAL_BATCH_SIZE"]), rows=int(run.rows), adam_beta1=float(betas[0]),
        adam_beta2=float(betas[1]), ns_steps=run.ns_steps, seq_len=run.seq_len,
        vocab_size=run.vocab_size, structure=_names(structure, values, run), unmodelled=unmodelled, cost=cost,
        **numbers,
    )  # fmt: skip


def _names(structure: Structure, values: Mapping[str, Any], run: Rehearsal) -> frozenset[str]:
    """Return the features that the constants leave standing: dropout at a rate of 0 is none."""
    names = set(structure.names)
    for feature in structure.features:
        with contextlib.suppress(UnreadableError, ArithmeticError, TypeError, ValueError):
            if feature.name in {"dropout", "label-smoothing"} and amount_of(feature, values) == 0:
                names.discard(feature.name)
            elif feature.name == "gqa" and kv_heads(structure, values, run.width // values["HEAD_DIM"]) == 1:
                names = names - {"gqa"} | {"mqa"}
    return frozenset(names)


def _number(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError("a text is no number")
    return float(max(-LARGEST, min(LARGEST, value)))  # bounded first: float() refuses integers beyond its range


def _share(value: Any) -> float:
    """A share of the budget; what the schedule's comparisons make of None and of no number is 0."""
    return 0.0 if value is None or math.isnan(value) else _number(value)
