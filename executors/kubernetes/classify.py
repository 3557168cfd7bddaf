"""What the objects of an attempt say about it: one ordered table from what a cluster shows to what it means.

Order matters: first what somebody else did to the pod, then deadlines, then exit codes. The rows follow recordings of a
real control plane (Kubernetes 1.36); docs/kubernetes.md has the table in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import msgspec

from core.executor import Outcome
from executors.output import sentence

Json = dict[str, Any]
Phase = Literal["queued", "waiting", "starting", "running", "ended"]
Hold = Literal["", "image", "policy", "no_such_node", "manifest", "quota"]

EXIT_OUTCOMES: Final[Mapping[int, Outcome]] = {81: "nan", 82: "oom", 83: "timeout", 86: "crash"}
"""Exit codes of the runner (executors.pod) that are the revision's doing, beside 1."""
_BROKEN_GPU: Final = re.compile(
    r"uncorrectable ECC|\bXid\b|GPU has fallen off the bus|CUDA error: .*ECC", re.IGNORECASE
)
_GPU_MEMORY: Final = re.compile(r"torch\.(cuda\.)?OutOfMemoryError|CUDA out of memory")
_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_BROKEN_CONTAINER: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_DISRUPTIONS: Final[Mapping[str, tuple[Outcome, str]]] = {
    "PreemptionByScheduler": ("preempted", "preempted for a pod of higher priority"),
    "EvictionByEvictionAPI": ("preempted", "evicted: its node was drained"),
    "DeletionByTaintManager": ("device_lost", "its node stopped answering"),
    "DeletionByPodGC": ("device_lost", "its node is gone"),
    "TerminationByKubelet": ("infrastructure", "its node came under pressure, or shut down"),
}
_BLAMED: Final = frozenset({"DeletionByTaintManager", "TerminationByKubelet"})
_NODE_REASONS: Final = re.compile(r"UnexpectedAdmissionError|OutOf\w+|NodeAffinity|NodeShutdown|NodeLost|Terminated")


@dataclass(frozen=True)
class Seen:
    """What is to be made of an attempt.

    `row` names the row of the table. `reason` is a sentence for people, `note` what a reader of a score must know,
    `result` what the runner measured. `blame` is what a fault puts down to the node. `hold` says which kind of fault
    keeps every such attempt from running, `remedy` what may heal this one.
    """

    row: str
    phase: Phase
    outcome: Outcome | None = None
    reason: str = ""
    note: str = ""
    result: Json | None = None
    node: str = ""
    blame: Literal["", "node", "gpu"] = ""
    hold: Hold = ""
    remedy: Literal["", "recreate_configmap"] = ""


