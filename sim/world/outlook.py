"""What to expect of a revision on a device class, once for all its attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from sim.gpus import GpuClass
from sim.model import Failure, Forecast, Setup

MEASURED_BUDGET_S = 300.0
"""The budget of all published runs that the surrogate knows."""

_MOST_KEPT = 4_096


class Physics(NamedTuple):
    """How the world behaves.

    `read` a train.py, `forecast` it on a class for a budget in seconds, `loss_at` a share of the budget; `unmodelled`
    says which of a setup's properties no effect on quality is known of, in words; `close` ends what helps with it.
    """

    read: Callable[[str], Setup | Failure]
    forecast: Callable[[Setup, GpuClass, float], Forecast]
    loss_at: Callable[[Forecast, float], float]
    unmodelled: Callable[[Setup], Sequence[str]]
    close: Callable[[], None]


class Outlook(msgspec.Struct, frozen=True):
    """`total_batch` is tokens a step. `forecast` is None where the file could not even be read: see `failure`.

    `note` says what the forecast leaves out.
    """

    total_batch: int
    forecast: Forecast | None
    failure: Failure | None
    note: str = ""


class Outlooks:
    """Remembers the outlook of the revisions asked for last: most runs of a session repeat one of them."""

    def __init__(self, physics: Physics) -> None:
        self._physics = physics
        self._kept: dict[tuple[str, str, float], Outlook] = {}

    def of(self, revision: str, source: str, gpu: GpuClass, budget_s: float) -> Outlook:
        """The outlook of a revision, whose text is `source`."""
        key = (revision, gpu.name, budget_s)
        known = self._kept.pop(key, None) or self._find(source, gpu, budget_s)
        self._kept[key] = known  # to the end: the one used least recently stands first
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return known

    def _find(self, source: str, gpu: GpuClass, budget_s: float) -> Outlook:
        setup = self._physics.read(source)
        if isinstance(setup, Failure):
            return Outlook(0, None, setup)
        forecast = self._physics.forecast(setup, gpu, budget_s)
        note = _note(setup, self._physics.unmodelled(setup), gpu, budget_s)
        return Outlook(setup.total_batch, forecast, forecast.failure, note)


def _note(setup: Setup, properties: Sequence[str], gpu: GpuClass, budget_s: float) -> str:
    """What a score on this class leaves out, in words; what the file's reader says of it is said already."""
    said = list(setup.unmodelled)
    if properties:
        said.append(f"quality not modelled: {'; '.join(properties)}")
    if budget_s != MEASURED_BUDGET_S:
        said.append(f"measured at {MEASURED_BUDGET_S:g} s, carried over to {budget_s:g} s by a law")
    if gpu.standing == "assumed":
        said.append(f"the speed of {gpu.name} is assumed")
    return "; ".join(said)
