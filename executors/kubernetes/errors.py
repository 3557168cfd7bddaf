"""What a Kubernetes API server, or the way to it, answers instead of what was asked for."""

from __future__ import annotations

from typing import Any, Final

import msgspec

_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_WORDS: Final = ("etcdserver: leader changed", "etcdserver: request timed out", "object has been modified")
_LONGEST_TEXT: Final = 400


class KubeError(Exception):
    """A request failed.

    Args:
        status: of HTTP; 0 where there was no answer.
        reason: the server's one-word reason (`AlreadyExists`, `Forbidden`), never read out of a sentence.
        message: one sentence for people.
        details: the Status object's details.
        retry_after_s: what the server asks for, if it does.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.details, self.retry_after_s = details or {}, retry_after_s

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed a little later, with nobody changing anything."""
        if self.status == 0 or self.status in _TRANSIENT:
            return True
        if any(word in self.message for word in _TRANSIENT_WORDS):
            return True
        return self.status == 409 and self.reason == "Conflict" and "quota" in self.message


def error_of(status: int, body: bytes, retry_after: str | None) -> KubeError:
    """The error that an answer of a server, or of a proxy before it, means."""
    retry_after_s = float(retry_after) if retry_after and retry_after.isdecimal() else None
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = None
    if isinstance(told, dict) and told.get("kind") == "Status":
        message = str(told.get("message") or told.get("reason") or f"HTTP {status}")
        details = told.get("details")
        return KubeError(
            int(told.get("code") or status),
            str(told.get("reason") or ""),
            message[:_LONGEST_TEXT],
            details if isinstance(details, dict) else None,
            retry_after_s,
        )
    text = " ".join(body[:2000].decode(errors="replace").split())
    what = "" if text.startswith("<") else f": {text[:200]}"
    return KubeError(status, "", f"the server answered HTTP {status}{what}", None, retry_after_s)
