"""The living cluster behind the simulated API server: puts its parts together, and lets tests disturb it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from core.executor import Device
from sim.faults import Faults
from sim.kubernetes_api.disruptions import Disruptions
from sim.kubernetes_api.gc import Collector
from sim.kubernetes_api.job_controller import Admit, JobController
from sim.kubernetes_api.job_pods import defaulted
from sim.kubernetes_api.kubelet import Kubelets
from sim.kubernetes_api.logs import Logs
from sim.kubernetes_api.mishaps import Mishaps
from sim.kubernetes_api.nodes import Machines, NodeObjects
from sim.kubernetes_api.objects import GPU, Obj, annotation, is_leaving, is_over, with_spec
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.scheduler import Scheduler
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.surrogate import Surrogate
from sim.kubernetes_api.timings import Timings
from sim.kubernetes_api.trace import Traces
from sim.kubernetes_api.work import Place, Work, WorkFactory
from sim.mix import Mix, devices
from sim.world.outlook import Physics
from sim.world.physics import physics as real_physics
from sim.world.places import outages
from sim.world.world import World

NAMESPACE: Final = "autoresearch"
PRIORITY_CLASS: Final = "autoresearch-experiment"
CLAIM: Final = "autoresearch-data"
_RESTRICTED: Final = {
    "kubernetes.io/metadata.name": NAMESPACE,
    "pod-security.kubernetes.io/enforce": "restricted",
}
_ATTEMPT: Final = "autoresearch.dev/attempt"


def plain_physics(seq_len: int) -> Physics:
    """Physics without a torch: structural edits are read from the file alone."""
    return real_physics("", "", Path(), seq_len=seq_len, confined=True)


def on_nodes(found: Sequence[Device]) -> list[Device]:
    """Devices under the names that a cluster's executor gives them: node and number."""
    counts: Counter[str] = Counter()
    named = []
    for device in found:
        named.append(Device(f"{device.node}/{counts[device.node]}", device.cls, device.node, device.memory_mb))
        counts[device.node] += 1
    return named


