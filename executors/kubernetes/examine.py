"""Finds out what a cluster lacks for a session, one check after the other; the last is a real pod per product."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal, NamedTuple

from core.executor import AttemptSpec, ExecutorError
from executors.kubernetes import manifest, names
from executors.kubernetes.access import Access
from executors.kubernetes.classify import classify
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.janitor import persist
from executors.kubernetes.link import OLDEST
from executors.kubernetes.nodes import NodeDevices, devices
from executors.kubernetes.quantity import number
from executors.kubernetes.settings import KubeSettings

CANARY_S: Final = 180.0
SKEW_S: Final = 30.0
NEEDED: Final = (
    *(("jobs", verb, "batch") for verb in ("create", "get", "list", "watch", "delete")),
    *(("pods", verb, "") for verb in ("get", "list", "watch", "delete")),
    ("pods/log", "get", ""),
    *(("configmaps", verb, "") for verb in ("create", "get", "list", "delete")),
    *(("events", verb, "") for verb in ("list", "watch")),
)
"""(resource, verb, group) that a session cannot do without."""
WANTED: Final = (
    ("nodes", "list", ""),
    ("nodes", "watch", ""),
    ("resourcequotas", "list", ""),
    ("persistentvolumeclaims", "get", ""),
    ("priorityclasses", "get", "scheduling.k8s.io"),
)
_CANARY: Final = """
import json, os, sys
found = {"python": sys.version.split()[0]}
try:
    import torch
    found["torch"] = torch.__version__
    found["gpus"] = torch.cuda.device_count()
    found["gpu"] = torch.cuda.get_device_name(0) if found["gpus"] else ""
except Exception as error:
    found["error"] = f"{type(error).__name__}: {error}"[:200]
try:
    found["corpus"] = json.load(open("/data/meta.json"))["sha256"]
except Exception as error:
    found["data"] = f"{type(error).__name__}: {error}"[:200]
import ctypes
found["landlock"] = ctypes.CDLL(None).syscall(444, None, 0, 1)
message = json.dumps({"ar": 1, "attempt": "r0.1", "outcome": "ok", "val_bpb": 1.0, "tier": "unconfined",
    "confinement": "none", "found": found})
open("/dev/termination-log", "w").write(message)
"""

Json = dict[str, Any]


class Check(NamedTuple):
    """One row: what was looked at, what was found, and what to do about it."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""


