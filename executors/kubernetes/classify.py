"""What became of an attempt, from its Job, Pod and Events: one ordered table.

Order matters: a score first, which nothing that happens to its pod afterwards can take away; then somebody else's
doing, then deadlines, then exit codes, then what is still under way. The first row that applies is the verdict. A row
with an outcome is final: nothing that the cluster says later about the same objects changes it, because a row that the
Job's word could still change waits for that word.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec

from core.executor import Outcome
from executors.kubernetes import results, waits
from executors.kubernetes.seen import Blame, Row, Seen
from executors.kubernetes.view import KILLED, View, about, born
from executors.output import sentence

Json = Mapping[str, Any]

_ADMISSION: Final = re.compile(
    r"UnexpectedAdmissionError|OutOf\S+|NodeAffinity|NodeShutdown|Terminated|Shutdown|NodeLost"
)
_GPU_FAULT: Final = re.compile(r"\bXid\b[^\n]{0,40}\d|uncorrectable (?:ECC|NVLink)|fallen off the bus", re.IGNORECASE)
_GPU_MEMORY: Final = re.compile(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory")
_DISK: Final = re.compile(r"exceed(?:s|ed)\b.*\blimit")
_DISRUPTIONS: Final[Mapping[str, tuple[str, Outcome, Blame, str]]] = {
    "PreemptionByScheduler": ("preempted", "preempted", "", "preempted by a pod of higher priority"),
    "EvictionByEvictionAPI": ("drained", "preempted", "", "evicted: its node is being drained"),
    "DeletionByTaintManager": ("node-lost", "device_lost", "node", "its node stopped answering, or was tainted"),
    "DeletionByPodGC": ("node-removed", "device_lost", "node", "its node was removed from the cluster"),
    "TerminationByKubelet": ("node-pressure", "infrastructure", "node", "its node ran short or was shut down"),
}
"""Reasons of the condition DisruptionTarget: row, outcome, whom it counts against, words."""


def classify(
    attempt: str,
    job: Json | None,
    pod: Json | None,
    events: Sequence[Json],
    *,
    cancelled_by_us: bool,
    deleted: bool = False,
    job_deleted: bool = False,
    ever_started: bool = False,
) -> Seen:
    """The verdict on an attempt, from one Job and one Pod of it.

    Args:
        attempt: its id, which a result has to name.
        job: the Job as last seen, also when it is deleted by now; None where none was ever seen.
        pod: its Pod, likewise.
        events: Events of the namespace; those about other objects are left out.
        cancelled_by_us: whether we asked for the end.
        deleted: the Pod is known not to be there: it was seen deleted, or was looked for and not found. Until one of
            that is known, a Job that has ended decides nothing: its Pod's last word may still be on its way.
        job_deleted: the Job is known not to be there any more.
        ever_started: whether the attempt was seen running before.
    """
    ours = [event for event in events if about(event, job, pod)]
    view = View(attempt, job, pod, ours, cancelled_by_us, deleted, job_deleted, ever_started)
    for row in ROWS:
        if row.applies(view):
            seen = row.verdict(view)
            # The figures travel with every verdict of an ended pod: how far a failed run came is worth telling.
            result = results.as_dict(view.result) if view.result is not None and seen.outcome is not None else None
            return msgspec.structs.replace(seen, row=seen.row or row.id, node=view.node, result=result)
    raise AssertionError("the last row of the table applies to everything")


def classify_pods(
    attempt: str,
    job: Json | None,
    pods: Collection[Json],
    events: Sequence[Json],
    *,
    cancelled_by_us: bool,
    gone: Collection[str] = (),
    absent: bool = False,
    job_deleted: bool = False,
    ever_started: bool = False,
) -> Seen:
    """The verdict where a Job may have had several Pods: after a suspension, or with an overlay that allows it.

    Args:
        attempt, job, events, cancelled_by_us, job_deleted, ever_started: as for `classify`.
        pods: all its Pods as last seen, in any order.
        gone: the uids of those that are known not to be there any more.
        absent: the Job's Pod was looked for and not found (it matters where none was ever seen).
    """
    ordered = sorted(pods, key=lambda pod: (born(pod), int(pod["metadata"].get("resourceVersion") or 0)))
    for pod in ordered[:-1]:
        # What the Job says is about its newest pod: an older one must speak for itself.
        there = pod["metadata"]["uid"] not in gone
        seen = classify(attempt, None, pod, events, cancelled_by_us=cancelled_by_us, deleted=not there)
        if seen.outcome is not None:
            return seen
    newest = ordered[-1] if ordered else None
    return classify(
        attempt,
        job,
        newest,
        events,
        cancelled_by_us=cancelled_by_us,
        deleted=newest["metadata"]["uid"] in gone if newest is not None else absent,
        job_deleted=job_deleted,
        ever_started=ever_started or len(ordered) > 1,
    )


# ------------------------------------------------------------------------------------------------- verdicts


def _ended(outcome: Outcome, words: Callable[[View], str], *, blame: Blame = "") -> Callable[[View], Seen]:
    """A verdict in our words."""
    return lambda view: Seen("", "ended", outcome, reason=words(view), blame=blame)


def _said(outcome: Outcome, words: Callable[[View], str], *, blame: Blame = "") -> Callable[[View], Seen]:
    """A verdict in the runner's words where it left some: it knows most about its own ends."""

    def verdict(view: View) -> Seen:
        told = view.result.reason if view.result is not None else ""
        reason = sentence(told) or words(view)
        return Seen("", "ended", outcome, reason=reason, blame=blame)

    return verdict