class Cluster:
    """A scheduler, a Job controller, kubelets and the rest, all on the store's clock.

    Args:
        store: where its objects live, and whose clock it lives on.
        mix: its GPUs (see sim.mix), eight to a node.
        faults: of the simulated world (see sim.faults).
        seed: of the world, as a session's seed is for the `sim` executor.
        mishaps: what befalls pods beyond that (see mishaps.py).
        cluster_seed: of what lasts (nodes, outages); by default `seed`.
        admit: refuses pods that may not be created (quota, PodSecurity, ...).
        work: what pods do, where it is not the surrogate's part.
        physics: of the world, for a sequence length.
        traces: a folder with recordings, which Jobs with the annotation `fake/trace` replay (see trace.py).
    """

    def __init__(
        self,
        store: Store,
        mix: Mix,
        faults: Faults,
        seed: int,
        *,
        mishaps: Mapping[str, float] | None = None,
        cluster_seed: int | None = None,
        admit: Admit = lambda _store, _pod: None,
        work: WorkFactory | None = None,
        timings: Timings | None = None,
        physics: Callable[[int], Physics] = plain_physics,
        traces: Path | None = None,
    ) -> None:
        self.store, self.logs, self.timings = store, Logs(), timings or Timings()
        self._seed, self._faults, self._physics, self._admit = seed, faults, physics, admit
        self._lasting = seed if cluster_seed is None else cluster_seed
        self._mishaps = Mishaps(seed, mishaps or {})
        self._devices = on_nodes(devices(mix))
        self._tries: Counter[str] = Counter()
        self._worlds: dict[tuple[int, int], World] = {}
        self._physics_of: dict[int, Physics] = {}
        self.machines = Machines(self._devices)
        self.recorder = Recorder(store)
        self._nodes = NodeObjects(store)
        self._work = work or self._surrogate
        self._traces = Traces(store, self.logs, traces)
        self._steps = Steps(store.clock, "kube-cluster")

    def open(self) -> None:
        """Register the nodes, and let everything begin."""
        self._furnish()
        for machine in self.machines:
            self._nodes.register(machine)
        self.kubelets = Kubelets(self.store, self.machines, self.recorder, self.logs, self.timings, self._work)
        self.disruptions = Disruptions(
            self.store, self.machines, self._nodes, self.kubelets, self.recorder, self.timings
        )
        self.scheduler = Scheduler(self.store, self.recorder, self.timings, self._held_back, self.disruptions.preempt)
        self.jobs = JobController(self.store, self.recorder, self.timings, self._admit, self._seed)
        self.collector = Collector(self.store, self.timings)
        for machine in self.machines:
            for at, device in enumerate(machine.devices):
                self._await_outage(machine.name, at, device, 0)

    def close(self) -> None:
        """End all programs, and do nothing more."""
        for part in (
            self._steps,
            self._traces,
            self.jobs,
            self.collector,
            self.scheduler,
            self.disruptions,
            self.kubelets,
        ):
            part.close()
        for physics in self._physics_of.values():
            physics.close()

    # -- what tests and people do to it

    def lose_node(self, name: str, *, down: bool = True) -> None:
        """A node stops answering; `down`: with its pods."""
        self.disruptions.lose_node(name, down=down)

    def return_node(self, name: str) -> None:
        """It answers again."""
        self.disruptions.return_node(name)

    def remove_node(self, name: str) -> None:
        """It is taken out of the cluster."""
        self.disruptions.remove_node(name)

    def cordon(self, name: str, *, on: bool = True) -> None:
        """Let no new pods land on a node, or let them again."""
        self.disruptions.cordon(name, on=on)

    def drain(self, name: str) -> None:
        """Cordon a node and evict its pods."""
        self.disruptions.drain(name)

    def shut_down(self, name: str) -> None:
        """Shut a node down in order."""
        self.disruptions.shut_down(name)

    def preempt(self, pod: Obj) -> None:
        """Take a pod's place for somebody with a higher priority."""
        self.disruptions.preempt(pod)

    def evict(self, pod: Obj) -> None:
        """Evict a pod through the API."""
        self.disruptions.evict(pod)

    def delete_pod_as_somebody(self, pod: Obj) -> None:
        """Delete a pod as a person would who has nothing to do with its session."""
        self.disruptions.delete_as_somebody(pod)

    def suspend(self, job: Obj, *, on: bool = True) -> Obj:
        """Suspend a Job, or let it go on, as a queue such as Kueue does."""
        return self.store.update("jobs", with_spec(job, suspend=on))

    def add_foreign_pod(self, name: str, *, gpus: int, seconds: float, priority: int = 0, node: str = "") -> Obj:
        """Somebody else's pod, which holds GPUs for a while."""
        amounts = {"cpu": "1", "memory": "1Gi", GPU: str(gpus)}
        spec: Obj = {
            "restartPolicy": "Never", "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "containers": [{"name": "main", "image": "foreign/work:1", "resources": {"limits": amounts}}],
        }  # fmt: skip
        if node:
            spec["nodeSelector"] = {"kubernetes.io/hostname": node}
        metadata = {"name": name, "namespace": "foreign", "annotations": {"fake/seconds": str(seconds)}}
        pod = defaulted(self.store, {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec})
        return self.store.create("pods", with_spec(pod, priority=priority))

    def gpus_in_use(self) -> int:
        """GPUs that pods hold which are not over."""
        return self.scheduler.gpus_in_use()

    @property
    def peak_gpus_in_use(self) -> int:
        """The most that were in use at once."""
        return self.scheduler.peak_gpus

    def disrupt(self, kind: str, uid: str, back_after_s: float) -> None:
        """Let a mishap of this kind happen to the pod of this uid (see mishaps.py), where it still runs."""
        run = self.kubelets.run_of(uid)
        pod = self.store.get("pods", run.namespace, run.name) if run is not None else None
        if run is None or pod is None or is_over(pod) or is_leaving(pod):
            return
        name = run.machine.name
        if kind in {"node_lost", "partition"}:
            if run.machine.alive:
                self.disruptions.lose_node(name, down=kind == "node_lost")
                self._steps.after(back_after_s, self.disruptions.return_node, name)
            return
        {
            "preemption": self.disruptions.preempt,
            "eviction": self.disruptions.evict,
            "pressure": self.disruptions.evict_for_pressure,
            "disk": self.disruptions.evict_for_disk,
            "deleted": self.disruptions.delete_as_somebody,
        }[kind](pod)

    # -- parts

    def _furnish(self) -> None:
        """Create what an administrator would have created from deploy/, where it is not there."""
        wanted: list[tuple[str, str, str, dict[str, Any]]] = [
            (
                "namespaces", "v1", "Namespace",
                {"metadata": {"name": NAMESPACE, "labels": _RESTRICTED}, "status": {"phase": "Active"}},
            ),
            (
                "priorityclasses", "scheduling.k8s.io/v1", "PriorityClass",
                {"metadata": {"name": PRIORITY_CLASS}, "value": -100, "preemptionPolicy": "Never"},
            ),
            (
                "persistentvolumeclaims", "v1", "PersistentVolumeClaim",
                {
                    "metadata": {"name": CLAIM, "namespace": NAMESPACE},
                    "spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "50Gi"}}},
                    "status": {"phase": "Bound"},
                },
            ),
        ]  # fmt: skip
        for kind, version, word, body in wanted:
            metadata = body["metadata"]
            if self.store.get(kind, metadata.get("namespace", ""), metadata["name"]) is None:
                self.store.create(kind, {"kind": word, "apiVersion": version, **body})

    def _surrogate(self, pod: Obj, place: Place) -> Work:
        job = str((pod["metadata"].get("ownerReferences") or [pod["metadata"]])[0]["name"])
        tries = self._tries[job]  # by name: a Job that is submitted once more is another try of its attempt
        self._tries[job] += 1
        machine = self.machines[place.node]
        return Surrogate(
            self.store,
            pod,
            place,
            machine,
            self.world_of,
            self._mishaps,
            outside=self,
            fate=f"+{tries}" if tries else "",
        )

    def world_of(self, seq_len: int, eval_tokens: int) -> World:
        """The simulated world for attempts of this sequence length that score so many tokens."""
        key = (seq_len, eval_tokens)
        if key not in self._worlds:
            physics = self._physics_of.setdefault(seq_len, self._physics(seq_len))
            self._worlds[key] = World(
                self._seed, self._devices, self._faults, physics, eval_tokens=eval_tokens, cluster_seed=self._lasting
            )
        return self._worlds[key]

    def _held_back(self, pod: Obj) -> str:
        """Why the simulated world lets no node take a pod; empty where it does."""
        attempt = annotation(pod, _ATTEMPT)
        if not attempt or not self._faults.unschedulable.rate:
            return ""
        ending = self.world_of(2_048, 1 << 20).unplaced(attempt, self.store.clock.now())
        count = sum(1 for _ in self.machines)
        return f"{count} Insufficient {GPU}" if ending is not None and ending.outcome == "unschedulable" else ""

    def _await_outage(self, name: str, at: int, device: str, number: int) -> None:
        spell = outages(self._lasting, device, self._faults).nth(number)
        if spell.from_s < float("inf"):
            machine = self.machines[name]
            self._steps.at(spell.from_s, self.disruptions.lose_device, machine, at)
            self._steps.at(spell.to_s, self.disruptions.return_device, machine, at)
            self._steps.at(spell.to_s, self._await_outage, name, at, device, number + 1)
