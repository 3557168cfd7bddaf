"""The builtin researcher over a scripted world: it finds what is there, says why, repeats nothing, and ends."""

from __future__ import annotations

import random
import re

from core.events import Command, Note
from core.executor import AttemptSpec, Finished
from core.patching import read_constants
from core.profile import PROFILES
from core.researchers.builtin import BuiltinResearcher
from core.researchers.catalogue import KNOBS
from core.researchers.ideas import combine, first_moves, hinted, parse_call
from core.target import locate_target, read_source
from tests.support.scripted import ScriptedExecutor, scored
from tests.support.sessions import engine_on, events_in, run_to_end, started

SOURCE = read_source(locate_target() / "train.py", PROFILES["cpu"].overrides)
NOISE_SD = 0.01


def world(spec: AttemptSpec) -> Finished:
    """A bigram table gains 0.3 bits; a higher matrix rate gains a little for each doubling, up to 0.1."""
    rate = read_constants(spec.source)["MATRIX_LR"].value
    assert isinstance(rate, float)
    value = 2.0 - 0.3 * ("BIGRAM_BUCKETS" in spec.source) - min(0.1, 2.0 * max(0.0, rate - 0.04))
    return scored(value + random.Random(spec.seed).gauss(0.0, NOISE_SD))


async def test_it_stacks_what_helps_repeats_nothing_and_ends_by_itself(tmp_path):
    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(world), BuiltinResearcher(), source=SOURCE), 120)
    assert state.now.ended is not None
    assert "every idea" in state.now.ended.reason
    best = state.experiment(state.now.incumbent or "")
    assert best is not None
    lineage, cursor = [], best
    while cursor is not None:
        lineage.append(cursor.title)
        cursor = state.experiment(cursor.parent) if cursor.parent else None
    assert any("pairs" in title for title in lineage), lineage
    assert any("MATRIX_LR" in title for title in lineage), lineage
    calls = [proposal.call for proposal in state.ledger.experiments]
    assert len(calls) == len(set(calls))
    revisions = [proposal.revision for proposal in state.ledger.experiments]
    assert len(revisions) == len(set(revisions))
    assert all(proposal.rationale for proposal in state.ledger.experiments)
    assert len(state.ledger.incumbents) <= 6, "noise was kept"


async def test_restarted_at_any_moment_it_proposes_nothing_twice(tmp_path):
    rng = random.Random(4)
    for _ in range(12):
        stop_after = rng.randrange(1, 60)
        executor = ScriptedExecutor(world)
        engine = engine_on(tmp_path, executor, BuiltinResearcher(), source=SOURCE, first=started(runs=60))
        seen = 0

        def count(engine=engine, stop_after=stop_after):
            nonlocal seen
            seen += 1
            if seen == stop_after:
                engine.leave()

        with engine.woken(count):
            state = await run_to_end(engine)
        if state.now.ended is not None:
            break
    else:
        engine = engine_on(tmp_path, ScriptedExecutor(world), BuiltinResearcher(), source=SOURCE)
        state = await run_to_end(engine)
    calls = [proposal.call for proposal in state.ledger.experiments]
    assert len(calls) == len(set(calls))
    assert len(calls) > 10
    notes = [event.call for event in events_in(tmp_path) if isinstance(event, Note)]
    assert len(notes) == len(set(notes))


async def test_a_baseline_that_crashes_ends_the_session_with_that_reason(tmp_path):
    executor = ScriptedExecutor(lambda spec: Finished("crash", reason="AssertionError: no"))
    state = await run_to_end(engine_on(tmp_path, executor, BuiltinResearcher(), source=SOURCE))
    assert state.status == "failed"
    assert state.now.ended is not None
    assert re.search(r"nothing to improve on.*no", state.now.ended.reason)


async def test_a_hint_becomes_an_experiment_or_an_answer(tmp_path):
    engine = engine_on(tmp_path, ScriptedExecutor(world), BuiltinResearcher(), source=SOURCE, first=started(runs=12))
    hints = iter(["MATRIX_LR=0.07", "try harder", "DEPHT=3"])

    def hint():
        for words in hints:
            engine.take(Command(client=f"cli-{words}", verb="hint", arg=words))

    with engine.woken(hint):
        state = await run_to_end(engine)
    hinted_at = [proposal for proposal in state.ledger.experiments if proposal.design == "hint"]
    assert [proposal.knobs for proposal in hinted_at] == [{"MATRIX_LR": "0.07"}]
    said = " ".join(event.text for event in state.ledger.talk if isinstance(event, Note))
    assert "try harder" in said
    assert "DEPHT" in said


def test_every_first_move_changes_the_file_and_every_knob_has_one():
    moves = first_moves(SOURCE)
    assert len({move.key for move in moves}) == len(moves)
    for knob in KNOBS:
        assert any(move.key.startswith(f"knob:{knob.name}:") for move in moves), knob.name
    assert all(move.rationale and move.hypothesis for move in moves)


def test_combining_leaves_out_what_would_undo_an_earlier_change():
    moves = {move.key: move for move in first_moves(SOURCE)}
    ups = [move for key, move in moves.items() if key.startswith("knob:MATRIX_LR")]
    other = next(move for key, move in moves.items() if key.startswith("edit:"))
    together = combine([*ups, other])
    assert together is not None
    assert dict(together.constants) == dict(ups[0].constants)
    assert together.edits == other.edits
    assert combine(ups) is None


def test_call_ids_name_the_idea_and_not_the_base():
    move = first_moves(SOURCE)[0]
    assert parse_call(f"{move.call('e7')}#0") == move.key
    assert parse_call("engine:baseline") is None
    assert parse_call("builtin:greeting") is None
    assert parse_call("builtin:hint:cli-1#0") is None
    assert hinted("words only") is None
