"""The kubelets: bring each pod that has a node from ContainerCreating to its end, as recorded on a real one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from sim.kubernetes_api import pod_status
from sim.kubernetes_api.logs import Logs
from sim.kubernetes_api.nodes import Machines
from sim.kubernetes_api.objects import (
    GPU,
    TRACE,
    Obj,
    annotation,
    is_leaving,
    is_over,
    main_container,
    name_of,
    namespace_of,
    quantity,
    requests_of,
    uid_of,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.starter import Run, Starter
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.work import Container, End, Place, WorkFactory

MESSAGE_BYTES: Final = 4096
FALLBACK_BYTES, FALLBACK_LINES = 2048, 80
_NO_GPU: Final = "which is unexpected"


class Kubelets:
    """All kubelets of the cluster. `bad_images` cannot be fetched by any of them."""

    def __init__(
        self, store: Store, machines: Machines, recorder: Recorder, logs: Logs, timings: Timings, work: WorkFactory
    ) -> None:
        self._store, self._machines, self._recorder, self._logs = store, machines, recorder, logs
        self._timings, self._work = timings, work
        self._steps = Steps(store.clock, "kube-kubelet")
        self._runs: dict[str, Run] = {}
        self._starter = Starter(self, store, machines, recorder, timings)
        self.bad_images = self._starter.bad_images
        store.subscribe(self._see)

    def close(self) -> None:
        """End every program; nothing more is written."""
        self._steps.close()
        for run in self._runs.values():
            if run.work is not None:
                run.work.kill()

    def run_of(self, uid: str) -> Run | None:
        """The pod of this uid, while it has a node."""
        return self._runs.get(uid)

    def runs_on(self, node: str) -> list[Run]:
        """The pods of a node that are not over."""
        return [run for run in self._runs.values() if run.machine.name == node and run.stage != "over"]

    # -- what the store tells

    def _see(self, kind: str, change: str, pod: Obj) -> None:
        if kind != "pods" or annotation(pod, TRACE):
            return
        uid = uid_of(pod)
        run = self._runs.get(uid)
        if change == "DELETED":
            self._forget(uid)
        elif run is None:
            machine = self._machines.get(pod["spec"].get("nodeName", ""))
            if machine is not None and not is_over(pod):
                run = self._runs[uid] = Run(namespace_of(pod), name_of(pod), uid, machine)
                self.after(run, self._timings.admit_s, self._admit)
        elif is_leaving(pod) and not run.leaving:
            run.leaving = True
            grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            self.after(run, self._timings.kill_s, self._stop, grace_s)

    def _forget(self, uid: str) -> None:
        run = self._runs.pop(uid, None)
        if run is not None:
            if run.work is not None and run.stage in {"starting", "running"}:
                run.work.kill()
            run.machine.release(uid)
            run.stage = "over"
        self._logs.forget(uid)

    def after(self, run: Run, delay_s: float, fn: Callable[..., object], *args: object) -> None:
        """Do something of a pod later, once its node answers, unless the pod is gone by then."""
        self._steps.after(delay_s, self._step, run, fn, args)

    def _step(self, run: Run, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        if self._runs.get(run.uid) is not run:
            return
        if run.machine.alive:
            fn(run, *args)
        else:
            run.held.append((fn, args))

    def pod(self, run: Run) -> Obj:
        """The pod as it stands."""
        pod = self._store.get("pods", run.namespace, run.name)
        assert pod is not None, "a run is forgotten when its pod is deleted"
        return pod

    # -- to running

    def _admit(self, run: Run) -> None:
        pod = self.pod(run)
        if is_leaving(pod):
            return self._stop(run, 0.0)
        if run.machine.shutting_down:
            return self._reject(run, "NodeShutdown", "Pod was rejected as the node is shutting down.", bare=True)
        wanted = round(requests_of(pod).get(GPU, 0.0))
        slots = run.machine.take(run.uid, wanted)
        if slots is None:
            free = run.machine.free_count
            what = f"requested number of devices unavailable for {GPU}. Requested: {wanted}, Available: {free}"
            return self._reject(run, "UnexpectedAdmissionError", f"Allocate failed due to {what}, {_NO_GPU}")
        run.slots = slots
        run.work = self._work(pod, Place(run.machine.name, slots, self._store.clock.now()))
        if run.work.refused():
            what = f"no healthy devices present; cannot allocate unhealthy devices {GPU}"
            return self._reject(run, "UnexpectedAdmissionError", f"Allocate failed due to {what}, {_NO_GPU}")
        run.stage = "starting"
        self._store.update("pods", pod_status.creating(pod, self._store.now_text(), run.machine.ip))
        deadline_s = pod["spec"].get("activeDeadlineSeconds")
        if deadline_s is not None:
            self.after(run, float(deadline_s), self._deadline)
        self.after(run, self._timings.mount_s * 0.6, self._starter.mount)
        return None

    def _reject(self, run: Run, reason: str, message: str, *, bare: bool = False) -> None:
        run.stage = "over"
        run.machine.release(run.uid)
        pod = pod_status.rejected(self.pod(run), self._store.now_text(), reason, message)
        if bare:
            pod = {**pod, "status": {**pod["status"], "message": message}}
        self._store.update("pods", pod)

    def start(self, run: Run) -> None:
        """Start the container (see starter.Kubelet)."""
        if run.stage != "starting" or run.leaving:
            return
        pod, host = self.pod(run), run.machine.name
        self._recorder.say(pod, "Created", "Container created", by="kubelet", host=host)
        self._recorder.say(pod, "Started", "Container started", by="kubelet", host=host)
        run.stage = "running"
        log = self._logs.begin(run.uid)
        pod = self._store.update("pods", pod_status.running(pod, self._store.now_text(), _pod_ip(run.uid)))
        assert run.work is not None
        run.work.begin(Container(pod, self._store.clock, log, lambda end: self._exited(run, end)))

    # -- to the end

    def fail(self, run: Run, end: End) -> None:
        """The container never ran: this is its end (see starter.Kubelet)."""
        run.stage = "running"
        self._exited(run, end)

    def _exited(self, run: Run, end: End) -> None:
        if run.stage != "running":
            return
        run.stage, run.end = "exited", end
        log = self._logs.open(run.uid)
        if log is not None:
            log.end()
        self.after(run, self._timings.terminated_s, self._terminated)

    def _terminated(self, run: Run) -> None:
        assert run.end is not None
        pod = self._ended(run, self.pod(run), run.end)
        if run.leaving or run.why_over is not None:
            return self._over(run, pod)
        self._store.update("pods", pod)
        self.after(run, self._timings.phase_s, self._settle)
        return None

    def _settle(self, run: Run) -> None:
        if run.stage != "over":
            self._over(run, self.pod(run))

    def _ended(self, run: Run, pod: Obj, end: End) -> Obj:
        message = end.message
        log = self._logs.open(run.uid)
        policy = main_container(pod).get("terminationMessagePolicy")
        if not message and end.code != 0 and policy == "FallbackToLogsOnError" and log is not None:
            message = log.tail(FALLBACK_BYTES, FALLBACK_LINES)
        message = message.encode()[-MESSAGE_BYTES:].decode(errors="ignore")
        reason = end.reason or ("Completed" if end.code == 0 else "Error")
        return pod_status.terminated(pod, self._store.now_text(), end.code, reason, message)

    def _over(self, run: Run, pod: Obj) -> None:
        """Give the pod its final phase and its devices back."""
        run.stage = "over"
        run.machine.release(run.uid)
        reason, message = run.why_over or (None, None)
        code = run.end.code if run.end is not None else 137
        phase = "Succeeded" if code == 0 and run.why_over is None else "Failed"
        now = self._store.now_text()
        self._store.update("pods", pod_status.over(pod_status.observed(pod), now, phase, reason, message))
        if run.leaving:
            self.after(run, self._timings.finalize_s, self._finalize)

    def _stop(self, run: Run, grace_s: float) -> None:
        """The pod is to be deleted: end its program, then let the pod go."""
        if run.stage == "over":
            return self._finalize(run)
        if run.stage == "running":
            assert run.work is not None
            self._store.update("pods", pod_status.observed(self.pod(run)))
            self._kill(run, grace_s)
        elif run.stage in {"new", "starting"}:
            lost = End(137, "The container could not be located when the pod was terminated", "ContainerStatusUnknown")
            run.end = lost
            self.after(run, self._timings.phase_s, self._unlocated, lost)
        return None

    def _unlocated(self, run: Run, end: End) -> None:
        if run.stage != "over":
            pod = self.pod(run)
            self._over(run, self._ended(run, pod, end) if run.stage == "starting" else pod)

    def _kill(self, run: Run, grace_s: float) -> None:
        pod = self.pod(run)
        self._recorder.say(
            pod, "Killing", f"Stopping container {main_container(pod)['name']}", by="kubelet", host=run.machine.name
        )
        assert run.work is not None
        if grace_s > 0.0:
            run.work.end()
            self.after(run, grace_s, self._killed)
        else:
            self._killed(run)

    def _killed(self, run: Run) -> None:
        if run.stage == "running":
            assert run.work is not None
            run.work.kill()
            self._exited(run, End(137))

    def _finalize(self, run: Run) -> None:
        pod = self.pod(run)
        if pod["metadata"].get("deletionGracePeriodSeconds") != 0:
            pod = self._store.mark_deleted("pods", run.namespace, run.name, 0) or pod
        if not pod["metadata"].get("finalizers"):
            self._store.remove("pods", run.namespace, run.name)

    # -- what cuts a pod short

    def _deadline(self, run: Run) -> None:
        message = "Pod was active on the node longer than the specified deadline"
        self.end_pod(run.uid, "DeadlineExceeded", message, warning=False)

    def end_pod(
        self, uid: str, reason: str, message: str, *, warning: bool = True, kill: bool = False, quiet: bool = False
    ) -> None:
        """The node's own decision: the pod fails with this reason. `kill`: without a chance to end in order."""
        run = self._runs.get(uid)
        if run is None or run.stage not in {"starting", "running"}:
            return
        run.why_over = (reason, message)
        if not quiet:
            self._recorder.say(self.pod(run), reason, message, by="kubelet", host=run.machine.name, warning=warning)
        if run.stage == "running":
            grace_s = quantity(self.pod(run)["spec"].get("terminationGracePeriodSeconds", 30))
            self._kill(run, 0.0 if kill else grace_s)
        else:
            self._over(run, self.pod(run))

    def lose_container(self, uid: str, end: End) -> None:
        """The container is gone without its program's doing (a kubelet that lost it, a machine that rebooted)."""
        run = self._runs.get(uid)
        if run is not None and run.stage == "running":
            assert run.work is not None
            run.work.kill()
            self._exited(run, end)

    # -- nodes that come and go

    def cut_off(self, node: str, *, down: bool) -> None:
        """The node does not answer any more; `down`: its programs are gone with it."""
        for run in self.runs_on(node):
            log = self._logs.open(run.uid)
            if log is not None:
                log.reachable = False
            if down and run.work is not None and run.stage == "running":
                run.work.kill()

    def come_back(self, node: str, *, was_down: bool) -> None:
        """The node answers again: kubelets say what happened meanwhile, and obey what was asked meanwhile."""
        for run in [run for run in self._runs.values() if run.machine.name == node]:
            log = self._logs.open(run.uid)
            if log is not None:
                log.reachable = True
            held, run.held = run.held, []
            if was_down and run.stage == "running" and not run.leaving:
                self._exited(run, End(255, reason="Unknown"))
            elif was_down and run.leaving and run.stage in {"running", "starting"}:
                run.end = End(255, reason="Unknown")
                self._over(run, self.pod(run))
            elif was_down and run.stage == "starting":
                run.stage = "new"
                run.machine.release(run.uid)
                self.after(run, self._timings.admit_s, self._admit)
            else:
                for fn, args in held:
                    self.after(run, self._timings.admit_s, fn, *args)


def _pod_ip(uid: str) -> str:
    digest = hashlib.sha256(uid.encode()).digest()
    return f"10.244.{digest[0]}.{digest[1] % 254 + 1}"
