"""What opens the door of a cluster: tokens and certificates, from a kubeconfig or from a cloud's own program."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from core.executor import ExecutorError

PLUGIN_S: Final = 60.0
"""Real seconds that a program may take for a token: some ask their cloud, none may ask a person."""
REREAD: Final = timedelta(seconds=60)
"""How old a token from a file may get: kubelets and clouds renew such files in place (client-go does the same)."""
_GONE_S: Final = 2.0
_FILES: Final = ("certificate-authority", "client-certificate", "client-key")
_LONGEST_TEXT: Final = 200

Json = dict[str, Any]


class Login(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """Who we are to a cluster. Never shown.

    Args:
        token: for the Authorization header.
        certificate, key: PEM, for TLS.
        expires: when it has to be asked for anew; None where nobody said.
    """

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: datetime | None = None

    def __repr__(self) -> str:
        return f"Login(expires={self.expires})"


async def log_in(user: Mapping[str, Any], cluster: Mapping[str, Any], *, timeout_s: float = PLUGIN_S) -> Login:
    """The credentials of a kubeconfig's user, as far as they are not simply written there.

    Args:
        user: its entry; `exec` and `tokenFile` are seen to here, in the order in which kubectl prefers them.
        cluster: the entry of the cluster, which a program may ask to be told of.
        timeout_s: real seconds for a program.

    Raises:
        ExecutorError: one sentence that names the program or the file, and never what is in it.
    """
    path = user.get("tokenFile")
    if path and not user.get("token"):
        return Login(token=_token_in(Path(str(path))), expires=datetime.now(UTC) + REREAD)
    plugin = user.get("exec")
    if isinstance(plugin, dict) and not user.get("token"):
        return await _run(plugin, cluster, timeout_s)
    return Login()


def expired_at(token: str) -> datetime | None:
    """When a token stopped being good, if it says so of itself (a JSON web token, RFC 7519) and that time is past."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, OSError, msgspec.DecodeError):
        told = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        until = datetime.fromtimestamp(told["exp"], UTC)
        return until if until < datetime.now(UTC) else None
    return None


def written(entry: Mapping[str, Any], folder: Path) -> Json:
    """A kubeconfig's entry with its embedded certificates and keys as files, which TLS needs.

    Args:
        entry: of a cluster or a user.
        folder: takes the files; only for as long as they are being loaded, so that no key stays on a disk.

    Raises:
        ValueError: what is embedded is no base64.
    """
    made = dict(entry)
    for key in _FILES:
        data = made.pop(f"{key}-data", None)
        if data:
            path = folder / key
            path.write_bytes(base64.b64decode(str(data), validate=True))
            made[key] = str(path)
    return made


def _token_in(path: Path) -> str:
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no token"
        raise ExecutorError(f"the token in {path} cannot be read: {what}") from None
    if not token:
        raise ExecutorError(f"the file {path}, which should hold a token, is empty")
    return token


async def _run(plugin: Mapping[str, Any], cluster: Mapping[str, Any], timeout_s: float) -> Login:
    """Run a kubeconfig's program for credentials (client-go credential plugins, `client.authentication.k8s.io`)."""
    command, version = str(plugin.get("command") or ""), str(plugin.get("apiVersion") or "")
    where = f"the credentials' program {command or '(unnamed)'}"
    if str(plugin.get("interactiveMode")) == "Always":
        raise ExecutorError(f"{where} wants to ask a person, which a session cannot: use credentials that need nobody")
    found = shutil.which(command)
    if found is None:
        hint = " ".join(str(plugin.get("installHint") or "").split())
        raise ExecutorError(f"{where} is not installed here" + (f": {hint[:_LONGEST_TEXT]}" if hint else ""))
    output = await _output_of(
        [found, *map(str, plugin.get("args") or ())], _environment(plugin, cluster), where, timeout_s
    )
    try:
        told = msgspec.json.decode(output)
        if told.get("apiVersion") != version:
            raise ExecutorError(
                f"{where} speaks {told.get('apiVersion')}, the kubeconfig says {version}: bring one of them up to date"
            )
        return _login_of(told["status"])
    except (ValueError, KeyError, TypeError, AttributeError):  # msgspec.DecodeError is a ValueError
        raise ExecutorError(f"{where} answered something that holds no credentials") from None


def _environment(plugin: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, str]:
    given = {str(one.get("name")): str(one.get("value")) for one in plugin.get("env") or () if isinstance(one, dict)}
    spec: Json = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        extensions = {one.get("name"): one.get("extension") for one in cluster.get("extensions") or ()}
        spec["cluster"] = {
            key: cluster[key]
            for key in (
                "server",
                "tls-server-name",
                "insecure-skip-tls-verify",
                "certificate-authority-data",
                "proxy-url",
            )
            if key in cluster
        } | {"config": extensions.get("client.authentication.k8s.io/exec")}
    info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    return {**os.environ, **given, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}


async def _output_of(words: list[str], environment: dict[str, str], where: str, timeout_s: float) -> bytes:
    """What a program prints. It and its children get so many real seconds. Raises ExecutorError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutorError(f"{where} does not start: {error.strerror}") from None
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise ExecutorError(f"{where} did not answer within {timeout_s:g} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GONE_S):
                await process.wait()
    if process.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        last = "".join(letter for letter in said[-1] if letter.isprintable())[:_LONGEST_TEXT] if said else "no message"
        raise ExecutorError(f"{where} failed ({last}): log in again")
    return out


def _login_of(status: Mapping[str, Any]) -> Login:
    """The credentials in a program's answer. Raises ValueError or KeyError where there are none."""
    until, expires = status.get("expirationTimestamp"), None
    if until:
        expires = datetime.fromisoformat(str(until))
        expires = expires if expires.tzinfo is not None else expires.replace(tzinfo=UTC)
    token = str(status.get("token") or "")
    certificate, key = str(status.get("clientCertificateData") or ""), str(status.get("clientKeyData") or "")
    if bool(certificate) != bool(key) or not (token or certificate) or not token.isprintable():
        raise ValueError("no credentials")
    return Login(token, certificate, key, expires)
