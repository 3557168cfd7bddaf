"""The API over HTTP: paths, verbs, pages, watches, logs and errors as a Kubernetes API server has them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec
from aiohttp import web

from sim.kubernetes_api.admission import Rule, check_job, forbidden, may, security
from sim.kubernetes_api.faults import Fault, Faults
from sim.kubernetes_api.logs import Logs, PodLog
from sim.kubernetes_api.objects import FOREGROUND, ORPHAN
from sim.kubernetes_api.schema import check
from sim.kubernetes_api.selectors import Match, field_match, label_match
from sim.kubernetes_api.status import Refused
from sim.kubernetes_api.store import Store

MOST_BODY_BYTES: Final = 3 * 1024 * 1024
VERSION: Final = "v1.36.2-simulated"
_QUEUE: Final = 50_000

Json = dict[str, Any]


class Kind(NamedTuple):
    """A resource: its group and version, the kind of its objects, and whether it has namespaces."""

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
    "resourcequotas": Kind("", "v1", "ResourceQuota"),
    "limitranges": Kind("", "v1", "LimitRange"),
    "persistentvolumeclaims": Kind("", "v1", "PersistentVolumeClaim"),
    "leases": Kind("coordination.k8s.io", "v1", "Lease"),
    "priorityclasses": Kind("scheduling.k8s.io", "v1", "PriorityClass", namespaced=False),
    "localqueues": Kind("kueue.x-k8s.io", "v1beta2", "LocalQueue"),
}


class User(NamedTuple):
    """Who asks, and what they may do; `until` (UTC seconds by the cluster's clock) is when their token expires."""

    name: str
    rules: frozenset[Rule] | None = None
    until: float | None = None


class Asked(NamedTuple):
    """A request, taken apart."""

    verb: str
    kind: str
    namespace: str
    name: str
    sub: str


_PATH: Final = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[\w.-]+)/(?P<version>\w+))"
    r"(?:/namespaces/(?P<namespace>[\w.-]+))?/(?P<kind>[a-z]+)(?:/(?P<name>[\w.-]+))?(?:/(?P<sub>\w+))?"
)


