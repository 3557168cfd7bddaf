"""The builtin researcher: one-factor and combined changes of train.py, tried in the order of an open prior.

It needs no key and keeps nothing to itself: what it does next is a function of the session's state, so it can be
restarted at any event. The verdicts are the engine's (core.statistics), as for every researcher.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.bench import Accepted, Bench, Proposal, Rejected
from core.researchers.ideas import Idea, combine, first_moves, hinted, parse_call, steps_beyond
from core.state import SessionState
from core.statistics import noise

_PROMISING_SD = 1.0
"""An idea that was not kept is tried again on a better base if it screened at least this many sd below its own."""

_GREETING = (
    "I measure first how much equal runs differ here. Then I change one thing at a time, in the order of my catalogue; "
    "what screens well gets fresh seeds before it counts, and what is kept becomes the base of everything after it."
)


def create() -> BuiltinResearcher:
    """Make the researcher (entry point `builtin`)."""
    return BuiltinResearcher()


class BuiltinResearcher:
    """See core.bench.Researcher."""

    async def research(self, bench: Bench) -> str:
        await bench.note(_GREETING, call="builtin:greeting")
        while True:
            state = bench.state
            await bench.wait(queue_below=_queue_wanted(state))
            await self._hear(bench)
            idea = await self._next_idea(bench)
            if idea is not None:
                await self._propose(bench, idea)
            elif state.now.pending or state.now.wanted or state.now.judge:
                settled = _settled(state)
                await bench.wait(settled_above=settled)
                if _baseline_failed(state):
                    return _why_no_baseline(state)
            elif _baseline_failed(state):
                return _why_no_baseline(state)
            else:
                return "every idea of the catalogue has been tried on the incumbent"

    async def _next_idea(self, bench: Bench) -> Idea | None:
        """The first idea that was not tried on the present base; None if there is none (yet)."""
        state = bench.state
        base = state.now.incumbent or "e1"
        if state.now.incumbent is None and _baseline_failed(state):
            return None
        source = await bench.read_code(base)
        tried = {call for call in state.ledger.calls if call.startswith("builtin:")}
        for idea in _agenda(state, base, source):
            if f"{idea.call(base)}#0" not in tried and idea.call(base) not in tried:
                return idea
        return None

    async def _propose(self, bench: Bench, idea: Idea) -> None:
        base = bench.state.now.incumbent or "e1"
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

    async def _hear(self, bench: Bench) -> None:
        """Turn hints of the form NAME=value into proposals; say so where a hint is beyond a statistical researcher."""
        for command in list(bench.state.ledger.commands):
            call = f"builtin:hint:{command.client}"
            if command.verb != "hint" or call in bench.state.ledger.calls or f"{call}#0" in bench.state.ledger.calls:
                continue
            idea = hinted(command.arg)
            base = bench.state.now.incumbent or "e1"
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


def _agenda(state: SessionState, base: str, source: str) -> list[Idea]:
    """All ideas in the order of trial on this base: leftovers that promised something, further steps, new ones."""
    moves = first_moves(source)
    by_key = {idea.key: idea for idea in moves}
    promising, spent = _standing(state, base)
    leftovers = [by_key[key] for key in promising if key in by_key]
    agenda: list[Idea] = []
    if len(leftovers) >= 2:
        together = combine(leftovers)
        if together is not None:
            agenda.append(together)
    agenda += leftovers
    agenda += steps_beyond(source, _kept_knob_moves(state))
    agenda += [idea for idea in moves if idea.key not in spent]
    return agenda


def _standing(state: SessionState, base: str) -> tuple[list[str], set[str]]:
    """Keys of ideas tried on earlier bases: those that promised something and are not in the base, and all others."""
    promising: list[str] = []
    spent: set[str] = set()
    inherited = _lineage(state, base)
    for proposal in state.ledger.experiments:
        key = parse_call(proposal.call)
        if key is None or proposal.parent == base:
            continue
        spent.add(key)
        if proposal.exp not in inherited and _promised(state, proposal.exp) and key not in promising:
            promising.append(key)
    return promising, spent - set(promising)


def _lineage(state: SessionState, exp: str) -> set[str]:
    """An experiment and all that it was built upon."""
    found: set[str] = set()
    cursor: str | None = exp
    while cursor is not None and cursor not in found:
        found.add(cursor)
        proposal = state.experiment(cursor)
        cursor = proposal.parent if proposal is not None else None
    return found


def _promised(state: SessionState, exp: str) -> bool:
    verdict = state.verdict(exp)
    cls = state.reference_class()
    if verdict is None or verdict.delta is None or cls is None:
        return False
    if verdict.verdict == "kept":
        return True
    spread = noise(state, cls)
    return spread is not None and verdict.verdict == "undecided" and verdict.delta < -_PROMISING_SD * spread.sd


def _kept_knob_moves(state: SessionState) -> list[str]:
    """Keys of moves that led to incumbents, the last one first."""
    keys = []
    for _, exp in reversed(state.ledger.incumbents):
        proposal = state.experiment(exp)
        key = parse_call(proposal.call) if proposal is not None else None
        if key is not None:
            keys.append(key)
    return keys


def _queue_wanted(state: SessionState) -> int:
    """Keep one run waiting per device, so that none idles while the next idea is looked up."""
    return max(1, sum(device.up for device in state.now.devices.values()))


def _settled(state: SessionState) -> int:
    counts = state.now.counts
    return counts.finished + counts.failed + counts.cancelled


def _baseline_failed(state: SessionState) -> bool:
    verdict = state.verdict("e1")
    return state.now.incumbent is None and verdict is not None and not state.now.pending.get("e1")


def _why_no_baseline(state: SessionState) -> str:
    verdict = state.verdict("e1")
    told = verdict.reason if verdict is not None else "it was never measured"
    return f"there is nothing to improve on: {told}"


__all__: Sequence[str] = ("BuiltinResearcher", "create")
