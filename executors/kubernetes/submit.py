"""Brings attempts into the cluster: the code once, then a Job and its ConfigMap each, whatever the API answers."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from typing import Final

import msgspec

from core.executor import ExecutorConfig, ExecutorError
from executors.kubernetes import manifest, names
from executors.kubernetes.attempts import Attempt, Json
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.fleet import Fleet
from executors.kubernetes.posts import post_failure
from executors.kubernetes.seen import Seen
from executors.kubernetes.settings import KubeSettings
from executors.spec import spec_json

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class Refused(Exception):
    """The cluster does not take an attempt; `seen` says why, as if it had been seen there."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen.reason)
        self.seen = seen


class Submitter:
    """Creates what an attempt needs. Names are deterministic, so that every step may be done again.

    Args:
        cluster, fleet: see there.
        config, settings: of the session.
    """

    def __init__(self, cluster: Cluster, config: ExecutorConfig, settings: KubeSettings, fleet: Fleet) -> None:
        self._cluster, self._config, self._settings, self._fleet = cluster, config, settings, fleet
        self._harness = (config.target_dir / "harness.py").read_bytes()
        self._code = manifest.code_configmap(config.session, self._harness)

    async def publish_code(self) -> None:
        """Have the harness and the runner in the cluster, once per session and version. Raises ExecutorError."""
        try:
            await self._cluster.create("configmaps", self._code)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise ExecutorError(
                    f"the session's code cannot be brought into the namespace {self._cluster.namespace}: {error}"
                ) from None

    def gates_of(self, attempt: Attempt) -> list[tuple[str, str]]:
        """What an attempt needs that may be out of order."""
        return [
            (kind, self.gate_subject(attempt, kind))
            for kind in ("image", "policy", "no_such_node", "manifest", "quota", "data")
        ]

    def gate_subject(self, attempt: Attempt, kind: str) -> str:
        """What a gate of this kind concerns: nodes of one product, or the whole namespace."""
        return attempt.spec.device_class if kind == "no_such_node" else ""

    async def create(self, attempt: Attempt) -> None:
        """Create the Job and its ConfigMap, or adopt them. Raises Refused."""
        attempt.posting = True
        try:
            body, inputs = self._bodies(attempt)
            job = await self._create_job(attempt, body)
            attempt.take("jobs", "ADDED", job)
            await self._create_inputs(attempt, job, inputs)
        finally:
            attempt.posting = False

    async def complete(self, attempt: Attempt) -> None:
        """Have the ConfigMap of an attempt whose Job is there: an engine may have died in between."""
        if attempt.job is None or attempt.job_gone or attempt.ever_started or attempt.ended:
            return
        try:
            await self._create_inputs(attempt, attempt.job, self._bodies(attempt)[1])
        except Refused:
            return  # the pod says FailedMount, and is tried again

    async def _create_job(self, attempt: Attempt, body: Json) -> Json:
        """POST until there is an answer: a name that exists is ours, unless it says otherwise."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return (await self._cluster.create("jobs", body)).object
            except KubeError as error:
                if error.reason == "AlreadyExists":
                    known = await self._existing(attempt, body)
                    if known is not None:
                        return known
                elif not error.transient:
                    raise Refused(post_failure(error.status, error.reason, error.message)) from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _existing(self, attempt: Attempt, body: Json) -> Json | None:
        """The Job that has our name, if it is ours; None where it is about to go. Raises Refused."""
        try:
            known = await self._cluster.get("jobs", attempt.name)
        except KubeError:
            return None  # gone in the meantime, or nobody answers: the next POST will tell
        meta = known["metadata"]
        if meta.get("deletionTimestamp") or meta["uid"] in attempt.old:
            return None
        if (meta.get("annotations") or {}).get(names.SPEC_SHA256) == body["metadata"]["annotations"][names.SPEC_SHA256]:
            return known
        reason = f"another Job called {attempt.name} is in the namespace {self._cluster.namespace}: delete it"
        raise Refused(Seen(row="foreign_job", phase="ended", outcome="infrastructure", reason=reason))

    async def _create_inputs(self, attempt: Attempt, job: Json, inputs: Mapping[str, str]) -> None:
        """Create the ConfigMap that the pod waits for; one that an old Job of this name left goes first."""
        body = manifest.attempt_configmap(attempt.name, self._config.session, attempt.spec, inputs, job)
        pause_s = _FIRST_PAUSE_S
        while not attempt.ended and not attempt.job_gone:
            try:
                await self._cluster.create("configmaps", body)
            except KubeError as error:
                if error.reason == "AlreadyExists":
                    if await self._owned(attempt.name, job):
                        return
                elif not error.transient:
                    raise Refused(post_failure(error.status, error.reason, error.message)) from None
            else:
                return
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _owned(self, name: str, job: Json) -> bool:
        """Whether the ConfigMap that is there is this Job's; another Job's is deleted, if the cluster did not yet."""
        try:
            known = await self._cluster.get("configmaps", name)
            owners = {owner["uid"] for owner in known["metadata"].get("ownerReferences", ())}
            if job["metadata"]["uid"] in owners:
                return True
            await self._cluster.delete("configmaps", name, uid=known["metadata"]["uid"])
        except KubeError:
            return False
        return False

    def _bodies(self, attempt: Attempt) -> tuple[Json, Mapping[str, str]]:
        """The Job, and the files that its pod reads. Raises Refused where they cannot be."""
        spec = attempt.spec
        sample = self._fleet.sample(spec.device_class)
        product = self._fleet.product(spec.device_class)
        kind = "cuda" if self._settings.gpu_resource else "cpu"
        told = spec_json(
            spec,
            self._config,
            device={"kind": kind, "index": 0, "name": product or spec.device_class, "cls": spec.device_class},
            corpus_dir=names.DATA_DIR,
            python=self._settings.python,
            slots=1,
            harness_sha256=hashlib.sha256(self._harness).hexdigest(),
        )
        inputs = {"spec.json": msgspec.json.encode(told, order="sorted").decode(), "train.py": spec.source}
        size = sum(len(text.encode()) for text in inputs.values())
        if size > manifest.MOST_INPUT_BYTES:
            reason = f"train.py has {size:,} bytes; a cluster takes {manifest.MOST_INPUT_BYTES:,} at most"
            raise Refused(Seen(row="too_large", phase="ended", outcome="crash", reason=reason))
        job = manifest.job(
            spec,
            self._config.session,
            self._settings,
            product=product,
            sample=sample,
            avoid_nodes=self._fleet.quarantined,
            inputs=inputs,
            code=self._code["metadata"]["name"],
            wall_s=told["startup_cap_s"] + told["wall_cap_s"],
        )
        return job, inputs
