"""The kubelets: bring each pod that has a node from ContainerCreating to its end, as recorded on a real one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from sim.kubernetes_api import pod_status, volumes
from sim.kubernetes_api.logs import Logs
from sim.kubernetes_api.nodes import Machine, Machines
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
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.work import Container, End, Place, Start, Work, WorkFactory

MESSAGE_BYTES: Final = 4096
FALLBACK_BYTES, FALLBACK_LINES = 2048, 80
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?(?::[\w.-]+)?")
_NO_GPU: Final = "which is unexpected"

Stage = Literal["new", "starting", "running", "exited", "over"]


@dataclass
class Run:
    """A pod on its node. `held` is what its kubelet would do next, while the node does not answer."""

    namespace: str
    name: str
    uid: str
    machine: Machine
    slots: tuple[int, ...] = ()
    stage: Stage = "new"
    work: Work | None = None
    end: End | None = None
    why_over: tuple[str, str] | None = None
    leaving: bool = False
    tries: int = 0
    held: list[tuple[Callable[..., object], tuple[object, ...]]] = field(default_factory=list)


class Kubelets:
    """All kubelets of the cluster. `bad_images` cannot be fetched by any of them."""

    def __init__(
        self, store: Store, machines: Machines, recorder: Recorder, logs: Logs, timings: Timings, work: WorkFactory
    ) -> None:
        self._store, self._machines, self._recorder, self._logs = store, machines, recorder, logs
        self._timings, self._work = timings, work
        self._steps = Steps(store.clock, "kube-kubelet")
        self._runs: dict[str, Run] = {}
        self._pulled: set[tuple[str, str]] = set()
        self.bad_images: set[str] = set()
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
                self._after(run, self._timings.admit_s, self._admit)
        elif is_leaving(pod) and not run.leaving:
            run.leaving = True
            grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds", 30))
            self._after(run, self._timings.kill_s, self._stop, grace_s)

    def _forget(self, uid: str) -> None:
        run = self._runs.pop(uid, None)
        if run is not None:
            if run.work is not None and run.stage in {"starting", "running"}:
                run.work.kill()
            run.machine.release(uid)
            run.stage = "over"
        self._logs.forget(uid)

    def _after(self, run: Run, delay_s: float, fn: Callable[..., object], *args: object) -> None:
        self._steps.after(delay_s, self._step, run, fn, args)

    def _step(self, run: Run, fn: Callable[..., object], args: tuple[object, ...]) -> None:
        if self._runs.get(run.uid) is not run:
            return
        if run.machine.alive:
            fn(run, *args)
        else:
            run.held.append((fn, args))

    def _pod(self, run: Run) -> Obj:
        pod = self._store.get("pods", run.namespace, run.name)
        assert pod is not None, "a run is forgotten when its pod is deleted"
        return pod

    # -- to running

    def _admit(self, run: Run) -> None:
        pod = self._pod(run)
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
            self._after(run, float(deadline_s), self._deadline)
        self._after(run, self._timings.mount_s * 0.6, self._mount)
        return None

    def _reject(self, run: Run, reason: str, message: str, *, bare: bool = False) -> None:
        run.stage = "over"
        run.machine.release(run.uid)
        pod = pod_status.rejected(self._pod(run), self._store.now_text(), reason, message)
        if bare:
            pod = {**pod, "status": {**pod["status"], "message": message}}
        self._store.update("pods", pod)

    def _mount(self, run: Run) -> None:
        if run.stage != "starting" or run.leaving:
            return
        pod = self._pod(run)
        why = volumes.missing_volume(self._store, pod)
        if why:
            self._recorder.say(pod, "FailedMount", why, by="kubelet", host=run.machine.name, warning=True)
            again_s = min(self._timings.most_retry_s, self._timings.remount_s * 2.0**run.tries)
            run.tries += 1
            self._after(run, again_s, self._mount)
            return
        run.tries = 0
        self._after(run, self._timings.mount_s * 0.4, self._sandbox)

    def _sandbox(self, run: Run) -> None:
        if run.stage == "starting" and not run.leaving:
            assert run.work is not None
            self._store.update("pods", pod_status.sandboxed(self._pod(run), self._store.now_text()))
            self._fetch(run, run.work.plan())

    def _fetch(self, run: Run, start: Start) -> None:
        """See to the image; there at once where the node has it."""
        if run.stage != "starting" or run.leaving:
            return None
        pod, host = self._pod(run), run.machine.name
        image = str(main_container(pod)["image"])
        now_s = self._store.clock.now()
        if not _IMAGE.fullmatch(image):
            return self._bad_name(run, image)
        if start.obstacle == "image" or image in self.bad_images or host in self._machines.no_registry:
            return self._fetch_failed(run, image, start)
        if start.image_s > now_s and (host, image) not in self._pulled:
            self._recorder.say(pod, "Pulling", f'Pulling image "{image}"', by="kubelet", host=host)
            self._after(run, start.image_s - now_s, self._fetched, start, image, start.image_s - now_s)
            return None
        self._fetched(run, start, image, 0.0)
        return None

    def _bad_name(self, run: Run, image: str) -> None:
        why = f'couldn\'t parse image name "{image}": invalid reference format'
        message = f'Failed to apply default image tag "{image}": {why}'
        pod = pod_status.waiting(self._pod(run), "InvalidImageName", message)
        self._recorder.say(pod, "InspectFailed", message, by="kubelet", host=run.machine.name, warning=True)
        self._recorder.say(pod, "Failed", "Error: InvalidImageName", by="kubelet", host=run.machine.name, warning=True)
        self._store.update("pods", pod)

    def _fetch_failed(self, run: Run, image: str, start: Start) -> None:
        pod, host = self._pod(run), run.machine.name
        why = (
            f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": failed to do request: '
            "dial tcp: connect: connection refused"
        )
        self._recorder.say(pod, "Pulling", f'Pulling image "{image}"', by="kubelet", host=host)
        self._recorder.say(
            pod, "Failed", f'Failed to pull image "{image}": {why}', by="kubelet", host=host, warning=True
        )
        self._recorder.say(pod, "Failed", "Error: ErrImagePull", by="kubelet", host=host, warning=True)
        if run.tries == 0:
            self._after(run, self._timings.pull_failed_s, self._set_waiting, "ErrImagePull", why)
        back_off = f'Back-off pulling image "{image}"'
        again_s = min(300.0, self._timings.pull_retry_s * 2.0**run.tries)
        self._after(run, again_s * 0.97, self._set_waiting, "ImagePullBackOff", f"{back_off}: ErrImagePull: {why}")
        self._after(run, again_s, self._fetch, start)
        self._recorder.say(pod, "BackOff", back_off, by="kubelet", host=host)
        run.tries += 1

    def _set_waiting(self, run: Run, reason: str, message: str) -> None:
        if run.stage == "starting" and not run.leaving:
            self._store.update("pods", pod_status.waiting(self._pod(run), reason, message))

    def _fetched(self, run: Run, start: Start, image: str, took_s: float) -> None:
        if run.stage != "starting" or run.leaving:
            return
        pod, host = self._pod(run), run.machine.name
        self._pulled.add((host, image))
        said = f'Container image "{image}" already present on machine and can be accessed by the pod'
        if took_s > 0.0:
            said = f'Successfully pulled image "{image}" in {took_s:.3f}s ({took_s:.3f}s including waiting)'
        self._recorder.say(pod, "Pulled", said, by="kubelet", host=host)
        why = volumes.missing_environment(self._store, pod)
        if why:
            self._recorder.say(pod, "Failed", f"Error: {why}", by="kubelet", host=host, warning=True)
            self._set_waiting(run, "CreateContainerConfigError", why)
            self._after(run, 10.0, self._fetch, start)
            return
        wait_s = max(0.0, start.at_s - self._store.clock.now())
        self._after(run, max(self._timings.start_s, wait_s), self._start)

    def _start(self, run: Run) -> None:
        if run.stage != "starting" or run.leaving:
            return
        pod, host = self._pod(run), run.machine.name
        self._recorder.say(pod, "Created", "Container created", by="kubelet", host=host)
        self._recorder.say(pod, "Started", "Container started", by="kubelet", host=host)
        run.stage = "running"
        log = self._logs.begin(run.uid)
        pod = self._store.update("pods", pod_status.running(pod, self._store.now_text(), _pod_ip(run.uid)))
        assert run.work is not None
        run.work.begin(Container(pod, self._store.clock, log, lambda end: self._exited(run, end)))

    # -- to the end

    def _exited(self, run: Run, end: End) -> None:
        if run.stage != "running":
            return
        run.stage, run.end = "exited", end
        log = self._logs.open(run.uid)
        if log is not None:
            log.end()
        self._after(run, self._timings.terminated_s, self._terminated)

    def _terminated(self, run: Run) -> None:
        assert run.end is not None
        pod = self._ended(run, self._pod(run), run.end)
        if run.leaving or run.why_over is not None:
            return self._over(run, pod)
        self._store.update("pods", pod)
        self._after(run, self._timings.phase_s, self._settle)
        return None

    def _settle(self, run: Run) -> None:
        if run.stage != "over":
            self._over(run, self._pod(run))

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
            self._after(run, self._timings.finalize_s, self._finalize)

    def _stop(self, run: Run, grace_s: float) -> None:
        """The pod is to be deleted: end its program, then let the pod go."""
        if run.stage == "over":
            return self._finalize(run)
        if run.stage == "running":
            assert run.work is not None
            self._store.update("pods", pod_status.observed(self._pod(run)))
            self._kill(run, grace_s)
        elif run.stage in {"new", "starting"}:
            lost = End(137, "The container could not be located when the pod was terminated", "ContainerStatusUnknown")
            run.end = lost
            self._after(run, self._timings.phase_s, self._unlocated, lost)
        return None

    def _unlocated(self, run: Run, end: End) -> None:
        if run.stage != "over":
            pod = self._pod(run)
            self._over(run, self._ended(run, pod, end) if run.stage == "starting" else pod)

    def _kill(self, run: Run, grace_s: float) -> None:
        pod = self._pod(run)
        self._recorder.say(
            pod, "Killing", f"Stopping container {main_container(pod)['name']}", by="kubelet", host=run.machine.name
        )
        assert run.work is not None
        if grace_s > 0.0:
            run.work.end()
            self._after(run, grace_s, self._killed)
        else:
            self._killed(run)

    def _killed(self, run: Run) -> None:
        if run.stage == "running":
            assert run.work is not None
            run.work.kill()
            self._exited(run, End(137))

    def _finalize(self, run: Run) -> None:
        pod = self._pod(run)
        if pod["metadata"].get("deletionGracePeriodSeconds") != 0:
            pod = self._store.mark_deleted("pods", run.namespace, run.name, 0)
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
            self._recorder.say(self._pod(run), reason, message, by="kubelet", host=run.machine.name, warning=warning)
        if run.stage == "running":
            grace_s = quantity(self._pod(run)["spec"].get("terminationGracePeriodSeconds", 30))
            self._kill(run, 0.0 if kill else grace_s)
        else:
            self._over(run, self._pod(run))

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
                self._over(run, self._pod(run))
            elif was_down and run.stage == "starting":
                run.stage = "new"
                run.machine.release(run.uid)
                self._after(run, self._timings.admit_s, self._admit)
            else:
                for fn, args in held:
                    self._after(run, self._timings.admit_s, fn, *args)


def _pod_ip(uid: str) -> str:
    digest = hashlib.sha256(uid.encode()).digest()
    return f"10.244.{digest[0]}.{digest[1] % 254 + 1}"
