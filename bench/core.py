"""Measures the core: start-up, the journal, opening and seeking a session, the engine's own cost per run."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from core.bench import Bench, Proposal
from core.events import RunProgress
from core.executor import AttemptSpec, Finished
from core.journal import Journal, scan
from core.reduce import fold
from core.replay import ReplaySource
from tests.support.engines import spawn_engine, tiny_session
from tests.support.scripted import ScriptedExecutor, scored
from tests.support.sessions import SOURCE, Script, engine_on, run_to_end
from tests.support.story import with_runs, write_journal

RUNS = 1000
EVENTS = 100_000


def help_s(times: int = 7) -> float:
    """Median wall time of `autoresearch-tui --help`."""
    program = Path(sys.executable).parent / "autoresearch-tui"

    def once() -> float:
        start_s = time.perf_counter()
        subprocess.run([str(program), "--help"], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start_s

    once()
    return statistics.median(once() for _ in range(times))


def journal_events_per_s(batch: int = 100, batches: int = 300) -> float:
    """Events per second through append and commit, with a real sync for every batch."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        journal = Journal(Path(folder))
        start_s = time.perf_counter()
        for i in range(batches):
            for _ in range(batch):
                journal.append(RunProgress(t=float(i), run="r1", attempt="r1.1", seq=1, step=i, frac=0.5, loss=3.25))
            journal.commit()
        spent_s = time.perf_counter() - start_s
        journal.close()
    return batch * batches / spent_s


def open_and_seek() -> tuple[int, float, float, float]:
    """Events of a finished session of 1,000 runs; seconds to open it; median and worst seek, in seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = with_runs(RUNS, EVENTS)
        write_journal(folder, events)
        start_s = time.perf_counter()
        source = ReplaySource(folder)
        while source.behind:
            source.poll()
        opened_s = time.perf_counter() - start_s
        seeks_s = [_seek(source, i / 41 % 1.0) for i in range(1, 200, 7)]
        return len(events), opened_s, statistics.median(seeks_s), max(seeks_s)


def _seek(source: ReplaySource, fraction: float) -> float:
    start_s = time.perf_counter()
    source.seek_fraction(fraction)
    while source.behind:
        source.poll()
    return time.perf_counter() - start_s


def engine_ms_per_run(runs: int = 400) -> tuple[float, float]:
    """Wall milliseconds of the engine per run with real syncs, and the process's peak memory in MB."""

    def outcome(spec: AttemptSpec) -> Finished:
        return scored(2.0 + (spec.seed % 1000) * 1e-5)

    async def research(bench: Bench) -> str:
        for i in range(runs - 4):
            await bench.wait(queue_below=4)
            change = {"MATRIX_LR": repr(round(0.04 + (i + 1) * 1e-5, 6))}
            idea = Proposal(base="e1", title=f"i{i}", hypothesis="", design="d", constants=change)
            await bench.propose([idea], call=f"c{i}", rationale="")
        return "done"

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        engine = engine_on(Path(folder), ScriptedExecutor(outcome, external=True), Script(research), source=SOURCE)
        start_s = time.perf_counter()
        state = asyncio.run(run_to_end(engine, timeout_s=300.0))
        spent_s = time.perf_counter() - start_s
    done = len(state.ledger.runs)
    return spent_s / done * 1e3, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def local_overhead_ms(runs: int = 6) -> float:
    """Median milliseconds that a run on the local executor takes beyond its launcher's own wall time.

    From the intent in the journal to the end in the journal, less what exit.json says: spawning the launcher,
    noticing its end, reading the result, recording. Real training of a tiny model for two steps.
    """
    with tempfile.TemporaryDirectory() as name:
        before = os.environ.get("AUTORESEARCH_HOME")
        os.environ["AUTORESEARCH_HOME"] = name
        try:
            folder = tiny_session(Path(name), runs=runs)
            assert spawn_engine(folder).wait(timeout=300) == 0
        finally:
            os.environ.pop("AUTORESEARCH_HOME")
            if before is not None:
                os.environ["AUTORESEARCH_HOME"] = before
        spent_ms = []
        for run in fold(event for event, _ in scan(folder.journal_dir)).ledger.runs:
            if run.outcome == "ok" and run.ended_t_s is not None and run.intent_t_s is not None:
                wall_s = json.loads((folder.runs_dir / run.attempt / "exit.json").read_text())["wall_s"]
                spent_ms.append((run.ended_t_s - run.intent_t_s - wall_s) * 1e3)
        return statistics.median(spent_ms)


def rows() -> list[tuple[str, str, str]]:
    """(what, measured, bar) of every figure here."""
    events, opened_s, seek_s, worst_s = open_and_seek()
    per_run_ms, peak_mb = engine_ms_per_run()
    return [
        ("`autoresearch-tui --help`", f"{help_s():.2f} s", "< 0.3 s"),
        ("journal, batches of 100, real syncs", f"{journal_events_per_s():,.0f} events/s", "≥ 20,000 events/s"),
        (f"open a session of {RUNS:,} runs, {events:,} events", f"{opened_s:.2f} s", "< 1 s"),
        ("seek anywhere in it, median / worst", f"{seek_s * 1e3:.0f} / {worst_s * 1e3:.0f} ms", "< 50 ms"),
        ("engine per run, scripted executor, real syncs", f"{per_run_ms:.1f} ms ({peak_mb:.0f} MB)", ""),
        ("engine and local executor per run, beyond the run", f"{local_overhead_ms():.0f} ms", "< 100 ms"),
    ]


def machine() -> str:
    """The machine in a few words, for the table's head."""
    return f"{os.cpu_count()} cores, Linux {os.uname().release}, Python {sys.version.split()[0]}"
