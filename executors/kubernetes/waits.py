"""The second half of the table: attempts under way, and why those that do not run yet have to wait."""

from __future__ import annotations

import re
from typing import Final

from executors.kubernetes.seen import Row, Seen
from executors.kubernetes.view import View, born, condition_time
from executors.output import sentence

IMAGE_HOLD_S: Final = 120.0
"""A first failure to pull may heal by itself: a busy registry, a node that was just started."""
MOUNT_HOLD_S: Final = 120.0
CONFIG_HOLD_S: Final = 60.0

_BAD_IMAGE: Final = ("InvalidImageName", "ErrImageNeverPull")
_NO_IMAGE: Final = (
    "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed",
)  # fmt: skip
_BAD_CONFIG: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_FULL: Final = re.compile(r"\bInsufficient \S|\bToo many pods\b")
_AWAY: Final = re.compile(
    r"were unschedulable|node\.(?:kubernetes|cloudprovider)\.[a-z.]*/\S|were not ready|no nodes available"
)
_CLAIM: Final = re.compile(r"persistentvolumeclaim|PersistentVolumeClaim|volume node affinity|persistent volumes? ")
_WEBHOOK: Final = re.compile(r"failed calling webhook|Internal error|timeout|context deadline", re.IGNORECASE)


def ending(view: View) -> Seen:
    """The pod is going, or gone and its last word is still to come."""
    metadata = (view.pod or {}).get("metadata") or {}
    if view.over or view.pod is None:
        return Seen("", "ending", reason="it has ended; waiting for the cluster to say why")
    reason = f"being ended{_on(view)}"
    return Seen("", "ending", reason=reason, remedy="force_delete", since=str(metadata.get("deletionTimestamp") or ""))


def running(view: View) -> Seen:
    """The trainer's container runs."""
    return Seen("", "running", since=str((view.running or {}).get("startedAt") or ""))


def suspended(view: View) -> Seen:
    """Kueue, or a person, holds the Job; one that ran is run again by the same Job."""
    what = "preempted by its queue; it goes on when there is room" if view.ever_started else "queued"
    return Seen("", "queued", reason=f"{what} (the Job is suspended)", since=condition_time(view.job, "Suspended"))


# ------------------------------------------------------------------------------------- a pod that was placed


def _image_word(view: View, words: tuple[str, ...]) -> str:
    """One of these reasons, from the container's state or, while that lags, from the Events."""
    reason = str(view.waiting.get("reason") or "")
    if reason in words or reason not in ("", "ContainerCreating", "PodInitializing") or not view.node:
        return reason if reason in words else ""
    if view.last_event("Pulled"):
        return ""
    return next((word for word in words if view.last_event("Failed", containing=word)), "")


def _image(view: View, hold_after_s: float) -> Seen:
    word = _image_word(view, (*_BAD_IMAGE, *_NO_IMAGE))
    said = sentence(str(view.waiting.get("message") or "")) if view.waiting.get("reason") == word else ""
    said = said or view.last_event("Failed", "InspectFailed", containing=" image ")
    reason = f"the image cannot be had{_on(view)} ({word}{': ' + said if said else ''})"
    return Seen("", "waiting", reason=reason, hold="image", hold_after_s=hold_after_s, since=_placed(view))


def _config(view: View) -> Seen:
    said = sentence(str(view.waiting.get("message") or ""))
    reason = f"its container cannot be made{_on(view)} ({view.waiting.get('reason')}: {said})"
    return Seen("", "waiting", reason=reason, hold="manifest", hold_after_s=CONFIG_HOLD_S, since=_placed(view))


def _is_creating(view: View) -> bool:
    return bool(view.node) and view.waiting.get("reason") in (None, "ContainerCreating", "PodInitializing")


def _configmap(view: View) -> Seen:
    reason = "its ConfigMap is not there yet"
    return Seen("", "waiting", reason=reason, remedy="recreate_configmap", since=_placed(view))


def _volume(view: View) -> Seen:
    reason = f"a volume cannot be mounted{_on(view)}: {view.last_event('FailedMount', 'FailedAttachVolume')}"
    return Seen("", "waiting", reason=reason, hold="data", hold_after_s=MOUNT_HOLD_S, since=_placed(view))


def _starting(view: View) -> Seen:
    pulling = view.last_event("Pulling") and not view.last_event("Pulled")
    return Seen(
        "", "starting", reason=f"{'pulling the image' if pulling else 'starting'}{_on(view)}", since=_placed(view)
    )


