"""The words of the home screen: rows, orders, filters, and what a form asks for."""

from __future__ import annotations

import msgspec
import pytest

from core.events import Limits
from core.executor import ExecutorError
from core.registry import UnknownName
from core.session import SessionError
from core.target import TargetError
from tests.support.homes import seen
from tui.cli import UserError
from tui.create import Asked
from tui.doctor import Row
from tui.view.form import (
    API,
    OWN,
    SIM,
    Facts,
    Refused,
    about_executor,
    about_researcher,
    asked_of,
    command_words,
    every_field,
    fields,
    first_values,
    refusal_of,
)
from tui.view.home import (
    ORDERS,
    Order,
    about_lines,
    chosen,
    delete_question,
    home_row,
    limits_used,
    progress,
    state_word,
)
from tui.view.words import size_words

FACTS = Facts(("local", "sim"), ("builtin", "claude"), planned=("kubernetes",))


def test_a_row_says_what_there_is_and_nothing_of_what_is_not_known():
    row = home_row(seen("mar5", experiments=20))
    assert (row.name, row.state, row.by, row.size, row.of) == ("mar5", "ended", "local, builtin", "12 MB", "of 8 h")
    assert float(row.best) < 1.003
    assert row.gain.startswith("−")
    unread = msgspec.structs.replace(seen("mar6", live=True), summary=None, size=None, created_unix_s=None)
    row = home_row(unread)
    assert row.state == "starting"
    assert (row.best, row.gain, row.runs, row.share, row.of, row.size, row.started) == ("",) * 7
    assert state_word(msgspec.structs.replace(unread, live=False)) == "reading"


def test_foreign_names_are_harmless():
    row = home_row(seen("x\x1b[31m\u202ey", researcher="a\x07b"))
    assert row.name == "xy"
    assert row.by == "local, ab"


def test_progress_is_that_of_the_limit_that_is_nearest():
    one = seen("mar5", limits=Limits(hours=1000.0, runs=10, usd=5.0))
    done = progress(one)
    assert done is not None
    assert done.share == pytest.approx(one.used.runs / 10)
    assert one.used.runs > 5
    assert done.of == "10 runs"
    assert {limit for _, limit in limits_used(one)} == {"1000 h", "10 runs", "$5"}
    free = seen("mar6", limits=Limits())
    assert progress(free) is None
    assert home_row(free).of.count(":") >= 1


def test_every_order_sorts_what_is_known_and_puts_the_rest_behind():
    first, second = seen("b", experiments=20, size=5), seen("a", experiments=5, size=9, created_unix_s=1.0)
    unknown = msgspec.structs.replace(seen("z"), summary=None, size=None, created_unix_s=None)
    assert [one.name for one in chosen([unknown, first, second], "", Order())] == ["b", "a", "z"]
    assert [one.name for one in chosen([unknown, first, second], "", Order("name"))] == ["a", "b", "z"]
    assert [one.name for one in chosen([unknown, first, second], "", Order("size", reverse=True))] == ["b", "a", "z"]
    order = Order()
    for _ in ORDERS:
        for reverse in (False, True):
            found = chosen([unknown, first, second], "", order._replace(reverse=reverse))
            assert {one.name for one in found} == {"a", "b", "z"}
            assert found[-1] is unknown or order.name in ("name", "state")
        order = order.next()
    assert order == Order()


def test_a_filter_wants_every_word_somewhere_in_the_row():
    sessions = [seen("night one"), seen("day", researcher="claude"), seen("night two", simulated=True)]
    assert [one.name for one in chosen(sessions, "NIGHT", Order("name"))] == ["night one", "night two"]
    assert [one.name for one in chosen(sessions, "night simul", Order("name"))] == ["night two"]
    assert [one.name for one in chosen(sessions, "claude ended", Order("name"))] == ["day"]
    assert chosen(sessions, "[", Order()) == []


def test_the_chosen_session_in_full_begins_with_what_is_wrong():
    one = seen("mar5", experiments=20, fault="damaged", trouble="the journal is damaged at byte 7")
    lines = [words for words, _ in about_lines(one)]
    assert lines[0] == "The journal is damaged at byte 7"
    assert any(words.startswith(("best confirmed 0.9", "best confirmed 1.0")) for words in lines)
    assert lines[-1] == "/home/ada/sessions/id-mar5, 12 MB"
    ended = [words for words, _ in about_lines(seen("mar5"))]
    assert ended[0] == "Ended: the limit of 8 h is reached"


def test_deleting_is_asked_with_what_would_be_lost():
    question = delete_question(seen("mar5"))
    assert "session mar5" in question
    assert "finished runs (12 MB)" in question
    bare = msgspec.structs.replace(seen("mar5"), summary=None, size=None)
    assert delete_question(bare).startswith("Delete session mar5 for good?")


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, ""), (0, "0 kB"), (4096, "4 kB"), (999_600, "1.0 MB"), (5_040_000, "5.0 MB"), (99_960_000, "100 MB")],
)
def test_sizes_read_short(size, words):
    assert size_words(size) == words


# ---- the form ---------------------------------------------------------------------------------------------------


