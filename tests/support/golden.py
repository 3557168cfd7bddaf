"""Records the golden journal of a release: `python -m tests.support.golden VERSION`, once, never again for that one.

Every later release must fold it to the same state (tests/unit/test_reduce.py). A change of the state's own shape is
no reason to record it anew: raise the event's version, or show in the change why the old state was wrong.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from core.executor import AttemptSpec, Finished
from core.keyframe import state_hash
from core.profile import PROFILES
from core.reduce import fold
from core.researchers.builtin import BuiltinResearcher
from core.target import locate_target, read_source
from tests.support.scripted import ScriptedExecutor, scored
from tests.support.sessions import engine_on, events_in, run_to_end, started


def world(spec: AttemptSpec) -> Finished:
    """Some structure, some noise, and now and then a failure of each kind."""
    rng = random.Random(spec.seed)
    if rng.random() < 0.1 and not spec.run.startswith(("r1", "r2", "r3", "r4")):
        outcome = rng.choice(["crash", "oom", "nan", "timeout", "device_lost"])
        return Finished(outcome, reason="for the record")  # type: ignore[arg-type]
    gain = 0.3 * ("BUCKETS" in spec.source) + 0.1 * ("smear" in spec.source)
    return scored(2.0 - gain + rng.gauss(0.0, 0.01))


def main() -> None:
    """Write golden/VERSION/journal and golden/VERSION/state.sha256."""
    folder = Path(__file__).parents[1] / "unit" / "golden" / sys.argv[1]
    source = read_source(locate_target() / "train.py", PROFILES["cpu"].overrides)
    executor = ScriptedExecutor(world, {"a": "H100", "b": "H100", "c": "H200"})
    engine = engine_on(folder / "journal", executor, BuiltinResearcher(), first=started(runs=40), source=source)
    asyncio.run(run_to_end(engine))
    (folder / "journal" / "reserve").unlink(missing_ok=True)
    (folder / "state.sha256").write_text(state_hash(fold(events_in(folder / "journal"))) + "\n")


if __name__ == "__main__":
    main()
