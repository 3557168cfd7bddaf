"""What a hostile review of the engine found: each case once hung, lied or lost something."""

from __future__ import annotations

import asyncio
import errno
import random

import msgspec
import pytest

from core.bench import Accepted, Proposal, Rejected
from core.control import Request
from core.engine import recorder
from core.engine.convert import event_of
from core.engine.server import ControlServer
from core.events import BASELINE, Command, ConfirmRequested, ExecutorNotice, LimitHit, RunFinished, RunWaiting, decode
from core.executor import AttemptSpec, ExecutorError, Finished, Notice, Progress, Started, Waiting
from core.journal import Journal, JournalDamaged, line_of, scan
from core.journal.format import segment_path
from tests.support.scripted import ScriptedExecutor, scored
from tests.support.sessions import NoReserve, Script, engine_on, events_in, idle, run_to_end, started

HOSTILE = [True, False, float("nan"), float("inf"), -1e300, 2**80, -1, "7", "words", [1], {"a": 1}, b"x", None]


def noisy(spec: AttemptSpec) -> Finished:
    return scored(2.0 + random.Random(spec.seed).gauss(0.0, 0.01))


def deeper(depth: int = 3, **change: object) -> Proposal:
    return Proposal(base="e1", title="deeper", hypothesis="", design="d", constants={"DEPTH": str(depth)}, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
def test_whatever_an_attempt_reports_the_journal_stays_readable(value):
    progress = event_of("r1", "r1.1", 2, Progress(step=value, frac=value, loss=value, util=value, mem_mb=value))
    numbers = dict.fromkeys(("val_bpb", "train_s", "steps", "tokens", "mem_mb", "params", "probes"), value)
    finished = event_of("r1", "r1.1", 3, Finished("ok", tier=value, reason=value, **numbers))
    for event in (event_of("r1", "r1.1", 1, Started("cpu0")), progress, finished):
        event.n, event.t = 1, 0.0
        line, _ = line_of(event)
        assert type(decode(line)) is type(event)


async def test_a_limit_that_binds_for_a_moment_does_not_end_the_research(tmp_path):
    """Before any run has ended the expected length is a guess: two expected runs bind, sixty real ones fit."""

    async def research(bench):
        proposed = 0
        while True:
            await bench.wait(queue_below=2)
            proposed += 1
            await bench.propose([deeper(proposed + 2)], call=f"c{proposed}", rationale="")

    first = started(gpu_hours=2 * 25.0 / 3600.0, runs=12)
    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy), Script(research), first=first))
    assert state.now.counts.finished == 12
    assert state.now.ended is not None
    assert "12 runs" in state.now.ended.reason


async def test_a_candidate_whose_confirmations_fail_is_not_asked_for_again(tmp_path):
    def outcome(spec: AttemptSpec) -> Finished:
        if "DEPTH = 3" not in spec.source:
            return noisy(spec)
        lucky = not engine.state.ledger.runs_of.get("e2")
        return scored(1.5) if lucky else Finished("oom", reason="out of memory")

    async def research(bench):
        await bench.wait(settled_above=3)
        await bench.propose([deeper()], call="c1", rationale="")
        await bench.wait(settled_above=7)
        return "done"

    engine = engine_on(tmp_path, ScriptedExecutor(outcome), Script(research))
    state = await run_to_end(engine)
    assert len([event for event in events_in(tmp_path) if isinstance(event, ConfirmRequested)]) == 1
    verdict = state.verdict("e2")
    assert verdict is not None
    assert (verdict.verdict, verdict.want) == ("undecided", 0)


