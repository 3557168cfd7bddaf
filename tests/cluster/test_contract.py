"""What the executor relies on of a Kubernetes API: held to a real control plane and to the simulated one alike.

Needs what deploy/base creates and nothing else. No test needs an image: pods ask for a node that does not exist.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy

import pytest

from core.executor import AttemptSpec
from executors.kubernetes import manifest, names
from executors.kubernetes.classify import classify
from executors.kubernetes.client import KubeError
from executors.kubernetes.examine import NEEDED
from executors.kubernetes.reflector import Reflector
from executors.kubernetes.settings import KubeSettings

pytestmark = pytest.mark.cluster
NOWHERE = {"autoresearch.dev/no-such-node": "true"}
"""No pod of these tests ever runs."""


def spec(number: int = 1) -> AttemptSpec:
    return AttemptSpec(f"r{number}", f"r{number}.1", "", "", "rev", "x = 1\n", 1, 10.0, 0.0)


def job(session: str, number: int = 1, **settings) -> dict:
    """A run's Job, but for its data: whether a claim is bound is no part of the contract."""
    body = manifest.job(
        spec(number),
        session,
        KubeSettings(gpu_resource="", node_selector=NOWHERE, **settings),
        product="",
        sample=None,
        avoid_nodes=("some-node",),
        inputs={"train.py": "x = 1\n"},
        code="none",
        wall_s=10.0,
    )
    volumes = body["spec"]["template"]["spec"]["volumes"]
    body["spec"]["template"]["spec"]["volumes"] = [
        {"name": "data", "emptyDir": {}} if volume["name"] == "data" else volume for volume in volumes
    ]
    return body


async def until(condition, what: str, timeout_s: float = 60.0):
    """Wait for a state of the cluster, which answers when it likes."""
    async with asyncio.timeout(timeout_s):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    assert found, what
    return found


async def pods_of(cluster, name: str) -> list[dict]:
    return (await cluster.list("pods", labels=f"job-name={name}")).items


async def test_the_account_may_do_all_that_a_session_needs(cluster):
    for resource, verb, group in NEEDED:
        name, _, sub = resource.partition("/")
        review = await cluster.review(verb, name, group=group, subresource=sub)
        assert review.allowed, (verb, resource, review.reason)


async def test_our_job_is_taken_strictly_without_a_warning(cluster, session):
    created = await cluster.create("jobs", job(session), dry_run=True)
    assert created.warnings == []
    with pytest.raises(KubeError) as missing:
        await cluster.get("jobs", created.object["metadata"]["name"])
    assert (missing.value.status, missing.value.reason) == (404, "NotFound")


async def test_a_field_that_nobody_knows_is_refused_by_its_name(cluster, session):
    body = job(session)
    body["spec"]["template"]["spec"]["noSuchField"] = 1
    with pytest.raises(KubeError) as refused:
        await cluster.create("jobs", body, dry_run=True)
    assert refused.value.status == 400
    assert "noSuchField" in refused.value.message


