"""The Kubernetes executor: one attempt is one Job with one pod; it submits, watches, tells apart, and cleans up."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from core.executor import (
    AttemptSpec,
    Device,
    Emit,
    ExecutorConfig,
    ExecutorEvent,
    NeverStarted,
    OpenAttempt,
    Payload,
    Progress,
    Started,
    Waiting,
)
from executors.kubernetes import names, tasks
from executors.kubernetes.attempts import FINISHED, LIFE, STARTED, Attempt, Json
from executors.kubernetes.classify import classify_pods
from executors.kubernetes.client import KubeError
from executors.kubernetes.fleet import QUARANTINE_S
from executors.kubernetes.follow import Follower, keep_log
from executors.kubernetes.gate import Gates
from executors.kubernetes.janitor import Janitor
from executors.kubernetes.link import Link
from executors.kubernetes.seen import Seen
from executors.kubernetes.settings import KubeSettings, from_options
from executors.kubernetes.submit import Refused, Submitter

PLACED: Final = ("policy", "no_such_node", "quota")
"""The gates that a pod with a node has passed; whether its image can be had is not known before it runs."""
COMPLETE_S: Final = 10.0
"""Session seconds between looks at an attempt's ConfigMap: the kubelet itself tries no more often."""
CLOSE_S: Final = 60.0
LOG_END_S: Final = 10.0
"""Real seconds."""