async def test_a_cancel_that_was_recorded_reaches_the_attempt_after_a_crash(tmp_path):
    async def crash_after_stop(bench):
        engine.take(Command(client="cli-1", verb="stop", arg="now"))
        raise RuntimeError("killed before it could pass the cancel on")

    class Deaf(ScriptedExecutor):
        async def cancel(self, attempt: str, reason: str) -> None:
            """Killed before the launcher could be told."""

    engine = engine_on(tmp_path, Deaf(lambda spec: None), Script(crash_after_stop))
    with pytest.raises(RuntimeError):
        await run_to_end(engine)
    engine.recorder.close()
    again = ScriptedExecutor(lambda spec: None)
    state = await run_to_end(engine_on(tmp_path, again, Script(idle)))
    assert sorted(attempt for attempt, _ in again.cancelled) == ["r1.1", "r2.1"]
    assert {run.outcome for run in state.ledger.runs} == {"cancelled"}


async def test_a_session_is_not_resumed_without_the_class_that_its_evidence_refers_to(tmp_path):
    async def leave(bench):
        await bench.wait(settled_above=1)
        engine.leave()
        await bench.wait(settled_above=99)
        return "never reached"

    engine = engine_on(tmp_path, ScriptedExecutor(noisy), Script(leave))
    await run_to_end(engine)
    elsewhere = engine_on(tmp_path, ScriptedExecutor(noisy, {"gpu0": "H100-80GB"}, external=True), Script(idle))
    with pytest.raises(ExecutorError, match=r"measures on CPU.*H100-80GB"):
        await elsewhere.open()
    elsewhere.recorder.close()
    back = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy, external=True), Script(idle)))
    assert back.now.counts.finished == 4


async def test_more_devices_of_another_class_do_not_move_the_reference(tmp_path):
    async def leave(bench):
        await bench.wait(settled_above=3)
        engine.leave()
        await bench.wait(settled_above=99)
        return "never reached"

    engine = engine_on(tmp_path, ScriptedExecutor(noisy), Script(leave))
    await run_to_end(engine)
    devices = {"cpu0": "CPU", **{f"gpu{i}": "H100" for i in range(4)}}
    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy, devices, external=True), Script(idle)))
    assert state.reference_class() == "CPU"
    assert sorted(run.device_class for run in state.ledger.runs_of[BASELINE]) == ["CPU"] * 4 + ["H100"] * 4


async def test_the_world_may_forget_an_end_only_once_it_is_on_disk(tmp_path):
    class Forgetful(ScriptedExecutor):
        async def release(self, attempt):
            on_disk = [event for event, _ in scan(tmp_path) if isinstance(event, RunFinished)]
            assert attempt in [event.attempt for event in on_disk]
            await super().release(attempt)

    async def research(bench):
        await bench.wait(settled_above=3)
        return "done"

    executor = Forgetful(noisy, external=True)
    state = await run_to_end(engine_on(tmp_path, executor, Script(research)))
    assert state.now.counts.finished == 4
    assert len(executor.released) >= 3, "the last ends may be left to close"
    inside = ScriptedExecutor(noisy)
    await run_to_end(engine_on(tmp_path / "inside", inside, Script(research)))
    assert inside.released == []


async def test_the_hours_are_over_in_a_quiet_session_too(tmp_path):
    async def research(bench):
        await bench.wait(settled_above=99)
        return "never reached"

    first = started(hours=0.3 / 3600.0)
    first.target = msgspec.structs.replace(first.target, budget_kind="steps", budget_s=1.0)
    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy), Script(research), first=first))
    assert state.now.ended is not None
    assert "hours" in state.now.ended.reason


class Disk(NoReserve):
    """A disk whose journal writes and reserve can run out of room apart from each other."""

    journal_full = reserve_full = False

    def write_at(self, fd, data, offset):
        if self.journal_full:
            raise OSError(errno.ENOSPC, "injected")
        return super().write_at(fd, data, offset)

    def allocate(self, path, length):
        if self.reserve_full:
            raise OSError(errno.ENOSPC, "injected")
        super().allocate(path, length)


