"""The copy of a cluster's objects equals the cluster's, whatever happens to the connection in between."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.clock import RealClock
from executors.kubernetes import client as client_module
from executors.kubernetes import reflector as reflector_module
from executors.kubernetes.client import KubeError, Listing
from executors.kubernetes.reflector import Reflector
from sim.kubernetes_api.faults import Fault
from sim.kubernetes_api.server import TOKEN, ApiServer, User
from sim.kubernetes_api.store import Store
from tests.support.apiserver import simulated, until


class Told:
    """What a reflector tells, replayed into a copy of its own."""

    def __init__(self) -> None:
        self.copy: dict[str, dict] = {}
        self.changes: list[tuple[str, str]] = []
        self.states: list[tuple[bool, str]] = []

    def change(self, what: str, obj: dict) -> None:
        meta = obj["metadata"]
        known = self.copy.get(meta["uid"])
        assert (what == "ADDED") == (known is None)
        if what == "DELETED":
            del self.copy[meta["uid"]]
        else:
            assert known is None or known["metadata"]["resourceVersion"] != meta["resourceVersion"]
            self.copy[meta["uid"]] = obj
        assert "managedFields" not in meta
        self.changes.append((what, meta["name"]))

    def state(self, up: bool, why: str) -> None:
        assert up == (not why)
        assert not self.states or self.states[-1] != (up, why)
        self.states.append((up, why))


@contextlib.asynccontextmanager
async def reflecting(cluster, labels="", *, watch_s=20.0, pauses_s=(0.01, 0.1), kind="configmaps", wait=True):
    told = Told()
    reflector = Reflector(cluster, kind, labels, told.change, told.state, watch_s=watch_s, pauses_s=pauses_s)
    running = asyncio.ensure_future(reflector.run())
    try:
        if wait:
            assert await reflector.synced()
        yield reflector, told
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def put(store: Store, name: str, text: str = "", **labels: str) -> None:
    known = store.get("configmaps", "autoresearch", name)
    meta = {"name": name, "namespace": "autoresearch", "labels": labels, "managedFields": [{"manager": "x"}]}
    if known is None:
        store.create("configmaps", {"kind": "ConfigMap", "metadata": meta, "data": {"t": text}})
    else:
        store.change("configmaps", known, data={"t": text})


def there(store: Store) -> dict[str, str]:
    return {
        obj["metadata"]["uid"]: obj["metadata"]["resourceVersion"] for obj in store.list("configmaps", "autoresearch")
    }


def copied(told: Told) -> dict[str, str]:
    return {uid: obj["metadata"]["resourceVersion"] for uid, obj in told.copy.items()}


def cut_all(server: ApiServer) -> None:
    """Break every connection there is."""
    for connection in list(server._runner.server.connections):
        if connection.transport is not None:
            connection.transport.abort()


async def test_changes_are_told_as_they_happen(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        put(server.store, "a")
        async with reflecting(cluster) as (reflector, told):
            put(server.store, "b")
            put(server.store, "a", "new")
            server.store.remove("configmaps", "autoresearch", "b")
            put(server.store, "b")
            await until(lambda: len(told.changes) == 5)
            assert told.changes == [
                ("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b"), ("ADDED", "b"),
            ]  # fmt: skip
            assert copied(told) == there(server.store)
            assert (reflector.lists, reflector.watches, told.states) == (1, 1, [(True, "")])
            assert {obj["metadata"]["name"] for obj in reflector.objects()} == {"a", "b"}


async def test_only_what_a_selector_names(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster, "mine=yes") as (_, told):
        put(server.store, "other")
        put(server.store, "a", mine="yes")
        await until(lambda: told.changes)
        assert told.changes == [("ADDED", "a")]


async def test_a_watch_that_ends_goes_on_where_it_was(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster, watch_s=1.0) as (reflector, told):
        await until(lambda: reflector.watches >= 3)
        put(server.store, "a")
        await until(lambda: told.changes)
        assert reflector.lists == 1
        assert reflector.watches <= 5
        assert told.states == [(True, "")]


async def test_a_watch_that_is_cut_goes_on_where_it_was(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster) as (reflector, told):
        for number in range(5):
            put(server.store, f"a{number}")
            await until(lambda: copied(told) == there(server.store))
            cut_all(server)
            put(server.store, f"b{number}")
        await until(lambda: copied(told) == there(server.store))
        assert len(told.copy) == 10
        assert reflector.lists <= 3
        assert not told.states[1][0]
        await until(lambda: told.states[-1] == (True, ""))


async def test_a_history_that_is_gone_is_listed_again_with_what_was_missed(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        put(server.store, "gone", "last words")
        put(server.store, "kept")
        async with reflecting(cluster) as (reflector, told):
            last = next(obj for obj in told.copy.values() if obj["metadata"]["name"] == "gone")
            server.api.faults.add(Fault("status", verb="watch", code=503))
            cut_all(server)
            server.store.remove("configmaps", "autoresearch", "gone")
            put(server.store, "kept", "changed")
            put(server.store, "new")
            server.store.compact()
            server.api.faults.clear()
            await until(lambda: copied(told) == there(server.store))
            assert sorted(told.changes[2:]) == [("ADDED", "new"), ("DELETED", "gone"), ("MODIFIED", "kept")]
            assert last["data"] == {"t": "last words"}
            assert reflector.lists >= 2


async def test_an_object_made_anew_under_its_name_is_another_one(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        put(server.store, "a")
        async with reflecting(cluster) as (_, told):
            server.api.faults.add(Fault("drop", verb="watch"))
            cut_all(server)
            server.store.remove("configmaps", "autoresearch", "a")
            put(server.store, "a")
            server.store.compact()
            server.api.faults.clear()
            await until(lambda: copied(told) == there(server.store))
            assert told.changes[1:] == [("DELETED", "a"), ("ADDED", "a")]


async def test_a_silent_connection_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(client_module, "_WATCH_MARGIN_S", 0.1)
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster, watch_s=0.2) as (_, told):
        server.api.faults.add(Fault("hang", verb="watch", count=2))
        cut_all(server)
        put(server.store, "a")
        await until(lambda: copied(told) == there(server.store))


async def test_a_server_that_dies_and_comes_back(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster) as (reflector, told):
        put(server.store, "a")
        await until(lambda: told.changes)
        gone = asyncio.ensure_future(server.away(0.6))
        await until(lambda: not told.states[-1][0])
        put(server.store, "b")
        server.store.remove("configmaps", "autoresearch", "a")
        await gone
        await until(lambda: copied(told) == there(server.store) and told.states[-1][0])
        assert reflector.watches + reflector.lists < 20


async def test_a_cluster_restored_from_a_backup_is_believed_after_a_while(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        for number in range(20):
            put(server.store, f"a{number}")
        async with reflecting(cluster) as (reflector, told):
            put(server.store, "seen")
            await until(lambda: ("ADDED", "seen") in told.changes)
            server.api._store = fresh = Store(RealClock(), 0.0)
            fresh.create("namespaces", {"metadata": {"name": "autoresearch"}})
            put(fresh, "b")
            cut_all(server)
            await until(lambda: copied(told) == there(fresh))
            assert len(told.copy) == 1
            assert reflector.lists >= 4
            put(fresh, "c")
            await until(lambda: copied(told) == there(fresh))


async def test_a_refusal_is_told_once_and_ends_it(tmp_path):
    async with simulated(tmp_path) as (server, cluster):
        server.users[TOKEN] = User("nobody", frozenset())
        async with reflecting(cluster, kind="nodes", wait=False) as (reflector, told):
            assert not await reflector.synced()
            assert "nodes is forbidden" in reflector.refusal
            before = server.api.requests
            await asyncio.sleep(0.1)
            assert server.api.requests == before
            assert told.states == []


async def test_a_right_that_was_there_before_is_waited_for(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster) as (reflector, told):
        server.users[TOKEN] = User("nobody", frozenset())
        cut_all(server)
        await until(lambda: "forbidden" in told.states[-1][1])
        server.users[TOKEN] = User("researcher")
        put(server.store, "a")
        await until(lambda: copied(told) == there(server.store) and told.states[-1][0])
        assert reflector.refusal == ""


async def test_credentials_that_expire_are_waited_for(tmp_path):
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster) as (_, told):
        user = server.users.pop(TOKEN)
        cut_all(server)
        await until(lambda: "log in again" in told.states[-1][1])
        assert cluster.refused_credentials
        server.users[TOKEN] = user
        put(server.store, "a")
        await until(lambda: copied(told) == there(server.store) and told.states[-1][0])
        assert not cluster.refused_credentials


async def test_what_a_callback_raises_is_not_swallowed(tmp_path):
    def broken(what, obj):
        raise RuntimeError("a mistake of ours")

    async with simulated(tmp_path) as (server, cluster):
        put(server.store, "a")
        reflector = Reflector(cluster, "configmaps", "", broken, lambda up, why: None)
        running = asyncio.ensure_future(reflector.run())
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await reflector.synced()
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await running


async def test_everything_is_listed_anew_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(reflector_module, "RELIST_S", 0.1)
    async with simulated(tmp_path) as (server, cluster), reflecting(cluster, watch_s=1.0) as (reflector, told):
        server.store._objects["configmaps"] = {}  # a change that no watch tells of
        put(server.store, "a")
        await until(lambda: reflector.lists >= 2)
        assert copied(told) == there(server.store)


# -- odd servers, without a socket


class Script:
    """A cluster that says what a test has it say."""

    def __init__(self, watch, lists=None) -> None:
        self._watch, self._lists = watch, lists
        self.asked: list[float] = []

    async def list(self, kind, *, labels="", tries=4):
        self.asked.append(time.monotonic())
        return self._lists() if self._lists else Listing([], "10")

    async def watch(self, kind, version, *, labels="", timeout_s=1.0, on_open=None):
        self.asked.append(time.monotonic())
        for what in self._watch():
            yield what


def away():
    raise KubeError(0, "Unreachable", "not there")
    yield


def ends_at_once():
    return []


def bookmark_and_end():
    return [("BOOKMARK", {"metadata": {"resourceVersion": "10"}})]


def expired():
    raise KubeError(410, "Expired", "too old")
    yield


@pytest.mark.parametrize("watch", [away, ends_at_once, expired, bookmark_and_end])
async def test_no_server_is_asked_in_a_circle(watch):
    cluster = Script(watch)
    async with reflecting(cluster, pauses_s=(0.05, 0.4)):
        await asyncio.sleep(0.6)
    most = 60 if watch is bookmark_and_end else 20
    assert 3 <= len(cluster.asked) <= most


async def test_what_is_told_twice_or_late_does_no_harm():
    def obj(uid, version):
        return {"metadata": {"uid": uid, "name": uid, "resourceVersion": version}}

    rounds = [
        [
            ("ADDED", obj("a", "11")),
            ("ADDED", obj("a", "11")),
            ("MODIFIED", obj("a", "12")),
            ("MODIFIED", obj("a", "11")),
        ],
        [("DELETED", obj("a", "14")), ("DELETED", obj("a", "14")), ("MODIFIED", obj("a", "13"))],
    ]
    lists = [Listing([], "10"), Listing([obj("a", "12")], "12")]
    cluster = Script(lambda: rounds.pop(0) if rounds else [], lambda: lists.pop(0) if lists else Listing([], "14"))
    async with reflecting(cluster) as (_, told):
        await until(lambda: not rounds and not lists)
        await until(lambda: not told.copy)
    assert told.changes == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


async def test_a_retry_that_a_server_asks_for_is_kept():
    def busy():
        raise KubeError(429, "TooManyRequests", "slow down", None, 0.3)
        yield

    cluster = Script(busy)
    async with reflecting(cluster, pauses_s=(0.01, 0.4)):
        await asyncio.sleep(0.5)
    assert len(cluster.asked) <= 5


# -- any schedule

steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5)),
        st.tuples(st.just("remove"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["cut", "compact", "yield", "drop", "refuse", "half"]), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_schedule_of_cuts_and_changes_ends_in_the_same_state(tmp_path, schedule):
    async def play() -> None:
        async with simulated(tmp_path) as (server, cluster), reflecting(cluster, pauses_s=(0.002, 0.02)) as (_, told):
            for step, number in schedule:
                await perform(server, step, f"c{number}")
            server.api.faults.clear()
            await until(lambda: copied(told) == there(server.store))

    asyncio.run(play())


async def perform(server: ApiServer, step: str, name: str) -> None:
    match step:
        case "put":
            put(server.store, name, str(server.store.version))
        case "remove":
            server.store.remove("configmaps", "autoresearch", name)
        case "cut":
            cut_all(server)
        case "compact":
            server.store.compact()
        case "drop":
            server.api.faults.add(Fault("drop", count=1))
        case "refuse":
            server.api.faults.add(Fault("status", code=500, count=1))
        case "half":
            server.api.faults.add(Fault("cut", verb="watch", count=1))
        case "yield":
            await asyncio.sleep(0.003)


async def test_a_server_that_is_away_costs_next_to_nothing(tmp_path):
    async with simulated(tmp_path) as (server, cluster), contextlib.AsyncExitStack() as stack:
        for kind in ("jobs", "pods", "events", "nodes"):
            await stack.enter_async_context(reflecting(cluster, kind=kind, pauses_s=(0.5, 30.0)))
        before = server.api.requests
        gone = asyncio.ensure_future(server.away(2.0))
        await asyncio.sleep(0.1)
        cpu_s = time.process_time()
        await asyncio.sleep(1.5)
        assert time.process_time() - cpu_s < 0.15
        await gone
        assert server.api.requests - before < 40
