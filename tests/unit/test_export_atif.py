"""Export in ATIF: valid by the rules of its specification, the whole conversation, no key, the same each time."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import SessionEnded
from core.export.atif import HIDDEN, NoConversation, as_json, trajectory
from core.reduce import fold
from tests.support.engines import tiny_session
from tests.support.story import write_journal
from tests.support.talks import MODEL, USAGE, Talk, call, result
from tui.cli import run_command_line

KEY = "sk-ant-api03-planted-key-0000"
SYSTEM = [{"type": "text", "text": "You are a researcher."}]
TOOLS = [{"name": "wait", "description": "Wait.", "strict": True, "input_schema": {"type": "object"}}]

# -- the rules of the specification (RFC 0001, version 1.7), as far as they can be broken without images and subagents

ROOT = {
    "schema_version": str,
    "session_id": str,
    "trajectory_id": str,
    "agent": dict,
    "steps": list,
    "notes": str,
    "final_metrics": dict,
    "continued_trajectory_ref": str,
    "extra": dict,
    "subagent_trajectories": list,
}
AGENT = {"name": str, "version": str, "model_name": str, "tool_definitions": list, "extra": dict}
STEP = {
    "step_id": int,
    "timestamp": str,
    "source": str,
    "model_name": str,
    "reasoning_effort": (str, float),
    "message": str,
    "reasoning_content": str,
    "tool_calls": list,
    "observation": dict,
    "metrics": dict,
    "extra": dict,
    "llm_call_count": int,
    "is_copied_context": bool,
}
AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
CALL = {"tool_call_id": str, "function_name": str, "arguments": dict, "extra": dict}
RESULT = {"source_call_id": str, "content": str, "extra": dict}
METRICS = {"prompt_tokens": int, "completion_tokens": int, "cached_tokens": int, "cost_usd": float, "extra": dict}
FINAL = {
    "total_prompt_tokens": int,
    "total_completion_tokens": int,
    "total_cached_tokens": int,
    "total_cost_usd": float,
    "total_steps": int,
    "extra": dict,
}


def of_form(value, fields, required):
    """Whether an object has these fields of these types, and no others."""
    assert isinstance(value, dict)
    assert set(required) <= set(value) <= set(fields)
    for name, part in value.items():
        assert isinstance(part, fields[name]), name
        assert not isinstance(part, bool) or fields[name] is bool, name


def valid(told):
    """Check a document by the rules; returns it."""
    of_form(told, ROOT, ("schema_version", "agent", "steps"))
    assert told["schema_version"] == "ATIF-v1.7"
    of_form(told["agent"], AGENT, ("name", "version"))
    for tool in told["agent"]["tool_definitions"]:
        assert tool["type"] == "function"
        assert {"name", "description", "parameters"} == set(tool["function"])
    assert told["steps"]
    for number, step in enumerate(told["steps"], 1):
        _valid_step(step, number)
    of_form(told["final_metrics"], FINAL, ())
    assert told["final_metrics"]["total_steps"] == len(told["steps"])
    return told


def _valid_step(step, number):
    of_form(step, STEP, ("step_id", "source", "message"))
    assert step["step_id"] == number
    assert step["source"] in ("system", "user", "agent")
    assert step["source"] == "agent" or not set(AGENT_ONLY) & set(step)
    assert step["source"] != "user" or "observation" not in step
    if "timestamp" in step:
        assert datetime.fromisoformat(step["timestamp"]).tzinfo is not None
    for one in step.get("tool_calls", []):
        of_form(one, CALL, ("tool_call_id", "function_name", "arguments"))
    called = {one["tool_call_id"] for one in step.get("tool_calls", [])}
    for one in step.get("observation", {"results": []})["results"]:
        of_form(one, RESULT, ("content",))
        assert one.get("source_call_id") in {*called, None}
    if "metrics" in step:
        of_form(step["metrics"], METRICS, ())
        assert step["metrics"]["cached_tokens"] <= step["metrics"]["prompt_tokens"]


# -- a session


def session():
    """Two conversations: a turn with two calls, a failed attempt, a hint, an answer with something unknown in it."""
    made = Talk(devices=1).epoch(effort="medium", endpoint="sim", system=SYSTEM, tools=TOOLS)
    made.says("user", "Begin.").asks()
    made.t_s = 61.5
    thought = {"type": "thinking", "thinking": "Depth first.", "signature": "s" * 40}
    made.answers(thought, "I try depth.", call("wait", "c1", until=["results:4"]), call("read_log", "c2"), usd=0.25)
    made.says("user", result("armed", "c1"), {**result("no run", "c2"), "is_error": True}, "<events>2 ended</events>")
    made.says("system", "The operator says:\nuse depth 12")
    made.asks("q2.1").fails("stream", "q2.1", usd=0.125, held_usd=0.5, usage=USAGE)
    made.asks("q2.2").answers({"type": "redacted_thinking", "data": "x"}, "Good.", req="q2.2", usd=0.25)
    made.epoch(number=2, effort="medium", endpoint="sim", why="the context is full").says("user", "Begin again.")
    made.asks("q3.1").answers("I go on.", req="q3.1", usd=0.25)
    return made


def test_a_session_becomes_a_trajectory():
    told = valid(trajectory(session().state))
    assert (told["session_id"], told["agent"]["name"], told["agent"]["model_name"]) == ("s1", "autoresearch-tui", MODEL)
    assert told["agent"]["tool_definitions"][0]["function"]["parameters"] == {"type": "object"}
    sources = [step["source"] for step in told["steps"]]
    assert sources == ["system", "user", "agent", "user", "system", "agent", "system", "user", "agent"]
    first, begin, turn, news, hint, second, anew, again, last = told["steps"]
    assert first["message"] == "You are a researcher."
    assert begin["message"] == "Begin."
    assert (turn["message"], turn["reasoning_content"]) == ("I try depth.", "Depth first.")
    assert turn["reasoning_effort"] == "medium"
    assert turn["timestamp"] == "1970-01-01T00:01:01.500Z"
    assert [one["function_name"] for one in turn["tool_calls"]] == ["wait", "read_log"]
    assert turn["tool_calls"][0]["arguments"] == {"until": ["results:4"]}
    assert turn["observation"]["results"] == [
        {"source_call_id": "c1", "content": "armed"},
        {"source_call_id": "c2", "content": "no run", "extra": {"is_error": True}},
    ]
    assert news["message"] == "<events>2 ended</events>"
    assert hint["message"] == "The operator says:\nuse depth 12"
    assert (second["message"], second["extra"]["other_content"]) == ("Good.", ["redacted_thinking"])
    assert anew["extra"]["context_management"] == {"type": "compaction", "boundary": "replace"}
    assert anew["observation"]["results"] == [{"content": "You are a researcher."}]
    assert "the context is full" in anew["message"]
    assert (again["message"], last["message"]) == ("Begin again.", "I go on.")


def test_tokens_and_dollars_are_those_of_the_steps_and_of_what_failed():
    told = trajectory(session().state)
    metrics = told["steps"][2]["metrics"]
    assert (metrics["prompt_tokens"], metrics["cached_tokens"], metrics["completion_tokens"]) == (2_400, 2_000, 500)
    assert metrics["cost_usd"] == 0.25
    assert metrics["extra"]["cache_creation_1h_input_tokens"] == 300
    final = told["final_metrics"]
    assert final["total_prompt_tokens"] == 3 * 2_400
    assert final["total_cached_tokens"] == 3 * 2_000
    assert (final["total_cost_usd"], final["extra"]["failed_attempts_usd"]) == (0.875, 0.125)
    assert (final["extra"]["failed_attempts"], final["extra"]["held_usd"]) == (1, 0.5)


def test_the_same_session_gives_the_same_bytes():
    made = session()
    assert as_json(trajectory(made.state)) == as_json(trajectory(fold(made.events)))


def test_a_simulation_says_so():
    assert trajectory(session().state)["notes"] == "The model is a simulation."
    assert "notes" not in trajectory(Talk().epoch().state)


def test_what_a_model_wrote_instead_of_arguments_is_kept_beside_them():
    made = Talk().epoch().says("user", "Begin.").asks()
    made.answers({"type": "tool_use", "id": "c1", "name": "wait", "input": [1]})
    (one,) = valid(trajectory(made.state))["steps"][-1]["tool_calls"]
    assert (one["arguments"], one["extra"]) == ({}, {"malformed_input": [1]})


def test_a_call_that_was_never_executed_has_no_observation_and_a_stray_result_is_told():
    made = Talk().epoch().says("user", "Begin.").asks().answers(call("wait", "c1"))
    assert "observation" not in valid(trajectory(made.state))["steps"][-1]
    stray = valid(trajectory(made.says("user", result("late", "c9")).state))["steps"][-1]
    assert (stray["source"], stray["message"]) == ("user", "late")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "system", "answer", "epoch"]), texts, st.booleans()), max_size=12),
    st.floats(0, 1e18),
)
def test_whatever_was_said_is_valid_and_holds_no_control_character(said, t_s):
    made = Talk().epoch()
    made.t_s = t_s
    for number, (who, text, calls) in enumerate(said):
        if who == "epoch":
            made.epoch(number=number + 2, why=text)
        elif who == "answer":
            blocks = [
                {"type": "thinking", "thinking": text},
                text,
                *([call("wait", text, a=text)] if calls else []),
            ]
            made.answers(*blocks)
        else:
            made.says(who, text, *([result(text, text)] if calls else []))
    written = as_json(valid(trajectory(made.state)))
    assert json.loads(written) == trajectory(made.state)
    assert all(character == "\n" or " " <= character <= "~" for character in written)


# -- secrets


def test_no_key_is_in_it_wherever_it_was_said():
    made = Talk().epoch(why=f"key {KEY}", endpoint="sim", system=[{"type": "text", "text": KEY}])
    made.says("user", f"Begin with {KEY} and token-of-mine.").asks()
    made.answers(f"The key is {KEY}.", call("wait", "c1", **{KEY: [KEY, {"a": "token-of-mine"}]}))
    made.says("user", result(f"{KEY}", "c1")).says("system", f"The operator says: {KEY}")
    written = as_json(valid(trajectory(made.state, ["token-of-mine", "1", ""])))
    assert KEY not in written
    assert "planted" not in written
    assert "token-of-mine" not in written
    assert written.count(HIDDEN) >= 8


# -- the command


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    return tmp_path


def test_the_command_prints_or_writes_the_document(home, capsys, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "use depth 12")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "I-go-on-as-a-key")
    made = session()
    made.answers("I-go-on-as-a-key").add(SessionEnded(reason="limit"))
    write_journal(tiny_session(home, name="talk").journal_dir, made.events)
    assert run_command_line(["export", "talk", "--format", "atif"]) == 0
    printed = capsys.readouterr().out
    assert valid(json.loads(printed))["session_id"] == "s1"
    assert "I-go-on-as-a-key" not in printed
    path = home / "talk.json"
    assert run_command_line(["export", "talk", "--out", str(path)]) == 0
    assert path.read_text() == printed
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("silent",), 1, "no conversation with a model (its researcher is 'script')"),
        (("nobody",), 1, "there is no session called 'nobody'"),
        (("silent", "--format", "csv"), 2, "'csv' is not one of 'atif', 'source'"),
        (("talk", "--out", "/nowhere/talk.json"), 1, "/nowhere/talk.json: No such file"),
    ],
)
def test_what_cannot_be_exported_is_a_sentence(home, capsys, words, code, said):
    write_journal(tiny_session(home, name="talk").journal_dir, session().events)
    write_journal(tiny_session(home, name="silent").journal_dir, Talk(devices=1).events)
    assert run_command_line(["export", *words]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_a_session_that_has_not_begun_has_nothing_to_export():
    with pytest.raises(NoConversation, match="has not begun"):
        trajectory(fold([]))
