"""The course of one simulated attempt: when it starts, trains and ends, and what it reports on the way."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec

from core.executor import Finished, Outcome, Progress, Started
from sim import draws
from sim.world.outlook import Outlook, Physics

_SAMPLE_S = 30.0
_MOST_SAMPLES = 10
_LOSS_SD = 0.004
"""Relative spread of one batch's training loss around the curve. Assumed: half a million tokens vary little."""
_UTIL_SD = 0.01


class Ending(NamedTuple):
    """Why an attempt ends at a session second; `reason` is empty where it ends well."""

    t_s: float
    outcome: Outcome
    reason: str = ""


def samples_in(budget_s: float) -> int:
    """How many samples a whole run reports: one every 30 s, at most 10, the last when only scoring is left."""
    return max(1, min(_MOST_SAMPLES, round(budget_s / _SAMPLE_S)))


def events_until(ending_s: float, start_s: float, trained_s: float, interval_s: float, samples: int) -> int:
    """How many events an attempt has: its start and its samples, as far as it gets to them, and its end.

    Args:
        ending_s, start_s: session seconds; trained_s: seconds from the start of training to the end, perhaps below 0;
        interval_s: seconds between samples, of which a whole run has `samples`.
    """
    if ending_s <= start_s:
        return 1
    before = math.ceil(trained_s / interval_s - 1e-9) - 1
    return 2 + max(0, min(samples, before))


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, wholly known. Times are session seconds in whole milliseconds.

    It starts at `start_s`, trains from `train_from_s` for `train_s` seconds, and is over with `ending`, which may
    come before any of these. `speed` is that of its place against its device class; `val_bpb` its score, if it
    gets that far. `samples` is how many a whole run reports, `last_seq` the number of its last event, which says how
    it ended. `key` begins the keys of its draws.
    """

    key: tuple[int | str, ...]
    device: str
    budget_s: float
    start_s: float
    train_from_s: float
    train_s: float
    speed: float
    val_bpb: float
    eval_tokens: int
    outlook: Outlook
    ending: Ending
    samples: int
    last_seq: int

    def t_s(self, seq: int) -> float:
        """When the event of this number (from 1) happens."""
        if seq >= self.last_seq:
            return self.ending.t_s
        return self.start_s if seq == 1 else round(self.train_from_s + (seq - 1) * self.budget_s / self.samples, 3)

    def payload(self, seq: int, physics: Physics) -> Started | Progress | Finished:
        """What the event of this number says."""
        if seq >= self.last_seq:
            return self.finished(self.ending)
        return Started(self.device) if seq == 1 else self._progress(seq - 1, physics)

    def finished(self, ending: Ending) -> Finished:
        """How the attempt reports this end, which need not be its own: it may be asked to end sooner."""
        ok = ending.outcome == "ok"
        forecast = self.outlook.forecast
        train_s = self.train_s if ok else round(min(ending.t_s - self.train_from_s, self.budget_s), 3)
        trained = train_s > 0 and ending.t_s > self.start_s
        steps = self._steps(train_s) if trained and forecast is not None else None
        return Finished(
            ending.outcome,
            val_bpb=round(self.val_bpb, 6) if ok else None,
            tier="scored" if ok else None,
            confinement="simulated" if ok else None,
            train_s=train_s if trained else None,
            startup_s=round(self.train_from_s - self.start_s, 3) if trained else None,
            score_s=round(ending.t_s - self.train_from_s - self.train_s, 3) if ok else None,
            steps=steps,
            tokens=steps * self.outlook.total_batch if steps is not None else None,
            mem_mb=round(forecast.memory_mb, 1) if trained and forecast is not None else None,
            params=forecast.cost.params if trained and forecast is not None else None,
            eval_tokens=self.eval_tokens if ok else None,
            reason=ending.reason,
            note=self.outlook.note if ok else "",
        )

    def _steps(self, train_s: float) -> int:
        """Steps done after so many seconds of training, at this place's speed."""
        nominal = self.outlook.forecast.steps if self.outlook.forecast is not None else 0
        return round(nominal * self.speed * min(1.0, train_s / self.budget_s))

    def _progress(self, sample: int, physics: Physics) -> Progress:
        frac = sample / self.samples
        forecast = self.outlook.forecast
        if forecast is None:
            return Progress(step=0, frac=round(frac, 4))
        loss = physics.loss_at(forecast, frac) * (1.0 + _LOSS_SD * draws.normal(*self.key, "loss", sample))
        util = forecast.utilisation + _UTIL_SD * draws.normal(*self.key, "utilisation", sample)
        return Progress(
            step=self._steps(frac * self.budget_s),
            frac=round(frac, 4),
            loss=round(loss, 5) if math.isfinite(loss) else None,
            util=round(min(1.0, max(0.0, util)), 3),
            mem_mb=round(forecast.memory_mb, 1),
        )
