"""Sessions with a designed set of experiments whose scores a formula gives, as events and as a state."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.designs import Design
from core.events import AnyEvent, DesignDeclared
from core.reduce import apply
from core.state import SessionState
from tests.support.story import Story

BASELINE = (1.0002, 0.9998, 1.0000, 1.0000)
"""Scores of the baseline: one run varies by 0.000163, with three degrees of freedom."""


def designed(
    design: Design, score: Callable[[Sequence[int]], float | None], *, done: int | None = None, declare: bool = True
) -> list[AnyEvent]:
    """A baseline of four runs, then the design's rows, one run each; only the first `done` of them have ended."""
    story = Story(devices=4, progress=0)
    baseline = story.experiment("the baseline", runs=1)
    for seed, val_bpb in enumerate(BASELINE):
        story.finish(story.start(baseline, seed + 1, "gpu0", "baseline"), val_bpb)
    if declare:
        story.add(
            DesignDeclared(
                design=design.name,
                kind=design.kind,
                factors=[tuple(factor) for factor in design.factors],
                rows=len(design.rows),
                why=design.why,
                call="declared",
                resolution=design.resolution,
            )
        )
    proposed = [
        (story.propose(f"row {number}", design.constants(row), [0], design=design.name), row)
        for number, row in enumerate(design.rows)
    ]
    for exp, row in proposed[:done]:
        story.finish(story.start(exp, 0, "gpu1"), score(row), reason="")
    return story.events


def state_of(events: Sequence[AnyEvent]) -> SessionState:
    """What the events fold to."""
    state = SessionState()
    for n, event in enumerate(events, start=1):
        event.n = n
        apply(state, event)
    return state
