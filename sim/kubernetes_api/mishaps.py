"""What befalls pods in the simulated cluster beyond the simulated world's own faults: one rate for each kind."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Final

from core.executor import ExecutorError
from sim import draws

KINDS: Final[dict[str, str]] = {
    "preemption": "the scheduler takes its place for a pod of higher priority",
    "eviction": "somebody evicts it through the API",
    "node_lost": "its node goes down, and comes back after 2 to 10 minutes",
    "partition": "its node cannot be reached for 30 to 200 s, while the pod runs on",
    "gpu_fault": "its GPU breaks (exit code 84)",
    "image": "its image cannot be fetched on its node",
    "admission": "the kubelet refuses it (UnexpectedAdmissionError)",
    "container_lost": "the kubelet cannot find its container any more (ContainerStatusUnknown)",
    "pressure": "its node runs out of disk, and the kubelet evicts it",
    "deleted": "somebody deletes it",
    "oom_killed": "it uses more memory than its limit (OOMKilled)",
    "disk": "it writes more to a volume than the volume's limit (Evicted)",
    "hang": "it never ends by itself (DeadlineExceeded)",
}
"""Every kind, with what happens to a pod. The last three are the revision's own doing, as far as anybody can tell."""

Rates = Mapping[str, float]


def parse_mishaps(text: str) -> dict[str, float]:
    """Read rates, shares of attempts, from the user's words.

    Args:
        text: empty or `none`, or a share for every kind such as `2%` or `0.02`, or kinds with commas such as
            `node_lost=1%,image=0.01`; or the first and then the last.

    Raises:
        ExecutorError: it cannot be read, or is no share of 1.
    """
    rates = dict.fromkeys(KINDS, 0.0)
    for number, part in enumerate(text.split(",")):
        kind, equals, value = (word.strip() for word in part.partition("="))
        if not equals and number == 0:
            rates = dict.fromkeys(KINDS, 0.0 if kind in {"", "none"} else _share(kind, part))
        elif equals and kind in KINDS:
            rates[kind] = _share(value, part)
        else:
            raise ExecutorError(
                f"--kube-faults does not know {part.strip()[:80]!r}: write none, a share such as 2% for every kind, or "
                f"shares such as node_lost=1% of {', '.join(KINDS)}"
            )
    return rates


class Mishaps:
    """Draws what befalls an attempt: a function of the seed and the attempt's Job, whatever else happens."""

    def __init__(self, seed: int, rates: Rates) -> None:
        self._seed, self._rates = seed, rates

    def befalls(self, kind: str, job: str) -> bool:
        """Whether an attempt meets this kind of mishap."""
        rate = self._rates.get(kind, 0.0)
        return rate > 0.0 and draws.uniform(self._seed, "mishap", kind, job) < rate

    def share(self, kind: str, job: str, what: str = "when") -> float:
        """A number in (0, 1): at which share of the attempt's course it happens, or something else about it."""
        return draws.uniform(self._seed, "mishap", kind, job, what)


def _share(text: str, part: str) -> float:
    number = math.nan
    with contextlib.suppress(ValueError):
        number = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    if not 0.0 <= number <= 1.0:
        raise ExecutorError(f"--kube-faults {part.strip()[:80]!r}: give a share of all attempts, such as 2% or 0.02")
    return number
