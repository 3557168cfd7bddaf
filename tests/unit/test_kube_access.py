"""Which cluster, by which credentials: found as kubectl finds them, and each thing that is amiss in one sentence."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.executor import ExecutorError
from executors.kubernetes import access as access_module
from executors.kubernetes import wire as wire_module
from executors.kubernetes.access import Access
from executors.kubernetes.client import Cluster, KubeError
from executors.kubernetes.credentials import Login, expired_at, log_in
from tests.support.apiserver import answer, kubeconfig, odd, refusal

VERSION = "client.authentication.k8s.io/v1"
SECRET = "s3cr3t-token"


@pytest.fixture(autouse=True)
def no_ambient_clusters(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)


def program(path: Path, text: str) -> str:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def credential(**status: str) -> str:
    return json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})


def plugin(command: str, **more: object) -> dict:
    return {"exec": {"apiVersion": VERSION, "command": command, "interactiveMode": "Never", **more}}


# -- finding the way in


def test_a_file_that_is_named_then_kubeconfig_then_the_usual_one(tmp_path, monkeypatch):
    usual = tmp_path / "home" / ".kube"
    usual.mkdir(parents=True)
    kubeconfig(usual / "config", "https://usual")
    assert Access.resolve().cluster["server"] == "https://usual"
    first, second = kubeconfig(tmp_path / "1", "https://first"), kubeconfig(tmp_path / "2", "https://second")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{first}:{second}")
    found = Access.resolve()
    assert (found.cluster["server"], found.namespace, found.context) == ("https://first", "autoresearch", "here")
    named = Access.resolve(str(second), namespace="other")
    assert (named.cluster["server"], named.namespace) == ("https://second", "other")


def test_several_files_are_one_and_the_first_to_name_something_counts(tmp_path, monkeypatch):
    one, two = tmp_path / "a" / "one", tmp_path / "b" / "two"
    for path, context, name in ((one, "x", "u1"), (two, "y", "u2")):
        path.parent.mkdir()
        (path.parent / "ca").write_text("ca")
        path.write_text(yaml.safe_dump({
            "current-context": context,
            "clusters": [{"name": "c", "cluster": {"server": f"https://{context}", "certificate-authority": "ca"}}],
            "users": [{"name": name, "user": {"token": name}}],
            "contexts": [{"name": context, "context": {"cluster": "c", "user": name}}],
        }))  # fmt: skip
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}")
    assert Access.resolve().context == "x"
    found = Access.resolve(context="y")
    assert (found.user["token"], found.cluster["server"], found.namespace) == ("u2", "https://x", "autoresearch")
    assert found.cluster["certificate-authority"] == str(tmp_path / "a" / "ca")


def test_in_a_pod_its_own_account_counts(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "namespace").write_text("team-a\n")
    monkeypatch.setattr(access_module, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    found = Access.resolve()
    assert (found.namespace, found.config, found.again()) == ("team-a", {}, found)


def test_what_opens_a_cluster_is_never_shown(tmp_path):
    found = Access.resolve(str(kubeconfig(tmp_path / "k", "https://x", {"token": SECRET})))
    assert SECRET not in repr(found) + str(found) + repr(Login(token=SECRET, key=SECRET))


def without(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_what_is_amiss_is_one_sentence_each(tmp_path, monkeypatch):
    def sentence(path: Path | None = None, **asked: str) -> str:
        with pytest.raises(ExecutorError) as caught:
            Access.resolve(str(path) if path else None, **asked)
        text = str(caught.value)
        assert "\n" not in text
        assert SECRET not in text
        return text

    assert "--kubeconfig" in sentence()
    assert "there is no kubeconfig at" in sentence(tmp_path / "missing")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    assert "where there is no file" in sentence()
    path = kubeconfig(tmp_path / "k", "https://x", {"token": SECRET})
    assert "there is no context 'prod' in" in sentence(path, context="prod")
    assert sentence(path, context="prod").endswith("there is here")
    without(path, **{"current-context": ""})
    assert "choose one of here with --context" in sentence(path)
    without(path, **{"current-context": "here", "users": []})
    assert "the user 'u', who is not there" in sentence(path)
    without(path, clusters=[])
    assert "the cluster 'c', not there" in sentence(path)
    assert "no https:// address" in sentence(kubeconfig(tmp_path / "k", "10.0.0.1:6443"))
    missing = kubeconfig(tmp_path / "k", "https://x", **{"certificate-authority": "nowhere.crt"})
    assert "certificate-authority" in sentence(missing)
    missing = kubeconfig(tmp_path / "k", "https://x", {"client-certificate": "nowhere", "client-key": "nowhere"})
    assert "client-certificate" in sentence(missing)
    assert "'no-such-cloud', which is not installed here" in sentence(
        kubeconfig(tmp_path / "k", "https://x", plugin("no-such-cloud"))
    )
    path.write_text("a: [1,\nb")
    assert "is no YAML (line" in sentence(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "is no YAML" in sentence(path)
    path.write_text("- 1")
    assert "holds no clusters" in sentence(path)


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
names = st.sampled_from(["clusters", "users", "contexts", "current-context", "name", "cluster", "user", "context",
                         "server", "exec", "command", "token", "tokenFile", "c", "https://x"])  # fmt: skip
trees = st.recursive(
    scalars | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)


@given(trees, trees, trees)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_kubeconfig_is_too_odd_to_say_so(tmp_path, clusters, users, contexts):
    config = {"current-context": "c", "clusters": clusters, "users": users, "contexts": contexts}
    path = tmp_path / "k"
    path.write_text(yaml.safe_dump(config))
    try:
        found = Access.resolve(str(path))
    except ExecutorError:
        return
    assert found.cluster["server"]


# -- programs for credentials


async def test_a_program_gives_a_token_and_says_how_long_it_lasts(tmp_path):
    told = credential(token=SECRET, expirationTimestamp="2031-01-01T00:00:00Z")
    script = program(tmp_path / "cloud", f"echo \"$KUBERNETES_EXEC_INFO $1 $EXTRA\" > {tmp_path}/said; echo '{told}'")
    user = plugin(script, args=["get"], env=[{"name": "EXTRA", "value": "e"}], provideClusterInfo=True)
    login = await log_in(user, {"server": "https://x"})
    assert (login.token, login.expires) == (SECRET, datetime(2031, 1, 1, tzinfo=UTC))
    info, first, extra = (tmp_path / "said").read_text().split()
    assert (first, extra) == ("get", "e")
    assert json.loads(info)["spec"] == {"interactive": False, "cluster": {"server": "https://x", "config": None}}


async def test_a_program_may_give_certificates(tmp_path):
    told = credential(clientCertificateData="CERT", clientKeyData="KEY", expirationTimestamp="2031-01-01T00:00:00")
    login = await log_in(plugin(program(tmp_path / "cloud", f"echo '{told}'")), {})
    assert (login.certificate, login.key, login.expires.tzinfo) == ("CERT", "KEY", UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"echo {SECRET}; echo 'session expired' >&2; exit 3", r"failed \(session expired\): log in again"),
        ("exit 1", r"failed \(no message\)"),
        ("echo nonsense", "holds no credentials"),
        ("echo '[]'", "holds no credentials"),
        (f"echo '{credential()}'", "holds no credentials"),
        (f"echo '{credential(clientCertificateData='x')}'", "holds no credentials"),
        (f"printf '%s' '{credential(token='a')}' | sed 's/v1/v1beta1/'", "speaks .*v1beta1, the kubeconfig says .*v1:"),
        (f"echo '{credential(token='a', expirationTimestamp='soon')}'", "holds no credentials"),
        (f"sleep 60 & echo '{SECRET}'; sleep 60", "did not answer within 0.2 s"),
    ],
)
async def test_a_program_that_fails_is_one_sentence(tmp_path, text, expected):
    began_s = time.monotonic()
    with pytest.raises(ExecutorError, match=expected) as caught:
        await log_in(plugin(program(tmp_path / "cloud", text)), {}, timeout_s=0.2 if "sleep" in text else 20.0)
    assert SECRET not in str(caught.value)
    assert time.monotonic() - began_s < 30.0


async def test_a_program_that_cannot_be_asked(tmp_path):
    with pytest.raises(ExecutorError, match=r"is not installed here: get it at x$"):
        await log_in(plugin("no-such-cloud", installHint="get it\nat x"), {})
    with pytest.raises(ExecutorError, match="wants to ask a person"):
        await log_in(plugin("sh", interactiveMode="Always"), {})
    script = tmp_path / "cloud"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(ExecutorError, match="does not start: No such file"):
        await log_in(plugin(str(script)), {})


async def test_a_token_in_a_file_is_read_again_in_a_while(tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    login = await log_in({"tokenFile": str(tmp_path / "token")}, {})
    assert login.token == SECRET
    assert login.expires <= datetime.now(UTC) + timedelta(seconds=60)
    (tmp_path / "token").write_text("")
    with pytest.raises(ExecutorError, match="is empty"):
        await log_in({"tokenFile": str(tmp_path / "token")}, {})


def jwt(until: datetime) -> str:
    payload = base64.urlsafe_b64encode(json.dumps({"exp": until.timestamp()}).encode()).decode().rstrip("=")
    return f"e30.{payload}.sig"


@given(st.text(max_size=40) | st.builds(lambda data: f"a.{base64.urlsafe_b64encode(data).decode()}.c", st.binary()))
def test_any_token_can_be_asked_when_it_expired(token):
    assert expired_at(token) is None


def test_a_web_token_says_when_it_expired():
    past = datetime(2024, 5, 1, tzinfo=UTC)
    assert expired_at(jwt(past)) == past
    assert expired_at(jwt(datetime.now(UTC) + timedelta(hours=1))) is None


# -- logging in again


class Guarded:
    """A server that takes one token."""

    def __init__(self, token: str) -> None:
        self.token, self.refused = token, 0

    async def __call__(self, request):
        if request.headers.get("Authorization") == f"Bearer {self.token}":
            return answer({"gitVersion": "v1", "metadata": {}})
        self.refused += 1
        return refusal(401, "Unauthorized", "Unauthorized")


async def test_a_token_is_renewed_before_it_expires_and_when_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(wire_module, "LOGIN_PAUSE_S", 0.0)
    counter = tmp_path / "count"
    script = program(
        tmp_path / "cloud",
        f"echo x >> {counter}; until=2031; [ -e {tmp_path}/short ] && until=2001\n"
        f"n=$(wc -l < {counter} | tr -d ' ')\n"
        f"echo '{credential(token='tN', expirationTimestamp='Y-01-01T00:00:00Z')}' | sed s/tN/t$n/\\;s/Y-01/$until-01/",
    )
    guard = Guarded("t1")
    async with odd(guard) as port:
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}", plugin(script))
        cluster = await Cluster.connect(Access.resolve(str(path)))
        try:
            await cluster.version()
            assert guard.refused == 0
            guard.token = "t2"  # revoked: all at once are refused, and one asks for another
            await asyncio.gather(*(cluster.version() for _ in range(8)))
            assert len(counter.read_text().split()) == 2
            (tmp_path / "short").touch()
            guard.token = "t3"
            await cluster.version()
            guard.token, before = "t4", guard.refused
            await cluster.version()  # t3 has expired: nobody had to refuse it
            assert guard.refused == before
            program(tmp_path / "cloud", "echo 'SSO session is over' >&2; exit 1")
            guard.token = "none"
            with pytest.raises(KubeError, match=r"SSO session is over.*log in again") as caught:
                await cluster.version()
            assert caught.value.status == 401
        finally:
            await cluster.close()


async def test_a_program_is_not_asked_in_a_circle(tmp_path):
    counter = tmp_path / "count"
    script = program(tmp_path / "cloud", f"echo x >> {counter}; echo '{credential(token='t1')}'")
    guard = Guarded("t1")
    async with odd(guard) as port:
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}", plugin(script))
        cluster = await Cluster.connect(Access.resolve(str(path)))
        try:
            guard.token = "none"
            for _ in range(20):
                with pytest.raises(KubeError):
                    await cluster.version()
        finally:
            await cluster.close()
    assert len(counter.read_text().split()) == 2


async def test_an_expired_web_token_is_named_with_its_time(tmp_path):
    async with odd(Guarded("none")) as port:
        path = kubeconfig(tmp_path / "k", f"http://127.0.0.1:{port}", {"token": jwt(datetime(2024, 5, 1, tzinfo=UTC))})
        with pytest.raises(ExecutorError, match="expired on 2024-05-01 at 00:00 UTC"):
            await Cluster.connect(Access.resolve(str(path)))


async def test_no_key_stays_on_a_disk(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    data = base64.b64encode(b"KEY").decode()
    path = kubeconfig(tmp_path / "k", "https://127.0.0.1:1", {"client-certificate-data": data, "client-key-data": data})
    with pytest.raises(ExecutorError, match="cannot be used"):
        await Cluster.connect(Access.resolve(str(path)), tries=1)
    assert list(scratch.iterdir()) == []
