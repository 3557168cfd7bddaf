"""Finds out what a cluster lacks for a session, one check after the other; the last is a real pod per product."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from core.executor import ExecutorError
from executors.kubernetes.access import Access
from executors.kubernetes.canary import canaries, canary_job
from executors.kubernetes.checks import Check
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.errand import unique
from executors.kubernetes.link import OLDEST
from executors.kubernetes.nodes import NodeDevices, devices
from executors.kubernetes.quantity import number
from executors.kubernetes.settings import KubeSettings
from executors.output import sentence

SKEW_S: Final = 30.0
IMAGE_VOLUMES: Final = (1, 35)
"""Since then images can be mounted as volumes with no feature gate (1.31 to 1.34 need ImageVolume)."""
NEEDED: Final = (
    *(("jobs", verb, "batch") for verb in ("create", "get", "list", "watch", "delete")),
    *(("pods", verb, "") for verb in ("get", "list", "watch", "delete")),
    ("pods/log", "get", ""),
    *(("configmaps", verb, "") for verb in ("create", "get", "list", "delete")),
    *(("events", verb, "") for verb in ("list", "watch")),
)
"""(resource, verb, group) that a session cannot do without."""
WANTED: Final = (
    *(("nodes", verb, "") for verb in ("get", "list", "watch")),
    ("resourcequotas", "list", ""),
    ("persistentvolumeclaims", "get", ""),
    ("priorityclasses", "get", "scheduling.k8s.io"),
)
"""The same of what it does better with."""
_LOSS: Final = {
    "nodes": "the screen shows no nodes, and --gpus has to say what there is",
    "resourcequotas": "a quota shows only when a pod is refused",
    "persistentvolumeclaims": "a missing corpus shows only in the first pod",
    "priorityclasses": "a missing priority class shows only in the first pod",
}
_CLUSTER_WIDE: Final = ("nodes", "priorityclasses")
_APPLY: Final = "kubectl apply -k deploy/base"
_KUEUE: Final = "kueue.x-k8s.io"
_MOST_NODES: Final = 5
_ADVICE: Final = re.compile(r"(?:: |; )(?=(?:name|mend|choose|install|log in|bring|use|try|ask)\b)")

Json = dict[str, Any]


async def examine(settings: KubeSettings, *, canary: bool) -> AsyncIterator[Check]:
    """Run the checks; those that make no sense after a failure are left out."""
    try:
        access = Access.resolve(settings.kubeconfig, settings.context, settings.namespace)
        yield Check("ok", "kubeconfig", f"{access.source}, context {access.context or '(in the cluster)'}")
    except ExecutorError as error:
        yield _failed("kubeconfig", str(error), "name another with --kubeconfig, or a --context of it")
        return
    try:
        cluster = await Cluster.connect(access)
    except ExecutorError as error:
        context = f" --context {access.context}" if access.context else ""
        yield _failed("server", str(error), f"`kubectl version{context}` has to answer too: see address, VPN, proxy")
        return
    try:
        async for check in _Examination(cluster, settings).run(canary=canary):
            yield check
    finally:
        await cluster.close()


class _Examination:
    """The checks of one cluster that answers."""

    def __init__(self, cluster: Cluster, settings: KubeSettings) -> None:
        self._cluster, self._settings = cluster, settings
        self._nodes: list[NodeDevices] = []
        self._version: tuple[int, ...] = ()

    async def run(self, *, canary: bool) -> AsyncIterator[Check]:
        checks: dict[str, Callable[[], AsyncIterator[Check]]] = {
            "server": self._server, "namespace": self._namespace, "rights": self._rights, "devices": self._devices,
            "quota": self._quota, "data": self._data, "priority": self._priority, "queue": self._queue,
            "job": self._dry_run,
        }  # fmt: skip
        failed = False
        for what, one in checks.items():
            try:
                async for check in one():
                    failed = failed or check.verdict == "fail"
                    yield check
            except KubeError as error:
                failed = True
                yield _failed(what, f"the API does not go along: {error}", "run doctor again; see the server's health")
        if not canary:
            yield Check("warn", "canary", "not run", "without --no-canary a pod per product is really started")
        elif failed:
            yield Check("warn", "canary", "not run", "what failed above comes first")
        else:
            async for check in canaries(self._cluster, self._settings, self._nodes):
                yield check

    async def _server(self) -> AsyncIterator[Check]:
        text = await self._cluster.version()
        self._version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
        if self._version < OLDEST:
            fix = f"it has to be {OLDEST[0]}.{OLDEST[1]} or newer: older Jobs do not say why their pods ended"
            yield Check("fail", "server", f"Kubernetes {text or 'of no version'}", fix)
        else:
            yield Check("ok", "server", f"Kubernetes {text}")
        skew_s = self._cluster.skew_s or 0.0
        if abs(skew_s) > SKEW_S:
            fix = "set this machine's clock (NTP); runs work, but times in the cluster's own records look odd"
            yield Check("warn", "clock", f"the server's clock is {skew_s:+.0f} s off ours", fix)

    async def _namespace(self) -> AsyncIterator[Check]:
        name = self._cluster.namespace
        try:
            await self._cluster.get("namespaces", name)
        except KubeError as error:
            if error.status == 404:
                yield Check("fail", "namespace", f"there is no namespace {name}", f"{_APPLY}, or --namespace")
                return
            if error.status != 403:  # not to be allowed to look says nothing
                raise
        yield Check("ok", "namespace", name)

    async def _rights(self) -> AsyncIterator[Check]:
        """One row for all that is allowed, one for each thing that is not."""
        try:
            allowed = await asyncio.gather(*(self._may(*one) for one in (*NEEDED, *WANTED)))
        except KubeError as error:
            fix = "the rows below try what they need themselves"
            yield Check("warn", "rights", f"they cannot be looked up: {error}", fix)
            return
        answers = dict(zip((*NEEDED, *WANTED), allowed, strict=True))
        missing = [one for one in NEEDED if not answers[one]]
        fix = f"{_APPLY}, and use the account autoresearch-engine or bind its Role to yours"
        for resource, verb, group in missing:
            full = f"{resource}.{group}" if group else resource
            yield Check("fail", "rights", f"may not {verb} {full} in {self._cluster.namespace}", fix)
        if not missing:
            yield Check("ok", "rights", f"all {len(NEEDED)} that a session needs")
        lost: dict[str, list[str]] = {}
        for resource, verb, _ in (one for one in WANTED if not answers[one]):
            lost.setdefault(resource, []).append(verb)
        for resource, verbs in lost.items():
            where = "nodes.yaml" if resource in _CLUSTER_WIDE else "rbac.yaml"
            text = f"may not {', '.join(verbs)} {resource}: {_LOSS[resource]}"
            yield Check("warn", "rights", text, f"deploy/base/{where}")

    async def _may(self, resource: str, verb: str, group: str) -> bool:
        name, _, sub = resource.partition("/")
        namespaced = resource not in _CLUSTER_WIDE
        return (await self._cluster.review(verb, name, group=group, subresource=sub, namespaced=namespaced)).allowed

    async def _devices(self) -> AsyncIterator[Check]:
        try:
            nodes = (await self._cluster.list("nodes")).items
        except KubeError as error:
            if error.status != 403:
                raise
            fix = "name them with --gpus, such as 8xH100-80GB, or apply deploy/base/nodes.yaml"
            yield Check("warn", "devices", f"nodes cannot be seen: {sentence(str(error))}", fix)
            return
        self._nodes, refused = devices(nodes, self._settings)
        for reason in _some([refusal.reason for refusal in refused]):
            yield Check("warn", "devices", reason)
        for reason in _some([node.why_not for node in self._nodes if not node.usable]):
            yield Check("warn", "devices", reason)
        usable = [node for node in self._nodes if node.usable]
        if not usable:
            what = self._settings.gpu_resource or "CPUs"
            fix = "install the NVIDIA device plugin and GPU feature discovery, and see the rows above, if there are any"
            yield Check("fail", "devices", f"none of {len(nodes)} nodes offers {what} to our runs", fix)
            return
        counts: Counter[str] = Counter()
        for node in usable:
            counts[f"{node.cls} ({node.product})" if node.product else node.cls] += node.count
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        yield Check("ok", "devices", f"{words}, on {len(usable)} node{'s' if len(usable) > 1 else ''}")
        if self._settings.gpu_resource and not any(node.product for node in usable):
            fix = "install GPU feature discovery: different products would be compared as if they were one"
            yield Check("warn", "devices", f"no node has the label {self._settings.product_label}", fix)

    async def _quota(self) -> AsyncIterator[Check]:
        try:
            quotas = (await self._cluster.list("resourcequotas")).items
        except KubeError as error:
            if error.status != 403:
                raise
            return
        kinds = [f"requests.{self._settings.gpu_resource}"] if self._settings.gpu_resource else []
        kinds += ["pods", *(f"{prefix}{kind}" for prefix in ("", "count/") for kind in ("jobs.batch", "configmaps"))]
        for quota in quotas:
            used = (quota.get("status") or {}).get("used") or {}
            for key, limit in ((quota.get("spec") or {}).get("hard") or {}).items():
                if key in kinds:
                    yield _quota_row(str(quota["metadata"]["name"]), key, number(limit), number(used.get(key, "0")))

    async def _data(self) -> AsyncIterator[Check]:
        what, _, where = self._settings.data.partition(":")
        if what == "image":
            if self._version and self._version < IMAGE_VOLUMES:
                fix = "the server's and the nodes' feature gate ImageVolume, or a claim: --data pvc:NAME"
                yield Check("warn", "data", f"Kubernetes before {IMAGE_VOLUMES[0]}.{IMAGE_VOLUMES[1]}", fix)
            else:
                yield Check("ok", "data", f"the image {where}, mounted as a volume")
            return
        name = where.partition("/")[0]
        try:
            claim = await self._cluster.get("persistentvolumeclaims", name)
        except KubeError as error:
            if error.status == 404:
                fix = f"{_APPLY}, then prepare --kubernetes; or name another with --data"
                yield Check("fail", "data", f"there is no claim {name} in {self._cluster.namespace}", fix)
            elif error.status == 403:
                yield Check("warn", "data", f"the claim {name} cannot be looked at", "deploy/base/rbac.yaml")
            else:
                raise
            return
        yield await self._claim(name, claim)

    async def _claim(self, name: str, claim: Json) -> Check:
        """What a claim's state means."""
        phase = (claim.get("status") or {}).get("phase")
        modes = list(
            (claim.get("status") or {}).get("accessModes") or (claim.get("spec") or {}).get("accessModes") or ()
        )
        if phase == "Lost":
            return Check("fail", "data", f"the claim {name} has lost its volume", "make it anew, then prepare it again")
        if phase != "Bound":
            reason, words = await self._last_event("PersistentVolumeClaim", name)
            if reason == "WaitForFirstConsumer":
                fix = "prepare --kubernetes is that pod"
                return Check("warn", "data", f"the claim {name} gets its volume with its first pod", fix)
            fix = "set storageClassName and accessModes of deploy/base/data.yaml to what the cluster has"
            return Check("fail", "data", f"the claim {name} has no volume: {words or phase}", fix)
        if not any(mode.endswith("Many") for mode in modes):
            fix = "fine on one node; for more take a storage class with ReadWriteMany or ReadOnlyMany"
            return Check(
                "warn", "data", f"the claim {name} is {', '.join(modes)}: one node at a time can mount it", fix
            )
        return Check("ok", "data", f"the claim {name}, {', '.join(modes)}")

    async def _last_event(self, kind: str, name: str) -> tuple[str, str]:
        """Reason and words of the last event about an object; both empty where there is none."""
        events = []
        with contextlib.suppress(KubeError):
            fields = f"involvedObject.kind={kind},involvedObject.name={name}"
            events = (await self._cluster.list("events", fields=fields)).items
        events.sort(key=lambda event: str(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp")))
        return (str(events[-1].get("reason")), sentence(str(events[-1].get("message")))) if events else ("", "")

    async def _priority(self) -> AsyncIterator[Check]:
        name = self._settings.priority_class
        if not name:
            return
        try:
            await self._cluster.get("priorityclasses", name)
            yield Check("ok", "priority", name)
        except KubeError as error:
            if error.status == 404:
                fix = f"{_APPLY}, or set priority_class to one of yours (empty: none)"
                yield Check("fail", "priority", f"there is no priority class {name}: every pod would be refused", fix)
            elif error.status != 403:  # its absence of rights has a row already
                raise

    async def _queue(self) -> AsyncIterator[Check]:
        name = self._settings.queue
        if not name:
            return
        versions = await self._cluster.api_versions(_KUEUE)
        if not versions:
            fix = "install Kueue, or leave --queue away: the label would mean nothing"
            yield Check("fail", "queue", "Kueue is not installed in this cluster", fix)
            return
        try:
            await self._cluster.get("localqueues", name, version=versions[0])
            yield Check("ok", "queue", f"Kueue queue {name}")
        except KubeError as error:
            if error.status == 404:
                fix = "kubectl apply -k deploy/kueue, or name a LocalQueue of this namespace with --queue"
                yield Check("fail", "queue", f"there is no queue {name} in {self._cluster.namespace}", fix)
            elif error.status == 403:
                yield Check("warn", "queue", f"{name} cannot be looked at", "deploy/base/rbac.yaml")
            else:
                raise

    async def _dry_run(self) -> AsyncIterator[Check]:
        """Have the server look at the very Job that a run would be."""
        product = next((node for node in self._nodes if node.usable), None)
        try:
            body = canary_job(self._settings, product.product if product else "", product, unique("dry"))
            created = await self._cluster.create("jobs", body, dry_run=True)
        except ExecutorError as error:
            yield Check("fail", "job", str(error), "mend the overlay")
            return
        except KubeError as error:
            if error.transient:
                raise
            fix = "see what --overlay and --cluster add to it, and the policies of the server"
            yield Check("fail", "job", f"the server refuses our Jobs: {sentence(str(error))}", fix)
            return
        for warning in created.warnings:
            if "PodSecurity" in warning:
                fix = "take out of --overlay what the namespace's PodSecurity forbids: it would refuse every pod"
                yield Check("fail", "job", sentence(warning), fix)
            else:
                yield Check("warn", "job", sentence(warning))
        if not created.warnings:
            yield Check("ok", "job", "the server takes our Jobs (dry run, strict)")


def _quota_row(name: str, key: str, limit: float, used: float) -> Check:
    """What one bound of a quota means for a session."""
    found = f"{name}: {key} {limit:g}, {max(0.0, limit - used):g} left"
    if limit <= 0:
        return Check("fail", "quota", found, "ask the namespace's administrator for some")
    if used >= limit:
        return Check("warn", "quota", found, "runs wait until something ends: see kubectl get jobs,pods")
    return Check("ok", "quota", found)


def _some(reasons: list[str]) -> list[str]:
    """The first few of many."""
    more = len(reasons) - _MOST_NODES
    return reasons[:_MOST_NODES] + ([f"and {more} more nodes like these"] if more > 0 else [])


def _failed(what: str, told: str, fix: str) -> Check:
    """A failed row; where the sentence itself says what to do, that is the fix."""
    parts = _ADVICE.split(told, maxsplit=1)
    return Check("fail", what, parts[0], parts[1] if len(parts) > 1 else fix)
