"""Requests to an API server: the only module that knows the client library, for TLS, proxies and connections.

The library's own waits and retries are not used: a request of its has 300 s in all, which cuts a watch or a log at the
end of a five-minute run, and its programs for credentials run once, with no bound, their errors swallowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from core.executor import ExecutorError
from executors.kubernetes.access import Access
from executors.kubernetes.credentials import Login, expired_at, log_in, written
from executors.kubernetes.errors import KubeError, error_of

CONNECT_S: Final = 10.0
"""Real seconds for a connection and its TLS, before a server counts as away."""
LOGIN_PAUSE_S: Final = 10.0
"""Real seconds between two attempts to get other credentials: a program may cost a second, or lock an account."""
_POOL: Final = 512
_RENEW_BEFORE: Final = timedelta(seconds=60)
_PIECE_BYTES: Final = 1 << 16
_MOST_ERROR_BYTES: Final = 1 << 20

Json = dict[str, Any]


class Wire:
    """The connections to one API server, as whoever the kubeconfig says.

    Args:
        access: the way in; its files are read anew when the server refuses what they said.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._login = Login()
        self._logins = 0
        self._next_login_s = 0.0
        self._renewing = asyncio.Lock()
        self._trouble = ""
        self._tls: tuple[object, ...] = ()
        self._rest: Any = None
        self._configuration: Any = None
        self.refused_credentials = False
        """Whether the last answer was that nobody knows us."""
        self.skew_s: float | None = None
        """How far the server's clock is ahead of ours, in seconds; it says whole ones."""

    @property
    def host(self) -> str:
        """The server's address."""
        return str(self._configuration.host)

    async def open(self) -> None:
        """Load the library, which takes a second, and the credentials. Raises ExecutorError."""
        await self._log_in(self._access)

    async def close(self) -> None:
        """Let go of all connections."""
        if self._rest is not None:
            await self._rest.close()

    @contextlib.asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | None = None,
        *,
        longest_s: float | None,
        quiet_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """An answer that is no error, with `content` still to be read. Trouble of any kind is a KubeError.

        Args:
            method, path, query, body: of the request.
            longest_s: real seconds for all of it, None: no bound.
            quiet_s: real seconds without a byte after which the connection counts as dead.
        """
        import aiohttp

        patience = aiohttp.ClientTimeout(total=longest_s, sock_connect=CONNECT_S, sock_read=quiet_s)
        response = None
        try:
            response = await self._known(method, path, query, body, patience)
            self._note_skew(response.headers.get("Date"))
            if response.status >= 300:
                told = await response.content.read(_MOST_ERROR_BYTES)
                raise self._refusal(error_of(response.status, told, response.headers.get("Retry-After")))
            yield response
        except TimeoutError:
            raise KubeError(0, "Timeout", f"{self.host} does not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(error) from None
        finally:
            if response is not None:
                response.close() if not response.content.is_eof() else response.release()

    async def lines(
        self,
        path: str,
        query: Mapping[str, str],
        *,
        longest_s: float | None = None,
        quiet_s: float | None = None,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an answer as they come, however long they are; see `answer`. `on_open`: it has begun."""
        rest = bytearray()
        async with self.answer("GET", path, query, longest_s=longest_s, quiet_s=quiet_s) as response:
            if on_open is not None:
                on_open()
            async for piece in response.content.iter_chunked(_PIECE_BYTES):
                end = piece.rfind(b"\n")
                if end < 0:
                    rest += piece
                    continue
                whole = bytes(rest) + piece[:end]
                rest = bytearray(piece[end + 1 :])
                for line in whole.split(b"\n"):
                    if line.strip():
                        yield line
            if rest.strip():
                yield bytes(rest)

    # -- who we are

    async def _known(self, method: str, path: str, query: Mapping[str, str], body: Json | None, patience: Any) -> Any:
        """An answer to us; where the server does not know us, once more as whoever the files say by now."""
        expires, now = self._login.expires, datetime.now(UTC)
        if expires is not None and now > expires - _RENEW_BEFORE and (now > expires or not self._renewing.locked()):
            await self._renew(self._logins)
        logins = self._logins
        response = await self._send(method, path, query, body, patience)
        if response.status == 401 and await self._renew(logins):
            response.release()
            response = await self._send(method, path, query, body, patience)
        self.refused_credentials = response.status == 401
        return response

    async def _renew(self, logins: int) -> bool:
        """Get credentials anew, unless somebody just did; whether there is something to try again with."""
        async with self._renewing:
            now_s = asyncio.get_running_loop().time()
            if self._logins != logins:
                return True
            if now_s < self._next_login_s:
                return False
            self._next_login_s = now_s + LOGIN_PAUSE_S
            try:
                await self._log_in(self._access.again())
            except ExecutorError as error:
                self._trouble = str(error)
                return False
        return True

    async def _log_in(self, access: Access) -> None:
        """Read the credentials of a way in, and use them from now on. Raises ExecutorError."""
        from kubernetes.aio import config
        from kubernetes.aio.client import Configuration
        from kubernetes.aio.client.rest import RESTClientObject

        login = await log_in(access.user, access.cluster)
        configuration = Configuration()
        configuration.connection_pool_maxsize = _POOL
        try:
            with tempfile.TemporaryDirectory(prefix="autoresearch-") as folder:
                if access.config:
                    chosen, tls = _minimal(access, login, Path(folder))
                    await config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
                        chosen, client_configuration=configuration
                    )
                else:
                    tls = ()
                    config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                configuration.client_session_kwargs = {"trust_env": not _is_loopback(configuration.host)}
                if self._rest is None or tls != self._tls:
                    old, self._rest, self._tls = self._rest, RESTClientObject(configuration), tls
                    if old is not None:
                        await old.close()
        except (
            config.ConfigException,
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # ssl.SSLError is an OSError
            what = "certificates" if isinstance(error, ssl.SSLError) else "credentials"
            raise ExecutorError(f"the {what} in {access.source} cannot be used: {_first_line(error)}") from None
        self._access, self._login, self._configuration, self._trouble = access, login, configuration, ""
        self._logins += 1

    # -- the socket

    async def _send(self, method: str, path: str, query: Mapping[str, str], body: Json | None, patience: Any) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "autoresearch-tui"}
        auth = (await self._configuration.auth_settings()).get("BearerToken")
        if auth is not None and auth["value"]:
            headers["Authorization"] = auth["value"]
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        answer = await self._rest.request(method, url, headers=headers, body=body, _request_timeout=patience)
        return answer.response

    def _note_skew(self, date: str | None) -> None:
        if date and self.skew_s is None:
            with contextlib.suppress(ValueError, TypeError):
                self.skew_s = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()

    def _refusal(self, error: KubeError) -> KubeError:
        """An error in words that say what to do, where the server's only say `Unauthorized`."""
        if error.status != 401:
            return error
        value = str((self._configuration.api_key or {}).get("BearerToken") or "")
        until = expired_at(value.partition(" ")[2])
        why = f" (they expired on {until:%Y-%m-%d at %H:%M} UTC)" if until is not None else ""
        why = f" ({self._trouble})" if self._trouble else why
        return KubeError(
            401, error.reason or "Unauthorized",
            f"{self.host} does not accept the credentials in {self._access.source}{why}: log in again",
            error.details, error.retry_after_s,
        )  # fmt: skip

    def _lost(self, error: Exception) -> KubeError:
        """What broke between us and the server."""
        import aiohttp

        host = self.host
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = _first_line(error.certificate_error)
            return KubeError(
                0, "Certificate", f"the certificate of {host} is not one that the kubeconfig trusts: {why}"
            )
        if isinstance(error, aiohttp.ClientSSLError):
            return KubeError(0, "Certificate", f"there is no TLS to be had with {host}: {_first_line(error.os_error)}")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return KubeError(0, "NoSuchHost", f"nobody knows the host of {host}: {_first_line(error.os_error)}")
        if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
            return KubeError(0, "Unreachable", f"the proxy before {host} lets nothing through: {_first_line(error)}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return KubeError(0, "Unreachable", f"{host} is not there: {error.os_error.strerror or 'no connection'}")
        if isinstance(error, aiohttp.InvalidURL):
            return KubeError(0, "Unreachable", f"{host} is no address")
        return KubeError(0, "Lost", f"the connection to {host} broke: {_first_line(error)}")


def _minimal(access: Access, login: Login, folder: Path) -> tuple[Json, tuple[object, ...]]:
    """A kubeconfig of one context with its credentials filled in, and all that TLS depends on, to be compared."""
    user = {key: value for key, value in access.user.items() if key not in ("exec", "tokenFile")}
    if login.token:
        user["token"] = login.token
    user, cluster = written(user, folder), written(access.cluster, folder)
    if login.certificate:
        for key, text in (("client-certificate", login.certificate), ("client-key", login.key)):
            (folder / key).write_text(text)
            user[key] = str(folder / key)
    files = [entry.get(key) for entry, key in (
        (cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key")
    )]  # fmt: skip
    tls = (
        *(Path(path).read_bytes() if path else b"" for path in files),
        *(cluster.get(key) for key in ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")),
    )
    name = "chosen"
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
    }, tls


def _is_loopback(url: str) -> bool:
    """Whether an address is this machine, which no proxy of the environment leads to (as in Go's net/http)."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _first_line(error: object) -> str:
    """A short text of an error, in one line."""
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
