"""What a Job, its Pod and their Events say, read once: the questions that the table of classification asks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from executors.kubernetes import names
from executors.kubernetes.results import Result, is_score, parse
from executors.output import clean, sentence

Json = Mapping[str, Any]
_NOTHING: Final[Json] = {}
_JOB_EXIT_CODE: Final = re.compile(r"\bfailed with exit code (\d{1,3})\b")
KILLED: Final = (137, 143)
"""Exit codes of a process that was killed from outside: SIGKILL, SIGTERM."""


@dataclass(frozen=True)
class View:
    """One attempt's objects as last seen, also those that are deleted; `events` are of this Job and this Pod.

    `attempt`: its id, which a result has to name.
    `cancelled`: we asked for the end. `pod_deleted`, `job_deleted`: the object is known not to be there any more.
    `ever_started`: the attempt was seen running before, perhaps in another pod.
    """

    attempt: str
    job: Json | None
    pod: Json | None
    events: Sequence[Json]
    cancelled: bool
    pod_deleted: bool
    job_deleted: bool
    ever_started: bool

    # ------------------------------------------------------------------------------------------- the pod

    @cached_property
    def node(self) -> str:
        """Where the pod is bound to; "" before that."""
        return str(_path(self.pod, "spec", "nodeName") or "")

    @cached_property
    def pod_status(self) -> Json:
        """The pod's status."""
        return _path(self.pod, "status") or _NOTHING

    @cached_property
    def phase(self) -> str:
        """The pod's phase."""
        return str(self.pod_status.get("phase") or "")

    @cached_property
    def pod_reason(self) -> str:
        """Why the pod as a whole ended, in one word."""
        return str(self.pod_status.get("reason") or "")

    @cached_property
    def pod_message(self) -> str:
        """The same in a sentence."""
        return sentence(str(self.pod_status.get("message") or "")).rstrip(".")

    @cached_property
    def _state(self) -> Json:
        for status in self.pod_status.get("containerStatuses") or ():
            if status.get("name") == names.TRAINER:
                return status.get("state") or _NOTHING
        return _NOTHING

    @cached_property
    def terminated(self) -> Json | None:
        """The end of the trainer's container."""
        found: Json | None = self._state.get("terminated")
        return found

    @cached_property
    def running(self) -> Json | None:
        """The trainer's container while it runs."""
        found: Json | None = self._state.get("running")
        return found

    @cached_property
    def waiting(self) -> Json:
        """Why a container does not run yet: an init container's reason first, since the trainer waits for it."""
        for status in self.pod_status.get("initContainerStatuses") or ():
            found: Json = _path(status, "state", "waiting") or _NOTHING
            if found.get("reason") not in (None, "PodInitializing"):
                return found
        return self._state.get("waiting") or _NOTHING

    @cached_property
    def exit_code(self) -> int | None:
        """The trainer's exit code; None where no container of it ended."""
        code = (self.terminated or _NOTHING).get("exitCode")
        return code if isinstance(code, int) else None

    @cached_property
    def end_reason(self) -> str:
        """The kubelet's word for the end of the container, e.g. OOMKilled."""
        return str((self.terminated or _NOTHING).get("reason") or "")

    @cached_property
    def started(self) -> bool:
        """Whether the trainer ever ran."""
        if self.ever_started or self.running is not None:
            return True
        ran = self.terminated is not None and self.end_reason not in ("StartError", "ContainerStatusUnknown")
        return ran or self.result is not None

    @cached_property
    def result(self) -> Result | None:
        """The runner's result, if the termination message is one."""
        return parse(str((self.terminated or _NOTHING).get("message") or ""), self.attempt)

    @cached_property
    def scored(self) -> bool:
        """Whether the attempt ended by itself with a score, before anything else became of its pod."""
        return self.exit_code == 0 and is_score(self.result) and self.ended_undisturbed

    @cached_property
    def tail(self) -> str:
        """The end of the log, where no result says more; it is what the revision printed, and proves nothing."""
        return "" if self.result else clean(str((self.terminated or _NOTHING).get("message") or ""))

    @cached_property
    def last_line(self) -> str:
        """The last line of the tail, in quotes, for a sentence."""
        lines = [line for line in self.tail.splitlines() if line.strip()]
        return f"; it last printed: {sentence(lines[-1])[:160]}" if lines else ""

    @cached_property
    def gone(self) -> bool:
        """Whether there was a pod, which is not there any more; without one ever seen, only the Job's end tells."""
        return self.pod_deleted and (self.pod is not None or self.job_decided)

    @cached_property
    def lost(self) -> bool:
        """Whether the pod is gone and nobody saw how its container ended."""
        return self.gone and self.unexplained and self.exit_code is None

    @cached_property
    def over(self) -> bool:
        """Whether nothing of the pod runs any more."""
        return self.gone or self.terminated is not None or self.phase in ("Failed", "Succeeded")

    @cached_property
    def going(self) -> bool:
        """Whether the pod is deleted or being deleted."""
        return self.gone or _path(self.pod, "metadata", "deletionTimestamp") is not None

    @cached_property
    def unexplained(self) -> bool:
        """Whether the pod ended without a word of its own: killed from outside, or its end was never seen."""
        if not self.over or self.pod_reason or self.end_reason == "OOMKilled":
            return False
        return self.exit_code is None or self.exit_code in KILLED

    @cached_property
    def disruption(self) -> Json | None:
        """The pod's condition DisruptionTarget, unless the trainer had ended before it came."""
        condition = _condition(self.pod, "DisruptionTarget")
        return None if condition is None or self.ended_undisturbed else condition

    @cached_property
    def ended_undisturbed(self) -> bool:
        """Whether the trainer ended by itself before the cluster disrupted its pod, or without that."""
        condition = _condition(self.pod, "DisruptionTarget")
        if condition is None:
            return True
        ended, disrupted = (self.terminated or _NOTHING).get("finishedAt"), condition.get("lastTransitionTime")
        # RFC 3339 in UTC with whole seconds: text compares as time does.
        by_itself = self.exit_code is not None and self.exit_code not in KILLED
        return by_itself and bool(ended and disrupted) and str(ended) < str(disrupted)

    @cached_property
    def unscheduled(self) -> Json | None:
        """The condition PodScheduled while it is false."""
        return _condition(self.pod, "PodScheduled", status="False")

    # ------------------------------------------------------------------------------------------- the job

    @cached_property
    def suspended(self) -> bool:
        """Whether the Job may have no pod now: Kueue, or a person, holds it."""
        return _path(self.job, "spec", "suspend") is True

    @cached_property
    def job_gone(self) -> bool:
        """Whether the Job is deleted or being deleted."""
        return self.job_deleted or _path(self.job, "metadata", "deletionTimestamp") is not None

    @cached_property
    def job_failure(self) -> Json | None:
        """The Job's condition that says it failed, and why."""
        return _condition(self.job, "Failed") or _condition(self.job, "FailureTarget")

    @cached_property
    def job_failure_reason(self) -> str:
        """Its word."""
        return str((self.job_failure or _NOTHING).get("reason") or "")

    @cached_property
    def job_exit_code(self) -> int | None:
        """The exit code that the Job says its pod had, by our podFailurePolicy."""
        if self.job_failure_reason != "PodFailurePolicy":
            return None
        match = _JOB_EXIT_CODE.search(str((self.job_failure or _NOTHING).get("message")))
        return int(match[1]) if match else None

    @cached_property
    def job_names_disruption(self) -> bool:
        """Whether the Job says that its pod was disrupted."""
        message = str((self.job_failure or _NOTHING).get("message"))
        return self.job_failure_reason == "PodFailurePolicy" and "DisruptionTarget" in message

    @cached_property
    def job_complete(self) -> bool:
        """Whether the Job says that its pod succeeded."""
        return (_condition(self.job, "Complete") or _condition(self.job, "SuccessCriteriaMet")) is not None

    @cached_property
    def job_decided(self) -> bool:
        """Whether the Job has said its last word about this pod, or will never say one."""
        if self.job_gone:
            return True
        return self.job_said and not self.left_over

    @cached_property
    def job_said(self) -> bool:
        """Whether the Job says how it ended."""
        return self.job_complete or self.job_failure is not None

    @cached_property
    def left_over(self) -> bool:
        """Whether the pod is from before the Job's last suspension: the Job's words are about a later pod."""
        resumed = _condition(self.job, "Suspended", status="False")
        born = _path(self.pod, "metadata", "creationTimestamp")
        return resumed is not None and born is not None and str(resumed.get("lastTransitionTime") or "") > str(born)

    # ---------------------------------------------------------------------------------------- the events

    def last_event(self, *reasons: str, containing: str = "") -> str:
        """The message of the newest Event with one of these reasons whose message holds a text; "" for none."""
        found = [
            (event_time(event), str(event.get("message") or ""))
            for event in self.events
            if event.get("reason") in reasons and containing in str(event.get("message") or "")
        ]
        return sentence(max(found)[1]) if found else ""


