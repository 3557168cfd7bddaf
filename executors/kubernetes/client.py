"""The Kubernetes API of one namespace, in raw objects: what may be asked of it, paced and repeated as it should be.

Objects go in and out as plain dicts, so that the server is the one that validates them, and a watch costs a tenth of
decoding to models.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from core.executor import ExecutorError
from executors.kubernetes.access import Access
from executors.kubernetes.errors import KubeError, error_of, not_json
from executors.kubernetes.wire import Wire

__all__ = ["Access", "Cluster", "Created", "KubeError", "Listing", "Review"]

REQUEST_S: Final = 30.0
"""Real seconds for one request, before it counts as lost."""
WATCH_S: Final = 55.0
_WATCH_MARGIN_S: Final = 15.0
QUIET_S: Final = 180.0
"""Real seconds without a byte after which a log's connection counts as dead: a run prints more often than that."""
TRIES: Final = 4
_FIRST_PAUSE_S: Final = 0.3
_LONGEST_PAUSE_S: Final = 8.0
PAGE: Final = 500
_EXPIRED_PAGES: Final = 3
_BURST_S: Final = 2.0
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')

Json = dict[str, Any]


class Kind(NamedTuple):
    """Where objects of a kind live."""

    group: str
    version: str
    kind: str
    namespaced: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    "jobs": Kind("batch", "v1", "Job"),
    "pods": Kind("", "v1", "Pod"),
    "configmaps": Kind("", "v1", "ConfigMap"),
    "events": Kind("", "v1", "Event"),
    "nodes": Kind("", "v1", "Node", namespaced=False),
    "namespaces": Kind("", "v1", "Namespace", namespaced=False),
    "leases": Kind("coordination.k8s.io", "v1", "Lease"),
    "resourcequotas": Kind("", "v1", "ResourceQuota"),
    "limitranges": Kind("", "v1", "LimitRange"),
    "persistentvolumeclaims": Kind("", "v1", "PersistentVolumeClaim"),
    "priorityclasses": Kind("scheduling.k8s.io", "v1", "PriorityClass", namespaced=False),
    "localqueues": Kind("kueue.x-k8s.io", "v1beta2", "LocalQueue"),
    "workloads": Kind("kueue.x-k8s.io", "v1beta2", "Workload"),
}


class Created(NamedTuple):
    """An object as the server took it, and what it warned of."""

    object: Json
    warnings: list[str]


class Listing(NamedTuple):
    """Objects of one moment; a watch goes on from there."""

    items: list[Json]
    resource_version: str


class Review(NamedTuple):
    """Whether somebody may do something."""

    allowed: bool
    reason: str