async def test_the_session_goes_on_when_only_the_reserve_had_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "_DISK_RETRY_S", 0.01)
    disk = Disk()

    async def research(bench):
        await bench.wait(settled_above=3)
        disk.journal_full = disk.reserve_full = True
        await bench.note("does not fit", call="n1")
        while "disk" not in bench.state.now.limits_hit:
            await bench.wait(until_s=engine.clock.touch() + 0.02)
        disk.journal_full = False  # the reserve made room for the journal, but not for itself
        await bench.wait(until_s=engine.clock.touch() + 0.1)
        assert "disk" in bench.state.now.limits_hit
        disk.reserve_full = False
        await bench.propose([deeper()], call="c1", rationale="")
        await bench.wait(settled_above=4)
        return "done"

    engine = engine_on(tmp_path, ScriptedExecutor(noisy, external=True), Script(research), ops=disk)
    state = await run_to_end(engine)
    assert state.now.counts.finished >= 5


async def test_an_engine_can_leave_while_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "_DISK_RETRY_S", 0.01)
    disk = Disk()

    async def research(bench):
        await bench.wait(settled_above=3)
        disk.journal_full = disk.reserve_full = True
        await bench.propose([deeper()], call="c1", rationale="")
        engine.leave()
        await bench.wait(settled_above=99)
        return "never reached"

    engine = engine_on(tmp_path, ScriptedExecutor(noisy, external=True), Script(research), ops=disk)
    async with asyncio.timeout(10):
        await engine.open()
        await engine.run()
    disk.journal_full = disk.reserve_full = False
    engine.recorder.close()
    assert (await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy), Script(idle)))).now.ended is not None


def test_a_full_disk_at_the_end_of_a_segment_lets_the_segment_grow(tmp_path):
    from core.events import Note

    disk = Disk()
    journal = Journal(tmp_path, ops=disk, segment_bytes=300)
    for _ in range(3):
        journal.append(Note(t=0.0, text="x" * 100))
        journal.commit()
    disk.journal_full = True
    for i in range(5):
        journal.append(Note(t=0.0, text=f"{i}" + "y" * 100))
    disk.journal_full = False
    journal.commit()
    journal.append(Note(t=0.0, text="last"))
    journal.commit()
    journal.close()
    assert [event.n for event, _ in scan(tmp_path)] == list(range(1, 10))


def test_a_missing_segment_is_damage(tmp_path):
    from core.events import Note

    journal = Journal(tmp_path, ops=NoReserve(), segment_bytes=300)
    for _ in range(12):
        journal.append(Note(t=0.0, text="x" * 100))
        journal.commit()
    journal.close()
    segment_path(tmp_path, 2).unlink()
    before = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    with pytest.raises(JournalDamaged, match="missing"):
        Journal(tmp_path, ops=NoReserve())
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == before


async def test_the_worlds_failures_say_nothing_of_an_experiment_and_it_may_be_tried_again(tmp_path):
    answers: list[Accepted | Rejected] = []

    def outcome(spec: AttemptSpec) -> Finished:
        broken = "DEPTH = 3" in spec.source and not any(run.exp == "e2" for run in engine.state.ledger.runs)
        return Finished("infrastructure", reason="no network") if broken else noisy(spec)

    async def research(bench):
        await bench.wait(settled_above=3)
        answers.extend(await bench.propose([deeper()], call="c1", rationale=""))
        await bench.wait(settled_above=4)
        answers.extend(await bench.propose([deeper()], call="c2", rationale=""))
        await bench.wait(settled_above=5)
        return "done"

    engine = engine_on(tmp_path, ScriptedExecutor(outcome), Script(research))
    state = await run_to_end(engine)
    verdict = state.verdict("e2")
    assert verdict is not None
    assert verdict.verdict == "undecided"
    assert "world" in verdict.reason
    assert [type(answer) for answer in answers] == [Accepted, Accepted]


async def test_a_limit_reached_without_a_single_score_is_a_failure(tmp_path):
    executor = ScriptedExecutor(lambda spec: Finished("crash", reason="boom"))
    state = await run_to_end(engine_on(tmp_path, executor, Script(idle), first=started(runs=3)))
    assert state.status == "failed"
    assert not state.now.runs, "a session that has ended has nothing queued"


