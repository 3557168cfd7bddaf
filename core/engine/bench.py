"""The bench inside the engine: checks a researcher's proposals, records them, and wakes it when it has asked to."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from core.bench import Accepted, BenchClosed, Delta, ModelEvent, Proposal, Rejected, T, Wake
from core.designs import Design
from core.engine.decide import fresh_seeds
from core.events import (
    CancelRequested,
    ConfirmRequested,
    DesignDeclared,
    ExperimentProposed,
    Memory,
    Note,
    PhaseChanged,
    RevisionAdded,
)
from core.executor import OWN_OUTCOMES
from core.patching import (
    PatchError,
    apply_edits,
    changed_constants,
    check_source,
    effective_fingerprint,
    revision_id,
    set_constants,
    unified_diff,
)
from core.state import SessionState

if TYPE_CHECKING:
    import numpy as np

    from core.analysis import Analysis
    from core.engine.loop import Engine
    from core.sql import Table

MAX_BATCH = 256
"""More proposals in one call are a mistake, not a plan."""


class EngineBench:
    """See core.bench.Bench."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.state = engine.state

    async def propose(self, batch: Sequence[Proposal], *, call: str, rationale: str) -> list[Accepted | Rejected]:
        self._check_open()
        answers = [
            self._propose_one(proposal, f"{call}#{index}", rationale)
            for index, proposal in enumerate(batch[:MAX_BATCH])
        ]
        too_many = f"more than {MAX_BATCH} proposals in one call; propose the rest when these have results"
        return [*answers, *(Rejected(proposal.title, too_many) for proposal in batch[MAX_BATCH:])]

    async def wait(
        self,
        *,
        queue_below: int | None = None,
        settled_above: int | None = None,
        heard_above: int | None = None,
        until_s: float | None = None,
    ) -> Wake:
        def reached(state: SessionState) -> bool:
            return (
                (queue_below is not None and state.backlog < queue_below)
                or (settled_above is not None and state.settled > settled_above)
                or (heard_above is not None and len(state.ledger.commands) > heard_above)
            )

        await self.watch(reached, until_s=until_s)
        return Wake(self.state.backlog, self.state.settled)

    async def watch(self, due: Callable[[SessionState], bool], *, until_s: float | None = None) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            late = until_s is not None and self._engine.clock.now() >= until_s
            if not done.done() and (late or self._closing() or due(self.state)):
                done.set_result(None)

        if until_s is not None:
            at_s = round(until_s * 1000.0) / 1000.0
            if at_s < until_s:  # a clock of whole milliseconds would come a hair too early, and never again
                at_s = round(until_s * 1000.0 + 1.0) / 1000.0
            self._engine.clock.call_at(at_s, ("bench-wait", 0, 0), look)
        with self._engine.woken(look):
            look()
            await done
        self._check_open()

    async def confirm(self, exp: str, *, seeds: int, device_class: str | None, call: str) -> None:
        self._check_open()
        if call in self.state.ledger.calls:
            return
        if self.state.experiment(exp) is None:
            raise ValueError(f"there is no experiment {exp!r} to confirm")
        if seeds < 1 or not self._has_class(device_class):
            raise ValueError(f"{seeds} seeds on {device_class or 'any device'} cannot confirm anything")
        self._engine.take(
            ConfirmRequested(exp=exp, call=call, seeds=fresh_seeds(self.state, exp, seeds), cls=device_class)
        )

    async def cancel(self, exp: str, reason: str, *, call: str) -> None:
        self._check_open()
        known = self.state.ledger.cancel_calls.get(call, self.state.now.counts.submitted)
        for run in self.state.open_runs_of(exp):
            if run.cancel is None and int(run.run[1:]) <= known:
                attempt = "" if run.status == "queued" else run.attempt
                self._engine.take(CancelRequested(run=run.run, attempt=attempt, reason=reason, call=call))

    async def analyse(self) -> Analysis:
        from core.analysis import analyse  # numpy, which an engine without a question does not need

        return analyse(self.state)

    async def read_code(self, ref: str) -> str:
        return self._engine.revisions.text(self._engine.revisions.resolve(ref))

    async def note(self, text: str, *, call: str) -> None:
        self._check_open()
        if call not in self.state.ledger.calls:
            self._engine.take(Note(text=text, call=call))

    async def query(self, sql: str, *, max_rows: int = 50) -> Table:
        return await self._engine.query(sql, max_rows)

    async def read_log(self, run: str, *, max_bytes: int = 16_384) -> str:
        known = self.state.run(run)
        if known is None:
            raise ValueError(f"there is no run {run!r}")
        log = await self._engine.read_log(known.attempt, max_bytes) if known.attempt else b""
        return log.decode(errors="replace")

    async def remember(self, section: str, text: str, *, call: str) -> None:
        self._check_open()
        if call not in self.state.ledger.calls:
            researcher = self.state.now.started.researcher if self.state.now.started is not None else ""
            self._engine.take(Memory(researcher=researcher, section=section, text=text, call=call))

    async def tell(self, event: ModelEvent) -> None:
        if self.state.now.ended is not None:
            raise BenchClosed
        self._engine.take(event)  # also while the session stops: what was spent has to be in the books
        await self._engine.recorder.durable()
        self._check_open()

    def stream(self, delta: Delta) -> None:
        self._engine.broadcast.send(delta)

    def thinking(self, *, live: bool) -> AbstractContextManager[None]:
        return self._engine.clock.hold(live=live)

    async def compute(self, fn: Callable[..., T], *args: Any) -> T:
        with self._engine.clock.hold(live=False):
            return await asyncio.to_thread(fn, *args)

    def rng(self, *key: int | str) -> np.random.Generator:
        import numpy as np

        seed = self.state.now.started.seed if self.state.now.started is not None else 0
        digest = hashlib.sha256(repr((seed, *key)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))

    async def declare(self, design: Design, *, call: str) -> None:
        self._check_open()
        if call in self.state.ledger.calls:
            return
        if self.state.design(design.name) is not None:
            raise ValueError(f"there is a design {design.name!r} already: give this one a name of its own")
        self._engine.take(
            DesignDeclared(
                design=design.name,
                kind=design.kind,
                factors=[(factor.knob, factor.low, factor.high) for factor in design.factors],
                rows=len(design.rows),
                resolution=design.resolution,
                why=design.why,
                call=call,
            )
        )

    async def phase(self, name: str, why: str, *, call: str) -> None:
        self._check_open()
        now = self.state.now.phase
        if call not in self.state.ledger.calls and (now is None or now.name != name):
            self._engine.take(PhaseChanged(phase=name, why=why, call=call))

    def _closing(self) -> bool:
        return bool(self.state.now.stop) or self.state.now.ended is not None

    def _check_open(self) -> None:
        if self._closing():
            raise BenchClosed

    def _propose_one(self, proposal: Proposal, call: str, rationale: str) -> Accepted | Rejected:
        known = self.state.ledger.calls.get(call)
        if known:
            experiment = self.state.experiment(known[0])
            assert experiment is not None
            return Accepted(experiment.exp, experiment.revision)
        base = self.state.experiment(proposal.base)
        if base is None:
            return Rejected(proposal.title, f"there is no experiment {proposal.base!r} to start from")
        if proposal.seeds < 1 or not self._has_class(proposal.cls):
            return Rejected(proposal.title, f"{proposal.seeds} seeds on {proposal.cls or 'any device'} test nothing")
        parent_text = self._engine.revisions.text(base.revision)
        try:
            text = set_constants(apply_edits(parent_text, proposal.edits), proposal.constants)
            check_source(text)
            effective = effective_fingerprint(text)
        except PatchError as error:
            return Rejected(proposal.title, str(error))
        twin = self.state.ledger.experiment_of_effective.get(effective)
        if twin is not None and self._was_tried(twin) and not proposal.control:
            return Rejected(proposal.title, f"{twin} is the same file in effect", duplicate_of=twin)
        return self._record(proposal, call, rationale, parent_text, text, effective, base)

    def _has_class(self, cls: str | None) -> bool:
        return cls is None or any(device.cls == cls for device in self.state.now.devices.values())

    def _was_tried(self, exp: str) -> bool:
        """Whether an experiment has had its chance, or still has: cancelled or lost runs were none."""
        tried = any(run.outcome in OWN_OUTCOMES - {"cancelled"} for run in self.state.ledger.runs_of[exp])
        return tried or exp in self.state.now.pending

    def _record(
        self,
        proposal: Proposal,
        call: str,
        rationale: str,
        parent_text: str,
        text: str,
        effective: str,
        base: ExperimentProposed,
    ) -> Accepted:
        revision = revision_id(text)
        if revision not in self.state.ledger.revision_index:
            self._engine.take(
                RevisionAdded(
                    revision=revision,
                    parent=base.revision,
                    patch=unified_diff(parent_text, text),
                    effective=effective,
                )
            )
        exp = f"e{len(self.state.ledger.experiments) + 1}"
        self._engine.take(
            ExperimentProposed(
                exp=exp,
                call=call,
                revision=revision,
                parent=base.exp,
                title=proposal.title,
                hypothesis=proposal.hypothesis,
                rationale=rationale,
                design=proposal.design,
                knobs=changed_constants(parent_text, text),
                seeds=fresh_seeds(self.state, exp, proposal.seeds),
                cls=proposal.cls,
                stoppable=proposal.stoppable and not proposal.edits,
            )
        )
        return Accepted(exp, revision)
