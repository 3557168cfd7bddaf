"""What a refused creation means: the API server's answer to a POST, as a verdict of the same shape as any other."""

from __future__ import annotations

import re
from typing import Final

from executors.kubernetes.seen import Seen
from executors.output import sentence

_TOO_LARGE: Final = re.compile(
    r"Too long: (?:must have at most|may not be more than)|Request entity too large|\btoo large\b"
)


def post_failure(status: int, reason: str, message: str) -> Seen:
    """The verdict on an attempt whose Job or ConfigMap the cluster will not take, however often it is asked.

    Args:
        status: the HTTP status; neither 409 AlreadyExists nor a passing trouble (KubeError.transient).
        reason: the machine-readable word of the answer's Status object, e.g. Invalid.
        message: its sentence.

    Returns:
        `waiting` with a hold; or, for a revision that is too large, its end.
    """
    said = sentence(message)
    if status == 413 or _TOO_LARGE.search(message):
        return Seen("post-too-large", "ended", "crash", reason=f"train.py is too large for this cluster: {said}")
    if status == 401:
        why = f"the cluster does not accept our credentials any more, log in again: {said}"
        return Seen("post-unauthorized", "waiting", reason=why, hold="policy")
    if status == 403 and "exceeded quota" in message:
        why = f"the namespace's quota is used up ({said.partition('exceeded quota: ')[2]})"
        return Seen("post-quota", "waiting", reason=why, hold="quota")
    if status == 403:
        return Seen("post-forbidden", "waiting", reason=f"the cluster refuses it: {said}", hold="policy")
    if status == 404:
        return Seen("post-not-found", "waiting", reason=f"its namespace is not there: {said}", hold="policy")
    what = f" ({reason})" if reason else ""
    why = f"the cluster does not accept its manifest{what}: {said}"
    return Seen("post-invalid", "waiting", reason=why, hold="manifest")
