"""The Kubernetes client: what it asks, what it makes of every kind of answer, and what it does again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from core.executor import ExecutorError
from executors.kubernetes import client as client_module
from executors.kubernetes.access import Access
from executors.kubernetes.client import Cluster, KubeError, _warnings
from executors.kubernetes.errors import error_of
from sim.kubernetes_api.cluster import NAMESPACE
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.server import TOKEN
from tests.support.apiserver import answer, kubeconfig, odd, refusal, simulated


def configmap(name: str, text: str = "x", **labels: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"t": text}}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_S", 0.01)


@contextlib.asynccontextmanager
async def talking_to(tmp_path, handler, *, user=None, **options):
    """A client of an odd server."""
    async with odd(handler) as port:
        path = kubeconfig(tmp_path / "odd", f"http://127.0.0.1:{port}", user)
        cluster = await Cluster.connect(Access.resolve(str(path)), **options)
        try:
            yield cluster
        finally:
            await cluster.close()


def scripted(*answers, otherwise=None):
    """A handler that gives these answers to everything but /version, and a list of what it was asked."""
    left, asked = list(answers), []

    async def handler(request):
        if request.path == "/version":
            return answer({"gitVersion": "v1.36.2"})
        asked.append((request.method, request.path, dict(request.query), await request.read()))
        found = left.pop(0) if left else otherwise
        return await found(request) if callable(found) else found

    return handler, asked


# -- objects, against the simulated server


async def test_objects_come_and_go(tmp_path):
    async with simulated(tmp_path) as (_, cluster):
        made = await cluster.create("configmaps", configmap("a", "grün ✓ \U0001f680"))
        assert made.object["data"] == {"t": "grün ✓ \U0001f680"}
        assert (await cluster.get("configmaps", "a"))["metadata"]["uid"] == made.object["metadata"]["uid"]
        with pytest.raises(KubeError) as caught:
            await cluster.create("configmaps", configmap("a"))
        assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")
        assert not caught.value.transient
        assert caught.value.details["name"] == "a"
        assert not await cluster.delete("configmaps", "a", uid="another")
        assert await cluster.delete("configmaps", "a", uid=made.object["metadata"]["uid"])
        assert not await cluster.delete("configmaps", "a")
        with pytest.raises(KubeError, match="not found"):
            await cluster.get("configmaps", "a")


async def test_the_server_validates_strictly_and_a_dry_run_stores_nothing(tmp_path):
    async with simulated(tmp_path) as (_, cluster):
        await cluster.create("configmaps", configmap("dry"), dry_run=True)
        assert (await cluster.list("configmaps")).items == []
        with pytest.raises(KubeError, match="unknown field") as caught:
            await cluster.create("configmaps", configmap("odd") | {"frobnicate": 1})
        assert caught.value.status == 400


async def test_a_list_of_many_pages_is_one_moment(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "PAGE", 7)
    async with simulated(tmp_path) as (server, cluster):
        for number in range(40):
            await cluster.create("configmaps", configmap(f"c{number:02}", half="a" if number % 2 else "b"))
        listing = await cluster.list("configmaps")
        assert [obj["metadata"]["name"] for obj in listing.items] == [f"c{number:02}" for number in range(40)]
        assert int(listing.resource_version) == server.store.version
        assert len((await cluster.list("configmaps", labels="half=a")).items) == 20
        assert len((await cluster.list("configmaps", fields="metadata.name=c07")).items) == 1
        assert len((await cluster.list("namespaces")).items) == 1
        assert len((await cluster.list("configmaps", all_namespaces=True)).items) == 40


async def test_pages_that_expire_begin_anew_and_at_last_come_as_one(tmp_path):
    def page(request):
        if request.query.get("continue"):
            return refusal(410, "Expired")
        rest = {} if "limit" not in request.query else {"continue": "more"}
        return answer({"kind": "List", "metadata": {"resourceVersion": "9", **rest}, "items": [{}]})

    async def asked(request):
        return page(request)

    handler, requests = scripted(otherwise=asked)
    async with talking_to(tmp_path, handler) as cluster:
        assert (await cluster.list("pods")).resource_version == "9"
    assert len(requests) == 7


async def test_objects_of_megabytes(tmp_path):
    big = "ä" * 1_000_000  # 2 MB in UTF-8: more than a ConfigMap holds, less than a watch must bear
    change = json.dumps(
        {"type": "ADDED", "object": {"metadata": {"uid": "u", "resourceVersion": "5"}, "text": big}}, ensure_ascii=False
    )

    async def watch(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(f"{change}\n{change}\n".encode())
        return response

    handler, _ = scripted(answer({"metadata": {"uid": "u"}, "text": big}), otherwise=watch)
    async with talking_to(tmp_path, handler) as cluster:
        assert (await cluster.get("pods", "p"))["text"] == big
        assert [obj["text"] == big for _, obj in [one async for one in cluster.watch("pods", "1")]] == [True, True]


async def test_a_watch_brings_changes_and_bookmarks_from_a_version_on(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        first = (await cluster.create("configmaps", configmap("a", mine="1"))).object["metadata"]["resourceVersion"]
        await cluster.create("configmaps", configmap("b", mine="1"))
        await cluster.create("configmaps", configmap("other"))
        await cluster.delete("configmaps", "a")
        opened = []
        changes = cluster.watch("configmaps", first, labels="mine=1", timeout_s=1.0, on_open=lambda: opened.append(1))
        seen = [(what, obj["metadata"].get("name")) async for what, obj in changes]
        assert seen[:3] == [("ADDED", "b"), ("DELETED", "a"), ("BOOKMARK", None)]
        assert opened == [1]
        server.store.compact()
        with pytest.raises(KubeError) as caught:
            [_ async for _ in cluster.watch("configmaps", first)]
        assert (caught.value.status, caught.value.reason) == (410, "Expired")


async def test_a_watch_that_is_cut_in_a_line_says_so(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        server.api.faults.add(Fault("cut", verb="watch"))
        watching = asyncio.ensure_future(anext(cluster.watch("configmaps", str(server.store.version))))
        await asyncio.sleep(0.05)
        await cluster.create("configmaps", configmap("a"))
        with pytest.raises(KubeError) as caught:
            await watching
        assert (caught.value.status, caught.value.transient) == (0, True)


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", b'{"type":"ADDED"}', b'{"type":"ADDED","object":{"metadata":{}}}', b"\xff"]
)
async def test_a_watch_that_brings_nonsense_is_a_watch_that_broke(tmp_path, line):
    handler, _ = scripted(web.Response(body=line + b"\n"))
    async with talking_to(tmp_path, handler) as cluster:
        with pytest.raises(KubeError) as caught:
            [_ async for _ in cluster.watch("pods", "1")]
        assert caught.value.transient


async def test_a_half_open_watch_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "_WATCH_MARGIN_S", 0.1)

    async def silent(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(5.0)
        return response

    handler, _ = scripted(silent)
    async with talking_to(tmp_path, handler) as cluster:
        with pytest.raises(KubeError) as caught:
            [_ async for _ in cluster.watch("pods", "1", timeout_s=0.1)]
        assert caught.value.reason == "Timeout"


# -- what is done again


@pytest.mark.parametrize("what", ["drop", "status"])
async def test_trouble_that_passes_is_waited_for(tmp_path, what):
    async with simulated(tmp_path) as (server, cluster):
        server.api.faults.add(Fault(what, verb="create", count=2))
        await cluster.create("configmaps", configmap("a"))
        assert server.api.faults.met == 2
        server.api.faults.clear()
        server.api.faults.add(Fault("status", code=500, reason="InternalError"))
        with pytest.raises(KubeError) as caught:
            await cluster.get("configmaps", "a")
        assert (caught.value.status, caught.value.transient) == (500, True)
        assert server.api.faults.met == 2 + client_module.TRIES


async def test_an_answer_that_was_lost_leaves_an_object_that_exists(tmp_path):
    async def take_and_drop(request):
        request.transport.abort()
        return web.Response()

    handler, asked = scripted(take_and_drop, refusal(409, "AlreadyExists"))
    async with talking_to(tmp_path, handler) as cluster:
        with pytest.raises(KubeError) as caught:
            await cluster.create("jobs", {"metadata": {"name": "j"}})
        assert caught.value.reason == "AlreadyExists"
    assert [query["fieldValidation"] for _, _, query, _ in asked] == ["Strict", "Strict"]


async def test_a_server_that_asks_for_a_pause_gets_it(tmp_path):
    handler, _ = scripted(answer({}, 429, **{"Retry-After": "1"}), answer({"metadata": {}}))
    async with talking_to(tmp_path, handler) as cluster:
        began_s = asyncio.get_running_loop().time()
        await cluster.get("pods", "p")
        assert asyncio.get_running_loop().time() - began_s >= 1.0


async def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "REQUEST_S", 0.1)
    async with simulated(tmp_path) as (server, cluster):
        server.api.faults.add(Fault("hang"))
        with pytest.raises(KubeError) as caught:
            await cluster.list("pods", tries=2)
        assert caught.value.reason == "Timeout"
        assert server.api.faults.met == 2


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (KubeError(409, "Conflict", "Operation cannot be fulfilled", {"kind": "resourcequotas"}), True),
        (KubeError(409, "Conflict", "Operation cannot be fulfilled", {"kind": "leases"}), False),
        (KubeError(409, "AlreadyExists", ""), False),
        (KubeError(400, "BadRequest", "etcdserver: leader changed"), True),
        (KubeError(403, "Forbidden", "exceeded quota: count/jobs.batch"), False),
        (KubeError(401, "Unauthorized", ""), False),
        (KubeError(422, "Invalid", ""), False),
        (KubeError(429, "TooManyRequests", ""), True),
        (KubeError(504, "Timeout", ""), True),
        (KubeError(501, "", ""), False),
    ],
)
def test_which_trouble_passes(error, transient):
    assert error.transient is transient


async def test_creations_are_paced_and_few_at_once(tmp_path):
    running, most = 0, 0

    async def slow(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return answer({"metadata": {}})

    handler, asked = scripted(otherwise=slow)
    async with talking_to(tmp_path, handler, in_flight=4, submit_per_s=20.0) as cluster:
        began_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(cluster.create("jobs", {"metadata": {"name": str(n)}}) for n in range(50)))
        assert asyncio.get_running_loop().time() - began_s >= 0.4  # a burst of 40, then 20 a second
        await asyncio.gather(*(cluster.create("configmaps", {"metadata": {"name": str(n)}}) for n in range(50)))
    assert (most, len(asked)) == (4, 100)


# -- answers that are none


async def test_a_proxys_page_is_named(tmp_path):
    page = "<html><head><title>Sign in to Corp</title></head><body>" + "x" * 100_000
    handler, _ = scripted(
        web.Response(text=page, status=403, content_type="text/html"),
        otherwise=web.Response(text=page, content_type="text/html"),
    )

    async def fresh(request):
        found = await handler(request)
        return web.Response(body=found.body, status=found.status, headers=found.headers)

    async with talking_to(tmp_path, fresh) as cluster:
        with pytest.raises(KubeError, match="HTTP 403: Sign in to Corp"):
            await cluster.get("pods", "p")


async def test_a_page_instead_of_an_answer(tmp_path):
    async def page(request):
        return web.Response(text="<title>It works!</title>", content_type="text/html")

    async with odd(page) as port:
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}")
        with pytest.raises(ExecutorError, match="is no Kubernetes API: it sent text/html: It works!"):
            await Cluster.connect(Access.resolve(str(path)))


@given(
    st.integers(100, 599),
    st.binary(max_size=60)
    | st.builds(
        lambda told: json.dumps(told).encode(),
        st.dictionaries(
            st.sampled_from(["kind", "code", "reason", "message", "details"]),
            st.none()
            | st.integers()
            | st.just("Status")
            | st.lists(st.integers())
            | st.dictionaries(st.just("retryAfterSeconds"), st.integers() | st.text(max_size=3)),
        ),
    ),
    st.none() | st.text(max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_any_answer_is_some_error(status, body, retry_after):  # fmt: skip
    error = error_of(status, body, retry_after)
    assert error.status >= 100
    assert error.message
    assert "\n" not in error.message or b"message" in body
    assert error.retry_after_s is None or error.retry_after_s >= 0


def test_warnings_are_read_whole():
    header = '299 - "would violate PodSecurity \\"restricted:latest\\": x", 299 - "second"'
    assert _warnings([header]) == ['would violate PodSecurity "restricted:latest": x', "second"]
    assert _warnings(["odd"]) == ["odd"]


async def test_names_cannot_leave_their_place(tmp_path):
    handler, asked = scripted(otherwise=refusal(404, "NotFound"))
    async with talking_to(tmp_path, handler) as cluster:
        with pytest.raises(KubeError):
            await cluster.get("pods", "../secrets/x")
    assert asked[0][1].startswith(f"/api/v1/namespaces/{NAMESPACE}/pods/")
    assert asked[0][1].count("/") in (6, 8)  # aiohttp shows the path decoded


# -- logs


async def test_a_log_comes_line_by_line(tmp_path):
    text = '2026-01-01T00:00:00.5Z {"ar":1}\n2026-01-01T00:00:01Z two  words \nunable to read\n2026-01-01T00:00:02Z end'
    handler, asked = scripted(web.Response(text=text), web.Response(body=b"raw\xff"))
    async with talking_to(tmp_path, handler) as cluster:
        assert [line async for line in cluster.follow_log("p", since_s=0)] == [
            ("2026-01-01T00:00:00.5Z", '{"ar":1}'),
            ("2026-01-01T00:00:01Z", "two  words "),
            ("", "unable to read"),
            ("2026-01-01T00:00:02Z", "end"),
        ]
        assert await cluster.read_log("p", tail_lines=5, limit_bytes=9) == b"raw\xff"
    assert asked[0][2] == {"follow": "true", "timestamps": "true", "sinceSeconds": "1"}
    assert asked[1][2] == {"tailLines": "5", "limitBytes": "9"}


async def test_a_log_that_falls_silent_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "QUIET_S", 0.1)

    async def silent(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"2026-01-01T00:00:00Z a\n")
        await asyncio.sleep(5.0)
        return response

    handler, _ = scripted(silent)
    async with talking_to(tmp_path, handler) as cluster:
        seen = []
        with pytest.raises(KubeError, match="does not answer in time"):  # noqa: PT012  both are meant
            async for _, line in cluster.follow_log("p"):
                seen.append(line)
        assert seen == ["a"]


# -- about the cluster, and the way to it


async def test_what_may_be_asked_about_a_cluster(tmp_path):
    async with simulated(tmp_path) as (_, cluster):
        assert (await cluster.version()).startswith("v1.36")
        assert await cluster.api_versions("batch") == ("v1",)
        assert await cluster.api_versions("no.such.group") == ()
        assert (await cluster.review("create", "jobs", group="batch")).allowed
        assert abs(cluster.skew_s) < 5.0


async def test_an_unknown_token_is_a_sentence_without_the_token(tmp_path):
    async with simulated(tmp_path) as (server, _):
        path = server.kubeconfig(tmp_path / "wrong", token="not-the-token")
        with pytest.raises(ExecutorError) as caught:
            await Cluster.connect(Access.resolve(str(path)))
        assert "does not accept the credentials in" in str(caught.value)
        assert "log in again" in str(caught.value)
        assert "not-the-token" not in str(caught.value)


async def test_one_unauthorized_is_nothing_and_a_new_kubeconfig_is_picked_up(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        server.api.faults.add(Fault("status", code=401, reason="Unauthorized", count=1))
        await cluster.list("pods")
        assert not cluster.refused_credentials
        cluster._wire._next_login_s = 0.0
        user = server.users.pop(TOKEN)
        with pytest.raises(KubeError) as caught:
            await cluster.list("pods")
        assert (caught.value.status, cluster.refused_credentials, caught.value.transient) == (401, True, False)
        server.users["renewed"] = user
        server.kubeconfig(tmp_path / "kubeconfig", token="renewed")
        with pytest.raises(KubeError):
            await cluster.list("pods")  # not again so soon
        cluster._wire._next_login_s = 0.0
        await cluster.list("pods")
        assert not cluster.refused_credentials


async def test_a_server_that_is_not_there(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ExecutorError, match=r"127.0.0.1:\d+ is not there: Connection refused"):
            await Cluster.connect(Access.resolve(str(path)), tries=1)
    path = kubeconfig(tmp_path / "k", "http://no-such-host.invalid")
    with pytest.raises(ExecutorError, match=r"nobody knows the host of http://no-such-host.invalid|is not there"):
        await Cluster.connect(Access.resolve(str(path)), tries=1)


async def test_the_environments_proxy_is_not_asked_for_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with simulated(tmp_path) as (_, cluster):
        assert await cluster.version()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-keyout", folder / "key", "-out", folder / "cert", "-subj", "/CN=api",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


async def test_certificates(tmp_path, certificate):
    async def handler(request):
        return answer({"gitVersion": "v1.36.2"})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    url = f"https://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    try:
        path = kubeconfig(tmp_path / "k", url, **{"certificate-authority": str(certificate / "cert")})
        await (await Cluster.connect(Access.resolve(str(path)))).close()
        path = kubeconfig(tmp_path / "k", url, **{"insecure-skip-tls-verify": True})
        await (await Cluster.connect(Access.resolve(str(path)))).close()
        path = kubeconfig(tmp_path / "k", url)
        with pytest.raises(ExecutorError, match="not one that the kubeconfig trusts"):
            await Cluster.connect(Access.resolve(str(path)), tries=1)
        path = kubeconfig(tmp_path / "k", url.replace("https", "http"))
        with pytest.raises(ExecutorError, match=r"the connection to .* broke|HTTP 400"):
            await Cluster.connect(Access.resolve(str(path)), tries=1)
        path = kubeconfig(tmp_path / "k", url, **{"certificate-authority-data": "bm90IGEgY2VydA=="})
        with pytest.raises(ExecutorError, match=r"the certificates in .* cannot be used"):
            await Cluster.connect(Access.resolve(str(path)))
        path = kubeconfig(tmp_path / "k", url, **{"certificate-authority-data": "***"})
        with pytest.raises(ExecutorError, match="cannot be used"):
            await Cluster.connect(Access.resolve(str(path)))
    finally:
        await runner.cleanup()