class View:
    """The facts of an attempt's objects that rows look at."""

    def __init__(
        self, job: Json | None, pod: Json | None, events: Sequence[Json], attempt: str, flags: tuple[bool, bool, bool]
    ) -> None:
        self.job, self.pod, self.events, self.attempt = job or {}, pod or {}, events, attempt
        self.cancelled, self.deleted, self.ever_started = flags
        status = self.pod.get("status") or {}
        self.phase = str(status.get("phase") or "")
        self.pod_reason, self.pod_message = str(status.get("reason") or ""), str(status.get("message") or "")
        self.node = str((self.pod.get("spec") or {}).get("nodeName") or "")
        self.conditions = {str(c.get("type")): c for c in status.get("conditions") or ()}
        container: Json = next(iter(status.get("containerStatuses") or ()), {})
        state = container.get("state") or {}
        self.running = "running" in state
        self.waiting = state.get("waiting") or {}
        ended = state.get("terminated")
        self.ended: Json = ended or {}
        self.has_ended = ended is not None
        self.exit = int(self.ended.get("exitCode", 0)) if self.has_ended else None
        self.end_reason = str(self.ended.get("reason") or "")
        self.message = str(self.ended.get("message") or "")
        self.job_conditions = {
            str(c.get("type")): c
            for c in (self.job.get("status") or {}).get("conditions") or ()
            if c.get("status") == "True"
        }
        self.suspended = bool((self.job.get("spec") or {}).get("suspend"))
        self.going = bool((self.pod.get("metadata") or {}).get("deletionTimestamp")) or self.deleted
        self.result = result_of(self.message, attempt)

    @property
    def final(self) -> bool:
        """Whether the pod is over: its container ended, it failed without one, or it is gone."""
        return self.has_ended or self.phase in ("Failed", "Succeeded") or self.deleted

    @property
    def disruption(self) -> str:
        """Why the cluster ended the pod, by the pod's own word or, where it is gone, by its Job's."""
        condition = self.conditions.get("DisruptionTarget")
        if condition is not None and condition.get("status") == "True":
            return str(condition.get("reason") or "Disrupted")
        failed = self.job_conditions.get("FailureTarget") or self.job_conditions.get("Failed") or {}
        named = failed.get("reason") == "PodFailurePolicy" and "DisruptionTarget" in str(failed.get("message"))
        return "Disrupted" if named and (not self.pod or self.going) else ""

    @property
    def job_failed(self) -> str:
        """The reason for which the Job failed; empty where it did not."""
        failed = self.job_conditions.get("Failed") or self.job_conditions.get("FailureTarget") or {}
        return str(failed.get("reason") or "")

    @property
    def job_over(self) -> bool:
        """Whether the Job has said its last word: until then it may still say why its pod was deleted."""
        gone = bool((self.job.get("metadata") or {}).get("deletionTimestamp"))
        return not self.job or gone or bool(self.job_conditions.keys() & {"Failed", "FailureTarget", "Complete"})

    @property
    def tail(self) -> str:
        """The last line that the pod said, for people."""
        lines = [line for line in self.message.splitlines() if line.strip()]
        return sentence(lines[-1]) if lines else ""

    @property
    def told(self) -> str:
        """Why the runner says that it ended."""
        return sentence(str((self.result or {}).get("reason") or ""))

    def warning(self, reason: str) -> str:
        """The text of the newest event of a reason about the Job or its pod."""
        found = [event for event in self.events if event.get("reason") == reason]
        newest = max(found, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        return str(newest.get("message") or "") if newest is not None else ""


class Row(NamedTuple):
    """One row: a name, whether it applies, and what it then means."""

    id: str
    applies: Callable[[View], bool]
    means: Callable[[View], Seen]


def classify(
    job: Json | None,
    pod: Json | None,
    events: Sequence[Json] = (),
    *,
    attempt: str = "",
    cancelled_by_us: bool = False,
    deleted: bool = False,
    ever_started: bool = False,
) -> Seen:
    """Tell what an attempt does, or how it ended.

    Args:
        job, pod: the newest state of its objects that is known; `deleted` where the pod left the cluster.
        events: the namespace's events about them.
        attempt: its id, which a result has to name (empty: any).
        cancelled_by_us, ever_started: what only the executor knows.
    """
    view = View(job, pod, events, attempt, (cancelled_by_us, deleted, ever_started))
    row = next(row for row in ROWS if row.applies(view))
    return replace(row.means(view), row=row.id)


def result_of(message: str, attempt: str) -> Json | None:
    """What the runner wrote as its last word; None where that is missing, damaged, or of somebody else."""
    try:
        told = msgspec.json.decode(message.strip()) if message.lstrip().startswith("{") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(told, dict) or told.get("ar") != 1 or not isinstance(told.get("outcome"), str):
        return None
    if attempt and told.get("attempt") != attempt:
        return None
    return told


def _ended(outcome: Outcome, reason: str = "", blame: Literal["", "node", "gpu"] = "") -> Callable[[View], Seen]:
    """What a row means that ends an attempt; {names} in the reason are filled in."""

    def means(view: View) -> Seen:
        words = {
            "tail": view.tail,
            "told": view.told or view.tail,
            "node": view.node or "its node",
            "message": sentence(view.pod_message),
            "exit": view.exit,
            "end": view.end_reason,
        }
        text = sentence(re.sub(r"(: )?\{(\w+)\}", lambda m: _fill(m, words), reason))
        return Seen("", "ended", outcome, text, result=view.result, node=view.node, blame=blame)

    return means


def _fill(match: re.Match[str], words: Mapping[str, object]) -> str:
    """A word for its place; with nothing to say, the colon before it goes as well."""
    value = str(words[match[2]] or "")
    return f"{match[1] or ''}{value}" if value else ""


def _disrupted(view: View) -> Seen:
    reason = view.disruption
    outcome, words = _DISRUPTIONS.get(reason, ("infrastructure", "the cluster ended it"))
    where = f" ({view.node})" if view.node else ""
    blame: Literal["", "node"] = "node" if reason in _BLAMED else ""
    return Seen("", "ended", outcome, f"{words}{where}", result=view.result, node=view.node, blame=blame)


def _scored(view: View) -> Seen:
    """A run that ended well, if what it says holds together."""
    result = view.result or {}
    score = result.get("val_bpb")
    good = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score) and score > 0
    if result.get("outcome") != "ok" or not good:
        why = "its result holds no score" if result else "it ended well but left no result"
        return Seen("", "ended", "crash", f"{why}: the runner's contract is broken", node=view.node)
    note = "the kernel killed a process of it for want of memory" if view.end_reason == "OOMKilled" else ""
    return Seen("", "ended", "ok", note=note, result=result, node=view.node)


def _by_exit(view: View) -> Seen:
    outcome = EXIT_OUTCOMES[view.exit or 0]
    usual = {"nan": "the loss is not finite", "oom": "it ran out of memory", "timeout": "it was over its budget"}
    reason = view.told or view.tail or usual.get(outcome, "it broke the runner's contract")
    return Seen("", "ended", outcome, reason, result=view.result, node=view.node)