def event_time(event: Json) -> str:
    """When an Event was last seen, as text that sorts."""
    series: Json = event.get("series") or _NOTHING
    stamps = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((stamp for stamp in stamps if stamp), _path(event, "metadata", "creationTimestamp") or ""))


def about(event: Json, *objects: Json | None) -> bool:
    """Whether an Event is about one of these objects, and not about an earlier one of the same name."""
    uid = _path(event, "involvedObject", "uid")
    return any(uid and uid == _path(found, "metadata", "uid") for found in objects)


def condition_time(obj: Json | None, kind: str) -> str:
    """When a condition last changed; "" where there is none."""
    for condition in _path(obj, "status", "conditions") or ():
        if condition.get("type") == kind:
            return str(condition.get("lastTransitionTime") or "")
    return ""


def born(obj: Json | None) -> str:
    """When an object was created."""
    return str(_path(obj, "metadata", "creationTimestamp") or "")


def _condition(obj: Json | None, kind: str, status: str = "True") -> Json | None:
    for condition in _path(obj, "status", "conditions") or ():
        if condition.get("type") == kind and condition.get("status") == status:
            found: Json = condition
            return found
    return None


def _path(obj: Any, *steps: str) -> Any:
    for step in steps:
        obj = obj.get(step) if isinstance(obj, Mapping) else None
    return obj
