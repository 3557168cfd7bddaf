"""The Kubernetes API for one namespace, in raw objects: the only module that knows the client library.

The library brings kubeconfig, TLS, tokens, proxies and the connection pool (`kubernetes.aio`, aiohttp). Objects go in
and out as plain dicts: the server is the one that validates them, and a watch costs a tenth of decoding to models.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from core.executor import ExecutorError
from executors.kubernetes.access import Access
from executors.kubernetes.errors import KubeError, error_of

__all__ = ["Cluster", "Created", "KubeError", "Listing", "Review"]

REQUEST_S: Final = 30.0
"""Real seconds for one request. The library's own default of 300 s would cut a watch, and hide a dead server."""
WATCH_S: Final = 55.0
_WATCH_MARGIN_S: Final = 15.0
FOLLOW_S: Final = 24 * 3600.0
PLUGIN_S: Final = 60.0
PAGE: Final = 500
_TRIES: Final = 4
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 8.0
_POOL: Final = 512
_PIECE_BYTES: Final = 1 << 16
_REFRESH_BEFORE: Final = timedelta(seconds=60)

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
    "localqueues": Kind("kueue.x-k8s.io", "v1beta1", "LocalQueue"),
    "workloads": Kind("kueue.x-k8s.io", "v1beta1", "Workload"),
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
        in_flight: creations at once; submit_per_s: at most so many of them a second.
    """

    def __init__(self, access: Access, *, in_flight: int = 16, submit_per_s: float = 60.0) -> None:
        self.namespace, self._access = access.namespace, access
        self.refused_credentials = False
        self._creating = asyncio.Semaphore(in_flight)
        self._bucket = Bucket(submit_per_s)
        self._refresh = asyncio.Lock()
        self._token = ""
        self._expires: datetime | None = None
        self.skew_s: float | None = None

    @classmethod
    async def connect(cls, access: Access, *, in_flight: int = 16, submit_per_s: float = 60.0) -> Cluster:
        """Load the credentials and see that a server answers. Raises ExecutorError."""
        cluster = cls(access, in_flight=in_flight, submit_per_s=submit_per_s)
        await cluster._open()
        try:
            await cluster.version()
        except KubeError as error:
            await cluster.close()
            raise ExecutorError(cluster._unreachable(error)) from None
        return cluster

    async def close(self) -> None:
        """Let go of all connections."""
        await self._rest.close()

    # -- objects

    async def create(self, kind: str, body: Json, *, dry_run: bool = False) -> Created:
        """POST an object, which the server validates strictly; repeated where nobody answered.

        An object that exists already, perhaps since such a repetition, is a KubeError with reason AlreadyExists.
        """
        query = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        async with self._creating:
            await self._bucket.take()
            headers, data = await self._asked("POST", self._path(kind), query, body)
        return Created(_object(data), [_warning(text) for text in headers.getall("Warning", [])])

    async def get(self, kind: str, name: str) -> Json:
        """GET an object."""
        return _object((await self._asked("GET", self._path(kind, name)))[1])

    async def replace(self, kind: str, body: Json) -> Json:
        """PUT an object."""
        name = body["metadata"]["name"]
        return _object((await self._asked("PUT", self._path(kind, name), {"fieldValidation": "Strict"}, body))[1])

    async def list(self, kind: str, *, labels: str = "", fields: str = "", all_namespaces: bool = False) -> Listing:
        """All objects of a kind at one moment, page by page; begun anew where a page came too late."""
        query: dict[str, str] = {"limit": str(PAGE)}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        path = self._path(kind, all_namespaces=all_namespaces)
        items: list[Json] = []
        token = ""
        while True:
            try:
                page = _object((await self._asked("GET", path, query | ({"continue": token} if token else {})))[1])
            except KubeError as error:
                if error.status != 410 or not token:
                    raise
                items, token = [], ""
                continue
            items += page.get("items") or []
            meta = page.get("metadata") or {}
            token = meta.get("continue") or ""
            if not token:
                return Listing(items, str(meta.get("resourceVersion") or ""))

    async def watch(
        self, kind: str, resource_version: str, *, labels: str = "", timeout_s: float = WATCH_S
    ) -> AsyncIterator[tuple[str, Json]]:
        """Changes from a resource version on, (type, object), until the server ends the watch after `timeout_s`.

        A type is ADDED, MODIFIED, DELETED or BOOKMARK. A silent connection ends with an error a little later.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(max(1, int(timeout_s))),
        } | ({"labelSelector": labels} if labels else {})
        async for line in self._lines(self._path(kind), query, timeout_s + _WATCH_MARGIN_S):
            change = _object(line)
            what, obj = str(change.get("type")), change.get("object")
            if not isinstance(obj, dict):
                raise KubeError(0, "Malformed", "a watch brought something that is no object")
            if what == "ERROR":
                raise error_of(int(obj.get("code") or 500), msgspec.json.encode(obj), None)
            yield what, obj

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

    async def follow_log(self, pod: str, *, since_s: int | None = None) -> AsyncIterator[tuple[str, str]]:
        """(time, line) as they come, until the pod's container ends."""
        query = {"follow": "true", "timestamps": "true"}
        query |= {"sinceSeconds": str(since_s)} if since_s is not None else {}
        async for line in self._lines(self._path("pods", pod) + "/log", query, FOLLOW_S):
            time, _, text = line.decode(errors="replace").rstrip("\r\n").partition(" ")
            yield time, text

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

    async def api_groups(self) -> set[str]:
        """Names of the API groups that the server has."""
        return {str(group.get("name")) for group in _object((await self._asked("GET", "/apis"))[1]).get("groups") or ()}

    async def post_raw(self, path: str, body: Json) -> None:
        """POST to a path of a simulated server's own."""
        await self._asked("POST", path, {}, body)

    # -- the wire

    async def _open(self) -> None:
        """Load the library, which takes a second, and the credentials. Raises ExecutorError."""
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.client.rest import RESTClientObject

        self._configuration = Configuration()
        await self._load()
        self._configuration.connection_pool_maxsize = _POOL
        try:
            self._rest = RESTClientObject(self._configuration)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ExecutorError(f"the certificates in {self._access.source} cannot be used: {error}") from None

    async def _load(self) -> None:
        """Read the credentials, anew where they may have expired. Raises ExecutorError."""
        from kubernetes.aio import config

        plugin = self._access.plugin
        if plugin is not None:
            await self._run_plugin(plugin)
        try:
            if not self._access.config:
                config.load_incluster_config(client_configuration=self._configuration)  # type: ignore[no-untyped-call]
                return
            chosen = dict(self._access.config)
            if plugin is not None:  # what the plugin said is put in below; the library would swallow its errors
                chosen["users"] = [_without_plugin(user) for user in chosen["users"]]
            await config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                chosen, context=self._access.context, client_configuration=self._configuration
            )
        except (config.ConfigException, OSError, ValueError, KeyError) as error:
            raise ExecutorError(f"the credentials in {self._access.source} cannot be used: {error}") from None
        if plugin is not None and self._token:
            self._configuration.api_key["BearerToken"] = f"Bearer {self._token}"

    async def _run_plugin(self, plugin: Json) -> None:
        """Ask a cloud's program for a token. Raises ExecutorError."""
        command = str(plugin.get("command"))
        environment = os.environ | {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
        version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(info).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                command,
                *map(str, plugin.get("args") or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise ExecutorError(f"the credentials' program {command} does not start: {error.strerror}") from None
        try:
            async with asyncio.timeout(PLUGIN_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ExecutorError(f"the credentials' program {command} did not answer within {PLUGIN_S:g} s") from None
        if process.returncode != 0:
            last = (err.decode(errors="replace").strip().splitlines() or ["no message"])[-1][:200]
            raise ExecutorError(f"the credentials' program {command} failed: {last}; log in again, then go on")
        try:
            status = msgspec.json.decode(out)["status"]
            self._token = str(status["token"])
            expires = status.get("expirationTimestamp")
            self._expires = datetime.fromisoformat(expires) if expires else None
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise ExecutorError(f"the credentials' program {command} gave no token") from None

    async def _asked(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> tuple[Any, bytes]:
        """One request and its whole answer, repeated where that is safe and may help."""
        pause_s = _FIRST_PAUSE_S
        for tries_left in range(_TRIES - 1, -1, -1):
            try:
                async with self._answer(method, path, query or {}, body, REQUEST_S) as response:
                    return response.headers, await response.read()
            except KubeError as error:
                if not error.transient or not tries_left:
                    raise
                wait_s = error.retry_after_s if error.retry_after_s is not None else pause_s
            await asyncio.sleep(min(wait_s, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))  # noqa: S311  no secret
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
        raise AssertionError("unreachable")

    async def _lines(self, path: str, query: Mapping[str, str], longest_s: float) -> AsyncIterator[bytes]:
        """The lines of a streamed answer, however long they are."""
        rest = bytearray()
        async with self._answer("GET", path, query, None, longest_s) as response:
            async for piece in response.content.iter_chunked(_PIECE_BYTES):
                *lines, last = bytes(rest + piece).split(b"\n") if b"\n" in piece else [bytes(rest + piece)]
                rest = bytearray(last)
                for line in lines:
                    if line.strip():
                        yield line
        if rest.strip():
            yield bytes(rest)

    @contextlib.asynccontextmanager
    async def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: Json | None, longest_s: float
    ) -> AsyncIterator[Any]:
        """An answer that is no error, still to be read; connection trouble of any kind becomes KubeError."""
        import aiohttp

        response = None
        try:
            response = await self._send(method, path, query, body, longest_s)
            if response.status == 401 and await self._refreshed():
                response.release()
                response = await self._send(method, path, query, body, longest_s)
            self.refused_credentials = response.status == 401
            self._note_skew(response.headers.get("Date"))
            if response.status >= 300:
                raise error_of(response.status, await response.read(), response.headers.get("Retry-After"))
            yield response
        except TimeoutError:
            raise KubeError(0, "Timeout", f"no answer within {longest_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise KubeError(0, type(error).__name__, str(error)[:200] or type(error).__name__) from None
        finally:
            if response is not None:
                response.close() if response.status < 300 and not response.content.is_eof() else response.release()

    async def _send(self, method: str, path: str, query: Mapping[str, str], body: Json | None, longest_s: float) -> Any:
        if self._expires is not None and datetime.now(UTC) > self._expires - _REFRESH_BEFORE:
            await self._refreshed()
        headers = {"Accept": "application/json", "User-Agent": "autoresearch-tui"}
        auth = (await self._configuration.auth_settings()).get("BearerToken")
        if auth is not None and auth["value"]:
            headers["authorization"] = auth["value"]
        url = self._configuration.host.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        answer = await self._rest.request(  # type: ignore[no-untyped-call]
            method, url, headers=headers, body=body, _request_timeout=longest_s
        )
        return answer.response

    async def _refreshed(self) -> bool:
        """Get new credentials from the plugin; False where there is none, or it has none."""
        if self._access.plugin is None:
            return False
        before = self._token
        async with self._refresh:
            if self._token != before:
                return True
            with contextlib.suppress(ExecutorError):
                await self._load()
        return self._token != before

    def _note_skew(self, date: str | None) -> None:
        """How far the server's clock is ahead of ours, in seconds; it says whole ones."""
        from email.utils import parsedate_to_datetime

        if date and self.skew_s is None:
            with contextlib.suppress(ValueError, TypeError):
                self.skew_s = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()

    def _path(self, kind: str, name: str = "", *, all_namespaces: bool = False) -> str:
        known = KINDS[kind]
        base = f"/apis/{known.group}/{known.version}" if known.group else f"/api/{known.version}"
        place = f"/namespaces/{quote(self.namespace)}" if known.namespaced and not all_namespaces else ""
        return f"{base}{place}/{kind}" + (f"/{quote(name)}" if name else "")

    def _unreachable(self, error: KubeError) -> str:
        host = self._configuration.host
        if error.status == 401:
            return f"the credentials in {self._access.source} are not accepted by {host}: log in again, then go on"
        if error.status == 403:
            return f"these credentials may not even ask {host} for its version: {error.message}"
        return f"the Kubernetes API at {host} does not answer: {error.message}"


class Bucket:
    """Lets so many through a second, after a first burst of twice that."""

    def __init__(self, per_s: float) -> None:
        self._per_s, self._next_s = per_s, 0.0

    async def take(self) -> None:
        """Wait for one's turn."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s - 2.0) + 1.0 / self._per_s
        if self._next_s > now_s:
            await asyncio.sleep(self._next_s - now_s)


def _object(data: bytes) -> Json:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KubeError(0, "Malformed", f"the server's answer is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise KubeError(0, "Malformed", "the server's answer is no object")
    return found


def _warning(text: str) -> str:
    """The words of a Warning header, such as `299 - "would violate PodSecurity"`."""
    return text.partition('"')[2].rpartition('"')[0] or text


def _without_plugin(user: Json) -> Json:
    inner = {key: value for key, value in (user.get("user") or {}).items() if key != "exec"}
    return {**user, "user": inner | {"token": "from-plugin"}}