def _crashed(view: View) -> Seen:
    told = (view.result or {}).get("outcome")
    outcome: Outcome = told if told in ("nan", "oom", "timeout", "crash") else "crash"
    signal = f" (signal {view.exit - 128})" if view.exit is not None and view.exit > 128 else ""
    reason = view.told or view.tail or f"it ended with exit code {view.exit}{signal}"
    return Seen("", "ended", outcome, reason, result=view.result, node=view.node)


def _waits(
    phase: Phase, hold: Hold = "", remedy: Literal["", "recreate_configmap"] = ""
) -> Callable[[View, str], Seen]:
    def means(view: View, reason: str) -> Seen:
        return Seen("", phase, reason=sentence(reason), node=view.node, hold=hold, remedy=remedy)

    return means


def _image_waits(view: View) -> Seen:
    text = str(
        view.waiting.get("message")
        or view.warning("InspectFailed")
        or view.warning("Failed")
        or view.waiting.get("reason")
    )
    return _waits("waiting", "image")(view, f"its image cannot be fetched on {view.node or 'its node'}: {text}")


def _refused(view: View) -> bool:
    return not view.pod and bool(view.warning("FailedCreate"))


def _no_room(view: View) -> str:
    condition = view.conditions.get("PodScheduled") or {}
    refused = condition.get("status") == "False" and condition.get("reason") == "Unschedulable"
    return str(condition.get("message") or "no node takes it") if refused and not view.node else ""


def _only_impossible(view: View) -> bool:
    """Whether no node could ever take it: not for want of room, but by affinity, selectors or taints alone."""
    text = _no_room(view)
    return (
        bool(text)
        and "Insufficient" not in text
        and "nodes are available" in text
        and "preempt" not in text.split(":")[0]
    )


def _memory(view: View) -> Seen:
    where = "" if view.exit == 137 else ": the kernel killed a process of it"
    return Seen("", "ended", "oom", f"it used more memory than its pod may{where}", result=view.result, node=view.node)


def _lost_result(view: View) -> bool:
    """The pod is gone, the Job says that it went well: the score went with the pod."""
    return not view.pod and "Complete" in view.job_conditions


