"""Errors as a Kubernetes API server words them."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class Refused(Exception):
    """A request is not done.

    Args:
        code: of HTTP; reason: one word; message: one sentence.
        kind, name: what it is about.
        causes: what is wrong with which field.
        retry_after_s: when to come again.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        kind: str = "",
        name: str = "",
        causes: list[Json] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.kind, self.name, self.causes, self.retry_after_s = kind, name, causes, retry_after_s

    def body(self) -> Json:
        """The Status object."""
        details: Json = {}
        if self.name:
            details["name"] = self.name
        if self.kind:
            details["kind"] = self.kind
        if self.causes:
            details["causes"] = self.causes
        if self.retry_after_s is not None:
            details["retryAfterSeconds"] = self.retry_after_s
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        return status | {"reason": self.reason, "code": self.code} | ({"details": details} if details else {})


def invalid(kind: str, name: str, field: str, problem: str) -> Refused:
    """422: a value that cannot be."""
    cause = {"reason": "FieldValueInvalid", "message": problem, "field": field}
    return Refused(422, "Invalid", f'{kind} "{name}" is invalid: {field}: {problem}', kind, name, [cause])
