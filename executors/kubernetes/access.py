"""Which cluster, which namespace, by which credentials: found as kubectl finds them, and said in words where not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from core.executor import ExecutorError

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DEFAULT: Final = "~/.kube/config"

Json = dict[str, Any]


class Access(msgspec.Struct, frozen=True):
    """A way into one cluster.

    Args:
        config: a merged kubeconfig; empty for the service account of a pod.
        context: its context that is used.
        namespace: where the session's objects go.
        source: where it was found, for people.
        base: the folder that relative paths in it start from.
    """

    config: Json
    context: str
    namespace: str
    source: str
    base: str = ""

    @classmethod
    def resolve(cls, kubeconfig: str | None = None, context: str | None = None, namespace: str = "") -> Access:
        """Find the way in: the file that is named, those of KUBECONFIG, the usual one, or the pod's own account.

        Raises:
            ExecutorError: there is none, or it cannot be used; the text is one sentence.
        """
        paths = _paths(kubeconfig)
        if not paths:
            return _in_cluster(namespace)
        config: Json = {"clusters": [], "users": [], "contexts": []}
        for path in paths:
            _merge(config, path)
        return _choose(config, ", ".join(map(str, paths)), context, namespace)

    @property
    def user(self) -> Json:
        """The credentials' entry; never shown."""
        chosen = _named(self.config.get("contexts", ()), self.context) or {}
        entry = _named(self.config.get("users", ()), str((chosen.get("context") or {}).get("user", "")))
        return dict((entry or {}).get("user") or {})

    @property
    def plugin(self) -> Json | None:
        """The exec plugin that makes the credentials, if one does."""
        found = self.user.get("exec")
        return found if isinstance(found, dict) else None


def _paths(kubeconfig: str | None) -> list[Path]:
    if kubeconfig:
        path = Path(kubeconfig).expanduser()
        if not path.is_file():
            raise ExecutorError(f"there is no kubeconfig at {path}: name another with --kubeconfig")
        return [path]
    named = [Path(word).expanduser() for word in os.environ.get("KUBECONFIG", "").split(os.pathsep) if word]
    found = [path for path in named if path.is_file()]
    if named and not found:
        raise ExecutorError(f"KUBECONFIG names {', '.join(map(str, named))}, where there is no file")
    usual = Path(_DEFAULT).expanduser()
    return found or ([usual] if usual.is_file() else [])


def _in_cluster(namespace: str) -> Access:
    if not os.environ.get("KUBERNETES_SERVICE_HOST") or not (SERVICE_ACCOUNT / "token").is_file():
        raise ExecutorError(
            f"no kubeconfig: there is none at {_DEFAULT}, KUBECONFIG is not set, and this is no pod with an account; "
            "name one with --kubeconfig, or try `--kube-endpoint sim`, which needs none"
        )
    try:
        own = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError:
        own = ""
    return Access({}, "", namespace or own or "default", "the pod's service account")


def _merge(config: Json, path: Path) -> None:
    """Add a file to what was read before it: of equal names the first counts, as for kubectl. Raises ExecutorError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ExecutorError(f"the kubeconfig {path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where is not None else ""
        raise ExecutorError(f"the kubeconfig {path} is no YAML{line}: mend it, or name another") from None
    if not isinstance(found, dict):
        raise ExecutorError(f"the kubeconfig {path} holds no clusters: name another with --kubeconfig")
    for kind in ("clusters", "users", "contexts"):
        for entry in found.get(kind) or ():
            if isinstance(entry, dict) and _named(config[kind], str(entry.get("name"))) is None:
                _absolute(entry, path.parent)
                config[kind].append(entry)
    if found.get("current-context") and not config.get("current-context"):
        config["current-context"] = found["current-context"]


def _absolute(entry: Json, base: Path) -> None:
    """Paths in a kubeconfig are relative to it."""
    inner = entry.get("cluster") or entry.get("user") or {}
    if not isinstance(inner, dict):
        return
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if inner.get(key):
            inner[key] = str(base / str(inner[key]))
    plugin = inner.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command", "")):
        plugin["command"] = str(base / str(plugin["command"]))


def _choose(config: Json, source: str, context: str | None, namespace: str) -> Access:
    names = [str(entry.get("name")) for entry in config["contexts"]]
    wanted = context or str(config.get("current-context") or "")
    if not wanted:
        raise ExecutorError(f"{source} has no current context: choose one of {_list(names)} with --context")
    chosen = _named(config["contexts"], wanted)
    if chosen is None:
        raise ExecutorError(f"there is no context {wanted!r} in {source}: there is {_list(names)}")
    inner = chosen.get("context") or {}
    cluster = _named(config["clusters"], str(inner.get("cluster")))
    if cluster is None or not (cluster.get("cluster") or {}).get("server"):
        raise ExecutorError(f"the context {wanted} in {source} names the cluster {inner.get('cluster')!r}, not there")
    if inner.get("user") and _named(config["users"], str(inner["user"])) is None:
        raise ExecutorError(f"the context {wanted} in {source} names the user {inner['user']!r}, who is not there")
    for key in ("certificate-authority",):
        path = cluster["cluster"].get(key)
        if path and not Path(path).is_file():
            raise ExecutorError(f"the certificate {path} of the cluster {inner.get('cluster')} is missing")
    config["current-context"] = wanted
    found = Access(config, wanted, namespace or str(inner.get("namespace") or "default"), source)
    if found.plugin is not None and shutil.which(str(found.plugin.get("command", ""))) is None:
        raise ExecutorError(
            f"the credentials of the context {wanted} come from {found.plugin.get('command')!r}, which is not "
            "installed here: install it, or choose another --context"
        )
    return found


def _named(entries: Any, name: str) -> Json | None:
    return next((entry for entry in entries or () if isinstance(entry, dict) and entry.get("name") == name), None)


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
