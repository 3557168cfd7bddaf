"""Put the parts together: from a setup, a device class and a budget to a forecast."""

from __future__ import annotations

import math

import msgspec

from sim.gpus import GpuClass
from sim.model import Forecast, Setup
from sim.surrogate.coefficients import Coefficients, shipped
from sim.surrogate.cost import cost_of, count_windows
from sim.surrogate.curve import curve_shape, nats_per_token, untrained_bpb
from sim.surrogate.effects import knob_bpb, structure_bpb
from sim.surrogate.failure import failure_of
from sim.surrogate.memory import memory_mb
from sim.surrogate.quality import Quality, base_of, bounded, quality
from sim.surrogate.speed import pace, reference_gpu_s, steps_in

EVAL_TOKENS = 20_971_520
"""Karpathy's evaluation: 40 * 2^19 tokens, a forward pass each."""


def forecast(setup: Setup, gpu: GpuClass, budget_s: float) -> Forecast:
    """Say what a setup does on a device class at its nominal speed, without noise: pure and deterministic.

    Args:
        setup: what the train.py asks for (sim.artefact.read); its constants are within what torch accepts.
        gpu: the device class.
        budget_s: the training budget in seconds, more than 0.
    """
    return predict(setup, gpu, budget_s, shipped())


def predict(setup: Setup, gpu: GpuClass, budget_s: float, coefficients: Coefficients) -> Forecast:
    """Do what `forecast` does, with coefficients of one's own."""
    cost = cost_of(setup)
    base = base_of(setup)
    base_s = reference_gpu_s(base, coefficients.speed)
    reference_s = base_s if base is setup else reference_gpu_s(setup, coefficients.speed)
    step = pace(setup, reference_s, gpu, coefficients.speed)
    steps = steps_in(budget_s, step.step_s, coefficients.speed)
    needed_mb = memory_mb(setup, cost, coefficients.memory)
    failure = failure_of(setup, needed_mb, steps, gpu)
    if failure is not None and failure.outcome == "nan":
        score = Quality(untrained_bpb(setup.vocab_size, coefficients.curve), 0.0)
    else:
        score = _score(setup, quality(base, base_s, gpu, budget_s, coefficients), reference_s, coefficients)
    tokens_per_s = setup.total_batch / step.step_s
    overhead = coefficients.overhead
    top = untrained_bpb(setup.vocab_size, coefficients.curve)
    return Forecast(
        cost=cost,
        memory_mb=needed_mb,
        tokens_per_s=tokens_per_s,
        steps=steps,
        utilisation=min(step.gpu_s / step.step_s, 1.0),
        val_bpb=score.val_bpb,
        bpb_per_ln_steps=score.per_ln_steps,
        startup_s=overhead.startup_s + overhead.layer_s * setup.depth + coefficients.speed.untimed_steps * step.step_s,
        score_s=EVAL_TOKENS / (overhead.score_speedup * tokens_per_s),
        loss_start=nats_per_token(top, coefficients.curve),
        loss_end=nats_per_token(score.val_bpb, coefficients.curve),
        loss_shape=curve_shape(setup, steps, coefficients.curve),
        failure=failure,
    )


def _score(setup: Setup, base: Quality, reference_s: float, coefficients: Coefficients) -> Quality:
    """Return the score with all measured effects, within what a model can score.

    A change of unknown quality that makes steps slower costs what fewer steps cost; one that makes them quicker
    gains nothing, because what it took away is not known.
    """
    bpb = base.val_bpb + knob_bpb(setup, 1.0 - count_windows(setup.window_pattern, setup.depth).long_share)
    if setup.unmodelled and setup.cost is not None:
        usual_s = reference_gpu_s(msgspec.structs.replace(setup, cost=None), coefficients.speed)
        bpb += base.per_ln_steps * min(math.log(usual_s / reference_s), 0.0)
    top = untrained_bpb(setup.vocab_size, coefficients.curve)
    added, least = structure_bpb(setup)
    return Quality(max(bounded(bpb + added, top), min(least, top)), base.per_ln_steps)
