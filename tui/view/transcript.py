"""The reasoning pane's blocks: each thing that was proposed, noted, judged, asked for or limited, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from core.events import (
    Command,
    DesignDeclared,
    ExecutorNotice,
    ExperimentProposed,
    LimitHit,
    Note,
    PhaseChanged,
    ResearchEnded,
    SessionEnded,
    SessionForked,
    Verdict,
)
from core.state import SessionState, TalkEvent
from tui.palette import Role
from tui.text import clean, clean_lines
from tui.view.blocks import Block
from tui.view.conversation import ModelTalk, model_blocks
from tui.view.words import count_words, resolution_words

PHASE_SIGN: Final = "◆"
VERDICT_SIGNS: Final = {
    "kept": ("●", Role.KEPT),
    "rejected": ("·", Role.REJECTED),
    "undecided": ("○", Role.UNDECIDED),
}


OtherTalk = (
    ExperimentProposed
    | Note
    | DesignDeclared
    | PhaseChanged
    | Verdict
    | Command
    | LimitHit
    | ExecutorNotice
    | ResearchEnded
    | SessionEnded
    | SessionForked
)
"""What is said without a model."""


NOTICE_ROLES: Final = {"info": Role.MUTED, "warning": Role.WAITING, "error": Role.FAILED}


class TranscriptView(NamedTuple):
    """All that was said up to now, in order; `blocks_of` words an element of it.

    `tail` is what goes on just now and follows it: an answer on its way, a wait that ends.
    """

    state: SessionState
    talk: Sequence[TalkEvent]
    tail: tuple[Block, ...] = ()


def transcript_view(state: SessionState, tail: tuple[Block, ...] = ()) -> TranscriptView:
    """What the reasoning pane shows of a state; wording waits until a block is looked at."""
    return TranscriptView(state, state.ledger.talk, tail)


def blocks_of(event: TalkEvent, state: SessionState) -> tuple[Block, ...]:
    """Put one event into words: mostly one block, of a message as many as it has parts to show."""
    return model_blocks(event, state) if isinstance(event, ModelTalk) else (_block_of(event, state),)


def _block_of(event: OtherTalk, state: SessionState) -> Block:
    match event:
        case ExperimentProposed():
            return _proposal(event)
        case Verdict():
            return _verdict(event, state)
        case Note():
            first, *rest = [line.rstrip() for line in clean_lines(event.text.strip())]
            return Block(event.n, "note", " ", Role.TEXT, first, tuple(rest))
        case DesignDeclared():
            return _design(event)
        case PhaseChanged():
            head = f"phase {clean(event.phase)}: {clean(event.why)}"
            return Block(event.n, "phase", PHASE_SIGN, Role.CONFIRMED, head)
        case Command():
            argument = f" {clean(event.arg)}" if event.arg else ""
            return Block(event.n, "command", "▶", Role.CURSOR, f"{clean(event.verb)}{argument}")
        case LimitHit():
            word = "no longer holds" if event.cleared else "reached"
            return Block(
                event.n, "limit", "!", Role.WAITING, f"limit of {clean(event.limit)} {word}: {clean(event.detail)}"
            )
        case ExecutorNotice():
            return _notice(event)
        case ResearchEnded() | SessionForked() | SessionEnded():
            return _ending(event)


def _notice(event: ExecutorNotice) -> Block:
    """What befalls the cluster, or that it is over."""
    if not event.text:
        return Block(event.n, "limit", "✓", Role.MUTED, "the cluster is well again")
    return Block(event.n, "limit", "!", NOTICE_ROLES.get(event.level, Role.WAITING), f"cluster: {clean(event.text)}")


def _ending(event: ResearchEnded | SessionForked | SessionEnded) -> Block:
    """Where a session, or its researcher, comes from or ends."""
    if isinstance(event, SessionForked):
        return Block(event.n, "end", "■", Role.CONFIRMED, fork_words(event))
    if isinstance(event, ResearchEnded):
        return Block(event.n, "end", "■", Role.MUTED, f"the researcher is done: {clean(event.reason)}")
    role = Role.FAILED if event.failed else Role.MUTED
    return Block(event.n, "end", "■", role, f"the session ended: {clean(event.reason)}")


def fork_words(event: SessionForked) -> str:
    """Where a session comes from, and what it brought along."""
    brought = f"{count_words(event.runs, 'run')} brought along"
    cancelled = f", {event.in_flight} in flight cancelled and queued again" if event.in_flight else ""
    return f"forked from {clean(event.parent)}: {brought}{cancelled}"


def _proposal(event: ExperimentProposed) -> Block:
    body = [clean(event.hypothesis), *(line for line in clean_lines(event.rationale) if line.strip())]
    body += [f"{clean(name)} = {clean(value)}" for name, value in event.knobs.items()]
    seeds = f" · {count_words(len(event.seeds), 'seed')}" if len(event.seeds) != 1 else ""
    head = f"{event.exp} {clean(event.title)}{seeds}"
    return Block(event.n, "proposal", "▸", Role.BUSY, head, tuple(body), folds=True, exp=event.exp)


def _design(event: DesignDeclared) -> Block:
    body = [clean(event.why), *(f"{clean(knob)}: {clean(low)} or {clean(high)}" for knob, low, high in event.factors)]
    parts = [clean(event.kind), count_words(event.rows, "run")]
    parts += [count_words(len(event.factors), "knob")] if event.factors else []
    parts += [resolution_words(event.resolution)] if event.resolution is not None else []
    head = f"design {clean(event.design)}: {', '.join(parts)}"
    return Block(event.n, "design", "▸", Role.BUSY, head, tuple(body), folds=True)


def _verdict(event: Verdict, state: SessionState) -> Block:
    sign, role = VERDICT_SIGNS[event.verdict]
    proposal = state.experiment(event.exp)
    title = f" {clean(proposal.title)}" if proposal is not None else ""
    head = f"{event.verdict} {event.exp}{title}: {clean(event.reason)}"
    # Most ideas lose: a line each leaves room for what is thought and what is kept.
    folds = event.verdict == "rejected"
    return Block(event.n, "verdict", sign, role, head, folds=folds, exp=event.exp)
