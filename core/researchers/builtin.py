"""The builtin researcher: one-factor and combined changes of train.py, tried in the order of an open prior.

It needs no key and keeps nothing to itself: what it does next is a function of the session's state, so it can be
restarted at any event. The verdicts are the engine's (core.statistics), as for every researcher.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.bench import Accepted, Bench, Proposal, Rejected
from core.events import BASELINE, Limits
from core.patching import read_constants
from core.researchers.ideas import (
    Idea,
    call_of,
    combine,
    first_moves,
    hinted,
    joint_key,
    joint_move,
    parse_call,
    parts_of,
    pointless,
    steps_beyond,
)
from core.researchers.standing import Standing
from core.state import SessionState

_MAX_REFUSED = 100
"""So many joint moves in a row that are no moves, pointless or duplicates: a file with few knobs has no more left."""

_GREETING = (
    "I measure first how much equal runs differ here. Then I change one thing at a time, in the order of my catalogue; "
    "what screens well gets fresh seeds before it counts, and what is kept becomes the base of everything after it."
)


def create() -> BuiltinResearcher:
    """Make the researcher (entry point `builtin`)."""
    return BuiltinResearcher()


class BuiltinResearcher:
    """See core.bench.Researcher. What it keeps between calls is derived from the state, and only saves time."""

    def __init__(self) -> None:
        self._agenda: Agenda | None = None
        self._rebased: str | None = None

    async def research(self, bench: Bench) -> str:
        await bench.note(_GREETING, call="builtin:greeting")
        state = bench.state
        while True:
            heard = len(state.ledger.commands)
            await self._hear(bench)
            await self._rebase(bench)
            if _baseline_failed(state):
                return _why_no_baseline(state)
            wanted = _queue_wanted(state)
            full = state.backlog >= wanted
            idea = None if full else await self._next_idea(bench)
            if idea is not None:
                await self._propose(bench, idea)
            elif state.waiting or state.now.pending or state.now.wanted or state.now.judge:
                # A result may make a new base, so every one is looked at, however full the queue is.
                below = wanted if full else None
                await bench.wait(settled_above=state.settled, queue_below=below, heard_above=heard)
            else:
                return "every idea of the catalogue has been tried on the incumbent"

    async def _next_idea(self, bench: Bench) -> Idea | None:
        """The first idea that was not tried on the present base; None if there is none (yet)."""
        base = bench.state.now.incumbent or BASELINE
        if self._agenda is None or self._agenda.base != base:
            self._agenda = Agenda(bench.state, base, await bench.read_code(base))
        return self._agenda.next()

    async def _propose(self, bench: Bench, idea: Idea) -> None:
        base = bench.state.now.incumbent or BASELINE
        call = idea.call(base)
        proposal = Proposal(
            base=base,
            title=idea.title,
            hypothesis=idea.hypothesis,
            design=idea.design,
            edits=idea.edits,
            constants=idea.constants,
        )
        [answer] = await bench.propose([proposal], call=call, rationale=idea.rationale)
        if isinstance(answer, Rejected):
            # Said once, and with the same call id: this is also how a restarted researcher knows it was tried.
            await bench.note(f"I leave out “{idea.title}”: {answer.reason}.", call=call)

    async def _rebase(self, bench: Bench) -> None:
        """Take back what still waits on a base that has been beaten: its ideas are tried on the new one instead."""
        base = bench.state.now.incumbent
        if base is None or base == self._rebased:
            return
        stale = _waiting_on_old_bases(bench.state, base)
        if stale:
            # Said before it is done, so that a researcher restarted in between says the same.
            said = (
                f"{base} is the base now: I take back {', '.join(stale)}, and try what promised something on top of it."
            )
            await bench.note(said, call=f"builtin:rebase:{base}")
        for exp in stale:
            await bench.cancel(exp, f"{base} is the base now", call=f"builtin:rebase:{base}:{exp}")
        self._rebased = base

    async def _hear(self, bench: Bench) -> None:
        """Turn hints of the form NAME=value into proposals; say so where a hint is beyond a statistical researcher."""
        for command in list(bench.state.ledger.commands):
            call = f"builtin:hint:{command.client}"
            if command.verb != "hint" or call in bench.state.ledger.calls or f"{call}#0" in bench.state.ledger.calls:
                continue
            idea = hinted(command.arg)
            base = bench.state.now.incumbent or BASELINE
            if idea is None:
                said = f"I only understand hints like MATRIX_LR=0.06, not “{command.arg}”."
                await bench.note(said, call=call)
                continue
            proposal = Proposal(
                base=base,
                title=idea.title,
                hypothesis=idea.hypothesis,
                design=idea.design,
                constants=idea.constants,
            )
            [answer] = await bench.propose([proposal], call=call, rationale=idea.rationale)
            said = (
                f"Your hint is {answer.exp}."
                if isinstance(answer, Accepted)
                else f"I cannot try your hint: {answer.reason}."
            )
            await bench.note(said, call=call)


class Agenda:
    """The ideas to try on one base, in their order: leftovers that promised something, further steps, new ones.

    Where the session has a limit, joint moves of several knobs follow without end.
    """

    def __init__(self, state: SessionState, base: str, source: str) -> None:
        self.base = base
        self._state, self._constants = state, read_constants(source)
        self._inherited = _inherited_keys(state, base)
        self._moves = [idea for idea in first_moves(source) if not pointless(idea, self._inherited)]
        self._further = [idea for idea in steps_beyond(source, self._inherited) if not pointless(idea, self._inherited)]
        self._by_key = {idea.key: idea for idea in self._moves}
        self._standing = Standing(frozenset(self._by_key))
        self._version: tuple[str, int] | None = None
        self._ideas: list[Idea] = []
        self._joint_index = self._joints_refused = 0

    def next(self) -> Idea | None:
        """The first idea that was not tried on this base yet, or None."""
        self._standing.catch_up(self._state)
        version = self._standing.version(self.base)
        if version != self._version:
            self._version, self._ideas = version, self._order()
        while self._ideas and self._was_called(self._ideas[0].call(self.base)):
            self._ideas.pop(0)
        return self._ideas[0] if self._ideas else self._next_joint()

    def _order(self) -> list[Idea]:
        promising = [key for key in self._standing.promising(self.base) if key not in self._inherited]
        leftovers = [self._by_key[key] for key in promising]
        together = combine(leftovers) if len(leftovers) >= 2 else None
        spent = self._standing.spent(self.base) - set(promising)
        fresh = [idea for idea in self._moves if idea.key not in spent]
        return [*([together] if together is not None else []), *leftovers, *self._further, *fresh]

    def _next_joint(self) -> Idea | None:
        started = self._state.now.started
        if started is None or not _is_limited(started.limits):
            return None
        barred = self._standing.failed
        while self._joints_refused < _MAX_REFUSED:
            call = call_of(self.base, joint_key(self._joint_index))
            if not self._was_called(call):
                idea = joint_move(self._constants, self._joint_index, barred, started.seed, self.base)
                if idea is not None and not pointless(idea, self._inherited):
                    return idea
            self._joint_index += 1
            self._joints_refused = 0 if f"{call}#0" in self._state.ledger.calls else self._joints_refused + 1
        return None

    def _was_called(self, call: str) -> bool:
        return f"{call}#0" in self._state.ledger.calls or call in self._state.ledger.calls


def _is_limited(limits: Limits) -> bool:
    return limits.hours is not None or limits.runs is not None or limits.gpu_hours is not None


def _waiting_on_old_bases(state: SessionState, base: str | None) -> list[str]:
    """Experiments of ours that still wait to be screened, or sharpened, though their base was beaten.

    What has begun goes on, also where the world made it begin again.
    """
    open_runs = list(state.now.runs.values())
    started = {run.exp for run in open_runs if run.status != "queued" or run.attempts or run.reason == "confirm"}
    waiting = dict.fromkeys(run.exp for run in open_runs if run.exp not in started and run.exp != base)
    proposals = [state.experiment(exp) for exp in waiting]
    return [
        proposal.exp
        for proposal in proposals
        if proposal is not None and parse_call(proposal.call) is not None and proposal.parent != base
    ]


def _inherited_keys(state: SessionState, base: str) -> set[str]:
    """Keys of the ideas that a base was built from."""
    keys: set[str] = set()
    proposal = state.experiment(base)
    while proposal is not None:
        key = parse_call(proposal.call)
        keys.update(parts_of(key) if key is not None else ())
        proposal = state.experiment(proposal.parent) if proposal.parent is not None else None
    return keys


def _queue_wanted(state: SessionState) -> int:
    """Keep one run waiting per device, so that none idles while the next idea is looked up."""
    return max(1, len(state.now.devices))


def _baseline_failed(state: SessionState) -> bool:
    verdict = state.verdict(BASELINE)
    return state.now.incumbent is None and verdict is not None and not state.now.pending.get(BASELINE)


def _why_no_baseline(state: SessionState) -> str:
    verdict = state.verdict(BASELINE)
    told = verdict.reason if verdict is not None else "it was never measured"
    return f"there is nothing to improve on: {told}"


__all__: Sequence[str] = ("BuiltinResearcher", "create")