class Cluster:
    """One API server and one namespace of it. Every method raises KubeError.

    Args:
        access: the way in.
        in_flight: creations at once; submit_per_s: at most so many Jobs a second.
    """

    def __init__(self, access: Access, *, in_flight: int = 16, submit_per_s: float = 60.0) -> None:
        self.namespace, self._access = access.namespace, access
        self._wire = Wire(access)
        self._creating = asyncio.Semaphore(in_flight)
        self._bucket = Bucket(submit_per_s)

    @classmethod
    async def connect(
        cls, access: Access, *, in_flight: int = 16, submit_per_s: float = 60.0, tries: int = TRIES
    ) -> Cluster:
        """Load the credentials and see that a server answers. Raises ExecutorError, in one sentence that says why."""
        cluster = cls(access, in_flight=in_flight, submit_per_s=submit_per_s)
        await cluster._wire.open()
        try:
            await cluster._asked("GET", "/version", tries=tries)
        except KubeError as error:
            await cluster.close()
            if error.status == 403:
                text = f"these credentials may not even ask {cluster._wire.host} for its version: {error.message}"
                raise ExecutorError(text) from None
            raise ExecutorError(f"the Kubernetes API cannot be used: {error.message}") from None
        return cluster

    async def close(self) -> None:
        """Let go of all connections."""
        await self._wire.close()

    @property
    def refused_credentials(self) -> bool:
        """Whether the last answer was that nobody knows us: the one trouble that waiting does not mend."""
        return self._wire.refused_credentials

    @property
    def skew_s(self) -> float | None:
        """How far the server's clock is ahead of ours, in seconds; None before its first answer."""
        return self._wire.skew_s

    # -- objects

    async def create(self, kind: str, body: Json, *, dry_run: bool = False) -> Created:
        """POST an object, which the server validates strictly; repeated where nobody answered.

        An object that exists already, perhaps since such a repetition, is a KubeError with reason AlreadyExists.
        """
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        if kind == "jobs" and not dry_run:
            await self._bucket.take()
        async with self._creating:
            headers, data = await self._asked("POST", self._path(kind), query, body)
        return Created(_object(data), _warnings(headers.getall("Warning", [])))

    async def get(self, kind: str, name: str, *, version: str = "") -> Json:
        """GET an object, of another version of its group where one is named."""
        return _object((await self._asked("GET", self._path(kind, name, version=version)))[1])

    async def replace(self, kind: str, body: Json) -> Json:
        """PUT an object."""
        name = body["metadata"]["name"]
        return _object((await self._asked("PUT", self._path(kind, name), {"fieldValidation": "Strict"}, body))[1])

    async def list(
        self, kind: str, *, labels: str = "", fields: str = "", all_namespaces: bool = False, tries: int = TRIES
    ) -> Listing:
        """All objects of a kind at one moment, page by page; begun anew where a page came too late."""
        query = {"limit": str(PAGE)} | _selectors(labels, fields)
        path = self._path(kind, all_namespaces=all_namespaces)
        items: list[Json] = []
        token, expired = "", 0
        while True:
            try:
                _, data = await self._asked("GET", path, query | ({"continue": token} if token else {}), tries=tries)
            except KubeError as error:
                expired += 1
                if error.status != 410 or not token or expired > _EXPIRED_PAGES:
                    raise
                items, token = [], ""
                if expired == _EXPIRED_PAGES:  # its history is shorter than our paging: one page then, however large
                    del query["limit"]
                continue
            page = _object(data)
            meta, found = page.get("metadata"), page.get("items") or []
            if not isinstance(meta, dict) or not isinstance(found, list):
                raise KubeError(0, "Malformed", f"what answers for {kind} is no list")
            items += found
            token = meta.get("continue") or ""
            if not token:
                return Listing(items, str(meta.get("resourceVersion") or ""))

    async def watch(
        self,
        kind: str,
        resource_version: str,
        *,
        labels: str = "",
        timeout_s: float = WATCH_S,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[tuple[str, Json], None]:
        """Changes from a resource version on, (type, object), until the server ends the watch after `timeout_s`.

        A type is ADDED, MODIFIED, DELETED or BOOKMARK. A connection that died silently ends a little later, with an
        error. `on_open` is called once the server has begun to answer.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout_s))),
        } | _selectors(labels)
        path = self._path(kind)
        async for line in self._wire.lines(path, query, longest_s=timeout_s + _WATCH_MARGIN_S, on_open=on_open):
            yield _changed(line)

    async def delete(self, kind: str, name: str, *, uid: str | None = None, grace_s: float | None = None) -> bool:
        """DELETE an object, and in the background what it owns; whether this one was there."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace_s is not None:
            body["gracePeriodSeconds"] = int(grace_s)
        try:
            await self._asked("DELETE", self._path(kind, name), {}, body)
        except KubeError as error:
            if error.status == 404 or (error.status == 409 and uid is not None):
                return False
            raise
        return True

    # -- logs

    async def read_log(self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None) -> bytes:
        """What a pod printed, as far as its node still has it."""
        query = {"tailLines": str(tail_lines)} if tail_lines is not None else {}
        query |= {"limitBytes": str(limit_bytes)} if limit_bytes is not None else {}
        return (await self._asked("GET", self._path("pods", pod) + "/log", query))[1]

    async def follow_log(self, pod: str, *, since_s: int | None = None) -> AsyncGenerator[tuple[str, str], None]:
        """(RFC 3339 time, line) as they come, until the container ends. A silent connection ends with an error."""
        query = {"follow": "true", "timestamps": "true"}
        query |= {"sinceSeconds": str(max(1, since_s))} if since_s is not None else {}
        async for line in self._wire.lines(self._path("pods", pod) + "/log", query, quiet_s=QUIET_S):
            time, _, text = line.decode(errors="replace").rstrip("\r").partition(" ")
            yield (time, text) if time[:1].isdigit() else ("", f"{time} {text}")

    # -- about the cluster and us

    async def review(
        self, verb: str, resource: str, *, group: str = "", subresource: str = "", namespaced: bool = True
    ) -> Review:
        """Whether these credentials may do something."""
        attributes = {"verb": verb, "resource": resource, "group": group, "subresource": subresource}
        if namespaced:
            attributes["namespace"] = self.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        _, data = await self._asked("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, body)
        status = _object(data).get("status") or {}
        return Review(bool(status.get("allowed")), str(status.get("reason") or ""))

    async def version(self) -> str:
        """The server's version, such as v1.36.2."""
        return str(_object((await self._asked("GET", "/version"))[1]).get("gitVersion") or "")

    async def api_versions(self, group: str) -> tuple[str, ...]:
        """The versions of an API group that the server has, the one it prefers first; none: it has no such group."""
        try:
            found = _object((await self._asked("GET", f"/apis/{quote(group, safe='')}"))[1])
        except KubeError as error:
            if error.status == 404:
                return ()
            raise
        first = str((found.get("preferredVersion") or {}).get("version") or "")
        others = [str(one.get("version")) for one in found.get("versions") or ()]
        return tuple(dict.fromkeys(version for version in (first, *others) if version))

    async def post_raw(self, path: str, body: Json) -> None:
        """POST to a path of a simulated server's own."""
        await self._asked("POST", path, {}, body)

    # -- requests

    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        *,
        tries: int = TRIES,
    ) -> tuple[Any, bytes]:
        """The headers and the body of an answer; asked for again where that is safe and may help."""
        bound_s = _FIRST_PAUSE_S
        while True:
            tries -= 1
            try:
                async with self._wire.answer(method, path, query or {}, body, longest_s=REQUEST_S) as response:
                    data = await response.read()
                    if response.content_type == "text/html":
                        raise not_json(response.content_type, data)
                    return response.headers, data
            except KubeError as error:
                if not error.transient or tries <= 0:
                    raise
                asked_s = min(error.retry_after_s or 0.0, _LONGEST_PAUSE_S)
            await asyncio.sleep(asked_s + random.uniform(0.0, bound_s))  # noqa: S311  jitter is no secret
            bound_s = min(_LONGEST_PAUSE_S, bound_s * 2)

    def _path(self, kind: str, name: str = "", *, version: str = "", all_namespaces: bool = False) -> str:
        known = KINDS[kind]
        version = version or known.version
        base = f"/apis/{known.group}/{version}" if known.group else f"/api/{version}"
        place = f"/namespaces/{quote(self.namespace, safe='')}" if known.namespaced and not all_namespaces else ""
        return f"{base}{place}/{kind}" + (f"/{quote(name, safe='')}" if name else "")


class Bucket:
    """Lets so many through a second, after a first burst of twice that."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._next_s = per_s, 0.0

    async def take(self) -> None:
        """Wait for one's turn."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - _BURST_S) + 1.0 / self._per_s
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


def _object(data: bytes) -> Json:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KubeError(0, "Malformed", f"the server's answer cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise KubeError(0, "Malformed", "the server's answer is no object")
    return found


def _selectors(labels: str, fields: str = "") -> dict[str, str]:
    return ({"labelSelector": labels} if labels else {}) | ({"fieldSelector": fields} if fields else {})


def _changed(line: bytes) -> tuple[str, Json]:
    """One line of a watch. Raises KubeError for what the server reports in it, and for what is no change."""
    change = _object(line)
    what, obj = str(change.get("type")), change.get("object")
    if what == "ERROR" and isinstance(obj, dict):
        raise error_of(500, msgspec.json.encode(obj), None)
    meta = obj.get("metadata") if isinstance(obj, dict) else None
    if not isinstance(obj, dict) or not isinstance(meta, dict) or not meta.get("resourceVersion"):
        raise KubeError(0, "Malformed", "a watch brought something that is no object")
    if what != "BOOKMARK" and not meta.get("uid"):
        raise KubeError(0, "Malformed", "a watch brought an object without a uid")
    return what, obj


def _warnings(headers: list[str]) -> list[str]:
    """The words of Warning headers, such as `299 - "would violate PodSecurity"` (RFC 7234, 5.5)."""
    found = [re.sub(r"\\(.)", r"\1", text) for header in headers for text in _QUOTED.findall(header)]
    return found or headers
