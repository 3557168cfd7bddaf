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
NAMESPACE: Final = "autoresearch"
"""What deploy/base creates: where nobody names a namespace, neither a person nor the context."""

Json = dict[str, Any]


class Access(msgspec.Struct, frozen=True):
    """A way into one cluster.

    Args:
        config: a merged kubeconfig; empty for the service account of a pod.
        context: its context that is used.
        namespace: where the session's objects go.
        source: where it was found, for people.
        paths: the files that it was read from.
    """

    config: Json
    context: str
    namespace: str
    source: str
    paths: tuple[str, ...] = ()

    def __repr__(self) -> str:  # what it holds opens a cluster, and a repr ends in logs
        return f"Access(source={self.source!r}, context={self.context!r}, namespace={self.namespace!r})"

    @classmethod
    def resolve(cls, kubeconfig: str | None = None, context: str | None = None, namespace: str = "") -> Access:
        """Find the way in: the file that is named, those of KUBECONFIG, the usual one, or the pod's own account.

        Raises:
            ExecutorError: there is none, or it cannot be used; the text is one sentence.
        """
        paths = _paths(kubeconfig)
        return _read(paths, context, namespace) if paths else _in_cluster(namespace)

    def again(self) -> Access:
        """The same way in as its files show it now: whoever logs in again writes them anew. Raises ExecutorError."""
        return _read([Path(path) for path in self.paths], self.context, self.namespace) if self.paths else self

    @property
    def user(self) -> Json:
        """The credentials' entry; never shown."""
        return self._entry("user")

    @property
    def cluster(self) -> Json:
        """The cluster's entry; empty in a pod."""
        return self._entry("cluster")

    def _entry(self, kind: str) -> Json:
        chosen = _inner(_named(self.config.get("contexts"), self.context), "context")
        return _inner(_named(self.config.get(f"{kind}s"), str(chosen.get(kind))), kind)

    @property
    def plugin(self) -> Json | None:
        """The exec plugin that makes the credentials, if one does."""
        found = self.user.get("exec")
        return found if isinstance(found, dict) else None


def _read(paths: list[Path], context: str | None, namespace: str) -> Access:
    config: Json = {"clusters": [], "users": [], "contexts": []}
    for path in paths:
        _merge(config, path)
    return _choose(config, paths, context, namespace)


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
    return Access({}, "", namespace or own or NAMESPACE, "the pod's service account")


def _merge(config: Json, path: Path) -> None:
    """Add a file to what was read before it: of equal names the first counts, as for kubectl. Raises ExecutorError."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExecutorError(f"the kubeconfig {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where is not None else ""
        raise ExecutorError(f"the kubeconfig {path} is no YAML{line}: mend it, or name another") from None
    if not isinstance(found, dict):
        raise ExecutorError(f"the kubeconfig {path} holds no clusters: name another with --kubeconfig")
    for kind in ("clusters", "users", "contexts"):
        entries = found.get(kind)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and _named(config[kind], str(entry.get("name"))) is None:
                _absolute(entry, path.absolute().parent)
                config[kind].append(entry)
    if found.get("current-context") and not config.get("current-context"):
        config["current-context"] = found["current-context"]


def _absolute(entry: Json, base: Path) -> None:
    """Paths in a kubeconfig are relative to it."""
    inner = _inner(entry, "cluster") or _inner(entry, "user")
    for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
        if inner.get(key):
            inner[key] = str(base / str(inner[key]))
    plugin = inner.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command", "")):
        plugin["command"] = str(base / str(plugin["command"]))


def _choose(config: Json, paths: list[Path], context: str | None, namespace: str) -> Access:
    """The way in that a context names. Raises ExecutorError where a part of it is missing."""
    source = ", ".join(map(str, paths))
    names = [str(entry.get("name")) for entry in config["contexts"]]
    wanted = context or str(config.get("current-context") or "")
    if not wanted:
        raise ExecutorError(f"{source} has no current context: choose one of {_list(names)} with --context")
    chosen = _named(config["contexts"], wanted)
    if chosen is None:
        raise ExecutorError(f"there is no context {wanted!r} in {source}: there is {_list(names)}")
    inner = _inner(chosen, "context")
    found = Access(
        config,
        wanted,
        namespace or str(inner.get("namespace") or NAMESPACE),
        source,
        tuple(str(path.absolute()) for path in paths),
    )
    server = str(found.cluster.get("server") or "")
    if not server:
        raise ExecutorError(f"the context {wanted} in {source} names the cluster {inner.get('cluster')!r}, not there")
    if not server.startswith(("https://", "http://")):
        raise ExecutorError(f"the server {server!r} of the context {wanted} in {source} is no https:// address")
    if inner.get("user") and _named(config["users"], str(inner["user"])) is None:
        raise ExecutorError(f"the context {wanted} in {source} names the user {inner['user']!r}, who is not there")
    _check_files(found)
    return found


def _check_files(access: Access) -> None:
    """See that the files and the program that the credentials need are there. Raises ExecutorError."""
    for entry, key in (
        (access.cluster, "certificate-authority"),
        (access.user, "client-certificate"),
        (access.user, "client-key"),
        (access.user, "tokenFile"),
    ):
        path = entry.get(key)
        if path and not entry.get(f"{key}-data") and not os.access(str(path), os.R_OK):
            raise ExecutorError(
                f"the {key} {path} of the context {access.context} in {access.source} is missing or cannot be read"
            )
    command = str((access.plugin or {}).get("command") or "")
    if access.plugin is not None and shutil.which(command) is None:
        raise ExecutorError(
            f"the credentials of the context {access.context} come from {command!r}, which is not "
            "installed here: install it, or choose another --context"
        )


def _inner(entry: Json | None, key: str) -> Json:
    """The part of an entry beside its name; empty where somebody wrote something else there."""
    found = (entry or {}).get(key)
    return found if isinstance(found, dict) else {}


def _named(entries: Any, name: str) -> Json | None:
    return next((entry for entry in entries or () if isinstance(entry, dict) and str(entry.get("name")) == name), None)


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "none"