async def examine(settings: KubeSettings, *, canary: bool) -> AsyncIterator[Check]:
    """Run the checks; those that make no sense after a failure are left out."""
    try:
        access = Access.resolve(settings.kubeconfig, settings.context, settings.namespace)
        yield Check("ok", "kubeconfig", f"{access.source}, context {access.context or '(in the cluster)'}")
    except ExecutorError as error:
        yield _failed("kubeconfig", str(error))
        return
    try:
        cluster = await Cluster.connect(access)
    except ExecutorError as error:
        yield _failed("server", str(error))
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
        self._failed = False

    async def run(self, *, canary: bool) -> AsyncIterator[Check]:
        checks: tuple[Callable[[], AsyncIterator[Check]], ...] = (
            self._server, self._namespace, self._rights, self._devices, self._quota, self._data, self._priority,
            self._queue, self._dry_run,
        )  # fmt: skip
        for one in checks:
            async for check in one():
                self._failed = self._failed or check.verdict == "fail"
                yield check
        if not canary:
            yield Check("warn", "canary", "not run", "without --no-canary a pod per product is really started")
        elif self._failed:
            yield Check("warn", "canary", "not run: what failed above comes first")
        else:
            async for check in self._canaries():
                yield check

    async def _server(self) -> AsyncIterator[Check]:
        text = await self._cluster.version()
        found = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
        skew_s = self._cluster.skew_s or 0.0
        if found < OLDEST:
            yield Check("fail", "server", f"Kubernetes {text}", f"it has to be {OLDEST[0]}.{OLDEST[1]} or newer")
        else:
            yield Check("ok", "server", f"Kubernetes {text}")
        if abs(skew_s) > SKEW_S:
            fix = "set this machine's clock (NTP); runs work, but times in the cluster's own records look odd"
            yield Check("warn", "clock", f"the server's clock is {skew_s:+.0f} s off ours", fix)

    async def _namespace(self) -> AsyncIterator[Check]:
        name = self._cluster.namespace
        try:
            await self._cluster.get("namespaces", name)
        except KubeError as error:
            if error.status == 404:
                yield Check(
                    "fail", "namespace", f"there is no namespace {name}", "kubectl apply -k deploy/base, or --namespace"
                )
                return
            if error.status != 403:  # not to be allowed to look says nothing
                yield Check("warn", "namespace", f"{name}: {error}")
                return
        yield Check("ok", "namespace", name)

    async def _rights(self) -> AsyncIterator[Check]:
        """One row for all that is allowed, one for each thing that is not."""

        async def review(resource: str, verb: str, group: str) -> bool:
            name, _, sub = resource.partition("/")
            namespaced = resource not in ("nodes", "priorityclasses")
            return (await self._cluster.review(verb, name, group=group, subresource=sub, namespaced=namespaced)).allowed

        try:
            allowed = await asyncio.gather(*(review(*one) for one in (*NEEDED, *WANTED)))
        except KubeError as error:
            yield Check("warn", "rights", f"they cannot be looked up: {error}")
            return
        answers = dict(zip((*NEEDED, *WANTED), allowed, strict=True))
        missing = [one for one in NEEDED if not answers[one]]
        for resource, verb, group in missing:
            full = f"{resource}.{group}" if group else resource
            yield Check(
                "fail", "rights", f"may not {verb} {full} in {self._cluster.namespace}", "kubectl apply -k deploy/base"
            )
        if not missing:
            yield Check("ok", "rights", f"all {len(NEEDED)} that a session needs")
        for resource, verb, _ in (one for one in WANTED if not answers[one]):
            yield Check(
                "warn",
                "rights",
                f"may not {verb} {resource}: {_LOSS[resource]}",
                "deploy/base/nodes.yaml, deploy/base/rbac.yaml",
            )

    async def _devices(self) -> AsyncIterator[Check]:
        try:
            nodes = (await self._cluster.list("nodes")).items
        except KubeError as error:
            yield Check(
                "warn", "devices", f"nodes cannot be seen: {error}", "name them with --gpus, such as 8xH100-80GB"
            )
            return
        found, refused = devices(nodes, self._settings)
        self._nodes = found
        for refusal in refused[:5]:
            yield Check("warn", "devices", refusal.reason)
        for node in [node for node in found if not node.usable][:5]:
            yield Check("warn", "devices", node.why_not)
        usable = [node for node in found if node.usable]
        if not usable:
            what = self._settings.gpu_resource or "CPU"
            fix = "install the NVIDIA device plugin and GPU feature discovery, or see the rows above"
            yield Check("fail", "devices", f"none of {len(nodes)} nodes offers {what}", fix)
            return
        counts: dict[str, int] = {}
        for node in usable:
            counts[f"{node.cls} ({node.product})" if node.product else node.cls] = (
                counts.get(f"{node.cls} ({node.product})" if node.product else node.cls, 0) + node.count
            )
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        yield Check("ok", "devices", f"{words}, on {len(usable)} nodes")
        if any(not node.product for node in usable) and self._settings.gpu_resource:
            fix = "install GPU feature discovery: without the label different products would be compared as one"
            yield Check("warn", "devices", f"some nodes have no label {self._settings.product_label}", fix)

    async def _quota(self) -> AsyncIterator[Check]:
        try:
            quotas = (await self._cluster.list("resourcequotas")).items
        except KubeError:
            return
        for quota in quotas:
            for key, limit in ((quota.get("spec") or {}).get("hard") or {}).items():
                if key not in (
                    f"requests.{self._settings.gpu_resource}",
                    "count/jobs.batch",
                    "count/configmaps",
                    "pods",
                ):
                    continue
                used = ((quota.get("status") or {}).get("used") or {}).get(key, "0")
                left = number(limit) - number(used)
                verdict: Literal["ok", "fail"] = "fail" if number(limit) == 0 else "ok"
                fix = "ask the namespace's administrator for some" if verdict == "fail" else ""
                yield Check(verdict, "quota", f"{quota['metadata']['name']}: {key} {limit}, {left:g} left", fix)

    async def _data(self) -> AsyncIterator[Check]:
        what, _, where = self._settings.data.partition(":")
        if what == "image":
            yield Check(
                "ok", "data", f"the image {where}, mounted as a volume (Kubernetes 1.36, or 1.33 with its gate)"
            )
            return
        name = where.partition("/")[0]
        try:
            claim = await self._cluster.get("persistentvolumeclaims", name)
        except KubeError as error:
            if error.status == 404:
                fix = "kubectl apply -k deploy/base, then prepare --kubernetes; or name another with --data"
                yield Check("fail", "data", f"there is no claim {name} in {self._cluster.namespace}", fix)
            else:
                yield Check("warn", "data", f"the claim {name} cannot be looked at: {error}")
            return
        phase = (claim.get("status") or {}).get("phase")
        modes = ", ".join((claim.get("spec") or {}).get("accessModes") or ())
        if phase == "Lost":
            yield Check(
                "fail", "data", f"the claim {name} has lost its volume", "make it anew, then prepare --kubernetes"
            )
        elif phase != "Bound":
            yield Check(
                "warn", "data", f"the claim {name} is {phase}", "it may be bound by its first pod; else see its events"
            )
        elif "ReadWriteOnce" in modes and "Many" not in modes:
            fix = "runs can use one node only: take a storage class with ReadWriteMany or ReadOnlyMany"
            yield Check("warn", "data", f"the claim {name} is {modes}", fix)
        else:
            yield Check("ok", "data", f"the claim {name}, {modes}")

    async def _priority(self) -> AsyncIterator[Check]:
        name = self._settings.priority_class
        if not name:
            return
        try:
            await self._cluster.get("priorityclasses", name)
            yield Check("ok", "priority", name)
        except KubeError as error:
            if error.status == 404:
                fix = "kubectl apply -k deploy/base, or set priority_class to one of yours (empty: none)"
                yield Check("fail", "priority", f"there is no priority class {name}: every pod would be refused", fix)

    async def _queue(self) -> AsyncIterator[Check]:
        name = self._settings.queue
        if not name:
            return
        try:
            await self._cluster.get("localqueues", name)
            yield Check("ok", "queue", f"Kueue queue {name}")
        except KubeError as error:
            if error.status == 404:
                fix = "kubectl apply -k deploy/kueue, or name a LocalQueue of this namespace with --queue"
                yield Check("fail", "queue", f"there is no queue {name} in {self._cluster.namespace}", fix)
            else:
                yield Check("warn", "queue", f"{name} cannot be looked at: {error}")

    async def _dry_run(self) -> AsyncIterator[Check]:
        """Have the server look at the very Job that a run would be."""
        try:
            created = await self._cluster.create(
                "jobs", self._job(self._settings.image, "", None, name="dry"), dry_run=True
            )
        except KubeError as error:
            yield Check(
                "fail",
                "job",
                f"the server refuses our Jobs: {error}",
                "see --overlay, --cluster and the server's policies",
            )
            return
        except ExecutorError as error:
            yield Check("fail", "job", str(error), "mend the overlay")
            return
        for warning in created.warnings:
            fix = (
                "the namespace's PodSecurity would refuse every pod: see the overlay"
                if "PodSecurity" in warning
                else ""
            )
            yield Check("fail" if "PodSecurity" in warning else "warn", "job", warning, fix)
        if not created.warnings:
            yield Check("ok", "job", "the server takes our Jobs (dry run, strict)")

    # -- canaries

    async def _canaries(self) -> AsyncIterator[Check]:
        """Really start a pod for each product: what only a real pod can show."""
        first: dict[str, NodeDevices | None] = {node.product: node for node in reversed(self._nodes) if node.usable}
        first = first or {"": None}
        for product, node in first.items():
            async for check in self._canary(product, node):
                yield check

    async def _canary(self, product: str, node: NodeDevices | None) -> AsyncIterator[Check]:
        what = f"canary {node.cls if node is not None else product}".strip()
        body = self._job(
            self._settings.image,
            product,
            node,
            name=re.sub(r"[^a-z0-9]+", "-", product.lower()).strip("-")[:20] or "any",
        )
        try:
            job = (await self._cluster.create("jobs", body)).object
        except KubeError as error:
            yield Check("fail", what, f"its Job is refused: {error}")
            return
        try:
            pod, words = await self._end_of(job)
        finally:
            with contextlib.suppress(KubeError):
                await asyncio.shield(
                    persist(lambda: self._cluster.delete("jobs", job["metadata"]["name"], uid=job["metadata"]["uid"]))
                )
        if pod is None:
            yield Check("fail", what, words, "see the events of the namespace: kubectl get events")
            return
        for check in _findings(what, pod, self._settings, has_gpu=bool(self._settings.gpu_resource)):
            yield check

    async def _end_of(self, job: Json) -> tuple[Json | None, str]:
        """What the canary's pod found, or why it did not get there."""
        name, until_s, words = job["metadata"]["name"], time.monotonic() + CANARY_S, "its pod was not made"
        while time.monotonic() < until_s:
            pods = (await self._cluster.list("pods", labels=f"job-name={name}")).items
            events = [one for one in (await self._cluster.list("events")).items if names.job_of(one) == name]
            seen = classify("r0.1", job, pods[0] if pods else None, events, cancelled_by_us=False)
            words = seen.reason or words
            if seen.phase == "ended":
                found = (seen.result or {}).get("found")
                return (found if isinstance(found, dict) else None), words or "it left no word"
            if seen.hold and seen.hold != "image":
                return None, words
            await asyncio.sleep(0.5)
        return None, f"it did not end within {CANARY_S:g} s: {words}"

    def _job(self, image: str, product: str, node: NodeDevices | None, *, name: str) -> Json:
        """The Job of a run, but for what it runs and reads. Raises ExecutorError."""
        spec = AttemptSpec("r0", "r0.1", "", "", "canary", "", 0, 10.0, 0.0)
        session = f"canary-{name}-{int(time.time())}"
        body = manifest.job(
            spec,
            session,
            self._settings,
            product=product,
            sample=node,
            avoid_nodes=(),
            inputs={},
            code="none",
            wall_s=10.0,
        )
        pod = body["spec"]["template"]["spec"]
        container = pod["containers"][0]
        container |= {"image": image, "command": [self._settings.python, "-c", _CANARY], "workingDir": "/tmp"}  # noqa: S108
        gone = ("code", "attempt")
        container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] not in gone]
        pod["volumes"] = [one for one in pod["volumes"] if one["name"] not in gone]
        pod["activeDeadlineSeconds"] = int(CANARY_S)
        body["spec"]["ttlSecondsAfterFinished"] = 60
        return body