class Api:
    """Answers requests over a store.

    Args:
        store: see there.
        logs: of pods.
        users: by bearer token.
        now_s: UTC seconds by the cluster's clock.
        own: answers paths under /sim, for tests and the engine of a simulated session.
    """

    def __init__(
        self,
        store: Store,
        logs: Logs,
        users: dict[str, User],
        now_s: Callable[[], float],
        own: Callable[[str, Json], Awaitable[Json]],
    ) -> None:
        self._store, self._logs, self.users, self._now_s, self._own = store, logs, users, now_s, own
        self.faults = Faults()
        self.requests = 0
        self._closing = asyncio.Event()
        self._pages: dict[tuple[int, str, str, str], list[Json]] = {}

    def close(self) -> None:
        """End every watch and log that is open."""
        self._closing.set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.requests += 1
        try:
            return await self._handle(request)
        except Refused as refused:
            return _refusal(refused)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            return _refusal(Refused(400, "BadRequest", f"the request cannot be read: {error}"))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        user = self._user(request)
        path = request.path
        if path.startswith("/sim/"):
            return _json(await self._own(path, msgspec.json.decode(await request.read() or b"{}")))
        asked = self._asked(request)
        verb = asked.verb if asked is not None else ""
        fault = self.faults.befalls(verb, path)
        if fault is not None and fault.what != "cut":
            await self._trouble(fault, request)
        if asked is None:
            return await self._about(request, user)
        resource = f"{asked.kind}/{asked.sub}" if asked.sub else asked.kind
        allowed_as = "get" if asked.verb == "log" else asked.verb
        group = KINDS[asked.kind].group
        if user.rules is not None and not may(user.rules, allowed_as, group, resource):
            raise forbidden(user.name, allowed_as, group, resource, asked.namespace, asked.name)
        space = asked.namespace if asked.verb == "create" and KINDS[asked.kind].namespaced else ""
        if space and self._store.get("namespaces", "", space) is None:
            raise Refused(404, "NotFound", f'namespaces "{space}" not found', "namespaces", space)
        return await self._answer(asked, request, cut=fault is not None)

    def _user(self, request: web.BaseRequest) -> User:
        token = request.headers.get("Authorization", "").partition(" ")[2]
        user = self.users.get(token)
        if user is None or (user.until is not None and self._now_s() > user.until):
            raise Refused(401, "Unauthorized", "Unauthorized")
        return user

    def _asked(self, request: web.BaseRequest) -> Asked | None:
        found = _PATH.fullmatch(request.path)
        if found is None or found["kind"] not in KINDS:
            return None
        if found["kind"] == "namespaces" and found["namespace"]:
            return None
        kind = KINDS[found["kind"]]
        if (found["group"] or "", found["version"] or found["core"]) != (kind.group, kind.version):
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        name, sub = found["name"] or "", found["sub"] or ""
        watching = request.query.get("watch", "") in ("true", "1")
        verb = {
            "GET": "log" if sub == "log" else "get" if name else "watch" if watching else "list",
            "POST": "create",
            "PUT": "update",
            "DELETE": "delete" if name else "deletecollection",
            "PATCH": "patch",
        }.get(request.method, request.method.lower())
        if sub and sub != "log":
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return Asked(verb, found["kind"], found["namespace"] or "", name, sub)

    async def _trouble(self, fault: Fault, request: web.BaseRequest) -> None:
        """Let a request meet its trouble; after `slow` it goes on."""
        if fault.what == "slow":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), fault.delay_s)
            return
        if fault.what == "hang":
            await self._closing.wait()
        if fault.what in ("drop", "hang"):
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError
        raise Refused(fault.code, fault.reason, fault.message, retry_after_s=fault.retry_after_s)

    # -- about the server

    async def _about(self, request: web.BaseRequest, user: User) -> web.Response:
        path = request.path.rstrip("/")
        if path == "/version":
            return _json({"major": "1", "minor": "36", "gitVersion": VERSION, "platform": "linux/amd64"})
        if path in ("/readyz", "/livez", "/healthz"):
            return web.Response(text="ok")
        if path == "/api":
            return _json({"kind": "APIVersions", "versions": ["v1"]})
        if path == "/apis":
            groups = sorted({(kind.group, kind.version) for kind in KINDS.values() if kind.group})
            return _json({"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*one) for one in groups]})
        for group, version in {(kind.group, kind.version) for kind in KINDS.values() if kind.group}:
            if path == f"/apis/{group}":
                return _json({"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)})
        if path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" and request.method == "POST":
            return _json(_review(msgspec.json.decode(await request.read()), user), 201)
        resources = [
            {
                "name": name,
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": ["get", "list", "watch", "create", "delete"],
            }
            for name, kind in KINDS.items()
            if path == (f"/apis/{kind.group}/{kind.version}" if kind.group else "/api/v1")
        ]
        if resources:
            version = path.removeprefix("/apis/").removeprefix("/api/")
            return _json({"kind": "APIResourceList", "groupVersion": version, "resources": resources})
        raise Refused(404, "NotFound", "the server could not find the requested resource")

    # -- verbs

    async def _answer(self, asked: Asked, request: web.BaseRequest, *, cut: bool) -> web.StreamResponse:
        match asked.verb:
            case "get":
                return _json(self._there(asked))
            case "list":
                return self._list(asked, request)
            case "watch":
                return await self._watch(asked, request, cut=cut)
            case "log":
                return await self._log(asked, request, cut=cut)
            case "create":
                return await self._create(asked, request)
            case "update":
                return await self._update(asked, request)
            case "delete":
                return await self._delete(asked, request)
            case "deletecollection":
                for obj in self._store.list(asked.kind, asked.namespace, self._match(asked, request)):
                    self._remove(asked.kind, obj, None, "Background")
                return _json({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")

    def _there(self, asked: Asked) -> Json:
        found = self._store.get(asked.kind, asked.namespace, asked.name)
        if found is None:
            full = f"{asked.kind}.{KINDS[asked.kind].group}" if KINDS[asked.kind].group else asked.kind
            raise Refused(404, "NotFound", f'{full} "{asked.name}" not found', asked.kind, asked.name)
        return found

    def _match(self, asked: Asked, request: web.BaseRequest) -> Match:
        by_label = label_match(request.query.get("labelSelector", ""))
        by_field = field_match(asked.kind, request.query.get("fieldSelector", ""))
        space = asked.namespace
        return lambda obj: (
            (not space or obj["metadata"].get("namespace", "") == space) and by_label(obj) and by_field(obj)
        )

    def _list(self, asked: Asked, request: web.BaseRequest) -> web.Response:
        limit = int(request.query.get("limit") or 0)
        items, version, skip = None, self._store.version, 0
        if token := request.query.get("continue", ""):
            version, skip = _read_token(token)
            items = self._pages.get((version, asked.kind, asked.namespace, request.query.get("labelSelector", "")))
            if items is None or version < self._store.oldest:
                raise Refused(
                    410, "Expired", "The provided continue parameter is too old to display a consistent list result."
                )
        if items is None:
            items = self._store.list(asked.kind, asked.namespace, self._match(asked, request))
        page = items[skip : skip + limit] if limit else items[skip:]
        meta: Json = {"resourceVersion": str(version)}
        if limit and skip + limit < len(items):
            meta["continue"] = _token(version, skip + limit)
            meta["remainingItemCount"] = len(items) - skip - limit
            self._pages[version, asked.kind, asked.namespace, request.query.get("labelSelector", "")] = items
            while len(self._pages) > 64:
                del self._pages[next(iter(self._pages))]
        kind = KINDS[asked.kind]
        group = f"{kind.group}/{kind.version}" if kind.group else kind.version
        return _json({"kind": f"{kind.kind}List", "apiVersion": group, "metadata": meta, "items": page})

    async def _watch(self, asked: Asked, request: web.BaseRequest, *, cut: bool) -> web.StreamResponse:
        if "sendInitialEvents" in request.query:
            raise Refused(
                422, "Invalid", "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            )
        match = self._match(asked, request)
        text = request.query.get("resourceVersion", "")
        if text and not text.isdecimal():
            raise Refused(400, "BadRequest", f"invalid resource version {text!r}")
        from_version = int(text or 0) or self._store.version
        if from_version > self._store.version:  # of another cluster's history, or of this one's before a backup
            message = f"Too large resource version: {from_version}, current: {self._store.version}"
            raise Refused(504, "Timeout", message, retry_after_s=1)
        queue: asyncio.Queue[tuple[str, Json] | None] = asyncio.Queue(_QUEUE)

        def take(kind: str, what: str, obj: Json) -> None:
            if kind == asked.kind and match(obj):
                try:
                    queue.put_nowait((what, obj))
                except asyncio.QueueFull:
                    self._store.unsubscribe(take)

        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            past = list(self._store.since(from_version, asked.kind))
        except Refused as refused:
            await response.write(_line("ERROR", refused.body()))
            return response
        self._store.subscribe(take)
        try:
            for change in past:
                if match(change.obj):
                    await response.write(_line(change.what, change.obj))
            await self._stream(response, request, asked, queue, cut=cut)
        except ConnectionError:
            pass
        finally:
            with contextlib.suppress(ValueError):
                self._store.unsubscribe(take)
        return response

    async def _stream(
        self, response: web.StreamResponse, request: web.BaseRequest, asked: Asked, queue: Any, *, cut: bool
    ) -> None:
        """Send changes until the time is over, with a bookmark from time to time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + float(request.query.get("timeoutSeconds") or 1800)
        bookmarks = request.query.get("allowWatchBookmarks", "") in ("true", "1")
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while not self._closing.is_set():
                wait_s = min(until_s - loop.time(), 10.0)
                if wait_s <= 0:
                    if bookmarks:
                        await response.write(self._bookmark(asked))
                    return
                getting = asyncio.ensure_future(queue.get())
                await asyncio.wait({getting, closing}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    if bookmarks and not self._closing.is_set():
                        await response.write(self._bookmark(asked))
                    continue
                lines = [_line(*getting.result())]
                while not queue.empty():
                    lines.append(_line(*queue.get_nowait()))
                data = b"".join(lines)
                if cut:
                    await response.write(data[: len(data) // 2])
                    if request.transport is not None:
                        request.transport.abort()
                    return
                await response.write(data)
        finally:
            closing.cancel()

    def _bookmark(self, asked: Asked) -> bytes:
        kind = KINDS[asked.kind]
        group = f"{kind.group}/{kind.version}" if kind.group else kind.version
        return _line(
            "BOOKMARK",
            {"kind": kind.kind, "apiVersion": group, "metadata": {"resourceVersion": str(self._store.version)}},
        )

    async def _log(self, asked: Asked, request: web.BaseRequest, *, cut: bool) -> web.StreamResponse:
        pod = self._there(asked)
        query, log = request.query, self._logs.open(pod["metadata"]["uid"])
        if log is None:
            text = f'container "trainer" in pod "{asked.name}" is waiting to start: ContainerCreating'
            raise Refused(400, "BadRequest", text)
        if not log.reachable:
            node = pod["spec"].get("nodeName", "")
            text = f'Get "https://{node}:10250/containerLogs": dial tcp: connect: no route to host'
            raise Refused(500, "InternalError", text)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await self._print(response, log, query, request, cut=cut)
        return response

    async def _print(
        self,
        response: web.StreamResponse,
        log: PodLog,
        query: Mapping[str, str],
        request: web.BaseRequest,
        *,
        cut: bool,
    ) -> None:
        """Send a log's lines as they come. A cut one ends in the middle of the first line that is new."""
        timed, follow = query.get("timestamps") == "true", query.get("follow") == "true"
        since = int(query.get("sinceSeconds") or 0)
        epoch_us = round(self._store.epoch_s * 1e6)
        after_us = round((self._now_s() - since) * 1e6) - epoch_us if since else None
        tail = query.get("tailLines")
        seen, first = max(0, log.count - int(tail)) if tail else 0, True
        left = int(query.get("limitBytes") or 1 << 62)
        while not self._closing.is_set():
            lines, seen = log.read(seen)
            chosen = [
                (_micro(epoch_us + at_us) + b" " if timed else b"") + line.encode() + b"\n"
                for at_us, line in lines
                if after_us is None or at_us >= after_us
            ]
            data = b"".join(chosen)[:left]
            left -= len(data)
            if cut and data and not first:
                await response.write(data[: len(data) // 2])
                if request.transport is not None:
                    request.transport.abort()
                return
            first = False
            if data:
                await response.write(data)
            if not follow or left <= 0 or log.ended:
                return
            await self._more(log, seen)

    async def _more(self, log: PodLog, seen: int) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        waiting = asyncio.ensure_future(log.wait(seen))
        try:
            await asyncio.wait({closing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            waiting.cancel()

    async def _create(self, asked: Asked, request: web.BaseRequest) -> web.Response:
        obj = _body(await request.read(), KINDS[asked.kind])
        meta = dict(obj.get("metadata") or {})
        if KINDS[asked.kind].namespaced:
            if meta.get("namespace", asked.namespace) != asked.namespace:
                raise Refused(
                    400,
                    "BadRequest",
                    "the namespace of the provided object does not match the namespace sent on the request",
                )
            meta["namespace"] = asked.namespace
        obj = {**obj, "metadata": meta}
        check(asked.kind, obj, strict=request.query.get("fieldValidation") == "Strict")
        headers = {}
        if asked.kind == "jobs":
            check_job(self._store, asked.namespace, obj)
            if broken := security(self._store, asked.namespace, obj["spec"]["template"]["spec"]):
                headers["Warning"] = f'299 - "would violate PodSecurity \\"restricted:latest\\": {broken}"'.replace(
                    '\\"', "'"
                )
            obj = _job_defaults(obj)
        if request.query.get("dryRun") == "All":
            if self._store.get(asked.kind, asked.namespace, str(meta.get("name", ""))) is not None:
                raise Refused(
                    409, "AlreadyExists", f'{asked.kind} "{meta["name"]}" already exists', asked.kind, meta["name"]
                )
            return _json(
                {**obj, "metadata": {**meta, "uid": "0", "creationTimestamp": self._store.now_text()}}, 201, headers
            )
        if asked.kind == "jobs":
            return _json(self._store_job(obj), 201, headers)
        return _json(self._store.create(asked.kind, obj), 201, headers)

    def _store_job(self, obj: Json) -> Json:
        """A Job's pods are told by its uid, which it has only now."""
        made = self._store.create("jobs", obj)
        uid, name = made["metadata"]["uid"], made["metadata"]["name"]
        own = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        template = made["spec"]["template"]
        labels = {**((template.get("metadata") or {}).get("labels") or {}), **own}
        spec = {
            **made["spec"],
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        }
        return self._store.change("jobs", made, spec=spec) or made

    async def _update(self, asked: Asked, request: web.BaseRequest) -> web.Response:
        obj = _body(await request.read(), KINDS[asked.kind])
        known = self._there(asked)
        check(asked.kind, obj, strict=request.query.get("fieldValidation") == "Strict")
        if known.get("immutable") and obj.get("data") != known.get("data"):
            raise Refused(
                422,
                "Invalid",
                f'ConfigMap "{asked.name}" is invalid: data: Forbidden: field is immutable when `immutable` is set',
            )
        meta = {**known["metadata"], **obj["metadata"], "namespace": asked.namespace}
        return _json(self._store.update(asked.kind, {**obj, "metadata": meta}))

    async def _delete(self, asked: Asked, request: web.BaseRequest) -> web.Response:
        options = msgspec.json.decode(await request.read() or b"{}")
        known = self._there(asked)
        wanted = (options.get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != known["metadata"]["uid"]:
            text = (
                f"the UID in the precondition ({wanted}) does not match the UID in record ({known['metadata']['uid']})"
            )
            raise Refused(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on {asked.kind} "{asked.name}": Precondition failed: {text}',
                asked.kind,
                asked.name,
            )
        grace = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        policy = options.get("propagationPolicy") or request.query.get("propagationPolicy") or "Background"
        self._remove(asked.kind, known, None if grace is None else int(grace), policy)
        if asked.kind == "pods":
            return _json(self._store.get("pods", asked.namespace, asked.name) or known)
        details = {
            "name": asked.name,
            "group": KINDS[asked.kind].group,
            "kind": asked.kind,
            "uid": known["metadata"]["uid"],
        }
        return _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _remove(self, kind: str, obj: Json, grace_s: int | None, policy: str) -> None:
        meta = obj["metadata"]
        place = (meta.get("namespace", ""), meta["name"])
        finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(policy)
        if kind == "pods":
            usual = int(obj["spec"].get("terminationGracePeriodSeconds", 30))
            self._store.mark_deleted(kind, *place, usual if grace_s is None else grace_s)
        elif kind == "jobs" and finalizer is not None:
            finalizers = dict.fromkeys([*meta.get("finalizers", ()), finalizer])
            self._store.change(kind, obj, metadata={**meta, "finalizers": [*finalizers]})
            self._store.mark_deleted(kind, *place, 0)
        else:
            self._store.remove(kind, *place)


def _micro(at_us: int) -> bytes:
    """A UTC moment in microseconds as a log's timestamp."""
    whole_s, part_us = divmod(at_us, 1_000_000)
    return datetime.fromtimestamp(whole_s, UTC).strftime(f"%Y-%m-%dT%H:%M:%S.{part_us:06d}Z").encode()


def _body(data: bytes, kind: Kind) -> Json:
    obj = msgspec.json.decode(data)
    if not isinstance(obj, dict):
        raise Refused(400, "BadRequest", "the body of the request is no object")
    group = f"{kind.group}/{kind.version}" if kind.group else kind.version
    if (obj.get("kind", kind.kind), obj.get("apiVersion", group)) != (kind.kind, group):
        raise Refused(
            400,
            "BadRequest",
            f"the object provided is unrecognized: no kind {obj.get('kind')!r} in {obj.get('apiVersion')!r} here",
        )
    return {"kind": kind.kind, "apiVersion": group, **obj}


def _job_defaults(obj: Json) -> Json:
    spec = obj["spec"]
    pod = {"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30}
    template = {**spec["template"], "spec": pod | spec["template"]["spec"]}
    defaults = {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 6,
        "manualSelector": False,
        "completionMode": "NonIndexed",
        "suspend": False,
        "podReplacementPolicy": "TerminatingOrFailed",
    }
    return {**obj, "spec": defaults | {**spec, "template": template}, "status": {}}


def _review(body: Json, user: User) -> Json:
    asks = (body.get("spec") or {}).get("resourceAttributes") or {}
    resource = asks.get("resource", "") + (f"/{asks['subresource']}" if asks.get("subresource") else "")
    allowed = user.rules is None or may(user.rules, asks.get("verb", ""), asks.get("group", ""), resource)
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": body.get("spec"),
        "status": {"allowed": allowed},
    }


def _group(name: str, version: str) -> Json:
    known = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [known], "preferredVersion": known}


def _token(version: int, skip: int) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([version, skip])).decode()


def _read_token(token: str) -> tuple[int, int]:
    try:
        version, skip = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[int, int])
    except (ValueError, msgspec.DecodeError):
        raise Refused(400, "BadRequest", "continue key is not valid") from None
    return version, max(0, skip)


def _line(what: str, obj: Json) -> bytes:
    return msgspec.json.encode({"type": what, "object": obj}) + b"\n"


def _json(obj: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(obj), status=status, content_type="application/json", headers=headers)


def _refusal(refused: Refused) -> web.Response:
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s is not None else None
    return _json(refused.body(), refused.code, headers)
