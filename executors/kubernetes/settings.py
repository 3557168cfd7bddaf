"""What a user may say about the cluster: one record, read from a YAML file and the command line's options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from core.executor import ExecutorError
from executors.kubernetes import quantity

DEFAULT_IMAGE: Final = "pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime"
"""A public image with Python >= 3.11, torch and numpy; deploy/image builds a smaller one of one's own."""

_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_AT_LEAST: Final[Mapping[str, float]] = {
    "cpus": 0, "max_exec_time_s": 0, "ttl_s": 60, "startup_s": 1, "grace_s": 1, "term_grace_s": 1,
    "queue_timeout_s": 0, "submit_per_s": 0.1, "in_flight": 1, "follows": 0,
}  # fmt: skip
_VOLUMES: Final = ("shm", "tmp", "work")
_QUANTITIES: Final = ("memory", "ephemeral_storage", *_VOLUMES)
_NAMES: Final = ("namespace", "queue", "priority_class", "runtime_class")


class KubeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cluster and how attempts run in it. An empty text means: not said, take what is usual.

    `endpoint`: "sim" for the simulated cluster. `data`: where the corpus is, `pvc:NAME[/subPath]` or `image:REF`.
    `cache`: "" or `pvc:NAME`, a place for compiled kernels. `gpu_resource`: "" for pods that compute on CPUs.
    `products`: only nodes with these products (values of `product_label`, or classes such as H100-80GB).
    `cpus` (whole ones; 0: a GPU's share of its node) and `memory` are of one attempt; `shm` counts as memory.
    `overlay`: a patch of every Job. `ttl_s`: how long a finished Job stays where nobody collects it.
    `startup_s`, `grace_s`: what a pod may take beyond its budget, before and after; `term_grace_s` after SIGTERM.
    `max_exec_time_s`: Kueue's limit on a Job, 0 for none. `queue_timeout_s`: how long to wait for a place, 0 for ever.
    """

    endpoint: Literal["", "sim"] = ""
    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    image: str = DEFAULT_IMAGE
    image_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = ""
    image_pull_secrets: tuple[str, ...] = ()
    data: str = "pvc:autoresearch-data"
    data_corpus_sha256: str = ""
    cache: str = ""
    python: str = "python3"
    gpu_resource: str = "nvidia.com/gpu"
    product_label: str = "nvidia.com/gpu.product"
    allow_mig: bool = False
    allow_sharing: bool = False
    products: tuple[str, ...] = ()
    cpus: int = 0
    memory: str = ""
    ephemeral_storage: str = ""
    shm: str = "8Gi"
    tmp: str = "4Gi"
    work: str = "8Gi"
    queue: str = ""
    queue_priority: str = ""
    max_exec_time_s: int = 0
    priority_class: str = "autoresearch-experiment"
    runtime_class: str = ""
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    annotations: dict[str, str] = {}
    overlay: dict[str, Any] = {}
    ttl_s: int = 86_400
    startup_s: int = 600
    grace_s: int = 60
    term_grace_s: int = 20
    queue_timeout_s: float = 0.0
    submit_per_s: float = 60.0
    in_flight: int = 16
    follows: int = 256
    host_users: bool = True
    prometheus_url: str = ""


def load(path: Path | None, overrides: Mapping[str, Any]) -> KubeSettings:
    """Read the settings from a YAML file (None: all usual), then apply what the command line says.

    Raises:
        ExecutorError: one sentence that says which setting is wrong, where, and what would be right.
    """
    values: dict[str, Any] = {} if path is None else _read(path)
    where = dict.fromkeys(values, f"the cluster settings {path}") | dict.fromkeys(overrides, "the options")
    values |= overrides
    for key in values:
        if key not in KubeSettings.__struct_fields__:
            raise ExecutorError(f"{where[key]} name a setting `{key}` that does not exist{_nearest(key)}")
    try:
        settings = msgspec.convert(values, KubeSettings, strict=True)
    except msgspec.ValidationError as error:
        what, _, at = str(error).partition(" - at ")
        name = at.strip("`").removeprefix("$.")
        source = where.get(re.split(r"[.\[]", name)[0], f"the cluster settings {path}")
        said = "" if what.startswith("Invalid enum") else f" ({_value_at(values, name)!r})"
        raise ExecutorError(f"{source} have a wrong value at `{name}`{said}: {_lower(what)}") from None
    try:
        _check(settings)
    except _Wrong as wrong:
        raise ExecutorError(f"{where.get(wrong.key, 'the settings')} have a wrong value at `{wrong}") from None
    return settings


class _Wrong(Exception):
    """A value that has the right type and still cannot be; the text goes on after "a wrong value at `"."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key}`: {why}")
        self.key = key


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExecutorError(f"the cluster settings {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ExecutorError(f"the cluster settings {path} are not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1}: {getattr(error, 'problem', '')})"
        raise ExecutorError(f"the cluster settings {path} are not YAML{line}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ExecutorError(f"the cluster settings {path} must be `name: value` lines, not a {_kind(values)}")
    return {str(key): value for key, value in values.items()}


def _check(settings: KubeSettings) -> None:
    """What types cannot say."""
    for key, least in _AT_LEAST.items():
        if not getattr(settings, key) >= least:
            raise _Wrong(key, f"{getattr(settings, key)} is less than {least:g}, the least there can be")
    for key in _QUANTITIES:
        _check_quantity(key, getattr(settings, key))
    for key in _NAMES:
        if getattr(settings, key) and not _DNS_NAME.fullmatch(getattr(settings, key)):
            raise _Wrong(key, f"`{getattr(settings, key)}` is no name in Kubernetes (a-z, 0-9, `-` and `.`)")
    for key in ("image", "python"):
        value = getattr(settings, key)
        if not value or any(letter.isspace() for letter in value):
            raise _Wrong(key, f"`{value}` is empty or holds blanks")
    _check_volumes(settings)
    if settings.data_corpus_sha256 and not re.fullmatch("[0-9a-f]{64}", settings.data_corpus_sha256):
        raise _Wrong("data_corpus_sha256", "it must be 64 hexadecimal digits, as `prepare --kubernetes` prints them")
    if settings.prometheus_url and not re.match("https?://", settings.prometheus_url):
        raise _Wrong("prometheus_url", f"`{settings.prometheus_url}` must begin with http:// or https://")


def _check_quantity(key: str, text: str) -> None:
    if not text:
        if key in _VOLUMES:
            raise _Wrong(key, "a volume needs a size such as 8Gi")
        return
    try:
        amount = quantity.parse(text)
    except ValueError as error:
        raise _Wrong(key, str(error)) from None
    if amount < 1 << 20:
        raise _Wrong(key, f"`{text}` is less than 1Mi, the least there can be")


def _check_volumes(settings: KubeSettings) -> None:
    kind, _, rest = settings.data.partition(":")
    name = rest.partition("/")[0]
    if kind not in ("pvc", "image") or not rest or (kind == "pvc" and not _DNS_NAME.fullmatch(name)):
        raise _Wrong("data", f"`{settings.data}` is neither pvc:NAME, pvc:NAME/subPath nor image:REFERENCE")
    if kind == "pvc" and ".." in rest.split("/"):
        raise _Wrong("data", f"`{settings.data}` leads out of its volume")
    kind, _, name = settings.cache.partition(":")
    if settings.cache and (kind != "pvc" or not _DNS_NAME.fullmatch(name)):
        raise _Wrong("cache", f"`{settings.cache}` is not pvc:NAME")


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, KubeSettings.__struct_fields__, n=1, cutoff=0.5)
    return f": did you mean `{near[0]}`?" if near else ": docs/kubernetes.md lists them"


def _value_at(values: Any, path: str) -> Any:
    """What a user wrote at a path such as `tolerations[0]`, as far as the path can be followed."""
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(values, Mapping) and step in values:
            values = values[step]
        elif isinstance(values, list | tuple) and step.isdigit() and int(step) < len(values):
            values = values[int(step)]
    return values


def _lower(text: str) -> str:
    """A validator's message as the end of a sentence, with the words of YAML."""
    words = {"`str`": "a text", "`int`": "a whole number", "`float`": "a number", "`bool`": "true or false"}
    words |= {"`array`": "a list", "`object`": "a block of `name: value`", "`null`": "nothing"}
    for word, plain in words.items():
        text = text.replace(word, plain)
    return text[:1].lower() + text[1:]


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "list"
    return "text" if isinstance(value, str) else "number"