def test_the_simulation_is_chosen_at_first_and_asks_for_nothing():
    values = first_values(FACTS)
    assert asked_of(values, FACTS) == Asked(executor="sim", watched=True)
    assert command_words(values, FACTS) == "autoresearch-tui run --executor sim"


def test_fields_belong_to_the_choices_and_each_is_one_of_the_form():
    every = {field.name for field in every_field(FACTS)}
    for executor in ("sim", "local", "kubernetes"):
        for researcher in ("builtin", "claude"):
            for endpoint in (API, SIM, OWN):
                values = {"executor": executor, "researcher": researcher, "claude_endpoint": endpoint}
                names = [field.name for field in fields(values, FACTS)]
                assert set(names) <= every
                assert len(set(names)) == len(names)
                assert ("speed" in names) == (executor == "sim")
                assert ("train_python" in names) == (executor not in ("sim", "kubernetes"))
                assert ("model" in names) == (researcher == "claude")
                assert ("url" in names) == (researcher == "claude" and endpoint == OWN)


def test_every_text_is_an_option_of_run():
    values = first_values(FACTS) | {
        "executor": "local",
        "researcher": "claude",
        "claude_endpoint": OWN,
        "url": "http://localhost:1",
        "model": "m",
        "max_usd": "3",
        "gpus": "1xCPU",
        "hours": "2",
        "runs": "7",
        "gpu_hours": "1.5",
        "budget_seconds": "60",
        "name": "my night",
        "seed": "5",
        "target": "/t",
        "train_python": "/p",
        "speed": "left over from the simulation",
    }
    asked = asked_of(values, FACTS)
    assert asked == Asked(
        executor="local",
        researcher="claude",
        claude_endpoint="http://localhost:1",
        model="m",
        max_usd=3.0,
        gpus="1xCPU",
        hours=2.0,
        runs=7,
        gpu_hours=1.5,
        budget_seconds=60.0,
        name="my night",
        seed=5,
        target="/t",
        train_python="/p",
        watched=True,
    )
    assert "--name 'my night'" in command_words(values, FACTS)


@pytest.mark.parametrize(
    ("name", "text"), [("hours", "-1"), ("hours", "nan"), ("runs", "1.5"), ("seed", "x"), ("speed", "0"), ("runs", "0")]
)
def test_a_text_that_run_would_refuse_is_refused_beside_its_field(name, text):
    refused = asked_of(first_values(FACTS) | {name: text}, FACTS)
    assert isinstance(refused, Refused)
    assert refused.field == name
    assert refused.sentence


def test_a_model_that_cannot_be_asked_is_never_chosen_silently():
    values = first_values(FACTS) | {"researcher": "claude"}
    assert values["claude_endpoint"] == SIM
    assert first_values(FACTS._replace(has_key=True))["claude_endpoint"] == API
    assert asked_of(values | {"claude_endpoint": OWN}, FACTS) == Refused(
        "give the URL of a server that speaks the Messages API, such as http://localhost:11434", "url"
    )
    from_environment = FACTS._replace(base_url=True)
    own = asked_of(first_values(from_environment) | {"researcher": "claude"}, from_environment)
    assert isinstance(own, Asked)
    assert own.claude_endpoint is None
    real = asked_of(values | {"claude_endpoint": API}, FACTS)
    assert isinstance(real, Asked)
    assert real.claude_endpoint == ""
    [note] = about_researcher(values | {"claude_endpoint": API}, FACTS)
    assert "ANTHROPIC_API_KEY is not set" in note.text
    [note] = about_researcher(values | {"claude_endpoint": API}, FACTS._replace(has_key=True))
    assert "real money" in note.text


def test_doctor_speaks_of_the_chosen_executor_only():
    rows = [
        Row("ok", "python", "3.11"),
        Row("warn", "home", "/home, 3 MB free", "free some space"),
        Row("fail", "torch", "no torch\x1b[2J", "install it"),
        Row("ok", "devices", "2 (CPU)"),
        Row("warn", "model key", "not set"),
    ]
    said = [note.text for note in about_executor({"executor": "local"}, FACTS, rows, examined=True)]
    assert said == [
        "! home: /home, 3 MB free",
        "  → free some space",
        "× torch: no torch",
        "  → install it",
        "✓ devices: 2 (CPU)",
    ]
    said = [note.text for note in about_executor({"executor": "sim"}, FACTS, rows, examined=False)]
    assert said[0].startswith("SIMULATED")
    assert not any("torch" in words for words in said)
    assert said[-1] == "looking at this machine…"
    [note] = about_executor({"executor": "kubernetes"}, FACTS, rows, examined=True)
    assert "not built yet" in note.text


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (UserError("x", about="name"), "name"),
        (UserError("x", about="claude_endpoint"), "url"),
        (UserError("x"), ""),
        (UnknownName("there is no executor called 'y'"), "executor"),
        (UnknownName("there is no researcher called 'y'"), "researcher"),
        (ExecutorError("x"), "gpus"),
        (TargetError("x"), "target"),
        (SessionError("'../evil' cannot name a session"), "name"),
        (SessionError("the engine did not come up"), ""),
    ],
)
def test_each_refusal_knows_its_field(error, field):
    asked = Asked(name="../evil", claude_endpoint="http://x")
    assert refusal_of(error, str(error), asked) == Refused(str(error), field)