async def test_what_never_got_its_turn_is_cancelled_at_the_end(tmp_path):
    async def research(bench):
        await bench.propose([deeper(i + 3) for i in range(10)], call="c1", rationale="")
        await bench.wait(settled_above=99)
        return "never reached"

    executor = ScriptedExecutor(noisy)
    state = await run_to_end(engine_on(tmp_path, executor, Script(research), first=started(runs=6)))
    assert len(executor.started) == 6
    assert not state.now.runs
    left = [run for run in state.ledger.runs if run.outcome == "cancelled"]
    assert left
    assert all("before its turn" in run.failure for run in left)
    assert state.now.counts.submitted == state.settled


async def test_runs_that_never_started_do_not_count_against_the_limit(tmp_path):
    async def research(bench):
        for i in range(30):
            await bench.propose([deeper(2 * i + 3), deeper(2 * i + 4)], call=f"c{i}", rationale="")
            await bench.cancel(f"e{2 * i + 3}", "on second thoughts", call=f"x{i}")
            await bench.wait(settled_above=bench.state.settled)
        await bench.wait(settled_above=99)
        return "never reached"

    executor = ScriptedExecutor(noisy)
    state = await run_to_end(engine_on(tmp_path, executor, Script(research), first=started(runs=10)))
    assert state.now.counts.cancelled > 0
    assert state.now.counts.finished == 10


async def test_proposals_for_devices_or_seeds_that_do_not_exist_are_refused(tmp_path):
    async def research(bench):
        answers = await bench.propose([deeper(cls="H999"), deeper(seeds=0)], call="c1", rationale="")
        assert all(isinstance(answer, Rejected) for answer in answers)
        for call, words in (("c2", {"exp": "e9", "seeds": 1}), ("c3", {"exp": "e1", "seeds": 0})):
            with pytest.raises(ValueError):
                await bench.confirm(words["exp"], seeds=words["seeds"], device_class=None, call=call)
        return "done"

    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy), Script(research)))
    assert len(state.ledger.experiments) == 1
    assert state.status == "ended"


@pytest.mark.parametrize(
    "line",
    [b'{"verb":"\xff"}', b'{"x":' + b"[" * 60_000, b"", b"null", b"[]", b'{"verb":"stop"}', b'{"verb":7}'],
    ids=repr,
)
async def test_garbage_on_the_control_socket_is_answered_and_changes_nothing(tmp_path, line):
    async def publish() -> str:
        return "published"

    async def research(bench):
        server = ControlServer(engine, tmp_path / "s.sock", "0", publish)
        await server.open()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s.sock")
        writer.write(line[:60_000] + b"\n" + msgspec.json.encode(Request("ping")) + b"\n")
        replies = [msgspec.json.decode(await reader.readline()) for _ in range(2)]
        assert replies[0]["ok"] is False
        assert replies[1]["ok"] is True
        writer.close()
        await server.close()
        return "done"

    engine = engine_on(tmp_path / "journal", ScriptedExecutor(noisy), Script(research))
    state = await run_to_end(engine)
    assert not state.ledger.commands
    assert state.status == "ended"


@pytest.mark.parametrize(("devices", "failed"), [(2, 4), (12, 12)])
async def test_failures_in_a_row_end_a_session_once_a_whole_round_of_devices_failed(tmp_path, devices, failed):
    def outcome(spec: AttemptSpec) -> Finished:
        return noisy(spec) if "DEPTH = 2\n" in spec.source else Finished("oom", reason="no memory")

    async def research(bench):
        await bench.wait(settled_above=3)
        ideas = [deeper(depth) for depth in range(10, 50)]
        await bench.propose(ideas, call="c", rationale="all too big")
        await bench.wait(settled_above=99)
        return "never reached"

    names = {f"cpu{number}": "CPU" for number in range(devices)}
    engine = engine_on(
        tmp_path, ScriptedExecutor(outcome, names), Script(research), first=started(consecutive_failures=4)
    )
    state = await run_to_end(engine)
    assert state.now.ended is not None
    assert "runs in a row failed" in state.now.ended.reason
    assert failed <= state.now.counts.failed < 40, "not all of them were tried"


