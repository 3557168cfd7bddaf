"""What goes wrong in the simulated cluster, and how often: one rate and one seed for each kind of fault."""

from __future__ import annotations

import contextlib
import math
from typing import Final, Literal, NamedTuple

import msgspec

from core.executor import ExecutorError


class Fault(msgspec.Struct, frozen=True):
    """How often a kind of fault happens, and the seed of its draws: another seed moves this kind and no other."""

    rate: float
    seed: int = 0


class Kind(NamedTuple):
    """One kind of fault: its unit, its rate in two presets (in the third, `none`, all are 0), and where that is from.

    A `per device-hour` rate may be any number; the others are shares of 1.
    """

    name: str
    unit: Literal["per device-hour", "of attempts", "of nodes", "of time"]
    default: float
    harsh: float
    standing: Literal["measured", "assumed"]
    what: str
    source: str


KINDS: Final = (
    Kind(
        "preemption",
        "per device-hour",
        0.005,
        0.1,
        "assumed",
        "an attempt is evicted for somebody with a higher priority; its device is free again at once",
        "a shared cluster that is seldom full; spot capacity is nearer to `harsh`",
    ),
    Kind(
        "device_loss",
        "per device-hour",
        2e-5,
        0.05,
        "measured",
        "a device is gone, with its attempt, and comes back after 5 minutes and more (30 in the mean, assumed)",
        "Llama 3 (arXiv 2407.21783, section 3.3.4): 419 unexpected interruptions of 16,384 H100 in 54 days",
    ),
    Kind(
        "infrastructure",
        "of attempts",
        0.018,
        0.05,
        "measured",
        "an attempt dies of something that is not the file's doing, at any moment",
        "autoresearch-automl (arXiv 2603.24647): 321 of 18,205 published runs failed, not for want of memory",
    ),
    Kind(
        "throttling",
        "of time",
        0.01,
        0.05,
        "measured",
        "a node's devices train 3 % slower for a while (half an hour in the mean, assumed)",
        "steps of published runs of one file: 1 % of them about 3 % fewer, in clusters",
    ),
    Kind(
        "slow_pending",
        "of attempts",
        0.02,
        0.1,
        "assumed",
        "an attempt waits to be placed, 90 s in the mean",
        "a scheduler under load",
    ),
    Kind(
        "image_pull",
        "of nodes",
        1.0,
        1.0,
        "assumed",
        "a node spends the session's first 2 to 4 minutes on fetching the image",
        "the size of a CUDA image with torch on a common registry link",
    ),
    Kind("image", "of attempts", 0.0, 0.01, "assumed", "the image cannot be fetched", "no count found"),
    Kind("unschedulable", "of attempts", 0.0, 0.01, "assumed", "no node takes the attempt", "no count found"),
    Kind("nan", "of attempts", 0.0, 0.01, "assumed", "the loss diverges, whatever the file says", "for tests"),
    Kind("oom", "of attempts", 0.0, 0.01, "assumed", "memory runs out, whatever the file says", "for tests"),
    Kind("crash", "of attempts", 0.0, 0.01, "assumed", "the run crashes, whatever the file says", "for tests"),
)
"""Every kind of fault. Rates that no published count supports are 0 by default."""

_KIND: Final = {kind.name: kind for kind in KINDS}
_PRESETS: Final = ("default", "none", "harsh")


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The faults of a session; see `KINDS` for what each means."""

    preemption: Fault
    device_loss: Fault
    infrastructure: Fault
    throttling: Fault
    slow_pending: Fault
    image_pull: Fault
    image: Fault
    unschedulable: Fault
    nan: Fault
    oom: Fault
    crash: Fault


def preset(name: Literal["default", "none", "harsh"]) -> Faults:
    """One of the three sets of rates: `default` (as far as known, like the published sessions), `none`, `harsh`."""
    rates = {kind.name: {"default": kind.default, "none": 0.0, "harsh": kind.harsh}[name] for kind in KINDS}
    return Faults(**{kind: Fault(rate) for kind, rate in rates.items()})


def parse_faults(text: str) -> Faults:
    """Read faults from the user's words.

    Args:
        text: a preset (`default` where none is named), then rates that change it, with commas, such as
            `none,preemption=0.1`. `preemption=0.1@7` gives that kind a seed of its own; `seed=7` all others.

    Raises:
        ExecutorError: it cannot be read, or a rate is negative, not finite, or a share above 1.
    """
    head, *rest = [part.strip() for part in text.split(",")]
    if head in _PRESETS:
        chosen = preset(head)  # type: ignore[arg-type]
    else:
        chosen, rest = preset("default"), [head, *rest]
    seed, rates, seeds = 0, {kind: getattr(chosen, kind).rate for kind in _KIND}, {}
    for part in rest:
        key, equals, value = (word.strip() for word in part.partition("="))
        if key == "seed" and equals:
            seed = _seed(value, part)
        elif key in _KIND and equals:
            rate, at, own_seed = (word.strip() for word in value.partition("@"))
            rates[key] = _rate(_KIND[key], rate, part)
            if at:
                seeds[key] = _seed(own_seed, part)
        else:
            raise ExecutorError(
                f"--faults does not know {part[:80]!r}: begin with {', '.join(_PRESETS)}, or give rates such as "
                f"preemption=0.1 of {', '.join(_KIND)}, or seed=7"
            )
    return Faults(**{kind: Fault(rates[kind], seeds.get(kind, seed)) for kind in _KIND})


def _rate(kind: Kind, text: str, part: str) -> float:
    rate = math.nan
    with contextlib.suppress(ValueError):
        rate = float(text)
    most = math.inf if kind.unit == "per device-hour" else 1.0
    if not (0.0 <= rate <= most and math.isfinite(rate)):
        allowed = "0 or more" if most == math.inf else "a share from 0 to 1"
        raise ExecutorError(f"--faults {part[:80]!r}: {kind.name} is a rate {kind.unit}, {allowed}; give such a number")
    return rate


def _seed(text: str, part: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise ExecutorError(
        f"--faults {part[:80]!r}: a seed is a whole number from 0 on with at most 18 digits; give such a one"
    )