_LOSS: Final = {
    "nodes": "the screen shows no nodes, and --gpus has to say what there is",
    "resourcequotas": "quotas are met only when a pod is refused",
    "persistentvolumeclaims": "a missing corpus shows only in the first pod",
    "priorityclasses": "a missing priority class shows only in the first pod",
}


def _findings(what: str, found: Json, settings: KubeSettings, *, has_gpu: bool) -> list[Check]:
    """What a canary saw, row by row."""
    rows: list[Check] = []
    if found.get("error"):
        rows.append(
            Check(
                "fail",
                what,
                f"torch does not start in the image: {found['error']}",
                f"use an image with torch, not {settings.image}",
            )
        )
    elif has_gpu and not found.get("gpus"):
        rows.append(
            Check(
                "fail",
                what,
                f"torch {found.get('torch')} sees no GPU",
                "set runtime_class: nvidia, or an image with CUDA",
            )
        )
    else:
        gpu = f" on {found['gpu']}" if found.get("gpu") else ""
        rows.append(Check("ok", what, f"Python {found.get('python')}, torch {found.get('torch')}{gpu}"))
    if found.get("data"):
        rows.append(
            Check(
                "fail",
                what,
                f"the corpus is not readable in the pod ({found['data']})",
                "autoresearch-tui prepare --kubernetes",
            )
        )
    if int(found.get("landlock") or 0) <= 0:
        rows.append(
            Check(
                "warn",
                what,
                "no Landlock in the pod: scores will be marked `unconfined`",
                "nodes with Linux 5.13 and containerd 1.6 or newer",
            )
        )
    return rows


def _failed(what: str, sentence: str) -> Check:
    """A failed row from a sentence that ends with what to do."""
    found, mark, fix = sentence.rpartition(": ")
    return Check("fail", what, found or sentence, fix if mark else "")
