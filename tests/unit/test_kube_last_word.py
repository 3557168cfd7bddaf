"""A Job that ends before its pod is seen: the pod is looked for, and its word is taken before the Job's."""

from __future__ import annotations

import asyncio
import types

import pytest

from core.executor import AttemptSpec, ExecutorConfig, Finished
from executors.kubernetes.executor import KubernetesExecutor
from executors.kubernetes.gate import Gates
from executors.kubernetes.janitor import Janitor
from sim.clock import VirtualClock
from tests.support.kube_objects import ATTEMPT, ended, job, message, pod


class Link:
    """A cluster that is asked for the pods of a Job, and nothing else."""

    def __init__(self, pods):
        self.pods, self.asked = pods, 0
        self.cluster = None
        self.fleet = types.SimpleNamespace(free=lambda _attempt: None, ended=lambda _node, blamed: False)
        self.notices = types.SimpleNamespace(say=lambda *_words: None)

    async def pods_of(self, _job):
        self.asked += 1
        await asyncio.sleep(0)
        return self.pods


def executor(tmp_path, link):
    clock = VirtualClock()
    config = ExecutorConfig(
        session="s1", session_dir=tmp_path, target_dir=tmp_path, corpus_dir=None, python="python3", seed=1, clock=clock,
        budget_s=300.0, budget_kind="gpu", seq_len=256, eval_tokens=1024,
    )  # fmt: skip
    made = KubernetesExecutor(config)
    made._link, made._live = link, True
    made._gates = Gates(clock, lambda: None)
    made._janitor = Janitor(None, clock, lambda _uid: False, lambda _sentence: None)
    told = []
    made._emit = told.extend
    attempt = made._meet(AttemptSpec("r34", ATTEMPT, "a/0", "H100-80GB", "rev", "x = 1", 1, 300.0, 0.0))
    return made, attempt, told


@pytest.mark.parametrize(
    ("pods", "outcome", "score"),
    [([pod("Succeeded", state=ended(0, message()))], "ok", 1.25), ([], "infrastructure", None)],
)
async def test_the_pod_of_an_ended_job_is_looked_for(tmp_path, pods, outcome, score):
    link = Link(pods)
    made, attempt, told = executor(tmp_path, link)
    attempt.take("jobs", "ADDED", job(("Complete", "CompletionsReached", "")))
    made._look(attempt)
    made._look(attempt)
    assert told == []
    assert await made._janitor.settle(5.0)
    assert link.asked == 1
    [event] = told
    assert isinstance(event.payload, Finished)
    assert (event.payload.outcome, event.payload.val_bpb) == (outcome, score)


async def test_a_pod_that_somebody_deletes_is_still_running_until_it_is_gone(tmp_path):
    made, attempt, told = executor(tmp_path, Link([]))
    attempt.started = True
    attempt.take("jobs", "ADDED", job())
    attempt.take("pods", "ADDED", pod("Running", state={"running": {}}, deleting=True))
    made._look(attempt)
    assert told == []
    assert attempt.started
    attempt.take("pods", "DELETED", pod("Failed", state=ended(143), deleting=True))
    attempt.take("jobs", "MODIFIED", job(("Failed", "BackoffLimitExceeded", "")))
    made._look(attempt)
    [event] = told
    assert event.payload.outcome == "infrastructure"
    assert "somebody deleted its pod" in event.payload.reason