ROWS: Final[tuple[Row, ...]] = (
    # -- it is not there yet
    Row("suspended", lambda v: v.suspended and not (v.final and not v.going),
        lambda v: _waits("queued")(v, "its queue has not admitted it yet" if not v.ever_started else "its queue took it back")),
    Row("quota", lambda v: _refused(v) and "exceeded quota" in v.warning("FailedCreate"),
        lambda v: _waits("waiting")(v, _quota_words(v.warning("FailedCreate")))),
    Row("policy", lambda v: _refused(v) and not v.job_failed,
        lambda v: _waits("waiting", "policy")(v, f"the cluster refuses its pod: {_after(v.warning('FailedCreate'))}")),
    # -- somebody else's doing
    Row("cancelled", lambda v: v.cancelled and v.final and v.exit != 0, _ended("cancelled")),
    Row("disrupted", lambda v: bool(v.disruption) and (v.exit != 0 or v.result is None), _disrupted),
    Row("node_refused", lambda v: v.phase == "Failed" and bool(_NODE_REASONS.fullmatch(v.pod_reason)),
        _ended("infrastructure", "{node} did not take it: {message}", blame="node")),
    Row("gpu_exit", lambda v: v.exit == 84, _ended("infrastructure", "a GPU of {node} is not well: {told}", blame="gpu")),
    Row("gpu_words", lambda v: v.has_ended and v.exit not in (0, 81, 83) and bool(_BROKEN_GPU.search(v.message)),
        _ended("infrastructure", "a GPU of {node} is not well: {told}", blame="gpu")),
    # -- deadlines
    Row("pod_deadline", lambda v: v.pod_reason == "DeadlineExceeded",
        _ended("timeout", "it was still there when all its time was over: too slow, or it hung: {told}")),
    Row("job_deadline", lambda v: v.job_failed == "DeadlineExceeded" and not v.ever_started and not _ran(v),
        _ended("unschedulable", "it never got to start before its Job's deadline")),
    Row("job_deadline_ran", lambda v: v.job_failed == "DeadlineExceeded",
        _ended("timeout", "it was still there when its Job's time was over: {told}")),
    Row("status_unknown", lambda v: v.end_reason == "ContainerStatusUnknown",
        _ended("infrastructure", "{node} lost its container", blame="node")),
    # -- what it did to itself
    Row("evicted", lambda v: v.pod_reason == "Evicted", _ended("crash", "it used more disk than its pod may: {message}")),
    Row("budget_exit", lambda v: v.exit == 83, _by_exit),
    Row("scored", lambda v: v.exit == 0 and v.has_ended, _scored),
    Row("memory", lambda v: v.end_reason == "OOMKilled", _memory),
    Row("nan", lambda v: v.exit == 81, _by_exit),
    Row("gpu_memory", lambda v: v.exit == 82 or (v.has_ended and bool(_GPU_MEMORY.search(v.message))),
        lambda v: Seen("", "ended", "oom", v.told or v.tail or "the GPU's memory was not enough", result=v.result, node=v.node)),
    Row("data", lambda v: v.exit == 85, _ended("infrastructure", "its data is not what the session needs: {told}")),
    Row("contract", lambda v: v.exit == 86, _by_exit),
    Row("runner", lambda v: v.exit == 87, _ended("infrastructure", "the runner failed: {told}")),
    Row("start_error", lambda v: v.end_reason in ("StartError", "ContainerCannotRun"),
        lambda v: _waits("waiting", "manifest")(v, f"its container does not start: {v.message}")),
    Row("unexplained", lambda v: v.going and v.final and not v.job_over and (v.exit in (None, 137, 143)),
        lambda v: Seen("", "running", node=v.node)),
    Row("somebody", lambda v: v.has_ended and v.exit in (137, 143) and (v.going or not v.message),
        _ended("infrastructure", "somebody deleted its pod, or killed it")),
    Row("crashed", lambda v: v.has_ended, _crashed),
    Row("gone", lambda v: v.deleted, _ended("infrastructure", "somebody deleted its pod")),
    Row("failed", lambda v: v.phase == "Failed", _ended("infrastructure", "{node} failed it: {message}", blame="node")),
    Row("result_lost", _lost_result, _ended("infrastructure", "its pod is gone, and its score with it")),
    Row("job_failed", lambda v: not v.pod and bool(v.job_failed), _ended("infrastructure", "its pod is gone without a word")),
    # -- on its way
    Row("running", lambda v: v.running and not v.going, lambda v: Seen("", "running", node=v.node)),
    Row("ending", lambda v: v.running, lambda v: Seen("", "running", node=v.node)),
    Row("image", lambda v: v.waiting.get("reason") in _IMAGE or bool(v.waiting and v.warning("InspectFailed")), _image_waits),
    Row("container", lambda v: v.waiting.get("reason") in _BROKEN_CONTAINER,
        lambda v: _waits("waiting", "manifest")(v, f"its container cannot be made: {v.waiting.get('message') or ''}")),
    Row("mount", lambda v: bool(v.node) and bool(v.warning("FailedMount")),
        lambda v: _waits("waiting", remedy="recreate_configmap")(v, f"a volume is not there: {v.warning('FailedMount')}")),
    Row("starting", lambda v: bool(v.node), lambda v: Seen("", "starting", reason=f"its container starts on {v.node}", node=v.node)),
    Row("no_such_node", _only_impossible,
        lambda v: _waits("waiting", "no_such_node")(v, f"no node can ever take it: {_no_room(v)}")),
    Row("busy", lambda v: bool(_no_room(v)), lambda v: _waits("waiting")(v, f"no room: {_no_room(v)}")),
    Row("pending", lambda v: bool(v.pod), lambda v: _waits("queued")(v, "it waits for the scheduler")),
    Row("no_pod", lambda _: True, lambda v: _waits("queued")(v, "its pod is not made yet")),
)  # fmt: skip


def _ran(view: View) -> bool:
    return view.has_ended and bool(view.ended.get("startedAt"))


def _after(text: str) -> str:
    """An admission error without its beginning, which only repeats the pod's name."""
    return re.sub(r'^Error creating: (pods "[^"]*" is forbidden: )?', "", text)


def _quota_words(text: str) -> str:
    return f"the namespace's quota is used up: {_after(text).removeprefix('exceeded quota: ')}"


def post_failure(status: int, reason: str, message: str) -> Seen:
    """What it means that the server does not take an attempt's objects."""
    text = sentence(message)
    if status == 403 and "exceeded quota" in message:
        return Seen(
            "post_quota", "waiting", reason=f"the namespace's quota of objects is used up: {text}", hold="quota"
        )
    if status == 403:
        return Seen("post_forbidden", "waiting", reason=f"we may not do that: {text}", hold="policy")
    if status == 413:
        return Seen("post_too_large", "ended", "crash", f"train.py is too large for this cluster: {text}")
    if status == 404:
        return Seen("post_no_namespace", "waiting", reason=f"the namespace is not there: {text}", hold="policy")
    if status == 401:
        return Seen("post_credentials", "waiting", reason=f"our credentials have expired: {text}", hold="policy")
    what = f" ({reason})" if reason else ""
    return Seen("post_refused", "waiting", reason=f"the server refuses the Job{what}: {text}", hold="manifest")
