"""Score the surrogate on runs left out of its fit, beside a gradient-boosted reference fitted on the same rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

from bench.fit_surrogate import fit_curve
from bench.surrogate_data import FAMILIES, TRIALS, Distinct, Trial, distinct, karpathy_setup, read_trials, usable
from bench.surrogate_fit import CORRECTION_TOP_BPB, fit
from bench.surrogate_plot import scatter_svg
from bench.surrogate_sessions import Edit, karpathy_session, pr158_session
from sim.gpus import H100, H200
from sim.surrogate.coefficients import Array, Coefficients, shipped
from sim.surrogate.correction import WARP
from sim.surrogate.cost import cost_of
from sim.surrogate.memory import memory_mb
from sim.surrogate.predict import predict
from sim.surrogate.quality import describe
from sim.surrogate.speed import reference_gpu_s

TOP_BPB: Final = 1.05
"""Errors are over successful runs better than this, each distinct knob vector once."""
_PATTERNS: Final = ("SSSL", "SSLL", "SLSL", "SSLSL", "LSSL", "SSSS", "LLLL")
_GRID: Final = tuple(
    {"learning_rate": 0.06, "max_iter": 400, "max_leaf_nodes": leaves, "max_features": share}
    for leaves in (8, 16)
    for share in (0.4, 0.8)
)

Predict = Callable[[Sequence[Distinct]], Array]
Row = dict[str, Any]


# ---- The reference ----


def knob_columns(runs: Sequence[Distinct]) -> Array:
    """The 14 knobs, as the published file has them, with the windows' pattern as a number."""
    return np.array(
        [[*run.knobs[:-1], _PATTERNS.index(str(run.knobs[-1])) if run.knobs[-1] in _PATTERNS else -1] for run in runs],
        float,
    )


def physics_columns(coefficients: Coefficients) -> Callable[[Sequence[Distinct]], Array]:
    """The knobs, and all that our law and correction see: width, steps, passes, repeats."""

    def columns(runs: Sequence[Distinct]) -> Array:
        speed = coefficients.speed
        points = [describe(run.setup, reference_gpu_s(run.setup, speed), speed) for run in runs]
        return np.hstack([knob_columns(runs), np.array(points)])

    return columns


def reference(runs: Sequence[Distinct], columns: Callable[[Sequence[Distinct]], Array]) -> Predict:
    """Fit HistGradientBoostingRegressor, tuned by cross-validation on these very rows."""
    train = [run for run in runs if run.val_bpb < CORRECTION_TOP_BPB]
    x, y = columns(train), np.log(np.array([run.val_bpb for run in train]) - WARP)
    near = np.array([run.val_bpb < TOP_BPB for run in train])

    def model(options: dict[str, Any]) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            l2_regularization=1.0, min_samples_leaf=8, early_stopping=False, random_state=0, **options
        )

    def error(options: dict[str, Any]) -> float:
        wrong = []
        for inner, outer in KFold(3, shuffle=True, random_state=0).split(x):
            predicted = model(options).fit(x[inner], y[inner]).predict(x[outer])
            wrong.append(np.abs(np.exp(predicted) - np.exp(y[outer]))[near[outer]])
        return float(np.median(np.concatenate(wrong)))

    best = model(min(_GRID, key=error)).fit(x, y)
    return lambda test: np.exp(best.predict(columns(test))) + WARP


def ours(coefficients: Coefficients) -> Predict:
    return lambda runs: np.array([predict(run.setup, H200, 300.0, coefficients).val_bpb for run in runs])


# ---- Scores ----


def scored(predictor: Predict, runs: Sequence[Distinct]) -> Row:
    said, real = predictor(runs), np.array([run.val_bpb for run in runs])
    wrong = np.abs(said - real)
    return {
        "rank": round(float(spearmanr(said, real)[0]), 4),
        "median": round(float(np.median(wrong)), 5),
        "p90": round(float(np.quantile(wrong, 0.9)), 5),
        "bias": round(float(np.median(said - real)), 5),
    }