def _scored(note: str) -> Callable[[View], Seen]:
    return lambda _view: Seen("", "ended", "ok", note=note)


def _at(view: View) -> str:
    return f" on {view.node}" if view.node else ""


def _step(view: View) -> str:
    result = view.result
    return f" at step {result.steps:,}" if result is not None and result.steps is not None else ""


def _disrupted(view: View) -> Seen:
    condition = view.disruption or {}
    usual: tuple[str, Outcome, Blame, str] = ("disrupted", "preempted", "", "disrupted by the cluster")
    row, outcome, blame, words = _DISRUPTIONS.get(str(condition.get("reason")), usual)
    message = str(condition.get("message") or "")
    return Seen(row, "ended", outcome, reason=f"{words}{_at(view)} ({message})" if message else words, blame=blame)


def _by_exit_code(view: View) -> Seen:
    """The pod is gone with its message; its Job kept the exit code."""
    row, outcome, words = _EXITS[view.job_exit_code or 0]
    blame: Blame = "gpu" if view.job_exit_code == 84 else ""
    return Seen(row, "ended", outcome, reason=f"{words}; the pod is gone, and its result with it", blame=blame)


_EXITS: Final[Mapping[int, tuple[str, Outcome, str]]] = {
    81: ("nan", "nan", "the loss became NaN or infinite"),
    82: ("oom-gpu", "oom", "it ran out of memory"),
    83: ("over-budget", "timeout", "it was too slow, or hung"),
    84: ("gpu", "infrastructure", "its GPU is broken"),
    85: ("data", "infrastructure", "the corpus is missing, or is not the recorded one"),
    86: ("contract", "crash", "it broke the contract of train.py"),
    87: ("our-side", "infrastructure", "our own side failed"),
}
"""What the runner in the pod means by its exit codes: row, outcome, words where it left none of its own."""


def _own(code: int) -> Row:
    """The row of one of the runner's exit codes."""
    row, outcome, words = _EXITS[code]
    verdict = _said(outcome, lambda view: f"{words}{_step(view)}{view.last_line}")
    return Row(row, lambda view: view.exit_code == code, verdict)


def _forgotten(view: View) -> bool:
    """Whether the node lost its container: containerd says `Unknown` and 255 of one that a reboot ended."""
    return view.end_reason == "ContainerStatusUnknown" or (view.end_reason == "Unknown" and view.exit_code == 255)


def _is_gpu_fault(view: View) -> bool:
    """Exit 84, or the runner itself died and the driver's words are the last in the log."""
    return view.exit_code == 84 or (view.exit_code not in (None, 0) and bool(_GPU_FAULT.search(view.tail)))


def _admission(view: View) -> Seen:
    blame: Blame = "gpu" if "gpu" in view.pod_message else "node"
    return Seen(
        "", "ended", "infrastructure", reason=f"refused by its node{_at(view)}: {view.pod_message}", blame=blame
    )


def _start_error(view: View) -> Seen:
    """No attempt's fault and no node's: what cannot start here starts nowhere until somebody mends it."""
    said = sentence(str((view.terminated or {}).get("message") or ""))
    reason = f"its container could not be started{_at(view)}: {said}"
    return Seen("", "waiting", reason=reason, hold="manifest")


def _signal(view: View) -> str:
    """The signal that a shell's exit code stands for, as far as one can tell."""
    code = view.exit_code or 0
    try:
        return f" ({signal.strsignal(code - 128)})" if code > 128 else ""
    except ValueError:
        return ""


# ------------------------------------------------------------------------------------------------ the table