class KubernetesExecutor:
    """Implements `core.executor.Executor` on a Kubernetes cluster (see docs/kubernetes.md).

    `config.options["kubernetes"]` holds what executors.kubernetes.settings reads; `config.gpus` caps the devices.
    """

    external: bool = True

    def __init__(self, config: ExecutorConfig) -> None:
        self._config, self._clock = config, config.clock
        self._settings: KubeSettings = from_options(config.options.get("kubernetes", {}))
        self._attempts: dict[str, Attempt] = {}
        self._by_name: dict[str, Attempt] = {}
        self._told: dict[str, int] = {}  # what an engine before this one told of attempts that come again
        self._follows: dict[str, asyncio.Task[None]] = {}
        self._live = False
        self._none_left = asyncio.Event()

    # -- core.executor.Executor

    async def open(self, emit: Emit) -> list[Device]:
        """Reach the cluster, see its devices and what of this session is in it. Raises ExecutorError."""
        self._emit = emit
        self._link = Link(self._config, self._settings, self._on_change, self._tell_devices, emit)
        devices = await self._link.open()
        self._gates = Gates(self._clock, self._try_held)
        self._submitter = Submitter(self._link.cluster, self._config, self._settings, self._link.fleet)
        self._janitor = Janitor(self._link.cluster, self._clock, self._link.pod_there, _log)
        await self._submitter.publish_code()
        return devices

    async def start(self, spec: AttemptSpec) -> None:
        """Submit an attempt; a second call with the same id does nothing."""
        if spec.attempt not in self._attempts:
            attempt = self._meet(spec)
            attempt.told = self._told.pop(spec.attempt, 0)
            attempt.life = attempt.told // LIFE
            self._submit(attempt)

    async def adopt(self, open_attempts: Sequence[OpenAttempt], device_seq: Mapping[str, int]) -> None:  # noqa: ARG002
        """Settle each open attempt by what the cluster has of it, then report on; delete what else is ours."""
        for known in open_attempts:
            if known.spec.attempt not in self._attempts:
                self._meet(known.spec).resume(known.last_seq, started=known.started)
        for kind, obj in self._link.known():
            if (attempt := self._by_name.get(names.job_of(obj))) is not None:
                attempt.take(kind, "ADDED", obj)
        self._live = True
        self._link.begin()
        for attempt in list(self._attempts.values()):
            self._settle(attempt)
        self._sweep()

    async def cancel(self, attempt: str, reason: str) -> None:
        """Delete the attempt's Job; it has ended once its pod is gone. Unknown or ended: nothing."""
        known = self._attempts.get(attempt)
        if known is None or known.ended or known.cancelled is not None:
            return
        known.cancelled = reason
        self._take_back(known)
        self._look(known)

    async def read_log(self, attempt: str, max_bytes: int) -> bytes:
        """The end of what its pod printed: of the kept copy, else of the pod."""
        path = self._log_path(attempt)
        with contextlib.suppress(OSError):
            return path.read_bytes()[-max_bytes:]
        known = self._attempts.get(attempt)
        pod = known.pod if known is not None else None
        if pod is not None and known is not None and known.ever_started:
            with contextlib.suppress(KubeError):
                await keep_log(self._link.cluster, pod["metadata"]["name"], path)
                return path.read_bytes()[-max_bytes:]
        return b""

    async def release(self, attempt: str) -> None:
        """Delete the ended attempt's objects, once its log is kept."""
        known = self._attempts.get(attempt)
        if known is not None and known.ended:
            self._clean_up(known)

    async def close(self, *, kill: bool) -> None:
        """Let go; with `kill`, end every attempt, report that, and leave nothing of the session in the cluster."""
        if kill:
            await self._kill_all()
        for task in self._follows.values():
            task.cancel()
        self._janitor.stop()
        await self._link.close(over=kill)

    # -- an attempt's course

    def _meet(self, spec: AttemptSpec) -> Attempt:
        attempt = Attempt(spec, names.job_name(self._config.session, spec.attempt), device=spec.device)
        self._attempts[spec.attempt] = self._by_name[attempt.name] = attempt
        self._none_left.clear()
        return attempt

    def _settle(self, attempt: Attempt) -> None:
        """Find out where an attempt of an earlier engine stands."""
        if attempt.job is None and attempt.pod is None:
            if attempt.ever_started:
                reason = (
                    "its Job is gone from the cluster: deleted by somebody, or left for longer than its time to live"
                )
                self._end(attempt, Seen(row="job_gone", phase="ended", outcome="infrastructure", reason=reason))
                return
            self._told[attempt.spec.attempt] = attempt.told
            self._drop(attempt)
            self._emit([ExecutorEvent(attempt.spec.attempt, attempt.told + 1, NeverStarted())])
            return
        if attempt.started and attempt.pod is not None:
            node = attempt.pod.get("spec", {}).get("nodeName", "")
            self._link.fleet.place(attempt.spec.attempt, node, attempt.spec.device_class, attempt.spec.device)
        self._complete(attempt)
        self._look(attempt)

    def _submit(self, attempt: Attempt) -> None:
        """Create the attempt's objects, unless a gate is closed for what it needs."""
        reason = self._gates.held(attempt.spec.attempt, self._submitter.gates_of(attempt))
        if reason:
            attempt.held = True
            self._tell_waiting(attempt, reason)
            return
        attempt.held = False
        self._janitor.do(lambda: self._create(attempt))

    async def _create(self, attempt: Attempt) -> None:
        try:
            await self._submitter.create(attempt)
        except Refused as refused:
            if not attempt.ended:
                self._take_seen(attempt, refused.seen)
            return
        if attempt.cancelled is not None and not attempt.ended:
            self._take_back(attempt)
        self._look(attempt)

    def _on_change(self, kind: str, change: str, obj: Json) -> None:
        """Take what a reflector saw of one of the session's objects."""
        attempt = self._by_name.get(names.job_of(obj))
        if attempt is None or attempt.is_old(obj):
            return
        attempt.take(kind, change, obj)
        if self._live:
            self._look(attempt)

    def _look(self, attempt: Attempt) -> None:
        """See what an attempt's objects say now, and tell what is new."""
        if attempt.ended or attempt.held or not self._live:
            return
        if attempt.cancelled is not None and attempt.is_gone:
            self._end(attempt, Seen(row="cancelled", phase="ended", outcome="cancelled", reason=attempt.cancelled))
            return
        if attempt.job is None and attempt.pod is None:
            return
        seen = classify_pods(
            attempt.spec.attempt,
            attempt.job,
            list(attempt.pods.values()),
            attempt.events,
            cancelled_by_us=attempt.cancelled is not None,
            gone=attempt.pods_gone,
            absent=attempt.pod_absent,
            job_deleted=attempt.job_gone,
            ever_started=attempt.ever_started,
        )
        self._take_seen(attempt, seen)

    def _take_seen(self, attempt: Attempt, seen: Seen) -> None:
        if seen.remedy == "recreate_configmap":
            self._complete(attempt)
        if seen.row == "pod-unseen":
            self._find_pod(attempt)
        pod = attempt.pod
        if seen.remedy == "force_delete" and pod is not None and pod["metadata"]["uid"] not in attempt.forced:
            attempt.forced.add(pod["metadata"]["uid"])
            self._janitor.force_later(pod)
        match seen.phase:
            case "ended":
                self._end(attempt, seen)
            case "running":
                self._run(attempt, seen)
            case "starting":
                self._pass_gates(attempt, PLACED)
            case "ending":
                pass  # its last word is on its way
            case _:
                self._wait(attempt, seen)

    def _find_pod(self, attempt: Attempt) -> None:
        """Its Job has ended and no pod of it was seen: look whether there is one, before the Job's word is the last."""
        if attempt.seeking:
            return
        attempt.seeking = True

        async def find() -> None:
            try:
                found = await self._link.pods_of(attempt.name)
            finally:
                attempt.seeking = False
            attempt.pod_absent = not found
            for pod in found:
                attempt.take("pods", "ADDED", pod)
            self._look(attempt)

        self._janitor.do(find)

    def _complete(self, attempt: Attempt) -> None:
        """Have the attempt's ConfigMap made, where its pod misses it: once at a time, however often the pod says so."""
        now_s = self._clock.now()
        if attempt.posting or attempt.completing or now_s - attempt.complete_at_s < COMPLETE_S:
            return
        attempt.completing, attempt.complete_at_s = True, now_s

        async def complete() -> None:
            try:
                await self._submitter.complete(attempt)
            finally:
                attempt.completing = False

        self._janitor.do(complete)

    def _wait(self, attempt: Attempt, seen: Seen) -> None:
        """An attempt does not run yet, or not any more: say why, hold it back where waiting mends nothing."""
        now_s = self._clock.now()
        if attempt.started:  # the queue took its pod back; it begins anew when it is its turn again
            attempt.begin_life()
            self._link.fleet.free(attempt.spec.attempt)
        if not attempt.waiting:
            attempt.waiting_since_s = now_s
        patience_s = seen.hold_after_s
        if seen.hold and attempt.cancelled is None:
            if attempt.hold_kind != seen.hold:
                attempt.hold_kind, attempt.hold_since_s = seen.hold, now_s
                if patience_s:
                    self._look_at(attempt, now_s + patience_s)
            if now_s - attempt.hold_since_s >= patience_s:
                self._hold(attempt, seen)
                return
        elif not seen.hold:
            attempt.hold_kind = ""
        self._tell_waiting(attempt, seen.reason)
        limit_s = self._settings.queue_timeout_s
        if limit_s and now_s - attempt.waiting_since_s >= limit_s and attempt.cancelled is None:
            reason = f"it waited longer than {limit_s:g} s: {seen.reason}"
            self._end(attempt, Seen(row="queue_timeout", phase="ended", outcome="unschedulable", reason=reason))
        elif limit_s and attempt.waiting_since_s == now_s:
            self._look_at(attempt, now_s + limit_s)

    def _hold(self, attempt: Attempt, seen: Seen) -> None:
        """Take an attempt back that would only keep its GPU from others, until the fault is mended."""
        attempt.held = True
        kind, what = seen.hold, self._submitter.gate_subject(attempt, seen.hold)
        self._gates.shut(kind, what, seen.reason, attempt.spec.attempt)
        self._tell_waiting(attempt, seen.reason)
        self._take_back(attempt)
        attempt.forget_objects()
        self._link.notices.say("held", "; ".join(self._gates.reasons), "error")

    def _try_held(self) -> None:
        """Submit what gates let through now; after that the next probe, or everybody."""
        for attempt in self._attempts.values():
            if attempt.held and not attempt.ended and attempt.cancelled is None:
                self._submit(attempt)

    def _pass_gates(self, attempt: Attempt, kinds: Sequence[str] | None = None) -> None:
        if self._gates.passed(attempt.spec.attempt, kinds):
            self._link.notices.say("held", "; ".join(self._gates.reasons), "error")
            self._try_held()

    def _run(self, attempt: Attempt, seen: Seen) -> None:
        """The pod runs: say where, and follow its log."""
        self._pass_gates(attempt)
        attempt.waiting, attempt.hold_kind = "", ""
        if attempt.started:
            self._follow(attempt)
            return
        spec = attempt.spec
        attempt.started = True
        attempt.device = self._link.fleet.place(spec.attempt, seen.node, spec.device_class, spec.device)
        self._tell(attempt, attempt.life * LIFE + STARTED, Started(attempt.device))
        self._follow(attempt)

    def _end(self, attempt: Attempt, seen: Seen) -> None:
        """Tell how an attempt ended; what is left of it goes when that is durable."""
        attempt.ended = True
        name = attempt.spec.attempt
        self._link.fleet.free(name)
        if self._gates.drop(name):
            self._try_held()
        self._tell(attempt, attempt.life * LIFE + FINISHED, seen.finished())
        # A node that is gone takes no runs anyway, and takes all of its runs with it: that is one fault, not eight.
        blamed = bool(seen.blame) and seen.outcome != "device_lost"
        if seen.node and self._link.fleet.ended(seen.node, blamed=blamed):
            self._tell_devices(self._link.fleet.again())
            self._look_again_at_nodes()
        if not any(not known.ended for known in self._attempts.values()):
            self._none_left.set()

    # -- telling the engine

    def _tell(self, attempt: Attempt, number: int, payload: Payload) -> None:
        if number > attempt.told:
            attempt.told = number
            self._emit([ExecutorEvent(attempt.spec.attempt, number, payload)])

    def _tell_waiting(self, attempt: Attempt, reason: str) -> None:
        key = f"{attempt.held}{reason}"
        number = attempt.next_waiting()
        if reason and key != attempt.waiting and number is not None:
            attempt.waiting = key
            self._tell(attempt, number, Waiting(reason, held=attempt.held))

    def _tell_devices(self, changes: Sequence[tuple[str, Any]]) -> None:
        if changes and self._live:
            self._emit([ExecutorEvent(device, 0, payload) for device, payload in changes])

    def _take_line(self, attempt: Attempt, line: Json) -> None:
        """Pass on what the pod's runner says of its progress."""
        if line.get("kind") != "progress" or attempt.ended or not attempt.started:
            return
        number = attempt.life * LIFE + STARTED + int(line["seq"])
        if number < attempt.life * LIFE + FINISHED:
            fields = {key: line.get(key) for key in ("loss", "util", "mem_mb")}
            self._tell(attempt, number, Progress(line.get("step", 0), line.get("frac", 0.0), **fields))

    # -- time, logs and cleaning up

    def _look_at(self, attempt: Attempt, t_s: float) -> None:
        run, _, number = attempt.spec.attempt.removeprefix("r").partition(".")
        self._clock.call_at(t_s, ("kubernetes-look", int(run), int(number)), self._look, attempt)

    def _look_again_at_nodes(self) -> None:
        at_s = self._clock.now() + QUARANTINE_S + 1.0
        self._clock.call_at(at_s, ("kubernetes-nodes", 0, 0), lambda: self._tell_devices(self._link.fleet.again()))

    def _follow(self, attempt: Attempt) -> None:
        pod = attempt.pod
        if pod is None or attempt.spec.attempt in self._follows or len(self._follows) >= self._settings.follows:
            return
        name, path = pod["metadata"]["name"], self._log_path(attempt.spec.attempt)
        follower = Follower(self._link.cluster, self._clock, name, path, lambda line: self._take_line(attempt, line))
        task = tasks.begin(self._followed(attempt, follower))
        self._follows[attempt.spec.attempt] = task
        task.add_done_callback(lambda _: self._follows.pop(attempt.spec.attempt, None))

    async def _followed(self, attempt: Attempt, follower: Follower) -> None:
        await follower.run()
        attempt.log_whole = follower.whole

    def _take_back(self, attempt: Attempt) -> None:
        """Delete the Job, by its uid; a pod that lingers is forced."""
        if attempt.job is not None and not attempt.job_gone:
            if attempt.held:
                attempt.old.add(attempt.job["metadata"]["uid"])
            self._janitor.remove("jobs", attempt.job)
        for pod in attempt.pods.values():
            if pod["metadata"]["uid"] not in attempt.pods_gone:
                self._janitor.force_later(pod)

    def _clean_up(self, attempt: Attempt) -> None:
        """Keep the log, then delete; a pod on a dead node is forced."""
        pod = attempt.pod

        async def keep() -> None:
            await self._finish_log(attempt, pod)

        if attempt.job is not None and not attempt.job_gone:
            self._janitor.remove("jobs", attempt.job, after=keep)
        else:
            self._janitor.do(keep)
        if pod is not None and not attempt.pod_gone:
            self._janitor.force_later(pod)
        self._drop(attempt)

    async def _finish_log(self, attempt: Attempt, pod: Json | None) -> None:
        """Have the whole log on disk: the follower's, or one last reading."""
        follow = self._follows.get(attempt.spec.attempt)
        if follow is not None:
            await asyncio.wait({follow}, timeout=LOG_END_S)
        if attempt.log_whole or pod is None or not attempt.ever_started:
            return
        with contextlib.suppress(KubeError):
            await keep_log(self._link.cluster, pod["metadata"]["name"], self._log_path(attempt.spec.attempt))

    def _drop(self, attempt: Attempt) -> None:
        """Forget an attempt."""
        self._attempts.pop(attempt.spec.attempt, None)
        self._by_name.pop(attempt.name, None)

    def _sweep(self) -> None:
        """Delete the session's objects that belong to no open attempt: an engine before did not live to do it."""
        for kind, obj in self._link.known():
            if kind == "jobs" and names.job_of(obj) not in self._by_name:
                self._janitor.remove("jobs", obj)
            elif kind == "pods" and names.job_of(obj) not in self._by_name:
                self._janitor.remove("pods", obj)
                self._janitor.force_later(obj)

    async def _kill_all(self) -> None:
        """Cancel everything, wait for its end, and delete what is left of the session."""
        for name in list(self._attempts):
            await self.cancel(name, "the session was stopped")
        if any(not attempt.ended for attempt in self._attempts.values()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none_left.wait(), CLOSE_S)
        for attempt in list(self._attempts.values()):
            self._clean_up(attempt)
        await self._janitor.settle(CLOSE_S)
        label = f"{names.RUN}={names.run8(self._config.session)}"
        with contextlib.suppress(KubeError):
            for kind in ("jobs", "pods", "configmaps"):
                await self._janitor.remove_all(kind, label, self._link.is_mine)

    def _log_path(self, attempt: str) -> Path:
        return self._config.session_dir / "runs" / attempt / "output.log"


def _log(sentence: str) -> None:
    """Write to the engine's log."""
    sys.stderr.write(f"{sentence}\n")
