"""The local executor: starts, follows, cancels, and settles exactly once what an earlier engine left."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import sys
import time

import msgspec
import pytest

from core.clock import RealClock
from core.executor import (
    AttemptSpec,
    ExecutorConfig,
    ExecutorError,
    Finished,
    NeverStarted,
    OpenAttempt,
    Progress,
    Started,
)
from executors.local import create
from tests.support.attempts import HONEST, ROOT, SEQ_LEN, make_corpus, survivors, training

pytestmark = [pytest.mark.processes, pytest.mark.training]

ENDLESS = training("while True: learn(run, model)")
DAEMON = training("""
import os, signal, time
next(run.batches(1))
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
run.report(1.0)
time.sleep(1000)
""")


def make_config(tmp_path, **changes):
    corpus = tmp_path / "corpus"
    if not corpus.exists():
        make_corpus(corpus)
    fields = {
        "session": "s", "session_dir": tmp_path / "session", "target_dir": ROOT, "corpus_dir": corpus,
        "python": sys.executable, "seed": 1, "clock": RealClock(), "budget_s": 1.0, "budget_kind": "steps",
        "seq_len": SEQ_LEN, "eval_tokens": 3_000, "gpus": "1xCPU", "options": {"max_steps": 30},
    }  # fmt: skip
    return ExecutorConfig(**{**fields, **changes})


def spec(source, attempt="r1.1"):
    run = attempt.partition(".")[0]
    revision = hashlib.sha256(source.encode()).hexdigest()
    return AttemptSpec(run, attempt, "cpu0", "CPU", revision, source, 3, 30.0, 0.0)


class Engine:
    """As much of an engine as an executor sees: it notes events and knows what it has seen."""

    def __init__(self, config):
        self.executor = create(config)
        self.events = []

    async def open(self):
        return await self.executor.open(self.events.extend)

    def of(self, attempt="r1.1"):
        return [event for event in self.events if event.subject == attempt]

    async def until(self, true, cap_s=90.0):
        until_s = time.monotonic() + cap_s
        while not true():
            assert time.monotonic() < until_s, self.events
            await asyncio.sleep(0.02)

    async def until_finished(self, attempt="r1.1"):
        await self.until(lambda: any(isinstance(event.payload, Finished) for event in self.of(attempt)))
        return self.of(attempt)[-1].payload

    async def until_progress(self, attempt="r1.1"):
        await self.until(lambda: any(isinstance(event.payload, Progress) for event in self.of(attempt)))

    def open_attempts(self, source, attempt="r1.1"):
        last_seq = self.of(attempt)[-1].seq if self.of(attempt) else 0
        return [OpenAttempt(spec(source, attempt), last_seq, started=last_seq > 0)]


@contextlib.asynccontextmanager
async def engine(config):
    made = Engine(config)
    made.devices = await made.open()
    try:
        yield made
    finally:
        await made.executor.close(kill=True)


def claim(tmp_path, attempt="r1.1"):
    return json.loads((tmp_path / "session/runs" / attempt / "claim").read_text())


async def test_an_attempt_is_started_once_and_followed_to_its_score(tmp_path):
    async with engine(make_config(tmp_path)) as it:
        assert [(device.device, device.cls) for device in it.devices] == [("cpu0", "CPU")]
        await it.executor.start(spec(HONEST))
        await it.executor.start(spec(HONEST))
        end = await it.until_finished()
        await it.executor.start(spec(HONEST))
        assert (end.outcome, end.steps, end.reason) == ("ok", 30, "")
        assert 0.5 < end.val_bpb < 8
        assert end.corpus == "ab" * 32
        events = it.of()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert isinstance(events[0].payload, Started)
        assert events[0].payload.device == "cpu0"
        assert sum(isinstance(event.payload, Progress) for event in events) == len(events) - 2 > 5
    # A new engine that crashed before it recorded anything starts the attempt again: it gets the same result.
    async with engine(make_config(tmp_path)) as again:
        await again.executor.start(spec(HONEST))
        assert (await again.until_finished()).val_bpb == end.val_bpb
        assert [event.seq for event in again.of()] == [event.seq for event in events]


async def test_cancel_and_close_end_attempts(tmp_path):
    async with engine(make_config(tmp_path, budget_kind="cpu")) as it:
        await it.executor.start(spec(ENDLESS))
        await it.until_progress()
        await it.executor.cancel("r1.1", "no longer wanted")
        await it.executor.cancel("r1.1", "twice")
        await it.executor.cancel("r9.9", "unknown")
        end = await it.until_finished()
        assert (end.outcome, end.reason, end.val_bpb) == ("cancelled", "no longer wanted", None)
        await it.executor.start(spec(ENDLESS, "r2.1"))
    assert it.of("r2.1")[-1].payload.outcome == "cancelled"
    assert survivors(tmp_path / "session/runs/r1.1") == survivors(tmp_path / "session/runs/r2.1") == []


async def test_an_engine_that_comes_back_gets_the_rest_exactly_once(tmp_path):
    config = make_config(tmp_path, options={"max_steps": 4_000})
    first = Engine(config)
    await first.open()
    await first.executor.start(spec(HONEST))
    await first.until_progress()
    await first.executor.close(kill=False)
    seen = list(first.events)
    pid = claim(tmp_path)["pid"]
    os.kill(pid, 0)  # the launcher outlives the engine
    async with engine(config) as second:
        await second.executor.adopt(first.open_attempts(HONEST), {})
        end = await second.until_finished()
        assert end.outcome == "ok"
        both = [*seen, *second.of()]
        assert [event.seq for event in both] == list(range(1, len(both) + 1))
        assert isinstance(second.of()[0].payload, Progress | Finished)
        assert sum(isinstance(event.payload, Finished) for event in both) == 1
    assert first.events == seen


async def test_a_result_that_came_while_no_engine_was_there_is_adopted(tmp_path):
    config = make_config(tmp_path)
    first = Engine(config)
    await first.open()
    await first.executor.start(spec(HONEST))
    await first.executor.close(kill=False)
    assert first.events == []
    async with engine(config) as second:
        await second.until((tmp_path / "session/runs/r1.1/exit.json").exists)
        await second.executor.adopt(first.open_attempts(HONEST), {})
        assert second.of()[-1].payload.outcome == "ok"
        await second.executor.adopt(first.open_attempts(HONEST), {})
        assert [event.seq for event in second.of()] == list(range(1, len(second.of()) + 1))


@pytest.mark.parametrize("sandbox", ["auto", "none"])
async def test_a_killed_launcher_is_lost_and_nothing_of_its_run_survives(tmp_path, sandbox):
    config = make_config(tmp_path, budget_kind="cpu", sandbox=sandbox)
    first = Engine(config)
    await first.open()
    await first.executor.start(spec(DAEMON))
    await first.until_progress()
    await first.executor.close(kill=False)
    os.kill(claim(tmp_path)["pid"], signal.SIGKILL)
    async with engine(config) as second:
        await second.executor.adopt(first.open_attempts(DAEMON), {})
        end = await second.until_finished()
        assert end.outcome == "infrastructure"
        assert end.reason.startswith("lost: the run's launcher died without a result")
        assert second.of()[0].seq == first.of()[-1].seq + 1
        await second.until(lambda: not survivors(tmp_path / "session/runs/r1.1"), cap_s=20)


async def test_a_launcher_killed_under_a_living_engine_is_lost_too(tmp_path):
    async with engine(make_config(tmp_path, budget_kind="cpu")) as it:
        await it.executor.start(spec(ENDLESS))
        await it.until_progress()
        os.kill(claim(tmp_path)["pid"], signal.SIGKILL)
        end = await it.until_finished()
        assert (end.outcome, end.val_bpb) == ("infrastructure", None)
        events = it.of()
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


async def test_what_never_ran_is_told_from_what_was_lost(tmp_path):
    async with engine(make_config(tmp_path)) as it:
        fresh, gone = spec(HONEST, "r1.1"), spec(HONEST, "r2.1")
        half_made = tmp_path / "session/runs/r3.1"
        half_made.mkdir()
        (half_made / "train.py").write_text("half")
        await it.executor.adopt(
            [
                OpenAttempt(fresh, 0, started=False),
                OpenAttempt(gone, 5, started=True),
                OpenAttempt(spec(HONEST, "r3.1"), 0, started=False),
            ],
            {},
        )
        assert [type(event.payload) for event in it.events] == [NeverStarted, Finished, NeverStarted]
        assert (it.of("r2.1")[0].seq, it.of("r2.1")[0].payload.outcome) == (6, "infrastructure")
        await it.executor.start(spec(HONEST, "r3.1"))
        assert (await it.until_finished("r3.1")).outcome == "ok"


async def test_what_prevents_a_start_ends_the_attempt_and_not_the_engine(tmp_path):
    async with engine(make_config(tmp_path)) as it:
        await it.executor.start(msgspec.structs.replace(spec(HONEST, "r1.1"), device="gpu7"))
        (tmp_path / "session/runs/r2.1/train.py").mkdir(parents=True)  # cannot be written
        await it.executor.start(spec(HONEST, "r2.1"))
        ends = [(event.seq, event.payload.outcome) for event in it.events]
        assert ends == [(1, "device_lost"), (1, "infrastructure")]
        assert "gpu7" in it.events[0].payload.reason
        assert "runs/r2.1" in it.events[1].payload.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corpus_dir": None}, "run `autoresearch-tui prepare`"),
        ({"python": "/nowhere/python"}, "there is no Python at /nowhere/python"),
        ({"gpus": "900xCPU"}, "asks for 900"),
        ({"gpus": "?"}, "`?` is no selection of devices"),
    ],
)
async def test_what_cannot_work_is_said_before_anything_starts(tmp_path, changes, words):
    with pytest.raises(ExecutorError) as caught:
        await Engine(make_config(tmp_path, **changes)).open()
    assert words in str(caught.value)
