"""Comparing sessions: nothing is known before its time, no number is compared silently with one of another kind."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from core.compare import Step, Track, caveats, confirmed_at, follow, reached
from core.events import SessionEnded, Target
from core.journal.format import segment_path
from core.reduce import fold
from core.summary import summarise
from tests.support.engines import tiny_session
from tests.support.messy import Messy
from tests.support.story import Story, session, write_journal
from tui.cli import run_command_line
from tui.cli.compare import figure
from tui.view.compare import comparison_lines, comparison_rows

SVG = "{http://www.w3.org/2000/svg}"


def track_of(name: str = "one", *, seed: int = 1, experiments: int = 20, ended: bool = True) -> Track:
    track = follow(session(experiments=experiments, seed=seed, ended=ended), engine_alive=not ended)
    assert track is not None
    return msgspec.structs.replace(track, summary=msgspec.structs.replace(track.summary, session=name))


def changed(track: Track, *, target: dict | None = None, best: dict | None = None, **summary) -> Track:
    if best is not None:
        summary["best"] = msgspec.structs.replace(track.summary.best, **best)
    return msgspec.structs.replace(
        track,
        summary=msgspec.structs.replace(track.summary, **summary),
        target=msgspec.structs.replace(track.target, **(target or {})),
    )


def steps(*values: float) -> list[Step]:
    return [Step(60.0 * at, at / 10, f"e{at}", value, None, None, 3) for at, value in enumerate(values, start=1)]


# ---- what was known when ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), plausible=st.booleans(), cut=st.integers(1, 400))
def test_a_step_says_what_was_known_then_and_the_last_what_status_says(seed, plausible, cut):
    events = session(seed=seed % 40, experiments=14) if plausible else Messy(seed).draw(300)
    whole, before = follow(events), follow(events[:cut])
    assert whole is not None
    assert before is not None
    assert whole.steps[: len(before.steps)] == before.steps
    for axis in ("t_s", "device_hours"):
        along = [getattr(step, axis) for step in whole.steps]
        assert along == sorted(along)
        assert not along or along[-1] <= whole.end(axis) + 1e-9
    best = summarise(fold(events)).best
    if best.confirmed is not None:  # a made-up incumbent may have nothing but the runs that nominated it
        assert whole.steps[-1].mean == pytest.approx(best.confirmed)


def test_seeds_that_come_later_make_a_step_of_their_own():
    story = Story()
    story.experiment("the baseline, replicated", runs=3)
    story.start("e1", 9, "gpu0", "replicate")
    run = story.start("e1", 8, "gpu1", "replicate")
    story.finish(run, 1.5)
    track = follow(story.events)
    assert track is not None
    first, second = track.steps
    assert (first.experiment, first.n, second.experiment, second.n) == ("e1", 3, "e1", 4)
    assert second.mean == pytest.approx((3 * first.mean + 1.5) / 4)
    assert second.low is not None
    assert second.low < second.mean < second.high
    assert second.high - second.low > first.high - first.low
    assert second.device_hours == pytest.approx(summarise(fold(story.events)).cost.gpu_hours)


def test_a_threshold_counts_once_it_is_kept():
    track = msgspec.structs.replace(track_of(), steps=steps(1.0, 0.97, 0.985, 0.979, 0.975))
    assert reached(track, 0.98).t_s == 240.0
    assert reached(track, 1.0).t_s == 60.0
    assert reached(track, 0.9) is None
    assert reached(track, 0.975).device_hours == 0.5


def test_what_a_session_has_confirmed_stays_once_it_is_over():
    ended = msgspec.structs.replace(track_of(), steps=steps(1.0, 0.97))
    going_on = changed(ended, state="running", seconds=130.0)
    assert confirmed_at(ended, "t_s", 59.9) is None
    assert confirmed_at(ended, "t_s", 60.0).mean == 1.0
    assert confirmed_at(ended, "device_hours", 0.2).mean == 0.97
    assert confirmed_at(ended, "t_s", 10**9).mean == 0.97
    assert confirmed_at(going_on, "t_s", 130.0).mean == 0.97
    assert confirmed_at(going_on, "t_s", 130.1) is None


def test_failures_are_counted_by_attempt_and_kind():
    events = Messy(11).draw(900)
    state = fold(events)
    track = follow(events)
    assert track is not None
    ends = [
        outcome
        for run in [*state.ledger.runs, *state.now.runs.values()]
        for outcome in (*(attempt.outcome for attempt in run.attempts), run.outcome)
    ]
    assert len(track.failures) > 4
    assert track.failures == {kind: ends.count(kind) for kind in track.failures}
    assert not {"ok", "cancelled", "pruned", None} & set(track.failures)
    assert list(track.failures.values()) == sorted(track.failures.values(), reverse=True)


def test_a_journal_that_begins_nothing_is_no_session():
    assert follow([]) is None
    ended = SessionEnded(reason="odd")
    ended.n, ended.t = 1, 0.0
    assert follow([ended]) is None


# ---- what must not be compared ----------------------------------------------------------------------------------


def test_equal_sessions_need_no_caveat():
    assert caveats([track_of("a"), track_of("b", seed=2)]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"best": {"device_class": "H200-141GB"}}, "reference classes differ (a: H100-80GB, b: H200-141GB)"),
        ({"target": {"budget_s": 20.0}}, "targets differ in budget_s (a: 300.0, b: 20.0)"),
        ({"target": {"corpus": "0123456789abcdef0123456789"}}, "corpus (a: none, b: 0123456789abcdef0123)"),
        ({"simulated": True}, "not all sessions are real (a: real, b: simulated)"),
        ({"tiers": {"unconfined": 7}}, "7 scores of b are unconfined"),
    ],
)
def test_whatever_makes_numbers_incomparable_is_said(change, said):
    [sentence] = caveats([track_of("a"), changed(track_of("b"), **change)])
    assert said in sentence


def test_every_field_of_a_target_counts():
    other = {
        field.name: 77.0 if field.type is float else 77 if field.type is int else "other"
        for field in msgspec.structs.fields(Target)
    }
    assert len(caveats([track_of("a"), changed(track_of("b"), target=other)])) == len(other)


# ---- the table and the figure -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("width", [80, 200, 20])
def test_the_table_keeps_to_its_width_and_shows_every_session(count, width):
    tracks = [track_of(f"session-number-{index}", seed=index) for index in range(count)]
    lines = comparison_lines(tracks, [0.98, 1.1], width)
    assert max(map(cell_len, lines)) <= max(width, 40)
    for track in tracks:
        assert sum(track.summary.session in line for line in lines) == 1
    side_by_side = max(1, (width - 20) // 20)
    assert sum(line.startswith("session ") for line in lines) == math.ceil(count / side_by_side)


def test_the_table_says_what_is_simulated_what_is_unknown_and_nothing_hostile():
    plain, odd = track_of("a"), changed(track_of("b", ended=False), simulated=True)
    odd = msgspec.structs.replace(odd, device_classes={"H1\x1b[31m00": 2}, steps=[])
    rows = {label: values for label, values in comparison_rows([plain, odd], [0.5]) if values}
    assert rows["session"] == ["a", "b SIMULATED"]
    assert rows[" at 0.5"] == ["-", "-"]
    assert rows[" confirmed"][0] == f"{plain.summary.best.confirmed:.4f}"
    assert not re.search(r"[\x00-\x1f]", "".join(comparison_lines([plain, odd], [], 80)))


def drawn(text: str) -> ET.Element:
    root = ET.fromstring(text)
    for element in root.iter():
        for name in ("x", "y", "width", "height"):
            assert not element.get(name) or 0 <= float(element.get(name)) < 2000, ET.tostring(element)
    return root


def test_the_figure_has_both_axes_a_legend_and_words_for_who_cannot_see_it():
    tracks = [track_of("a<&"), changed(track_of("b", seed=2), simulated=True)]
    root = drawn(figure(tracks))
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert {"device-hours", "session hours", "bits per byte"} <= set(words)
    assert any(word.startswith("a<&, ") for word in words)
    assert any(word.startswith("b (SIMULATED), ") for word in words)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == "Best confirmed val_bpb on H100-80GB"
    assert "b (SIMULATED)" in root.find(f"{SVG}desc").text
    lines = [path for path in root.iter(f"{SVG}path") if path.get("stroke-width") == "2"]
    assert len(lines) == 6  # a sample in the legend and a line per panel, for each
    assert len({(path.get("stroke"), path.get("stroke-dasharray")) for path in lines}) == 2
    assert list(root.iter(f"{SVG}rect"))[1:]


def test_a_session_that_confirmed_nothing_has_an_empty_line():
    root = drawn(figure([msgspec.structs.replace(track_of(), steps=[])]))
    assert any("nothing confirmed" in (element.text or "") for element in root.iter(f"{SVG}text"))


# ---- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    for seed, name in enumerate(("alpha", "beta"), start=3):
        folder = tiny_session(tmp_path, name=name)
        write_journal(folder.journal_dir, session(experiments=12, seed=seed, ended=True))
    return tmp_path


def test_json_holds_status_and_the_steps_of_each(home, capsys):
    assert run_command_line(["compare", "alpha", "beta", "alpha", "--to", "1.0", "--to", "0.5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["session"] for one in told["sessions"]] == ["alpha", "beta"]
    assert told["warnings"] == []
    for one in told["sessions"]:
        assert one["steps"][-1]["mean"] == pytest.approx(one["best"]["confirmed"])
        assert set(one["reached"]) == {"1", "0.5"}
        assert one["reached"]["0.5"] is None
        assert one["gpus"]["idle"]


def test_the_figure_is_written_and_said(home, capsys):
    path = home / "plot.svg"
    assert run_command_line(["compare", "alpha", "--svg", str(path)]) == 0
    assert str(path) in capsys.readouterr().err
    drawn(path.read_text())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "at least one SESSION"),
        (("gamma",), 1, "there is no session called 'gamma'"),
        (("alpha", "--to", "nan"), 2, "no number of bits per byte"),
        (("alpha", "--svg", "/nowhere/plot.svg"), 1, "/nowhere/plot.svg: No such file"),
        (("alpha", "empty"), 1, "session empty has no score of its baseline"),
        (("alpha", "young"), 1, "session young has no score of its baseline"),
        (("torn",), 1, "damaged"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(home, capsys, words, code, said):
    tiny_session(home, name="empty")
    write_journal(tiny_session(home, name="young").journal_dir, Story().events)
    torn = tiny_session(home, name="torn")
    path = segment_path(write_journal(torn.journal_dir, session(experiments=3)), 1)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert run_command_line(["compare", *words]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == (1 if "--to" not in words else 4)
