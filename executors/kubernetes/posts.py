"""What a refused creation means: the API server's answer to a POST, as a verdict of the same shape as any other."""

from __future__ import annotations

import re
from typing import Final

from executors.kubernetes.seen import Seen
from executors.output import sentence

_TOO_LARGE: Final = re.compile(
    r"Too long: (?:must have at most|may not be more than)|Request entity too large|\btoo large\b"
)
_TRANSIENT: Final = re.compile(r"etcdserver: leader changed|Operation cannot be fulfilled on resourcequotas")


def post_failure(status: int, reason: str, message: str) -> Seen:
    """The verdict on an attempt whose Job or ConfigMap was not created.

    Args:
        status: the HTTP status; 0 for no answer.
        reason: the machine-readable word of the answer's Status object, e.g. AlreadyExists.
        message: its sentence.

    Returns:
        `queued` with the remedy `adopt`, `retry` or `clean_finished`; `waiting` with a hold; or, for a revision that is
        too large, its end.
    """
    said = sentence(message)
    if status == 413 or _TOO_LARGE.search(message):
        return Seen("post-too-large", "ended", "crash", reason=f"train.py is too large for the cluster: {said}")
    if status == 409 and reason == "AlreadyExists":
        return Seen("post-exists", "queued", reason="it was submitted before", remedy="adopt")
    if status in (0, 408, 409, 429) or status >= 500 or _TRANSIENT.search(message):
        return Seen("post-trouble", "queued", reason=f"the API server is in trouble: {said}", remedy="retry")
    if status == 401:
        why = "the cluster does not accept our credentials any more: log in again"
        return Seen("post-unauthorized", "waiting", reason=why, hold="policy", remedy="retry")
    if status == 403 and "exceeded quota" in message:
        why = f"the namespace's quota is used up ({said.partition('exceeded quota: ')[2]})"
        return Seen("post-quota", "waiting", reason=why, hold="quota", remedy="clean_finished")
    if status == 403:
        return Seen("post-forbidden", "waiting", reason=f"the cluster refuses it: {said}", hold="policy")
    if status == 404:
        return Seen("post-not-found", "waiting", reason=f"its place does not exist: {said}", hold="policy")
    return Seen("post-invalid", "waiting", reason=f"the cluster does not accept its manifest: {said}", hold="manifest")
