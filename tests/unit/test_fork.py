"""Forks: the copied evidence is the parent's to the bit, what was in flight is taken back, and the child is whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.events import (
    BASELINE,
    Command,
    EpochStarted,
    Limits,
    ModelMessage,
    ModelRequest,
    RunFinished,
    RunStarted,
    SessionForked,
    SessionStarted,
    Usage,
)
from core.fork import default_seed, fold_checked, fork_point, fork_session, parent_hash
from core.journal import Journal, JournalDamaged, scan
from core.journal.format import segment_path
from core.keyframe import state_hash
from core.limits import binding_limit, remaining, totals
from core.reduce import apply, fold
from core.session import SessionConfig, SessionError, SessionFolder, all_sessions, forking_dir, sessions_dir
from core.state import SessionState
from tests.support.sessions import NoReserve
from tests.support.simulated import journal_bytes, run_simulated, simulated_engine
from tests.support.story import Story, session, write_journal
from tui.view.limits import limits_view

RELEASE = "0"


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> Path:
    """A home with one simulated session that has ended; to be copied, not changed."""
    home = tmp_path_factory.mktemp("ended")
    folder = home / "sessions" / "parent"
    folder.mkdir(parents=True)
    run_simulated(simulated_engine(folder, hours=1.5, faults="harsh"))
    settle_folder(folder, simulated=True)
    return home


def settle_folder(folder: Path, *, simulated: bool) -> None:
    """All that a session's folder has beside its journal."""
    (folder / "target").mkdir()
    (folder / "target" / "train.py").write_text("DEPTH = 8\n")
    (folder / "runs").mkdir(exist_ok=True)
    SessionFolder(folder).write(folder / "session.json", config("parent", simulated=simulated))


def config(name: str, *, simulated: bool = True, **changes) -> SessionConfig:
    return msgspec.structs.replace(
        SessionConfig(
            session=name,
            name=name,
            title=name,
            created_unix_s=1_000.0,
            seed=1,
            executor="sim" if simulated else "local",
            researcher="builtin",
            limits=Limits(hours=1.5),
            target_dir="",
            corpus_dir="",
            python="",
            budget_s=300.0,
            budget_kind="gpu",
            seq_len=2048,
            eval_tokens=2**20,
            profile="cuda",
            simulated=simulated,
            options={"cluster_seed": 1},
            version=RELEASE,
        ),
        **changes,
    )


@pytest.fixture
def home(ended, tmp_path, monkeypatch) -> Path:
    shutil.copytree(ended, tmp_path / "home")
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("core.fork._release", lambda: RELEASE)
    return tmp_path / "home"


@pytest.fixture
def told(tmp_path, monkeypatch) -> SessionFolder:
    """A real session from a story, with logs, that goes on still."""
    monkeypatch.setenv("AUTORESEARCH_HOME", str(tmp_path))
    monkeypatch.setattr("core.fork._release", lambda: RELEASE)
    return story_session(session(experiments=30, devices=4))


def story_session(events) -> SessionFolder:
    folder = sessions_dir() / "parent"
    folder.mkdir(parents=True)
    (write_journal(folder / "made", events)).rename(folder / "journal")
    settle_folder(folder, simulated=False)
    return SessionFolder(folder)


def parent_of(home: Path) -> SessionFolder:
    return SessionFolder(home / "sessions" / "parent")


def forked(parent: SessionFolder, n: int | None, name: str = "child", **more) -> SessionFolder:
    point = fork_point(parent, n=n)
    simulated = parent.config().simulated
    made = config(name, simulated=simulated, seed=default_seed(point), limits=Limits(hours=0.5))
    return fork_session(point, msgspec.structs.replace(made, **more.pop("config", {})), ops=NoReserve(), **more)


def events_of(folder: SessionFolder):
    return [event for event, _ in scan(folder.journal_dir)]


def last_n(folder: SessionFolder) -> int:
    return events_of(folder)[-1].n


def checked(folder: SessionFolder) -> SessionState:
    """Fold a session as an engine does that is about to go on with it."""
    state = SessionState()
    for event in events_of(folder):
        fold_checked(state, event)
    return state


def go_on(folder: SessionFolder, **changes) -> SessionState:
    """Let an engine work on a simulated session until it ends."""
    seed = folder.config().seed
    return run_simulated(simulated_engine(folder.path, seed=seed, cluster_seed=1, faults="harsh", **changes))


