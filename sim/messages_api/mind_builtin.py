"""A mind that researches by the builtin researcher's method: what it says goes through tool calls, as a model's would.

It may look at the session, as nobody's model can: it is a simulation, and labelled as one everywhere. What it answers
is a function of the session, the conversation and the seed, so that the same request gets the same answer from an
engine that was started anew.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from core.events import BASELINE
from core.researchers.builtin import waiting_on_old_bases
from core.researchers.ideas import Idea, hinted
from core.researchers.opening import NAME as OPENING
from core.researchers.plan import Plan
from core.revisions import Revisions
from core.state import SessionState
from sim.messages_api import mind_words as words
from sim.messages_api.minds import Block, ModelReply, ModelRequest, Text, Thinking, ToolUse
from sim.messages_api.occasion import Occasion, occasion_of
from sim.messages_api.plan_view import PROMOTE, SUBMIT, PlanView, opening_title

_CHARS_A_TOKEN: Final = 3.25
_TOKENS_A_SECOND: Final = 45.0
_LATENCY_S: Final = (20.0, 90.0)
"""A turn of a large model with some thought: the wait for its first token, then each token. Assumed."""
_THOUGHT: Final = (1.2, 3.2)
"""A thought is so many times as long as the summary of it that a client sees. Assumed."""

_MOST_CALL: Final = 64
_ASKED_SHARE: Final = 0.5
"""What a turn asks for takes at most this share of the longest answer: thoughts and notes are part of it."""
_CUT_CALL: Final = 4
"""So many experiments are asked for after an answer that was too long."""
_NOTES_EVERY: Final = 12
_LOOK_EVERY: Final = 15
"""So many answers lie between two updates of the notebook, and between two looks at the analysis."""


class Chosen(NamedTuple):
    """An idea, and the experiment that it is to be tried on."""

    base: str
    idea: Idea


class BuiltinMind:
    """See sim.messages_api.minds.Mind.

    Args:
        state: gives the session, which is there by the time of the first request.
        seed: of everything that is drawn.
    """

    def __init__(self, state: Callable[[], SessionState], seed: int) -> None:
        self._state, self._seed = state, seed
        self._view: PlanView | None = None
        self._plan: Plan | None = None

    def reply(self, request: ModelRequest) -> ModelReply:
        """Take one turn."""
        state = self._state()
        occasion = occasion_of(request, state)
        rng = random.Random(f"{self._seed}/{occasion.digest}")  # noqa: S311  a simulated manner, not a secret
        turn = _Turn(state, occasion, rng)
        view, plan = self._caught_up(state)
        blocks = turn.blocks(view, plan)
        return ModelReply(blocks, latency_s=_latency_s(blocks, rng))

    def _caught_up(self, state: SessionState) -> tuple[PlanView, Plan]:
        """The plan, begun anew where it went by something that did not come true."""
        if self._view is None:
            source = Revisions(state).text(state.ledger.experiments[0].revision)
            self._view = PlanView(state, source)
        if not self._view.refresh() or self._plan is None:
            self._plan = Plan(self._view.state, self._view.space, self._view.source)
        return self._view, self._plan


class _Turn:
    """One answer in the making."""

    def __init__(self, state: SessionState, occasion: Occasion, rng: random.Random) -> None:
        self._state, self._occasion, self._rng = state, occasion, rng
        self._base = state.now.incumbent or BASELINE

    def blocks(self, view: PlanView, plan: Plan) -> list[Block]:
        """What to say and to call."""
        phase, why = plan.phase()
        occasion = self._occasion
        seen = (
            words.answered(self._state, occasion.since, occasion.read)
            if occasion.read
            else words.seen_since(self._state, occasion.since)
        )
        if self._occasion.last_words:
            return [self._thinking(f"This is the last that I say here. {seen}"), Text(words.summary(self._state))]
        if self._occasion.asked_to_note:
            thought = f"I am asked to write down what I know before this conversation is begun anew. {seen} {why}"
            return [self._thinking(thought), *self._notes(why)]
        look = self._look(seen)
        if look:
            return look
        return self._act(view, plan, phase, why, seen)

    # -- looking

    def _look(self, seen: str) -> list[Block]:
        """Now and then a question before the next move; its answer is looked at in the turn that follows."""
        if self._occasion.read or not self._state.ledger.runs:
            return []
        failed = words.failed_since(self._state, self._occasion.since)
        if failed and self._rng.random() < 0.5:
            run = failed[-1]
            thought = f"{seen} {run.run} ({run.exp}) failed: {run.failure or run.outcome}. I want to see how it ended."
            call = ToolUse("read_log", {"run_id": run.run, "tail": 30})
            return [self._thinking(thought), Text(f"{run.run} failed; I read the end of its log once."), call]
        if self._occasion.answers % _LOOK_EVERY == _LOOK_EVERY - 1:
            return [
                self._thinking(f"{seen} Single differences are within the noise, so I look at all runs together."),
                Text("Before the next batch I look at what all runs say together."),
                self._question(),
            ]
        return []

    def _question(self) -> ToolUse:
        """Of a few questions the next one in turn."""
        sql = (
            "select device_class, design, count(*) as runs, min(val_bpb) as best from runs where scored "
            "group by all order by device_class, best limit 20"
        )
        questions = (
            ToolUse("analyze", {}),
            ToolUse("query_runs", {"sql": sql}),
            ToolUse("analyze", {"about": "noise"}),
            ToolUse("get_results", {"ids": [self._base]}),
        )
        return questions[self._occasion.answers // _LOOK_EVERY % len(questions)]

    # -- acting

    def _act(self, view: PlanView, plan: Plan, phase: str, why: str, seen: str) -> list[Block]:
        hints = [hinted(hint) for hint in self._occasion.hints]
        stale = [exp for exp in waiting_on_old_bases(view.state, self._base) if exp not in view.cancelled]
        refinement = plan.refinement(phase)
        chosen = [Chosen(self._base, idea) for idea in hints if idea is not None]
        for hint in chosen:
            view.suppose(hint.idea, hint.base)
        chosen += self._choose(view, plan, max(0, self._room() - len(chosen)))
        calls: list[Block] = []
        if stale:
            reason = f"{self._base} is the base now: the same is tried on top of it."
            calls.append(ToolUse("cancel", {"ids": stale, "reason": reason}))
        calls += self._submissions(plan, chosen)
        if refinement is not None:
            reason = "What is left to gain is small: only more seeds tell whether this is better."
            calls.append(ToolUse(PROMOTE, {"experiment": refinement.exp, "reason": reason}))
        if self._occasion.answers % _NOTES_EVERY == _NOTES_EVERY - 1:
            calls += self._notes(why)
        calls.append(self._wait(chosen))
        thought = words.thought(self._state, seen, why, [one.idea for one in chosen], stale, self._rng)
        said = words.said(self._state, [one.idea for one in chosen], self._rng, ending=plan.ending)
        answers = [words.answer_to(hint, idea) for hint, idea in zip(self._occasion.hints, hints, strict=True)]
        return [self._thinking(thought), Text(" ".join([*answers, said])), *calls]

    def _room(self) -> int:
        """How many runs to ask for: those that idle devices want at once, and some to wait; a few at a time know more.

        What fits is what the client says; where it does not say it, one and a half times the devices may wait.
        """
        up = self._state.serving
        waiting = self._state.backlog
        fits = self._occasion.fits if self._occasion.fits is not None else math.ceil(1.5 * up) - waiting
        idle = max(0, len(self._state.now.free) - waiting)
        return max(0, min(fits, idle + max(2, up // 2), _CUT_CALL if self._occasion.cut else _MOST_CALL))

    def _choose(self, view: PlanView, plan: Plan, count: int) -> list[Chosen]:
        """The plan's next ideas, each as if those before it were proposed."""
        chosen: list[Chosen] = []
        chars, most = 0, _ASKED_SHARE * self._occasion.max_tokens * _CHARS_A_TOKEN
        while len(chosen) < count and chars < most:
            idea = plan.idea(plan.phase()[0])
            if idea is None:
                break
            base = BASELINE if idea.design == OPENING else self._base
            view.suppose(idea, base)
            chosen.append(Chosen(base, idea))
            chars += len(_variant(idea)) + sum(len(edit.old) + len(edit.new) for edit in idea.edits)
        return chosen

    def _submissions(self, plan: Plan, chosen: Sequence[Chosen]) -> list[Block]:
        """One call for all constants that are tried on one base for one reason, one for each edit of the code."""
        groups: dict[tuple[str, str], list[Idea]] = {}
        for base, idea in chosen:
            kind = idea.key if idea.edits else idea.key.partition(":")[0]
            groups.setdefault((base, kind), []).append(idea)
        return [self._submission(plan, base, ideas) for (base, _), ideas in groups.items()]

    def _submission(self, plan: Plan, base: str, ideas: Sequence[Idea]) -> ToolUse:
        first = ideas[0]
        given: dict[str, Any] = {"hypothesis": words.hypothesis(base, ideas), "base": base}
        if first.design == OPENING and plan.design is not None:
            given["title"] = opening_title([words.place_of(idea) for idea in ideas], len(plan.design.rows))
        elif len(ideas) == 1:
            given["title"] = first.title
        if first.edits:
            given["rationale"] = first.rationale
            given["edits"] = [{"old": edit.old, "new": edit.new} for edit in first.edits]
        else:
            given["variants"] = [_variant(idea) for idea in ideas]
        return ToolUse(SUBMIT, given)

    def _wait(self, chosen: Sequence[Chosen]) -> ToolUse:
        """Wake at half a round of results, or when the queue is low enough to be filled in one go."""
        up = max(1, self._state.serving)
        until = [f"results:{max(1, up // 2)}", "new_best"]
        if chosen:
            until.insert(1, f"queue_below:{max(1, 3 * up // 8)}")
        note = "see what these say, then the next batch" if chosen else "nothing to add before there are results"
        return ToolUse("wait", {"until": until, "note": note})

    # -- writing down

    def _notes(self, why: str) -> list[Block]:
        return [
            ToolUse("notebook", {"section": section, "text": text})
            for section, text in words.notebook(self._state, why).items()
            if text and text != self._state.now.memory.get(section)
        ]

    def _thinking(self, text: str) -> Thinking:
        return Thinking(text, tokens=int(self._rng.uniform(*_THOUGHT) * len(text) / _CHARS_A_TOKEN))


def _variant(idea: Idea) -> str:
    """Constants as a tool takes them."""
    return " ".join(f"{name}={literal}" for name, literal in idea.constants.items())


def _latency_s(blocks: Sequence[Block], rng: random.Random) -> float:
    """How long it takes to say this: longer answers take longer, and some more than others."""
    tokens = 0.0
    for block in blocks:
        match block:
            case Thinking():
                tokens += block.tokens
            case Text():
                tokens += len(block.text) / _CHARS_A_TOKEN
            case ToolUse():
                tokens += len(msgspec.json.encode(block.input)) / _CHARS_A_TOKEN
    low_s, high_s = _LATENCY_S
    return round(min(high_s, low_s + tokens / _TOKENS_A_SECOND * rng.lognormvariate(0.0, 0.25)), 3)