async def test_a_value_that_cannot_be_is_refused_with_its_place(cluster, session):
    body = job(session)
    body["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    with pytest.raises(KubeError) as refused:
        await cluster.create("jobs", body, dry_run=True)
    assert (refused.value.status, refused.value.reason) == (422, "Invalid")
    assert "restartPolicy" in refused.value.message


async def test_the_same_name_again_is_told_apart_from_other_trouble(cluster, session):
    first = (await cluster.create("jobs", job(session))).object
    with pytest.raises(KubeError) as again:
        await cluster.create("jobs", job(session))
    assert (again.value.status, again.value.reason) == (409, "AlreadyExists")
    found = await cluster.get("jobs", first["metadata"]["name"])
    assert found["metadata"]["uid"] == first["metadata"]["uid"]
    assert (
        found["metadata"]["annotations"][names.SPEC_SHA256]
        == job(session)["metadata"]["annotations"][names.SPEC_SHA256]
    )


async def test_deletion_wants_the_right_uid_and_takes_what_is_owned_along(cluster, session):
    made = (await cluster.create("jobs", job(session))).object
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    await cluster.create("configmaps", manifest.attempt_configmap(name, session, spec(), {"train.py": "x"}, made))
    await until(lambda: pods_of(cluster, name), "a pod")
    assert not await cluster.delete("jobs", name, uid="00000000-0000-4000-8000-000000000000")
    assert (await cluster.get("jobs", name))["metadata"]["uid"] == uid
    assert await cluster.delete("jobs", name, uid=uid)
    assert not await cluster.delete("jobs", name)

    async def gone() -> bool:
        label = f"{names.RUN}={names.run8(session)}"
        return not (await cluster.list("configmaps", labels=label)).items and not await pods_of(cluster, name)

    await until(gone, "the end of what the Job owned")


async def test_an_immutable_configmap_of_the_greatest_size_is_taken_and_a_greater_one_refused(cluster, session):
    made = (await cluster.create("jobs", job(session))).object
    name = made["metadata"]["name"]
    inputs = {"train.py": "x" * manifest.MOST_INPUT_BYTES}
    assert (await cluster.create("configmaps", manifest.attempt_configmap(name, session, spec(), inputs, made))).object[
        "immutable"
    ]
    larger = manifest.attempt_configmap(f"{name}-b", session, spec(), {"train.py": "x" * (1 << 20)}, made)
    with pytest.raises(KubeError) as refused:
        await cluster.create("configmaps", larger)
    assert refused.value.status in (413, 422)


async def test_a_pod_that_no_node_takes_waits_with_a_reason_that_is_understood(cluster, session):
    made = (await cluster.create("jobs", job(session))).object

    async def seen():
        pods = await pods_of(cluster, made["metadata"]["name"])
        events = [one for one in (await cluster.list("events")).items if names.job_of(one) == made["metadata"]["name"]]
        one = classify("r1.1", made, pods[0] if pods else None, events, cancelled_by_us=False)
        return one if one.hold else None

    found = await until(seen, "the scheduler's word")
    assert (found.phase, found.hold) == ("waiting", "no_such_node"), found


async def test_a_suspended_job_is_queued_and_has_no_pod(cluster, session):
    body = job(session)
    body["spec"]["suspend"] = True
    made = (await cluster.create("jobs", body)).object
    seen = classify("r1.1", made, None, [], cancelled_by_us=False)
    assert seen.phase == "queued"
    assert await pods_of(cluster, made["metadata"]["name"]) == []


async def test_lists_go_on_over_pages_and_selectors_select(cluster, session, monkeypatch):
    monkeypatch.setattr("executors.kubernetes.client.PAGE", 3)
    made = {(await cluster.create("jobs", job(session, number))).object["metadata"]["name"] for number in range(1, 9)}
    label = f"{names.RUN}={names.run8(session)}"
    listing = await cluster.list("jobs", labels=label)
    assert {one["metadata"]["name"] for one in listing.items} == made
    assert listing.resource_version
    one = await cluster.list("jobs", labels=f"{label},{names.EXPERIMENT} in (r3,r4)")
    assert len(one.items) == 2
    by_field = await cluster.list("jobs", fields=f"metadata.name={min(made)}")
    assert [item["metadata"]["name"] for item in by_field.items] == [min(made)]


async def test_a_watch_goes_on_from_a_list_and_bookmarks_move_it(cluster, session):
    label = f"{names.RUN}={names.run8(session)}"
    start = (await cluster.list("jobs", labels=label)).resource_version
    made = (await cluster.create("jobs", job(session))).object
    await cluster.delete("jobs", made["metadata"]["name"])
    told = []
    async for what, obj in cluster.watch("jobs", start, labels=label, timeout_s=3.0):
        assert int(obj["metadata"]["resourceVersion"]) > 0
        told.append((what, obj["metadata"].get("name", "")))
    changes = [one for one in told if one[0] != "BOOKMARK"]
    assert changes[0] == ("ADDED", made["metadata"]["name"])
    assert changes[-1] == ("DELETED", made["metadata"]["name"])


async def test_a_version_from_the_future_or_the_dark_past_is_never_an_empty_world(cluster, session):
    """A client that is told nothing would believe that nothing is there."""
    label = f"{names.RUN}={names.run8(session)}"
    if getattr(cluster, "server", None) is not None:
        cluster.server.store.compact()
        with pytest.raises(KubeError) as gone:
            async for _ in cluster.watch("jobs", "1", labels=label, timeout_s=2.0):
                pass
        assert gone.value.status == 410
        return
    told = []
    with contextlib.suppress(KubeError):  # a history that is kept for long may still have it
        async for what, _ in cluster.watch("jobs", "1", labels=label, timeout_s=2.0):
            told.append(what)
    assert "ERROR" not in told


async def test_a_reflector_holds_what_a_list_holds(cluster, session):
    label = f"{names.RUN}={names.run8(session)}"
    reflector = Reflector(cluster, "jobs", label, lambda _what, _obj: None, lambda _up, _why: None)
    task = asyncio.ensure_future(reflector.run())
    try:
        assert await reflector.synced()
        made = [(await cluster.create("jobs", job(session, number))).object for number in range(1, 5)]
        await cluster.delete("jobs", made[0]["metadata"]["name"])

        async def same() -> bool:
            listed = {one["metadata"]["uid"] for one in (await cluster.list("jobs", labels=label)).items}
            return (
                listed
                == {one["metadata"]["uid"] for one in reflector.objects()}
                == {one["metadata"]["uid"] for one in made[1:]}
            )

        await until(same, "the reflector's copy")
    finally:
        task.cancel()


async def test_what_is_not_ours_is_left_alone(cluster, session):
    """Somebody else's Job with our labels: the annotation tells whose it is."""
    body = job(session)
    foreign = copy.deepcopy(body)
    foreign["metadata"]["name"] += "-theirs"
    foreign["metadata"]["annotations"][names.SESSION] = "another session"
    foreign["spec"]["suspend"] = True
    await cluster.create("jobs", foreign)
    label = f"{names.RUN}={names.run8(session)}"
    found = (await cluster.list("jobs", labels=label)).items
    assert [one["metadata"]["annotations"][names.SESSION] for one in found] == ["another session"]


async def test_the_log_of_a_pod_that_never_ran_is_an_error_and_not_a_hang(cluster, session):
    made = (await cluster.create("jobs", job(session))).object
    [pod, *_] = await until(lambda: pods_of(cluster, made["metadata"]["name"]), "a pod")
    with pytest.raises(KubeError) as refused:
        await cluster.read_log(pod["metadata"]["name"])
    assert refused.value.status in (400, 404, 500)