def out_of_memory(trials: Sequence[Trial], coefficients: Coefficients) -> Row:
    """Count who was told right whether it runs out of memory, under the cap that the training runs show."""
    cap_mb = coefficients.memory.trial_cap_gb * 1024
    told = [memory_mb(t.setup, cost_of(t.setup), coefficients.memory) > cap_mb for t in trials if t.ok or t.oom]
    real = [trial.oom for trial in trials if trial.ok or trial.oom]
    pairs = list(zip(told, real, strict=True))
    table = {
        "said_oom_was_oom": pairs.count((True, True)),
        "said_oom_did_fit": pairs.count((True, False)),
        "said_fits_was_oom": pairs.count((False, True)),
        "said_fits_did_fit": pairs.count((False, False)),
    }
    right = float(np.mean(np.array(told) == np.array(real)))
    return {"right": round(right, 5), "cap_gb": round(coefficients.memory.trial_cap_gb, 2), **table}


def physical(trials: Sequence[Trial], coefficients: Coefficients) -> Row:
    """Errors of steps in the budget and of peak memory, over single runs."""
    good = usable(trials)
    said = [predict(trial.setup, H200, 300.0, coefficients) for trial in good]
    steps = np.abs(np.array([f.steps for f in said]) / np.array([t.steps for t in good]) - 1.0)
    memory = np.abs(np.array([f.memory_mb / 1024 for f in said]) - np.array([t.memory_gb for t in good]))
    return {
        "runs": len(good),
        "steps_median_pct": round(100 * float(np.median(steps)), 3),
        "steps_p90_pct": round(100 * float(np.quantile(steps, 0.9)), 3),
        "memory_median_gb": round(float(np.median(memory)), 3),
        "memory_worst_gb": round(float(memory.max()), 3),
    }


def _outside(train: Sequence[Distinct], test: Sequence[Distinct]) -> Array:
    """Mark runs of which a knob, or parameters or tokens a step, lies beyond 99 % of the training rows."""
    x = np.array([[float(v) for v in run.knobs[:-1]] for run in train])
    low, high = np.quantile(x, 0.005, axis=0), np.quantile(x, 0.995, axis=0)
    z = np.array([[float(v) for v in run.knobs[:-1]] for run in test])
    marked: Array = ((z < low) | (z > high)).any(1)
    return marked


def left_out(name: str, train: Sequence[Trial], test: Sequence[Trial], data: Path, plots: Path | None) -> Row:
    """Fit to some trials, score on others: every number of the fit comes from the training trials."""
    with threadpool_limits(limits=1):
        coefficients = fit(train, fit_curve(data))
    runs = distinct(usable(train))
    known = {run.knobs for run in runs}
    tests = [run for run in distinct(usable(test)) if run.val_bpb < TOP_BPB]
    fresh = [run for run in tests if run.knobs not in known]
    marked = _outside(runs, fresh)
    beyond = [run for run, is_outside in zip(fresh, marked, strict=True) if is_outside]
    sets = {"all": tests, "new_knobs": fresh} | ({"outside_range": beyond} if len(beyond) >= 20 else {})
    predictors = {
        "surrogate": ours(coefficients),
        "reference": reference(runs, knob_columns),
        "reference_with_our_features": reference(runs, physics_columns(coefficients)),
    }
    if plots is not None:
        pairs = [(run.val_bpb, float(said)) for run, said in zip(tests, predictors["surrogate"](tests), strict=True)]
        plots.mkdir(parents=True, exist_ok=True)
        (plots / f"{name}.svg").write_text(scatter_svg(pairs, f"Left out: {name.replace('_', ' ')}"), encoding="utf-8")
    return {
        "name": name,
        "runs": {kind: len(some) for kind, some in sets.items()},
        "scores": {who: {kind: scored(p, some) for kind, some in sets.items()} for who, p in predictors.items()},
        "oom": out_of_memory(test, coefficients),
        "physical": physical(test, coefficients),
    }


