"""`python -m bench.research`: the researchers compared at equal GPU-hours, in simulated sessions. Resumable."""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.nulls import Nulls, many_nulls
from bench.policies import NAMES, make
from bench.records import Record, Records, Setting, code_digest, measure
from bench.research_table import tables
from bench.sessions import PROFILE, baseline_source, read_setup, real_physics, run_session
from bench.truth import Truth, cached_optimum
from bench.worlds import physics_of, world
from sim.mix import parse_mix

GPUS = "13xH100,3xH200"
ON_MANY = ("builtin", "random", "tpe", "greedy-waves", "factorial")
ON_ONE = ("builtin", "random", "tpe", "greedy")
QUICK = ("builtin", "tpe", "greedy-waves", "factorial")
"""Policies that are compared by default: on many devices, on one, and in the quick form."""
NULLS, QUICK_NULLS = 2_000, 200


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the tables."""
    asked = _parser().parse_args(words)
    if asked.resume is not None:
        asked.resume.mkdir(parents=True, exist_ok=True)
        _run(asked, asked.resume)
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(asked, Path(folder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.research", description=__doc__)
    parser.add_argument("--seeds", type=int, help="sessions of each policy (20; quick: 2)")
    parser.add_argument("--policies", help=f"with commas, of {', '.join(NAMES)}")
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--gpus", help=f"the cluster ({GPUS})")
    parser.add_argument("--devices", type=int, help="a cluster of so many H100, instead of --gpus")
    parser.add_argument("--worlds", type=int, default=0, help="compare on so many unseen worlds, a session on each")
    parser.add_argument("--nulls", type=int, help="null controls (2,000; quick: 200; 0 on worlds)")
    parser.add_argument("--quick", action="store_true", help="two seeds and fewer policies: a few minutes")
    parser.add_argument("--resume", type=Path, help="a folder of results: what is there is not run again")
    return parser


def _run(asked: argparse.Namespace, folder: Path) -> None:
    gpus = asked.gpus or (f"{asked.devices}xH100" if asked.devices else GPUS)
    alone = sum(parse_mix(gpus).values()) == 1
    usual = ON_ONE if alone else QUICK if asked.quick else ON_MANY
    policies = tuple(asked.policies.split(",")) if asked.policies else usual
    for policy in policies:
        make(policy)  # an unknown name is told before hours of sessions
    seeds = asked.seeds or (2 if asked.quick else 20)
    places = [(n, n) for n in range(1, asked.worlds + 1)] or [(0, seed) for seed in range(1, seeds + 1)]
    records = list(compare(folder, policies, places, gpus=gpus, hours=asked.hours))
    count = asked.nulls if asked.nulls is not None else 0 if asked.worlds else QUICK_NULLS if asked.quick else NULLS
    nulls = _nulls(folder, count)
    print(tables(records, nulls))


def compare(
    folder: Path, policies: Sequence[str], places: Sequence[tuple[int, int]], *, gpus: str, hours: float
) -> list[Record]:
    """One record of each policy in each place (world, seed); those in the folder are not run again."""
    store = Records(folder / "sessions.jsonl")
    found = []
    for number, seed in places:
        physics = physics_of(world(number), read_setup) if number else real_physics()
        truth = Truth(physics, baseline_source(), PROFILE.budget_s)
        best = cached_optimum(truth, folder / f"optimum-{number}-{code_digest()}.json")
        for policy in policies:
            setting = Setting(policy=policy, seed=seed, world=number, gpus=gpus, hours=hours, code=code_digest(policy))
            record = store.get(setting)
            if record is None:
                record = _session(setting, truth, best.val_bpb)
                store.add(record)
            found.append(record)
    return found


def _session(setting: Setting, truth: Truth, optimum_bpb: float) -> Record:
    """Run one session and measure it."""
    start_s = time.perf_counter()
    researcher = make(setting.policy)
    noise = world(setting.world).seed_sd_bpb if setting.world else None
    truth.forget()
    with tempfile.TemporaryDirectory() as folder:
        state, spent = run_session(
            Path(folder), researcher, gpus=setting.gpus, hours=setting.hours, seed=setting.seed,
            physics=truth.physics, seed_sd_bpb=noise,
        )  # fmt: skip
    record = measure(setting, state, researcher, spent, truth, optimum_bpb)
    gc.collect()
    _say(
        f"{setting.policy}, seed {setting.seed}, world {setting.world}: {record.final_bpb:.5f} after "
        f"{record.settled} runs, in {time.perf_counter() - start_s:.1f} s"
    )
    return record


def _nulls(folder: Path, count: int) -> list[Nulls]:
    found = []
    for nulls in many_nulls(folder / "nulls.jsonl", count, code_digest()):
        found.append(nulls)
        _say(f"null controls, seed {nulls.seed}: {nulls.kept} of {nulls.judged} kept")
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