ROWS: Final[tuple[Row, ...]] = (
    # A score is a score.
    Row(
        "ok-child-killed",
        lambda view: view.scored and view.end_reason == "OOMKilled",
        _scored("a child process was killed for want of memory; the score is whole"),
    ),
    Row("ok", lambda view: view.scored, _scored("")),
    # Ours.
    Row(
        "cancelled",
        lambda view: view.cancelled and (view.over or (view.pod is None and view.job_deleted)),
        _ended("cancelled", lambda _view: ""),
    ),
    Row("cancelling", lambda view: view.cancelled and (view.going or view.job_gone), waits.ending),
    # Somebody else's doing.
    Row("disrupted", lambda view: view.disruption is not None, _disrupted),
    Row(
        "disrupted-job",
        lambda view: view.unexplained and view.job_names_disruption,
        _ended("preempted", lambda _view: "preempted, drained or lost with its node; the pod is gone"),
    ),
    Row("node-admission", lambda view: bool(_ADMISSION.fullmatch(view.pod_reason)), _admission),
    Row(
        "container-lost",
        lambda view: _forgotten(view) and not view.going,
        _ended("infrastructure", lambda view: f"its node lost the container{_at(view)}", blame="node"),
    ),
    Row(
        "suspended",
        lambda view: view.suspended and (view.pod is None or view.unexplained or (view.going and not view.over)),
        waits.suspended,
    ),
    Row(
        "gpu",
        _is_gpu_fault,
        _said("infrastructure", lambda view: f"its GPU is broken{_at(view)}{view.last_line}", blame="gpu"),
    ),
    # Deadlines.
    Row(
        "startup-deadline",
        lambda view: view.pod_reason == "DeadlineExceeded" and not view.started,
        _ended(
            "infrastructure", lambda view: f"it had not started when its pod's time was over{_at(view)}", blame="node"
        ),
    ),
    Row(
        "pod-deadline",
        lambda view: view.pod_reason == "DeadlineExceeded",
        _ended("timeout", lambda view: f"too slow, or hung: its pod's time was over{_step(view)}{view.last_line}"),
    ),
    _own(83),
    Row(
        "queue-deadline",
        lambda view: view.unexplained and view.job_failure_reason == "DeadlineExceeded" and not view.started,
        _ended("unschedulable", lambda _view: "it had not started when its Job's own deadline was over"),
    ),
    Row(
        "job-deadline",
        lambda view: view.unexplained and view.job_failure_reason == "DeadlineExceeded",
        _ended("timeout", lambda view: f"it still ran when its Job's own deadline was over{_step(view)}"),
    ),
    # Its own doing.
    Row(
        "oom-host",
        lambda view: view.end_reason == "OOMKilled" and view.exit_code != 0,
        _ended("oom", lambda view: f"it took more memory than its pod may have{_step(view)}{view.last_line}"),
    ),
    _own(82),
    Row(
        "oom-gpu",
        lambda view: view.exit_code not in (*KILLED, 0, None) and bool(_GPU_MEMORY.search(view.tail)),
        _ended("oom", lambda view: f"out of GPU memory{view.last_line}"),
    ),
    _own(81),
    Row(
        "disk",
        lambda view: view.pod_reason == "Evicted" and bool(_DISK.search(view.pod_message)),
        _ended("crash", lambda view: f"it wrote more than its pod may: {view.pod_message}"),
    ),
    Row(
        "evicted",
        lambda view: view.pod_reason == "Evicted",
        _ended("infrastructure", lambda view: f"evicted{_at(view)}: {view.pod_message}", blame="node"),
    ),
    _own(85),
    _own(86),
    _own(87),
    Row(
        "start-error",
        lambda view: view.end_reason in ("StartError", "ContainerCannotRun"),
        _start_error,
    ),
    # Nobody says why: the Job's word decides, and until it comes nothing is final.
    Row("job-exit", lambda view: view.lost and view.job_exit_code in _EXITS, _by_exit_code),
    Row(
        "result-lost",
        lambda view: view.lost and view.job_complete,
        _ended("infrastructure", lambda _view: "its Job succeeded, but the pod is gone, and its result with it"),
    ),
    Row(
        "deleted",
        lambda view: view.unexplained and view.going and view.job_decided,
        _ended("infrastructure", lambda view: f"somebody deleted its {'pod' if view.job_said else 'Job'}{_at(view)}"),
    ),
    Row(
        "killed",
        lambda view: view.unexplained and not view.going and view.exit_code is not None,
        _ended(
            "infrastructure",
            lambda view: f"its pod was killed from outside (exit code {view.exit_code}){_at(view)}{view.last_line}",
            blame="node",
        ),
    ),
    Row(
        "no-result",
        lambda view: view.exit_code == 0,
        _said("crash", lambda view: f"it ended without a valid result{view.last_line}"),
    ),
    Row(
        "crash",
        lambda view: view.exit_code is not None and not view.unexplained,
        _said("crash", lambda view: f"exit code {view.exit_code}{_signal(view)}{_step(view)}{view.last_line}"),
    ),
    Row(
        "pod-failed",
        lambda view: view.phase == "Failed" and (bool(view.pod_reason) or not view.going),
        _ended(
            "infrastructure",
            lambda view: f"its pod failed{_at(view)}: {view.pod_message or view.pod_reason or 'nothing says why'}",
            blame="node",
        ),
    ),
    # Under way.
    Row("ending", lambda view: view.going or view.over, waits.ending),
    Row("running", lambda view: view.running is not None, waits.running),
    *waits.ROWS,
)
