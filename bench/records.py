"""What one benchmark session showed, and the file of such records that a benchmark can be resumed from."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

import msgspec

from bench.policies import raw_pick
from bench.sessions import Spent, baseline_source
from bench.truth import Truth, experiment_source
from core.bench import Researcher
from core.events import BASELINE, LimitHit
from core.patching import changed_constants, read_constants
from core.state import SessionState

ROOT: Final = Path(__file__).parents[1]
_CODE: Final = ("core/engine", "core/patching", "core/statistics", "executors/sim.py", "sim", "train.py")
"""What decides the outcome of a session beside the policy: a change makes older records another benchmark's."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Which session this is. `world` 0 is the surrogate; `code` names the code that it ran on."""

    policy: str
    seed: int
    world: int
    gpus: str
    hours: float
    code: str


class Judged(msgspec.Struct, frozen=True):
    """A verdict on evidence against the truth: said and true difference to the incumbent of that time."""

    kept: bool
    delta: float
    low: float
    high: float
    true_delta: float


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What a session showed; all values are true ones (free of noise) on an H100, times are hours.

    `steps` are the confirmed incumbents: from when, and their value. `knobs_bpb` is the last incumbent's without its
    structural edits, `raw_bpb` the value of what the policy itself would report. `completed` runs have a score,
    `allowed` is how many the devices had time for, `stopped` were ended early. `unallocated` is the share of device
    time without a run, until the time limit began to bind.
    """

    setting: Setting
    devices: int
    baseline_bpb: float
    optimum_bpb: float
    steps: list[tuple[float, float]]
    knobs_bpb: float
    raw_bpb: float
    completed: int
    failed: int
    stopped: int
    allowed: int
    unallocated: float
    tested: list[Judged]
    session_s: float
    researcher_s: float
    settled: int
    ended: str

    @property
    def final_bpb(self) -> float:
        """The true value of the confirmed incumbent at the end."""
        return self.value_at(math.inf)

    def value_at(self, hours: float) -> float:
        """The true value of the confirmed incumbent at a time."""
        known = [value for at, value in self.steps if at <= hours]
        return known[-1] if known else self.baseline_bpb

    def hours_to(self, bpb: float) -> float | None:
        """When the confirmed incumbent was first this good; None: never."""
        return next((at for at, value in self.steps if value <= bpb), None)


def measure(
    setting: Setting, state: SessionState, researcher: Researcher, spent: Spent, truth: Truth, optimum_bpb: float
) -> Record:
    """Compare a finished session with the truth."""
    incumbents = state.ledger.incumbents
    last = incumbents[-1][1] if incumbents else BASELINE
    pick = raw_pick(researcher, state) or BASELINE
    counts = state.now.counts
    completed, allowed = _completed_and_allowed(state, setting.hours * 3600.0)
    return Record(
        setting=setting,
        devices=len(state.now.devices),
        baseline_bpb=truth.of_constants({}),
        optimum_bpb=optimum_bpb,
        steps=[(t_s / 3600.0, truth.of_experiment(state, exp)) for t_s, exp in incumbents],
        knobs_bpb=truth.of_constants(_knobs_of(state, last)),
        raw_bpb=truth.of_experiment(state, pick),
        completed=completed,
        failed=counts.failed,
        stopped=sum(
            run.outcome in ("pruned", "cancelled") and run.started_t_s is not None for run in state.ledger.runs
        ),
        allowed=allowed,
        unallocated=_unallocated(state, setting.hours * 3600.0),
        tested=list(_tested(state, truth)),
        session_s=spent.session_s,
        researcher_s=spent.researcher_s,
        settled=state.settled,
        ended=state.now.ended.reason if state.now.ended is not None else "",
    )


def _knobs_of(state: SessionState, exp: str) -> dict[str, str]:
    """The constants of an experiment that the baseline's file has too, with another value."""
    changed = changed_constants(baseline_source(), experiment_source(state, exp))
    known = read_constants(baseline_source())
    return {name: literal for name, literal in changed.items() if name in known}


def _completed_and_allowed(state: SessionState, horizon_s: float) -> tuple[int, int]:
    """Runs with a score, and how many such runs the devices had time for beside all that ended otherwise."""
    held = [
        (run.device, run.ended_t_s - run.intent_t_s)
        for run in state.ledger.runs
        if run.outcome == "ok" and run.ended_t_s is not None and run.intent_t_s is not None
    ]
    if not held:
        return 0, 0
    mean_s = fmean(seconds for _, seconds in held)
    well_s = dict.fromkeys(state.now.devices, 0.0)
    for device, seconds in held:
        well_s[device] += seconds
    horizon_s = min(horizon_s, state.now.t_s)
    others_s = {name: device.busy_s - well_s[name] for name, device in state.now.devices.items()}
    return len(held), sum(int((horizon_s - other_s) / mean_s) for other_s in others_s.values())


def _unallocated(state: SessionState, horizon_s: float) -> float:
    """Share of device time without a run until the limit on time began to bind: then nothing more may start."""
    bound_s = [event.t for event in state.ledger.talk if isinstance(event, LimitHit) and event.limit == "hours"]
    until_s = min([*bound_s, horizon_s, state.now.t_s])
    late_s = sum(
        run.ended_t_s - max(run.intent_t_s, until_s)
        for run in state.ledger.runs
        if run.ended_t_s is not None and run.intent_t_s is not None and run.ended_t_s > until_s
    )
    # The quotient of two long sums may differ from 1 in its last digits where nothing was unallocated.
    return max(0.0, 1.0 - (state.now.allocated_s - late_s) / (len(state.now.devices) * until_s))


def _tested(state: SessionState, truth: Truth) -> Sequence[Judged]:
    """The last verdict on evidence of each experiment, against the true difference."""
    last = {
        verdict.exp: verdict
        for verdict in state.ledger.verdicts
        if verdict.evidence is not None and verdict.evidence.ref and verdict.interval is not None
    }
    found = []
    for exp, verdict in last.items():
        assert verdict.evidence is not None
        assert verdict.interval is not None
        difference = truth.of_experiment(state, exp) - truth.of_experiment(state, verdict.evidence.ref)
        low, high = verdict.interval
        found.append(Judged(verdict.verdict == "kept", verdict.delta or 0.0, low, high, difference))
    return found


class Records:
    """An append-only file of records, one JSON line each.

    A line that was cut off is left out, and overwritten; one of another version of this benchmark is left alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[Setting, Record] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            path.write_bytes(b"".join(whole))
        for line in whole:
            with contextlib.suppress(msgspec.ValidationError):
                record = msgspec.json.decode(line, type=Record)
                self._known[record.setting] = record

    def get(self, setting: Setting) -> Record | None:
        """The record of a session that was run before, or None."""
        return self._known.get(setting)

    def add(self, record: Record) -> None:
        """Take a finished session."""
        self._known[record.setting] = record
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")


def code_digest(policy: str = "") -> str:
    """A short name for the code that a session of a policy depends on."""
    own = ("core/researchers",) if policy == "builtin" else ("bench/policies",) if policy else ()
    digest = hashlib.sha256()
    for part in (*_CODE, *own):
        for path in _files(ROOT / part):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    """The files of a folder, or the one file, with or without its ending."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in (".py", ".json"))
    return [file for file in {path, path.with_suffix(".py")} if file.is_file()]
