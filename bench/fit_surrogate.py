"""Fit the surrogate to published runs and write sim/surrogate/coefficients.json: the same data give the same bytes."""

from __future__ import annotations

import argparse
import hashlib
import math
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

from bench.surrogate_data import TRIALS, distinct, read_trials, usable
from bench.surrogate_fit import CORRECTION_TOP_BPB, LAW_TOP_BPB, fit
from sim.model import Cost, Forecast
from sim.surrogate.coefficients import SHIPPED, Array, Coefficients, CurveFit
from sim.surrogate.curve import loss_at

CURVE_LOG: Final = "pr471_run.log"
CURVE_STEPS, CURVE_WARMDOWN, CURVE_FINAL = 608, 0.5, 0.1
"""A complete log of Karpathy's train.py at its default batch: steps, warm-down and final rate as its lines show them.

The other complete logs are of runs with 1/32 of the batch, whose curves fall more slowly.
"""
_STEP: Final = re.compile(r"step (\d+) \((\d+\.\d)%\) \| loss: (\d+\.\d+)")
_DIGITS: Final = 6


def read_curve(path: Path) -> tuple[list[tuple[float, float]], float]:
    """Return (share of the budget, smoothed training loss) of a log, and its val_bpb."""
    text = path.read_text(encoding="utf-8", errors="replace")
    points = [(float(m[2]) / 100, float(m[3])) for m in _STEP.finditer(text)]
    score = re.search(r"^val_bpb:\s+(\d+\.\d+)", text, re.MULTILINE)
    assert score is not None
    return points, float(score[1])


def fit_curve(data: Path) -> CurveFit:
    """Fit the loss curve's shape, and the bytes of a typical token, to a complete log.

    Its first tenth is left out: the printed loss is smoothed and lags behind there.
    """
    points, bpb = read_curve(data / CURVE_LOG)
    thinned = np.array([point for point in points if point[0] > 0.1][::5])
    end = float(np.mean([loss for _, loss in points[-10:]]))

    def residuals(theta: Array) -> Array:
        knee, power, noise = np.exp(theta).tolist()
        forecast = Forecast(
            cost=Cost(0, 0.0), memory_mb=0, tokens_per_s=0, steps=0, utilisation=0, val_bpb=0, bpb_per_ln_steps=0,
            startup_s=0, score_s=0, loss_start=math.log(8192), loss_end=end,
            loss_shape=(knee / CURVE_STEPS, power, noise, 0.0, CURVE_WARMDOWN, CURVE_FINAL),
        )  # fmt: skip
        said = np.array([loss_at(forecast, frac) for frac in thinned[:, 0]])
        errors: Array = said - thinned[:, 1]
        return errors

    knee, power, noise = np.exp(least_squares(residuals, np.log([20.0, 0.8, 0.04])).x).tolist()
    return CurveFit(knee, power, noise, end / math.log(2) / bpb)


def _rounded(value: Any) -> Any:
    """Round all numbers to what the data can tell, so that the last bits of a linear algebra library do not matter."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _provenance(data: Path, date: str, counts: dict[str, int]) -> dict[str, Any]:
    files = {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in (TRIALS, CURVE_LOG)}
    return {
        "script": "python -m bench.fit_surrogate",
        "date": date,
        "source": "ferreirafabio/autoresearch-automl (arXiv 2603.24647): five-minute H200 runs of Karpathy's file",
        "sha256": files,
        "rows": counts,
        "left_out": [
            "runs named karpathy_agent* without _hps: an agent edited the code",
            "rows without all 14 knobs; failed rows (their 100.0 and other scores are placeholders of the optimisers)",
            "one row whose parameters are not those of its knobs",
            f"law: scores from {LAW_TOP_BPB}; correction: scores from {CORRECTION_TOP_BPB}",
        ],
        "from_literature": [
            "slope of -0.059 bpb per ln(steps) at the reference (888 runs of the default file)",
            "FLOPs per token; 11 steps before the clock starts; form of the data term and of the batch discount",
            "starts and ranges of the law's terms",
        ],
    }


def write(coefficients: Coefficients, provenance: dict[str, Any], path: Path) -> None:
    plain = _rounded(msgspec.to_builtins(msgspec.structs.replace(coefficients, provenance=provenance)))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plain), indent=-1) + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published runs")
    parser.add_argument("--date", required=True, help="the date to record, such as 2026-11-23")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    trials = read_trials(args.data / TRIALS)
    good = usable(trials)
    counts = {"read": len(trials), "usable": len(good), "distinct": len(distinct(good))}
    with threadpool_limits(limits=1):  # sums in another order have other last bits, and optimisers amplify them
        found = fit(trials, fit_curve(args.data))
    write(found, _provenance(args.data, args.date, counts), args.out)
    print(f"{args.out}: {counts}")


if __name__ == "__main__":
    main()