async def test_what_a_score_leaves_out_is_said_in_the_verdict(tmp_path):
    def outcome(spec: AttemptSpec) -> Finished:
        finished = noisy(spec)
        return finished if "DEPTH = 2" in spec.source else msgspec.structs.replace(finished, note="depth not modelled")

    async def research(bench):
        await bench.wait(settled_above=3)
        await bench.propose([deeper(3)], call="c", rationale="why not")
        await bench.wait(settled_above=4)
        return "done"

    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(outcome), Script(research)))
    assert "depth not modelled" in state.verdict("e2").reason
    assert "depth not modelled" not in state.verdict("e1").reason


class Crowded(ScriptedExecutor):
    """A cluster that lets runs wait, and says so again and again."""

    async def start(self, spec: AttemptSpec) -> None:
        for _ in range(3):
            self.emit(spec.attempt, Waiting("queued behind other teams"))
        await super().start(spec)


async def test_what_still_holds_is_not_recorded_again(tmp_path):
    async def research(bench):
        for text, level in (("away", "warning"), ("away", "warning"), ("away", "error"), ("", "info"), ("", "info")):
            executor.emit("executor", Notice(text, level))
        await bench.wait(settled_above=3)
        return "done"

    executor = Crowded(noisy)
    await run_to_end(engine_on(tmp_path, executor, Script(research)))
    events = [event for event, _ in scan(tmp_path)]
    waits = [event.attempt for event in events if isinstance(event, RunWaiting)]
    assert len(waits) == len(set(waits)) >= 4
    told = [(event.text, event.level) for event in events if isinstance(event, ExecutorNotice)]
    assert [text for text, _ in told] == ["away", "away", ""]
    assert [level for _, level in told[:2]] == ["warning", "error"]


async def test_a_notice_of_an_engine_that_is_gone_is_over_unless_the_next_one_says_it_too(tmp_path):
    async def leave(bench):
        executor.emit("executor", Notice("the API server does not answer", "error"))
        engine.leave()
        await bench.wait(settled_above=99)

    executor = ScriptedExecutor(lambda _: None, external=True)
    engine = engine_on(tmp_path, executor, Script(leave))
    await run_to_end(engine)
    assert engine.state.now.notice is not None

    async def research(bench):
        return "done"

    state = await run_to_end(engine_on(tmp_path, ScriptedExecutor(noisy, external=True), Script(research)))
    assert state.now.notice is None


async def test_runs_that_the_world_failed_go_on_beyond_the_limit_of_runs_and_no_other_begins(tmp_path):
    """Their devices may be given to others meanwhile: those must not be new runs."""

    def failing(spec: AttemptSpec) -> Finished:
        return scored(2.0 + spec.seed % 7 / 100) if spec.attempt.endswith(".2") else Finished("preempted", reason="x")

    async def research(bench):
        proposed = 0
        while True:
            await bench.wait(queue_below=4)
            proposed += 1
            await bench.propose([deeper(proposed + 2)], call=f"c{proposed}", rationale="")

    devices = {"a0": "H100", "a1": "H100", "b0": "H200"}
    state = await run_to_end(
        engine_on(tmp_path, ScriptedExecutor(failing, devices), Script(research), first=started(runs=11))
    )
    assert state.now.counts.started == 11
    assert state.now.counts.finished == 11
    hits = [event for event in events_in(tmp_path) if isinstance(event, LimitHit)]
    assert [hit.cleared for hit in hits] == [False], "a limit that comes and goes tells nobody anything"
