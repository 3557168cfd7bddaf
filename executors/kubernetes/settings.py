"""What a user may say about a cluster: where it is, what pods look like there, how patient we are."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from core.executor import ExecutorError
from executors.kubernetes.quantity import number

IMAGE: Final = "pytorch/pytorch:2.13.0-cuda13.0-cudnn9-runtime"
_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(k|M|G|T|Ki|Mi|Gi|Ti)?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_DATA: Final = re.compile(r"pvc:[a-z0-9.-]+(/[^/].*)?|image:\S+")
_ONE_OF: Final = {"image_pull_policy": ("Always", "IfNotPresent", "Never"), "endpoint": ("", "sim")}
_SIZES: Final = ("memory", "ephemeral_storage", "shm", "tmp", "work")
_AT_LEAST: Final[Mapping[str, float]] = {
    "cpu_slots": 1, "cpus": 1, "max_exec_time_s": 1, "ttl_s": 60, "startup_s": 1, "grace_s": 1, "term_grace_s": 1,
    "queue_timeout_s": 0, "submit_per_s": 0.1, "in_flight": 1, "follows": 1,
}  # fmt: skip
_WORDS: Final = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "array": "a list", "object": "a block of `name: value`", "null": "nothing",
}  # fmt: skip


class KubeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything about a cluster that is not the session's; docs/kubernetes.md explains each.

    Sizes are Kubernetes quantities, times seconds. `gpu_resource` empty: pods train on CPUs.
    """

    endpoint: str = ""
    kubeconfig: str | None = None
    context: str | None = None
    namespace: str = ""
    image: str = IMAGE
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: list[str] = []
    data: str = "pvc:autoresearch-data"
    cache: str = ""
    python: str = "python3"
    gpu_resource: str = "nvidia.com/gpu"
    product_label: str = "nvidia.com/gpu.product"
    products: list[str] = []
    allow_mig: bool = False
    allow_sharing: bool = False
    cpu_slots: int = 4
    cpus: int | None = None
    memory: str | None = None
    ephemeral_storage: str = "22Gi"
    shm: str = "8Gi"
    tmp: str = "10Gi"
    work: str = "10Gi"
    queue: str = ""
    queue_priority: str = ""
    max_exec_time_s: int | None = None
    priority_class: str = "autoresearch-experiment"
    runtime_class: str = ""
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    annotations: dict[str, str] = {}
    overlay: dict[str, Any] = {}
    host_users: bool = True
    ttl_s: int = 86_400
    startup_s: int = 600
    grace_s: int = 60
    term_grace_s: int = 20
    queue_timeout_s: float = 0.0
    submit_per_s: float = 60.0
    in_flight: int = 16
    follows: int = 256


def load(path: Path | None, said: Mapping[str, Any]) -> KubeSettings:
    """Settings from a YAML file, and what was said on the command line over them. Raises ExecutorError."""
    found: Any = {}
    if path is not None:
        found = read_yaml(path)
        if not isinstance(found, dict):
            raise ExecutorError(f"{path} holds no settings: write `image: ...`, one per line")
    where = str(path) if path is not None else "the settings of the cluster"
    return _checked({**found, **{key: value for key, value in said.items() if value is not None}}, where)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, an empty one as an empty mapping. Raises ExecutorError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise ExecutorError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark is not None else ""
        raise ExecutorError(f"{path} is no YAML{line}: mend it") from None


def from_options(options: Mapping[str, Any]) -> KubeSettings:
    """Settings as a session keeps them. Raises ExecutorError."""
    return _checked(dict(options), "the session's settings of the cluster")


def to_options(settings: KubeSettings) -> dict[str, Any]:
    """Settings as plain data, for a session to keep."""
    kept: dict[str, Any] = msgspec.to_builtins(settings)
    return kept


def _checked(found: dict[str, Any], where: str) -> KubeSettings:
    known = {field.name for field in msgspec.structs.fields(KubeSettings)}
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(sorted(known))}"
            raise ExecutorError(f"{where} knows no setting {str(key)!r}{hint}")
    try:
        settings = msgspec.convert(found, KubeSettings)
    except msgspec.ValidationError as error:
        raise ExecutorError(f"{where}: {_in_words(error, found)}") from None
    wrong = _wrong_amount(settings) or _wrong_text(settings)
    if wrong:
        raise ExecutorError(f"{where}: {wrong}")
    return settings


def _wrong_amount(settings: KubeSettings) -> str:
    """A number or size that cannot be though its type is right, as the end of a sentence; empty where all is well."""
    for name, least in _AT_LEAST.items():
        value = getattr(settings, name)
        if value is not None and not value >= least:  # not a number is not at least anything
            return f"{name} is {value}, and has to be {least:g} or more"
    for name in _SIZES:
        value = getattr(settings, name)
        if value is not None and not (_QUANTITY.fullmatch(value) and number(value) >= 1 << 20):
            return f"{name} is {value!r}, which is no size: write 8Gi or 500Mi"
    return ""


def _wrong_text(settings: KubeSettings) -> str:
    """The same of names and references."""
    for name in ("namespace", "queue", "priority_class", "runtime_class"):
        value = getattr(settings, name)
        if value and not _NAME.fullmatch(value):
            return f"{name} is {value!r}, which is no name in Kubernetes: it has a-z, 0-9, `-` and `.`"
    for name in ("image", "python"):
        value = getattr(settings, name)
        if not re.fullmatch(r"\S+", value):
            return f"{name} is {value!r}, which is empty or holds blanks"
    if not _DATA.fullmatch(settings.data) or ".." in settings.data.split("/"):
        return f"data is {settings.data!r}: write pvc:NAME, pvc:NAME/FOLDER or image:REFERENCE"
    if settings.cache and not re.fullmatch(r"pvc:[a-z0-9.-]+", settings.cache):
        return f"cache is {settings.cache!r}: write pvc:NAME"
    for name, allowed in _ONE_OF.items():
        if getattr(settings, name) not in allowed:
            return f"{name} is {getattr(settings, name)!r}: it is {' or '.join(filter(None, allowed))}"
    return ""


def _in_words(error: msgspec.ValidationError, found: Any) -> str:
    """A value of the wrong type: where it is, what was written, what is wanted."""
    what, _, at = str(error).partition(" - at ")
    path = at.strip("`").removeprefix("$.")
    value = found
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
    what = re.sub("`([^`]*)`", lambda match: " or ".join(_WORDS.get(one, one) for one in match[1].split(" | ")), what)
    return f"{path} is {value!r}: {what[:1].lower()}{what[1:]}"