# -- the state


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0, 1.0))
def test_a_fork_has_the_state_that_its_parent_had(ended, share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTORESEARCH_HOME", str(ended))
        patch.setattr("core.fork._release", lambda: RELEASE)
        parent = parent_of(ended)
        events = events_of(parent)
        n = 1 + round(share * (len(events) - 1))
        child = forked(parent, n)
        try:
            before, copied = fold(events[:n]), fold(events_of(child)[:n])
            after = checked(child)
        finally:
            shutil.rmtree(child.path)
    assert parent_hash(copied) == state_hash(before), "the evidence is the parent's to the bit"
    assert after.now.started is not None
    assert after.now.started.fork is not None
    assert (after.now.started.fork.n, after.now.started.fork.state) == (n, state_hash(before))
    assert_like(before, after)


def assert_like(before: SessionState, after: SessionState) -> None:
    """What a fork may change, and nothing else."""
    taken_back = {run.run for run in before.in_flight}
    assert not after.in_flight
    assert after.now.t_s == before.now.t_s
    assert [run.run for run in after.ledger.runs[: len(before.ledger.runs)]] == [run.run for run in before.ledger.runs]
    ended = after.ledger.runs[len(before.ledger.runs) :]
    assert {run.run for run in ended} == taken_back
    assert {run.outcome for run in ended} <= {"cancelled", "pruned"}
    assert set(after.now.runs) == set(before.now.runs) - taken_back, "what waited still waits, under its own id"
    again = [run for run in before.in_flight if run.cancel is None]
    assert promised(after.now.owed) == promised(before.now.owed) + promised(again)
    assert after.now.incumbent == before.now.incumbent
    assert after.ledger.verdicts == before.ledger.verdicts
    assert after.ledger.revisions == before.ledger.revisions
    assert after.ledger.experiments == before.ledger.experiments
    assert after.now.memory == before.now.memory
    assert after.now.counts.submitted == before.now.counts.submitted
    assert {d.device: (d.cls, d.up, d.seq) for d in after.now.devices.values()} == {
        d.device: (d.cls, d.up, d.seq) for d in before.now.devices.values()
    }
    assert all(device.run is None for device in after.now.devices.values())
    assert after.status == "running"
    assert sum(after.idle.spent_s(after).values()) == pytest.approx(sum(before.idle.spent_s(before).values()))


def promised(runs) -> Counter:
    return Counter((one.exp, one.seed, one.reason, one.cls) for one in runs)


def test_a_fork_of_an_ended_session_goes_on_with_limits_of_its_own(home):
    child = forked(parent_of(home), None)
    state = checked(child)
    assert state.now.ended is None
    assert not state.now.limits_hit
    assert binding_limit(state) is None
    assert totals(state).hours == pytest.approx(0.5 + state.now.t_s / 3600.0)
    ended = go_on(child)
    assert ended.status == "ended"
    assert "since the fork" in ended.now.ended.reason
    assert ended.now.t_s - state.now.t_s <= 0.5 * 3600.0 + 400.0
    assert ended.now.counts.finished > state.now.counts.finished + 15


def test_what_is_left_of_limits_can_be_given_on(home):
    point = fork_point(parent_of(home), t_s=3600.0)
    left = remaining(point.state)
    assert left.hours == pytest.approx(0.5, abs=0.05)
    child = fork_session(point, config("child", limits=left), ops=NoReserve())
    ended = go_on(child)
    assert ended.now.t_s <= 1.5 * 3600.0


# -- going on


@pytest.mark.parametrize("share", [0.02, 0.25, 0.75])
def test_a_fork_is_researched_to_its_end_and_nothing_is_doubled(home, share):
    parent = parent_of(home)
    n = round(share * last_n(parent))
    child = forked(parent, n)
    shutil.rmtree(parent.path)  # a child needs nothing of its parent
    ended = go_on(child)
    assert ended.status == "ended"
    runs = [run.run for run in ended.ledger.runs]
    assert len(runs) == len(set(runs)) == ended.now.counts.submitted
    assert sorted(int(run[1:]) for run in runs) == list(range(1, len(runs) + 1))
    finished = Counter(e.attempt for e in events_of(child) if isinstance(e, RunFinished))
    assert set(finished.values()) == {1}
    assert ended.verdict(BASELINE).verdict == "kept"
    own = [run for run in ended.ledger.runs if (run.intent_t_s or 0.0) > 0.0 and run.outcome == "ok"]
    assert len(own) > 15
    assert state_hash(fold(events_of(child))) == state_hash(ended)


def test_equal_forks_have_equal_journals_and_another_seed_another_one(home):
    parent = parent_of(home)
    n = last_n(parent) // 2
    same = [forked(parent, n, name, config={"title": "same"}) for name in ("one", "two")]
    for child in same:
        go_on(child)
    assert journal_bytes(same[0].path) == journal_bytes(same[1].path)
    other = forked(parent, n, "three", config={"title": "same", "seed": 77})
    go_on(other)
    assert journal_bytes(other.path) != journal_bytes(same[0].path)


def test_new_runs_meet_other_noise_than_the_parents_on_the_same_machines(home):
    parent = parent_of(home)
    whole, child = fold(events_of(parent)), forked(parent, last_n(parent) // 3)
    ended = go_on(child)
    known = {run.run: run.val_bpb for run in whole.ledger.runs if run.val_bpb is not None}
    fork = ended.now.started.fork
    copied = {run.run for run in fold(events_of(child)[: fork.n]).ledger.runs}
    both = [run for run in ended.ledger.runs if run.run in known and run.val_bpb is not None]
    assert all(run.val_bpb == known[run.run] for run in both if run.run in copied)
    new = [run for run in both if run.run not in copied]
    assert len(new) > 10
    assert not any(run.val_bpb == known[run.run] for run in new)


def test_a_fork_that_is_cut_off_anywhere_goes_on_to_the_same_journal(home):
    parent = parent_of(home)
    child = forked(parent, last_n(parent) // 2)
    first = journal_bytes(child.path)
    go_on(child)
    whole = journal_bytes(child.path)
    rng = random.Random(3)
    for _ in range(4):
        [path] = child.journal_dir.glob("*.jsonl")
        path.write_bytes(whole[: rng.randrange(len(first), len(whole))])
        go_on(child)
        assert journal_bytes(child.path) == whole


def test_a_fork_of_a_fork(home):
    parent = parent_of(home)
    child = forked(parent, last_n(parent) // 3)
    go_on(child)
    grandchild = forked(child, (fork_point(child).last.n + last_n(child)) // 2, "grandchild", hint="MATRIX_LR=0.05")
    state = checked(grandchild)
    fork = state.now.started.fork
    assert fork.origin.fork.origin.name == "sim"
    assert [type(talk) for talk in state.ledger.talk].count(SessionForked) == 2
    assert state.ledger.commands[-1].arg == "MATRIX_LR=0.05"
    ended = go_on(grandchild)
    assert ended.status == "ended"
    assert any("MATRIX_LR" in proposal.knobs for proposal in ended.ledger.experiments if proposal.design == "hint")


# -- the journal and the folder


def test_the_first_event_names_the_parent_and_numbers_stay(told):
    n = 120
    child = forked(told, n)
    first, *rest = events_of(child)
    assert isinstance(first, SessionStarted)
    assert (first.session, first.name, first.fork.n) == ("child", "child", n)
    assert first.fork.origin == events_of(told)[0]
    assert first.fork.state == state_hash(fold(events_of(told)[:n]))
    assert [msgspec.to_builtins(event) for event in rest[: n - 1]] == [
        msgspec.to_builtins(event) for event in events_of(told)[1:n]
    ]
    assert isinstance(rest[n - 1], SessionForked)
    assert rest[n - 1].w == 1_000.0


def test_segments_stay_what_they_were(told):
    shutil.rmtree(told.journal_dir)
    journal = Journal(told.journal_dir, ops=NoReserve(), segment_bytes=4_000)
    for event in session(experiments=30, devices=4):
        journal.append(event)
        journal.commit()
    journal.close()
    assert len(list(told.journal_dir.glob("*.jsonl"))) > 3
    events = events_of(told)
    for n in (1, 2, 40, len(events) // 2, len(events)):
        child = forked(told, n, f"child{n}")
        state = checked(child)
        assert state.now.started.fork.state == state_hash(fold(events[:n]))


def test_a_fork_whose_evidence_is_not_the_parents_is_refused(told):
    child = forked(told, 120)
    [path] = child.journal_dir.glob("*.jsonl")
    first, *rest = events_of(child)
    liar = msgspec.structs.replace(first.fork, state="0" * 64)
    write_journal(child.path / "forged", [msgspec.structs.replace(first, fork=liar), *rest])
    path.write_bytes(b"".join(part.read_bytes() for part in sorted((child.path / "forged").rglob("*.jsonl"))))
    with pytest.raises(SessionError, match=r"the first 120 events of session child are not those of mar5"):
        checked(child)


def test_another_release_may_hash_another_way(told, monkeypatch):
    child = forked(told, 120)
    monkeypatch.setattr("core.fork._release", lambda: "9.9")
    monkeypatch.setattr("core.fork.state_hash", lambda _state: "another way")
    assert checked(child).now.started.fork.n == 120


def test_logs_of_ended_attempts_come_along_and_nothing_that_an_executor_would_adopt(told):
    n = next(event.n for event in events_of(told)[100:] if isinstance(event, RunStarted))
    state = fold(events_of(told)[:n])
    [first, *_] = [run for run in state.ledger.runs if run.attempt]
    flying = state.in_flight[0]
    for attempt in (first.attempt, flying.attempt):
        folder = told.runs_dir / attempt
        folder.mkdir()
        for name in ("claim", "lock", "exit.json", "spec.json", "train.py"):
            (folder / name).write_text("{}")
        (folder / "output.log").write_bytes(b"x" * 100_000 + b"the end")
    child = forked(told, n)
    assert sorted(path.relative_to(child.runs_dir).as_posix() for path in child.runs_dir.rglob("*")) == [
        first.attempt,
        f"{first.attempt}/output.log",
    ]
    log = (child.runs_dir / first.attempt / "output.log").read_bytes()
    assert log.endswith(b"the end")
    assert len(log) == 64 * 1024


def test_a_session_that_is_being_written_is_forked_up_to_its_last_whole_line(told):
    [path] = told.journal_dir.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"k":"note","n":')
    n = len(events_of(told))
    assert checked(forked(told, None)).now.started.fork.n == n


def test_a_damaged_journal_can_be_forked_before_the_damage_only(told):
    [path] = told.journal_dir.glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[150] = b"x" + lines[150][1:]
    path.write_bytes(b"".join(lines))
    assert checked(forked(told, 100)).now.started.fork.n == 100
    with pytest.raises(JournalDamaged):
        forked(told, 200, "later")
    with pytest.raises(JournalDamaged):
        forked(told, None, "end")
    assert [folder.path.name for folder in all_sessions()] == ["child", "parent"]


@pytest.mark.parametrize("n", [10_000, 0])
def test_events_that_are_not_there(told, n):
    with pytest.raises(SessionError, match="cannot be forked from event"):
        forked(told, n)


def test_events_of_a_newer_version(told):
    [path] = told.journal_dir.glob("*.jsonl")
    events = session(experiments=3, devices=4)
    newer = Story(devices=4).add(Command(client="x", verb="hint"))
    newer.n, newer.v = len(events) + 1, 99
    path.write_bytes(b"")
    write_journal(told.path / "made", [*events, newer])
    path.write_bytes((segment_path(told.path / "made", 1)).read_bytes())
    assert checked(forked(told, len(events))).now.started is not None
    with pytest.raises(SessionError, match="newer version"):
        forked(told, None, "later")


# -- crashes


def test_killed_at_any_moment_there_is_no_session_or_a_whole_one(told):
    """A fork is cut off between any two things that it does to the disk, by a process that dies there."""
    died, whole, alive = 0, 0, False
    while not alive:
        name = f"child{died}"
        pid = os.fork()
        if not pid:
            _die_at(3 * died)
            try:
                forked(told, 120, name)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        alive = not os.WIFSIGNALED(status)
        died += not alive
        for folder in all_sessions():
            if folder.path.name == name:
                whole += 1
                assert checked(folder).now.started.fork.n == 120
                assert (folder.path / "target" / "train.py").exists()
        assert {path.name for path in sessions_dir().iterdir()} == {folder.path.name for folder in all_sessions()}
    assert died > 10
    assert whole > 0
    forked(told, 120, "another")
    assert list(forking_dir().iterdir()) == [], "what the dead left is cleared away"


def _die_at(number: int) -> None:
    """Die at the so-manieth time that something is asked of the file system."""
    left = number

    def audit(event: str, _args: tuple[object, ...]) -> None:
        nonlocal left
        if event != "os.kill" and event.startswith(("open", "os.", "shutil.")):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


# -- a model


def test_a_conversation_ends_with_the_fork_and_its_money_is_the_parents():
    story = Story(devices=2)
    story.add(EpochStarted(epoch=1, why="", model="m", prefix="p", roll_tokens=1))
    story.add(ModelRequest(req="q1.1", epoch=1, upto=1, reserve_usd=2.0, max_tokens=9))
    story.add(
        ModelMessage(epoch=1, role="assistant", content=[], req="q1.1", stop="end_turn", usage=Usage(output=3), usd=1.5)
    )
    story.add(ModelRequest(req="q2.1", epoch=1, upto=3, reserve_usd=2.0, max_tokens=9))
    state = fold(story.events)
    assert state.now.model.most_usd == 3.5
    apply(state, story.add(SessionForked(parent="x", runs=0, in_flight=0)))
    model, before = state.now.model, state.now.before
    assert (model.in_flight, model.status, model.asked) == (None, None, "")
    assert (model.most_usd, before.most_usd, before.usd, before.epochs) == (3.5, 3.5, 1.5, 1)
    apply(state, story.add(ModelRequest(req="q3.1", epoch=2, upto=1, reserve_usd=1.0, max_tokens=9)))
    assert model.most_usd - before.most_usd == 1.0, "only its own is charged to its cap"


# -- what a screen shows of it


def test_limits_on_the_screen_count_what_is_the_forks_own(home):
    child = forked(parent_of(home), None, config={"limits": Limits(hours=2.0, runs=40, gpu_hours=9.0)})
    state = checked(child)
    used = {row.name: row.used for row in limits_view(state, state.now.t_s + 600.0).rows}
    assert used["session time"] == "10:00 of 2 h"
    assert used["runs"] == "0 of 40"
    assert used["device-hours"] == "0.00 of 9"
