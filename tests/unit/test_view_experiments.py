"""The list of experiments: where each stands, newest first."""

from __future__ import annotations

import pytest

from core.events import RunFinished
from core.reduce import fold
from tests.support.story import Story, session
from tui.view.experiments import ExperimentTable


def test_the_newest_experiment_comes_first_and_keys_find_their_row() -> None:
    table = ExperimentTable(fold(session(experiments=9)))
    assert len(table) == 9
    assert [table.key(index) for index in range(9)] == [f"e{n}" for n in range(9, 0, -1)]
    assert [table.index(table.key(index)) for index in range(9)] == list(range(9))
    assert table.index("e99") is None


def test_each_standing_has_its_sign_and_word() -> None:
    story = Story()
    story.experiment("the baseline, replicated", runs=2)
    story.experiment("a crash", crash=True)
    judged = story.experiment("judged", runs=2)
    story.start(story.propose("at work", {"DEPTH": "9"}, [0, 1]), 0, "gpu0")
    story.propose("waiting", {"DEPTH": "7"}, [0])
    table = ExperimentTable(fold(story.events))
    waiting, at_work, done, crash, _ = (table.experiment(index) for index in range(5))
    assert (waiting.status, waiting.done, waiting.owed) == ("queued", 0, 1)
    assert (at_work.sign, at_work.status, at_work.done, at_work.owed) == ("▶", "running", 0, 2)
    assert done.exp == judged
    assert done.status in ("kept", "rejected", "undecided")
    assert (crash.sign, crash.status, crash.val_bpb) == ("×", "crash", None)
    cells = [str(cell) for cell in table.row(3)]
    assert cells == ["e2", "×", "crash", "", "1/1", "H100-80GB", "1", "now", "screen", "a crash"]
    assert table.words(3) == "e2  a crash  crash"


def test_val_bpb_is_the_mean_on_one_class_only() -> None:
    story = Story(devices=5)
    exp = story.propose("two classes", {}, [0, 1, 2])
    for seed, (device, value) in enumerate((("gpu0", 1.0), ("gpu1", 1.2), ("gpu4", 5.0))):
        story.finish(story.start(exp, seed, device, "baseline"), value)
    row = ExperimentTable(fold(story.events)).experiment(0)
    assert row.val_bpb == pytest.approx(1.1)
    assert row.cls == "H100-80GB"


def test_a_number_that_no_harness_of_ours_measured_is_no_score() -> None:
    story = Story()
    run = story.start(story.propose("foreign", {}, [0]), 0, "gpu0", "baseline")
    story.finish(run, 0.5, tier="self_reported")
    assert isinstance(story.events[-1], RunFinished)
    assert ExperimentTable(fold(story.events)).experiment(0).val_bpb is None
