"""One experiment in full: its words, runs and diff."""

from __future__ import annotations

from core.events import Evidence, RevisionAdded, RunFinished, Verdict
from core.reduce import fold
from tests.support.story import Story, session
from tui.view.detail import detail_view, diff_lines, verdict_words


def test_a_verdict_with_evidence_reads_as_sentences() -> None:
    evidence = Evidence(
        cls="H100-80GB", n=3, mean=0.99, n_ref=4, mean_ref=0.992, ref="e7", sd=0.0004, df=5, look=1, alpha=0.01
    )
    verdict = Verdict(
        exp="e9",
        verdict="kept",
        reason="better than e7",
        delta=-0.002,
        interval=(-0.003, -0.001),
        evidence=evidence,
        want=2,
    )
    assert verdict_words(verdict) == [
        "Kept: better than e7.",
        "−0.0020 bits per byte against e7 with an interval from −0.0030 to −0.0010 on H100-80GB, from 3 runs here and "
        "4 runs there; the pooled standard deviation is 0.00040 with 5 degrees of freedom; look 1 may spend 0.01 of "
        "the error.",
        "2 more seeds would settle it.",
    ]
    assert verdict_words(None) == ["No verdict yet."]


def test_a_diff_keeps_its_signs_and_knows_its_lines() -> None:
    patch = "--- train.py\n+++ train.py\n@@ -1,2 +1,2 @@\n-DEPTH = 8\n+DEPTH = 9\n WIDTH = 4\n"
    lines = diff_lines(patch)
    assert [line.kind for line in lines] == ["file", "file", "hunk", "remove", "add", "same"]
    assert [line.text for line in lines] == patch.rstrip("\n").split("\n")


def test_a_removed_line_that_begins_with_dashes_is_no_file_header() -> None:
    lines = diff_lines("--- train.py\n+++ train.py\n@@ -1 +1 @@\n--- a comment of SQL\n+++ more\n")
    assert [line.kind for line in lines] == ["file", "file", "hunk", "remove", "add"]


def test_the_detail_has_runs_open_and_ended_and_the_diff() -> None:
    story = Story()
    story.experiment("the baseline, replicated", runs=2)
    exp = story.propose("DEPTH to 9", {"DEPTH": "9"}, [0, 1])
    story.finish(story.start(exp, 0, "gpu0"), None, reason="CUDA out of memory \x1b[31m!")
    open_run = story.start(exp, 1, "gpu1")
    story.advance(open_run, 3)
    view = detail_view(fold(story.events), exp, story.t_s + 60.0)
    assert view is not None
    assert view.title == "DEPTH to 9"
    assert ("against", "e1 the baseline, replicated") in view.about
    assert ("knobs", "DEPTH = 9") in view.about
    crashed, running = view.runs
    assert (crashed.status, crashed.note) == ("crash", "CUDA out of memory !")
    assert running.status == "running 43%"
    assert running.attempt == f"{open_run}.1"
    assert any(line.text == "+DEPTH = 9" for line in view.diff)


def test_what_a_score_leaves_out_is_said_once_about_the_experiment() -> None:
    story = Story()
    exp = story.propose("a new block", {}, [0, 1])
    for index in (0, 1):
        story.finish(story.start(exp, index, f"gpu{index}"), 0.99)
        finished = story.events[-1]
        assert isinstance(finished, RunFinished)
        finished.note = "quality not modelled: block \x1b[31m"
    view = detail_view(fold(story.events), exp, story.t_s)
    assert view is not None
    assert [words for label, words in view.about if label == "note"] == ["quality not modelled: block"]


def test_an_experiment_of_the_future_is_none() -> None:
    assert detail_view(fold(session(experiments=2)), "e9", 0.0) is None


def test_a_diff_cannot_send_escapes() -> None:
    story = Story()
    exp = story.propose("evil", {}, [0])
    added = next(event for event in story.events if isinstance(event, RevisionAdded))
    added.patch = '--- train.py\n+++ train.py\n@@ -0,0 +1 @@\n+print("\x1b[2J\x9b31m")\n'
    view = detail_view(fold(story.events), exp, 0.0)
    assert view is not None
    assert all(line.text.isprintable() for line in view.diff)
