"""The builtin researcher: one-factor and combined changes of train.py, tried in the order of an open prior.

It needs no key and keeps nothing to itself: what it does next is a function of the session's state, so it can be
restarted at any event. The verdicts are the engine's (core.statistics), as for every researcher.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.bench import Accepted, Bench, Proposal, Rejected
from core.events import BASELINE
from core.researchers.ideas import Idea, combine, first_moves, hinted, parse_call, parts_of, pointless, steps_beyond
from core.state import SessionState
from core.statistics import evidence_runs, mean_of, noise, screen_runs

_PROMISING_SD = 1.0
"""An idea that is not in the base is tried again on a better one if its runs beat their own base by so many sd."""

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
            await self._hear(bench)
            await self._rebase(bench)
            if _baseline_failed(state):
                return _why_no_baseline(state)
            idea = await self._next_idea(bench) if state.waiting < _queue_wanted(state) else None
            if idea is not None:
                await self._propose(bench, idea)
            elif state.waiting or state.now.pending or state.now.wanted or state.now.judge:
                # A result may make a new base, so every one is looked at, however full the queue is.
                await bench.wait(settled_above=state.settled)
            else:
                return "every idea of the catalogue has been tried on the incumbent"

    async def _next_idea(self, bench: Bench) -> Idea | None:
        """The first idea that was not tried on the present base; None if there is none (yet)."""
        state = bench.state
        base = state.now.incumbent or BASELINE
        source = await bench.read_code(base)
        tried = {call for call in state.ledger.calls if call.startswith("builtin:")}
        for idea in _agenda(state, base, source):
            if f"{idea.call(base)}#0" not in tried and idea.call(base) not in tried:
                return idea
        return None

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
        stale = _waiting_on_old_bases(bench.state, base)
        if base is None or not stale:
            return
        for exp in stale:
            await bench.cancel(exp, f"{base} is the base now", call=f"builtin:rebase:{base}:{exp}")
        said = (
            f"{base} is the base now: I take back {', '.join(stale)}, and try what promised something on top of {base}."
        )
        await bench.note(said, call=f"builtin:rebase:{base}:{stale[0]}")

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


def _agenda(state: SessionState, base: str, source: str) -> list[Idea]:
    """All ideas in the order of trial on this base: leftovers that promised something, further steps, new ones."""
    inherited = _inherited_keys(state, base)
    moves = [idea for idea in first_moves(source) if not pointless(idea, inherited)]
    by_key = {idea.key: idea for idea in moves}
    promising, spent = _standing(state, base, inherited)
    leftovers = [by_key[key] for key in promising if key in by_key]
    agenda: list[Idea] = []
    if len(leftovers) >= 2:
        together = combine(leftovers)
        if together is not None:
            agenda.append(together)
    agenda += leftovers
    agenda += [idea for idea in steps_beyond(source, inherited) if not pointless(idea, inherited)]
    agenda += [idea for idea in moves if idea.key not in spent]
    return agenda


def _standing(state: SessionState, base: str, inherited: set[str]) -> tuple[list[str], set[str]]:
    """Keys of ideas tried on earlier bases: those that promised something and are not in the base, and all others.

    An idea that was taken back before it had a score is neither.
    """
    gains: dict[str, float] = {}
    spent: set[str] = set()
    for proposal in state.ledger.experiments:
        key = parse_call(proposal.call)
        if key is None or proposal.parent == base:
            continue
        runs = state.ledger.runs_of.get(proposal.exp, [])
        if runs and all(run.outcome == "cancelled" for run in runs):
            continue
        spent.update(parts_of(key))
        gain = _gain(state, proposal.exp, proposal.parent)
        if gain is not None and gain < gains.get(key, 0.0):
            gains[key] = gain
    promising = [key for key in sorted(gains, key=lambda key: (gains[key], key)) if key not in inherited]
    return promising, spent - set(promising)


def _gain(state: SessionState, exp: str, parent: str | None) -> float | None:
    """What an experiment's runs, the nominating one included, gained on the base they were tried on, in bpb.

    None where that is unknown or not beyond the noise: whether the gain is real is for a later test to say.
    """
    cls = state.reference_class()
    if cls is None or parent is None:
        return None
    spread = noise(state, cls)
    mine = mean_of([*screen_runs(state, exp, cls), *evidence_runs(state, exp, cls)])
    base = mean_of(evidence_runs(state, parent, cls))
    if spread is None or mine is None or base is None:
        return None
    gain = mine.mean - base.mean
    return gain if gain < -_PROMISING_SD * spread.sd else None


def _waiting_on_old_bases(state: SessionState, base: str | None) -> list[str]:
    """Experiments of ours that still wait to be screened, or sharpened, though their base was beaten."""
    open_runs = list(state.now.runs.values())
    started = {run.exp for run in open_runs if run.status != "queued" or run.reason == "confirm"}
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
    return max(1, sum(device.up for device in state.now.devices.values()))


def _baseline_failed(state: SessionState) -> bool:
    verdict = state.verdict(BASELINE)
    return state.now.incumbent is None and verdict is not None and not state.now.pending.get(BASELINE)


def _why_no_baseline(state: SessionState) -> str:
    verdict = state.verdict(BASELINE)
    told = verdict.reason if verdict is not None else "it was never measured"
    return f"there is nothing to improve on: {told}"


__all__: Sequence[str] = ("BuiltinResearcher", "create")
