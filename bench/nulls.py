"""Null controls: the unchanged file, submitted as if it were an idea. How often is it kept?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench.sessions import real_physics, run_session
from core.bench import Accepted, Bench, Proposal
from core.events import BASELINE
from core.state import SessionState

PER_SESSION: Final = 100
"""Few in each session, so that many baselines are drawn: nulls of one session share theirs."""
HOURS: Final = 24.0
GPUS: Final = "13xH100,3xH200"


class Nulls(msgspec.Struct, frozen=True):
    """A session of null controls: how many had their verdict, and how many were kept."""

    seed: int
    code: str
    judged: int
    kept: int


class NullResearcher:
    """Proposes the unchanged file again and again, and waits until all of them have their verdict."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def research(self, bench: Bench) -> str:
        state = bench.state
        null = Proposal(base=BASELINE, title="null control", hypothesis="", design="nulls", control=True)
        for number in range(self._count):
            [answer] = await bench.propose([null], call=f"null:{number}", rationale="")
            assert isinstance(answer, Accepted)
        while state.now.pending or state.waiting or state.now.wanted or state.now.judge:
            await bench.wait(settled_above=state.settled)
        return "all null controls have their verdict"


def run_nulls(seed: int, code: str, count: int = PER_SESSION) -> Nulls:
    """Run one session of null controls through the whole verdict procedure of the engine."""
    with tempfile.TemporaryDirectory() as folder:
        state, _ = run_session(
            Path(folder), NullResearcher(count), gpus=GPUS, hours=HOURS, seed=seed, physics=real_physics()
        )
    verdicts = list(_verdicts(state))
    return Nulls(seed, code, len(verdicts), sum(name == "kept" for name in verdicts))


def _verdicts(state: SessionState) -> Iterator[str]:
    """The verdict on each null control whose runs had a score."""
    for proposal in state.ledger.experiments:
        verdict = state.verdict(proposal.exp)
        scored = any(run.scored for run in state.ledger.runs_of[proposal.exp])
        if proposal.exp != BASELINE and scored and verdict is not None:
            yield verdict.verdict


def many_nulls(path: Path, count: int, code: str, first_seed: int = 1) -> Iterator[Nulls]:
    """Sessions until so many nulls are judged; those in the file at `path` are not run again."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = [msgspec.json.decode(line, type=Nulls) for line in lines if line.endswith(b"}")]
    known = {nulls.seed: nulls for nulls in found if nulls.code == code}
    judged, seed = 0, first_seed
    while judged < count:
        nulls = known.get(seed)
        if nulls is None:
            nulls = run_nulls(seed, code, min(PER_SESSION, count))
            with path.open("ab") as file:
                file.write(msgspec.json.encode(nulls) + b"\n")
        if nulls.judged == 0:
            raise RuntimeError(f"no null control of seed {seed} has a verdict")
        judged, seed = judged + nulls.judged, seed + 1
        yield nulls
