"""What a pod needs of other objects before its container can be created: its volumes and its environment."""

from __future__ import annotations

from sim.kubernetes_api.objects import Obj, main_container, namespace_of
from sim.kubernetes_api.store import Store


def missing_volume(store: Store, pod: Obj) -> str:
    """Why the kubelet cannot mount a pod's volumes, as its event says it; empty where it can."""
    namespace = namespace_of(pod)
    for volume in pod["spec"].get("volumes") or ():
        why = _missing(store, namespace, volume)
        if why:
            return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {why}'
    return ""


def missing_claim(store: Store, pod: Obj) -> str:
    """Why the scheduler cannot place a pod: a claim that does not exist; empty where all do."""
    for volume in pod["spec"].get("volumes") or ():
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim and store.get("persistentvolumeclaims", namespace_of(pod), claim) is None:
            return f'persistentvolumeclaim "{claim}" not found'
    return ""


def missing_environment(store: Store, pod: Obj) -> str:
    """Why the container's configuration cannot be made (CreateContainerConfigError); empty where it can."""
    namespace, container = namespace_of(pod), main_container(pod)
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        for field, kind, word in (
            ("configMapKeyRef", "configmaps", "configmap"),
            ("secretKeyRef", "secrets", "secret"),
        ):
            reference = source.get(field)
            if reference is None or reference.get("optional"):
                continue
            found = store.get(kind, namespace, reference["name"])
            if found is None:
                return f'{word} "{reference["name"]}" not found'
            if reference["key"] not in (found.get("data") or {}):
                return f"couldn't find key {reference['key']} in {word.title()} {namespace}/{reference['name']}"
    context = {**(pod["spec"].get("securityContext") or {}), **(container.get("securityContext") or {})}
    if context.get("runAsNonRoot") and context.get("runAsUser") == 0:
        return "container's runAsUser breaks non-root policy"
    return ""


def _missing(store: Store, namespace: str, volume: Obj) -> str:
    source = volume.get("configMap")
    if source is not None and not source.get("optional"):
        found = store.get("configmaps", namespace, source["name"])
        if found is None:
            return f'configmap "{source["name"]}" not found'
        keys = {**(found.get("data") or {}), **(found.get("binaryData") or {})}
        for item in source.get("items") or ():
            if item["key"] not in keys:
                return f"configmap references non-existent config key: {item['key']}"
    secret = volume.get("secret")
    if (
        secret is not None
        and not secret.get("optional")
        and store.get("secrets", namespace, secret["secretName"]) is None
    ):
        return f'secret "{secret["secretName"]}" not found'
    return ""