# ------------------------------------------------------------------------------- a pod that was not placed


def _why(view: View) -> str:
    """The scheduler's message, without what preemption would bring."""
    message = str((view.unscheduled or {}).get("message") or "")
    return sentence(re.split(r"\.? (?:no new claims|preemption:)", message)[0]).rstrip(".")


def _not_placed(view: View, pattern: re.Pattern[str]) -> bool:
    return view.unscheduled is not None and bool(pattern.search(_why(view)))


def _unplaced(view: View, reason: str) -> Seen:
    return Seen("", "waiting", reason=reason, since=str((view.unscheduled or {}).get("lastTransitionTime") or ""))


def _claim(view: View) -> Seen:
    reason = f"no node can have its volume: {_why(view)}"
    return Seen("", "waiting", reason=reason, hold="data", hold_after_s=CONFIG_HOLD_S, since=born(view.pod))


def _no_such_node(view: View) -> Seen:
    return Seen("", "waiting", reason=f"no node fits: {_why(view)}", hold="no_such_node", since=born(view.pod))


# ------------------------------------------------------------------------------------- a Job without a pod


def _refused_creation(view: View) -> str:
    return view.last_event("FailedCreate") if view.pod is None else ""


def _quota(view: View) -> Seen:
    said = _refused_creation(view).partition("exceeded quota: ")[2]
    return Seen("", "waiting", reason=f"the namespace's quota is used up ({said})", since=born(view.job))


def _policy(view: View) -> Seen:
    said = re.sub(r'^Error creating: (?:pods "[^"]*" is forbidden: )?', "", _refused_creation(view))
    wait_s = CONFIG_HOLD_S if _WEBHOOK.search(said) else 0.0
    reason = f"the cluster refuses its pod: {said}"
    return Seen("", "waiting", reason=reason, hold="policy", hold_after_s=wait_s, since=born(view.job))


def _queued(reason: str) -> Seen:
    return Seen("", "queued", reason=reason)


ROWS: Final[tuple[Row, ...]] = (
    # Placed.
    Row("image-name", lambda view: bool(_image_word(view, _BAD_IMAGE)), lambda view: _image(view, 0.0)),
    Row("image-pull", lambda view: bool(_image_word(view, _NO_IMAGE)), lambda view: _image(view, IMAGE_HOLD_S)),
    Row("config-error", lambda view: view.waiting.get("reason") in _BAD_CONFIG, _config),
    Row(
        "no-configmap",
        lambda view: _is_creating(view) and 'configmap "' in view.last_event("FailedMount", containing="not found"),
        _configmap,
    ),
    Row(
        "no-volume",
        lambda view: _is_creating(view) and bool(view.last_event("FailedMount", "FailedAttachVolume")),
        _volume,
    ),
    Row("starting", lambda view: bool(view.node), _starting),
    # Not placed.
    Row(
        "gated",
        lambda view: (view.unscheduled or {}).get("reason") == "SchedulingGated",
        lambda _view: _queued("queued (its pod is gated)"),
    ),
    Row("no-claim", lambda view: _not_placed(view, _CLAIM), _claim),
    Row("busy", lambda view: _not_placed(view, _FULL), lambda view: _unplaced(view, f"no free place: {_why(view)}")),
    Row(
        "nodes-away",
        lambda view: _not_placed(view, _AWAY),
        lambda view: _unplaced(view, f"nodes are away: {_why(view)}"),
    ),
    Row("no-such-node", lambda view: view.unscheduled is not None, _no_such_node),
    Row("unplaced", lambda view: view.pod is not None, lambda _view: _queued("waiting for the scheduler")),
    # No pod.
    Row("quota", lambda view: "exceeded quota: " in _refused_creation(view), _quota),
    Row("policy", lambda view: bool(_refused_creation(view)), _policy),
    Row("pod-unseen", lambda view: view.job_decided, ending),
    Row("queued", lambda view: view.job is not None, lambda _view: _queued("waiting for its pod")),
    Row("unseen", lambda _view: True, lambda _view: _queued("being submitted")),
)


def _on(view: View) -> str:
    return f" on {view.node}" if view.node else ""


def _placed(view: View) -> str:
    """When the pod was bound to its node."""
    return str(view.pod_status.get("startTime") or condition_time(view.pod, "PodScheduled"))
