"""What takes a pod's place away: preemption, eviction, and nodes that go silent, shut down or are removed."""

from __future__ import annotations

from typing import Final

from sim.kubernetes_api import pod_status
from sim.kubernetes_api.kubelet import Kubelets
from sim.kubernetes_api.nodes import UNREACHABLE, Machine, Machines, NodeObjects
from sim.kubernetes_api.objects import (
    Obj,
    is_leaving,
    is_over,
    name_of,
    namespace_of,
    tolerates,
    uid_of,
    with_status,
)  # fmt: skip
from sim.kubernetes_api.pending import Steps
from sim.kubernetes_api.recorder import Recorder
from sim.kubernetes_api.store import Store
from sim.kubernetes_api.timings import Timings

_UNREACHABLE_TAINT: Final = {"key": UNREACHABLE, "effect": "NoExecute"}


class Disruptions:
    """Does to pods and nodes what a cluster and its people do."""

    def __init__(
        self,
        store: Store,
        machines: Machines,
        nodes: NodeObjects,
        kubelets: Kubelets,
        recorder: Recorder,
        timings: Timings,
    ) -> None:
        self._store, self._machines, self._nodes = store, machines, nodes
        self._kubelets, self._recorder, self._timings = kubelets, recorder, timings
        self._steps = Steps(store.clock, "kube-disruption")

    def close(self) -> None:
        """Let everything be."""
        self._steps.close()

    # -- single pods

    def preempt(self, pod: Obj, by: Obj | None = None) -> None:
        """The scheduler takes a pod's place for one of higher priority."""
        message = "default-scheduler: preempting to accommodate a higher priority pod"
        pod = self._disrupt(pod, "PreemptionByScheduler", message)
        preemptor = uid_of(by) if by is not None else "00000000-0000-4000-8000-000000000000"
        said = f"Preempted by pod {preemptor} on node {pod['spec'].get('nodeName', '')}"
        self._recorder.say(pod, "Preempted", said, by="default-scheduler")
        self._delete(pod)

    def evict(self, pod: Obj) -> None:
        """Somebody evicts a pod through the API, as `kubectl drain` does."""
        self._delete(self._disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting"))

    def evict_for_pressure(self, pod: Obj) -> None:
        """The kubelet ends a pod because its node runs out of disk: the pod's own doing or not."""
        message = "The node was low on resource: ephemeral-storage."
        pod = self._disrupt(pod, "TerminationByKubelet", message)
        self._kubelets.end_pod(uid_of(pod), "Evicted", message, kill=True)

    def evict_for_disk(self, pod: Obj) -> None:
        """The kubelet ends a pod that wrote more than its own limit."""
        volumes = [volume for volume in pod["spec"].get("volumes") or () if "emptyDir" in volume]
        named = next((volume for volume in volumes if volume["name"] == "tmp"), volumes[0] if volumes else None)
        message = "Pod ephemeral local storage usage exceeds the total limit of containers. "
        if named is not None:
            limit = named["emptyDir"].get("sizeLimit", "0")
            message = f'Usage of EmptyDir volume "{named["name"]}" exceeds the limit "{limit}". '
        self._kubelets.end_pod(uid_of(pod), "Evicted", message, kill=True)

    def delete_as_somebody(self, pod: Obj) -> None:
        """Somebody deletes a pod that is none of theirs."""
        self._delete(pod)

    def _disrupt(self, pod: Obj, reason: str, message: str) -> Obj:
        return self._store.update("pods", pod_status.disrupted(pod, self._store.now_text(), reason, message))

    def _delete(self, pod: Obj) -> None:
        if not is_leaving(pod):
            grace_s = int(pod["spec"].get("terminationGracePeriodSeconds", 30))
            self._store.mark_deleted("pods", namespace_of(pod), name_of(pod), grace_s)

    # -- nodes

    def lose_node(self, name: str, *, down: bool = True) -> None:
        """A node stops answering. `down`: its pods die with it; otherwise only the network between is gone."""
        machine = self._machines[name]
        if machine.alive and not machine.removed:
            machine.alive, machine.down, machine.since_s = False, down, self._store.clock.now()
            self._kubelets.cut_off(name, down=down)
            self._steps.after(self._timings.node_grace_s, self._unreachable, machine, machine.since_s)

    def return_node(self, name: str) -> None:
        """The node answers again."""
        machine = self._machines[name]
        if not machine.alive:
            machine.alive, machine.since_s = True, self._store.clock.now()
            machine.removed = False
            self._nodes.register(machine)
            self._nodes.set_ready(machine, ready=True)
            self._nodes.show_devices(machine)
            self._kubelets.come_back(name, was_down=machine.down)
            machine.down = False

    def remove_node(self, name: str) -> None:
        """The node is taken out of the cluster for good; its pods are collected about a minute later."""
        machine = self._machines[name]
        machine.alive, machine.removed, machine.since_s = False, True, self._store.clock.now()
        machine.down = True
        self._kubelets.cut_off(name, down=True)
        self._store.remove("nodes", "", name)
        self._steps.after(self._timings.pod_gc_s, self._collect_pods, machine, machine.since_s)

    def cordon(self, name: str, *, on: bool = True) -> None:
        """Let no new pods land on a node, or let them again."""
        self._nodes.cordon(self._machines[name], on=on)

    def drain(self, name: str) -> None:
        """Cordon a node and evict all its pods."""
        self.cordon(name)
        for pod in self._pods_of(name):
            self.evict(pod)

    def shut_down(self, name: str) -> None:
        """The node shuts down in order: its kubelet ends its pods and takes no new ones."""
        machine = self._machines[name]
        machine.shutting_down = True
        message = "Pod was terminated in response to imminent node shutdown."
        for pod in self._pods_of(name):
            pod = self._disrupt(pod, "TerminationByKubelet", message)
            self._kubelets.end_pod(uid_of(pod), "Terminated", message, quiet=True)

    def lose_device(self, machine: Machine, at: int) -> None:
        """A device of a node does not work any more: the node offers one less."""
        machine.broken.add(at)
        self._nodes.show_devices(machine)

    def return_device(self, machine: Machine, at: int) -> None:
        """A device works again."""
        machine.broken.discard(at)
        self._nodes.show_devices(machine)

    # -- what controllers make of a silent node

    def _unreachable(self, machine: Machine, since_s: float) -> None:
        if machine.alive or machine.removed or machine.since_s != since_s:
            return
        self._nodes.set_ready(machine, ready=False)
        for pod in self._pods_of(machine.name):
            said = self._store.update("pods", pod_status.not_ready(pod, self._store.now_text()))
            self._recorder.say(said, "NodeNotReady", "Node is not ready", by="node-controller", warning=True)
            toleration = tolerates(pod["spec"].get("tolerations") or (), _UNREACHABLE_TAINT)
            if toleration is None:
                self._taint_evict(machine, since_s, pod)
            elif toleration.get("tolerationSeconds") is not None:
                self._steps.after(float(toleration["tolerationSeconds"]), self._taint_evict, machine, since_s, pod)

    def _taint_evict(self, machine: Machine, since_s: float, pod: Obj) -> None:
        now = self._store.get("pods", namespace_of(pod), name_of(pod))
        if machine.alive or machine.since_s != since_s or now is None or uid_of(now) != uid_of(pod) or is_leaving(now):
            return
        where = f"{namespace_of(pod)}/{name_of(pod)}"
        by = "taint-eviction-controller"
        self._recorder.say(now, "TaintManagerEviction", f"Marking for deletion Pod {where}", by=by)
        message = "Taint manager: deleting due to NoExecute taint"
        self._delete(self._disrupt(now, "DeletionByTaintManager", message))

    def _collect_pods(self, machine: Machine, since_s: float) -> None:
        """The pod garbage collector ends pods whose node is no more."""
        if machine.since_s != since_s:
            return
        for pod in self._pods_of(machine.name):
            pod = self._disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
            pod = self._store.update("pods", with_status(pod, phase="Failed"))
            self._store.mark_deleted("pods", namespace_of(pod), name_of(pod), 0)

    def _pods_of(self, node: str) -> list[Obj]:
        found = []
        for run in self._kubelets.runs_on(node):
            pod = self._store.get("pods", run.namespace, run.name)
            if pod is not None and not is_over(pod):
                found.append(pod)
        return found
