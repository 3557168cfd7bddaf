"""What a Kubernetes API server, or the way to it, answers instead of what was asked for."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import msgspec

_TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
_TRANSIENT_WORDS: Final = ("etcdserver: leader changed", "etcdserver: request timed out")
_LONGEST_TEXT: Final = 400
_TITLE: Final = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class KubeError(Exception):
    """A request failed.

    Args:
        status: of HTTP; 0 where there was no answer of an API server.
        reason: the server's one-word reason (`AlreadyExists`, `Forbidden`), never read out of a sentence. Without an
            answer it is ours: `Timeout`, `Unreachable`, `NoSuchHost`, `Certificate`, `Lost`, `Malformed`.
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
        """Whether the same request may succeed a little later, with nobody changing anything.

        A conflict over a quota is: the server counts our own requests against each other. Another one is not: what
        was to be replaced has changed.
        """
        if self.status == 0 or self.status in _TRANSIENT:
            return True
        if any(word in self.message for word in _TRANSIENT_WORDS):
            return True
        return self.status == 409 and self.reason == "Conflict" and self.details.get("kind") == "resourcequotas"


def error_of(status: int, body: bytes, retry_after: str | None) -> KubeError:
    """The error that an answer of a server, or of a proxy before it, means."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        told = None
    if isinstance(told, dict) and told.get("kind") == "Status":
        return _of_status(told, status, _seconds(retry_after))
    return KubeError(status, "", f"the server answered HTTP {status}{_words(body)}", None, _seconds(retry_after))


def not_json(content_type: str, body: bytes) -> KubeError:
    """The error where something answered in the API server's place: a proxy's login page, a web server."""
    what = content_type.partition(";")[0] or "no type"
    return KubeError(0, "Malformed", f"what answers is no Kubernetes API: it sent {what}{_words(body)}")


def _of_status(told: dict[str, Any], status: int, retry_after_s: float | None) -> KubeError:
    code, details = told.get("code"), told.get("details")
    details = details if isinstance(details, dict) else {}
    asked_s = details.get("retryAfterSeconds")
    if retry_after_s is None and isinstance(asked_s, int) and asked_s > 0:
        retry_after_s = float(asked_s)
    message = str(told.get("message") or told.get("reason") or f"HTTP {status}")
    return KubeError(
        code if isinstance(code, int) and code >= 300 else status,
        str(told.get("reason") or ""),
        message[:_LONGEST_TEXT],
        details,
        retry_after_s,
    )


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header: seconds, or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    if retry_after.isdecimal():
        return float(retry_after[:9])
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())


def _words(body: bytes) -> str:
    """The title of a page of HTML, or a text's beginning: enough to know who speaks."""
    head = body[:4000]
    title = _TITLE.search(head)
    if title is None and head.lstrip().startswith((b"<", b"{")):
        return ""
    text = " ".join((title[1] if title else head).decode(errors="replace").split())
    text = "".join(letter for letter in text if letter.isprintable())[:200]
    return f": {text}" if text else ""