def baselines(coefficients: Coefficients) -> Row:
    said = {gpu.name: predict(karpathy_setup(), gpu, 300.0, coefficients) for gpu in (H100, H200)}
    real = {H100.name: (0.9979, 953), H200.name: (0.9914, 1013)}
    return {
        name: {"val_bpb": round(f.val_bpb, 5), "real": real[name][0], "steps": f.steps, "real_steps": real[name][1],
               "bpb_per_ln_steps": round(f.bpb_per_ln_steps, 4)}
        for name, f in said.items()
    }  # fmt: skip


def session(edits: Sequence[Edit]) -> Row:
    """Compare the deltas to the incumbents with those that were forecast: of modelled edits, and of the blind ones."""
    known = [edit for edit in edits if edit.known and edit.real < TOP_BPB]
    memory = [abs(edit.said_memory_gb - edit.memory_gb) for edit in known if not edit.text.startswith("multi")]
    return {
        "edits": len(edits),
        "modelled": deltas(known),
        "blind": deltas([edit for edit in known if edit.blind]),
        "last_level_error": round(edits[-1].said - edits[-1].real, 4),
        "memory_median_gb": round(float(np.median(memory)), 2),
    }


def deltas(edits: Sequence[Edit]) -> Row:
    real = np.array([edit.real - edit.real_incumbent for edit in edits])
    said = np.array([edit.said - edit.said_incumbent for edit in edits])
    large = np.abs(real) > 0.001
    return {
        "edits": len(edits),
        "correlation": round(float(np.corrcoef(real, said)[0, 1]), 3),
        "rank": round(float(spearmanr(real, said)[0]), 3),
        "median_error": round(float(np.median(np.abs(real - said))), 5),
        "sign_right_above_0.001": f"{int((np.sign(real) == np.sign(said))[large].sum())} of {int(large.sum())}",
    }


def other_trials(path: Path, data: Path) -> Row:
    """Score the shipped coefficients on another file in the same columns."""
    trials = read_trials(path)
    known = {run.knobs for run in distinct(usable(read_trials(data / TRIALS)))}
    tests = [run for run in distinct(usable(trials)) if run.val_bpb < TOP_BPB]
    fresh = [run for run in tests if run.knobs not in known]
    sets = {"all": tests} | ({"new_knobs": fresh} if fresh else {})
    return {
        "name": path.name,
        "runs": {kind: len(some) for kind, some in sets.items()},
        "scores": {"surrogate": {kind: scored(ours(shipped()), some) for kind, some in sets.items()}},
        "oom": out_of_memory(trials, shipped()),
        "physical": physical(trials, shipped()),
    }


# ---- The command ----


def report(data: Path, plots: Path | None) -> Row:
    trials = read_trials(data / TRIALS)
    by_seed = [
        left_out(f"seed_{1 - seed}_from_{seed}", [t for t in trials if t.seed == seed],
                 [t for t in trials if t.seed == 1 - seed], data, plots)
        for seed in (0, 1)
    ]  # fmt: skip
    by_family = [
        left_out(
            family, [t for t in trials if t.family != family], [t for t in trials if t.family == family], data, plots
        )
        for family in FAMILIES
    ]
    return {
        "by_seed": by_seed,
        "by_family": by_family,
        "baselines": baselines(shipped()),
        "karpathy_session": session(karpathy_session(data)),
        "pr158_session": session(pr158_session(data)),
    }


def print_left_out(row: Row) -> None:
    print(f"\n{row['name']}: {row['runs']}")
    for who, kinds in row["scores"].items():
        for kind, score in kinds.items():
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in score.items())
            print(f"  {who:28s} {kind:13s} {numbers}")
    print(f"  out of memory {row['oom']}\n  {row['physical']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published runs")
    parser.add_argument("--trials", type=Path, help="score the shipped coefficients on this file instead")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plots", type=Path, help="write predicted-against-real plots (SVG) here")
    args = parser.parse_args()
    if args.trials is not None:
        row = other_trials(args.trials, args.data)
        print(json.dumps(row, indent=1)) if args.json else print_left_out(row)
        return
    found = report(args.data, args.plots)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for row in (*found["by_seed"], *found["by_family"]):
        print_left_out(row)
    for name in ("baselines", "karpathy_session", "pr158_session"):
        print(f"\n{name}: {json.dumps(found[name])}")


if __name__ == "__main__":
    main()
