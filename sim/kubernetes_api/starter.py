"""What a kubelet does before a container runs: volumes, the image, the configuration, the program itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from sim.kubernetes_api import pod_status, volumes
from sim.kubernetes_api.nodes import Machine, Machines
from sim.kubernetes_api.objects import Obj, main_container
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.work import End, Start, Work

_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?(?::[\w.-]+)?")

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


class Kubelet(Protocol):
    """What the start of a container needs of the kubelet around it."""

    def after(self, run: Run, delay_s: float, fn: Callable[..., object], *args: object) -> None:
        """Call `fn(run, *args)` later, once the node answers, unless the pod is gone by then."""

    def pod(self, run: Run) -> Obj:
        """The pod as it stands."""

    def start(self, run: Run) -> None:
        """Everything is there: start the container."""

    def fail(self, run: Run, end: End) -> None:
        """The container never ran: this is its end."""


class Starter:
    """Brings pods to the start of their containers. Images in `bad_images` cannot be fetched by any node."""

    def __init__(
        self, kubelet: Kubelet, store: Store, machines: Machines, recorder: Recorder, timings: Timings
    ) -> None:
        self._kubelet, self._store, self._machines = kubelet, store, machines
        self._recorder, self._timings = recorder, timings
        self._pulled: set[tuple[str, str]] = set()
        self.bad_images: set[str] = set()

    def mount(self, run: Run) -> None:
        """Begin: mount the volumes, as soon as they are there."""
        if run.stage != "starting" or run.leaving:
            return
        pod = self._kubelet.pod(run)
        why = volumes.missing_volume(self._store, pod)
        if why:
            self._recorder.say(pod, "FailedMount", why, by="kubelet", host=run.machine.name, warning=True)
            again_s = min(self._timings.most_retry_s, self._timings.remount_s * 2.0**run.tries)
            run.tries += 1
            self._kubelet.after(run, again_s, self.mount)
            return
        run.tries = 0
        self._kubelet.after(run, self._timings.mount_s * 0.4, self._sandbox)

    def _sandbox(self, run: Run) -> None:
        if run.stage == "starting" and not run.leaving:
            assert run.work is not None
            self._store.update("pods", pod_status.sandboxed(self._kubelet.pod(run), self._store.now_text()))
            self._fetch(run, run.work.plan())

    def _fetch(self, run: Run, start: Start) -> None:
        """See to the image; there at once where the node has it."""
        if run.stage != "starting" or run.leaving:
            return None
        pod, host = self._kubelet.pod(run), run.machine.name
        image = str(main_container(pod)["image"])
        now_s = self._store.clock.now()
        if not _IMAGE.fullmatch(image):
            return self._bad_name(run, image)
        if start.obstacle == "image" or image in self.bad_images or host in self._machines.no_registry:
            return self._fetch_failed(run, image, start)
        if start.image_s > now_s and (host, image) not in self._pulled:
            self._recorder.say(pod, "Pulling", f'Pulling image "{image}"', by="kubelet", host=host)
            self._kubelet.after(run, start.image_s - now_s, self._fetched, start, image, start.image_s - now_s)
            return None
        self._fetched(run, start, image, 0.0)
        return None

    def _bad_name(self, run: Run, image: str) -> None:
        why = f'couldn\'t parse image name "{image}": invalid reference format'
        message = f'Failed to apply default image tag "{image}": {why}'
        pod = pod_status.waiting(self._kubelet.pod(run), "InvalidImageName", message)
        self._recorder.say(pod, "InspectFailed", message, by="kubelet", host=run.machine.name, warning=True)
        self._recorder.say(pod, "Failed", "Error: InvalidImageName", by="kubelet", host=run.machine.name, warning=True)
        self._store.update("pods", pod)

    def _fetch_failed(self, run: Run, image: str, start: Start) -> None:
        pod, host = self._kubelet.pod(run), run.machine.name
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
            self._kubelet.after(run, self._timings.pull_failed_s, self._set_waiting, "ErrImagePull", why)
        back_off = f'Back-off pulling image "{image}"'
        again_s = min(300.0, self._timings.pull_retry_s * 2.0**run.tries)
        self._kubelet.after(
            run, again_s * 0.97, self._set_waiting, "ImagePullBackOff", f"{back_off}: ErrImagePull: {why}"
        )
        self._kubelet.after(run, again_s, self._fetch, start)
        self._recorder.say(pod, "BackOff", back_off, by="kubelet", host=host)
        run.tries += 1

    def _set_waiting(self, run: Run, reason: str, message: str) -> None:
        if run.stage == "starting" and not run.leaving:
            self._store.update("pods", pod_status.waiting(self._kubelet.pod(run), reason, message))

    def _fetched(self, run: Run, start: Start, image: str, took_s: float) -> None:
        if run.stage != "starting" or run.leaving:
            return
        pod, host = self._kubelet.pod(run), run.machine.name
        self._pulled.add((host, image))
        said = f'Container image "{image}" already present on machine and can be accessed by the pod'
        if took_s > 0.0:
            said = f'Successfully pulled image "{image}" in {took_s:.3f}s ({took_s:.3f}s including waiting)'
        self._recorder.say(pod, "Pulled", said, by="kubelet", host=host)
        why = volumes.missing_environment(self._store, pod)
        if why:
            self._recorder.say(pod, "Failed", f"Error: {why}", by="kubelet", host=host, warning=True)
            self._set_waiting(run, "CreateContainerConfigError", why)
            self._kubelet.after(run, 10.0, self._fetch, start)
            return
        wait_s = max(0.0, start.at_s - self._store.clock.now())
        begin = self._kubelet.start if start.obstacle != "command" else self._no_such_program
        self._kubelet.after(run, max(self._timings.start_s, wait_s), begin)

    def _no_such_program(self, run: Run) -> None:
        pod = self._kubelet.pod(run)
        program = (main_container(pod).get("command") or [""])[0]
        why = (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            f'failed: unable to start container process: exec: "{program}": executable file not found in $PATH: unknown'
        )
        self._recorder.say(pod, "Created", "Container created", by="kubelet", host=run.machine.name)
        self._recorder.say(pod, "Failed", f"Error: {why}", by="kubelet", host=run.machine.name, warning=True)
        self._kubelet.fail(run, End(128, why, "StartError"))
