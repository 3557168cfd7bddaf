"""Commands of a person, before they are journalled: why one is refused, and what is answered to one that is not."""

from __future__ import annotations

from core.control import Request
from core.state import Run, SessionState

_MAX_ARG_CHARS = 4000
_MOST_NAMES = 6


def refusal(state: SessionState, asked: Request) -> str:
    """Why a command cannot be obeyed now, in a sentence; empty where it can."""
    if state.now.ended is not None:
        return "the session has ended"
    if not asked.client:
        return "a command needs a client id, so that a repetition can be told from a second one"
    if len(asked.arg) > _MAX_ARG_CHARS:
        return f"more than {_MAX_ARG_CHARS} characters are too many for {asked.verb!r}"
    match asked.verb:
        case "pause" if state.now.paused:
            return "the session is paused already"
        case "resume" if not state.now.paused:
            return "the session is not paused"
        case "hint":
            return _no_hint(state, asked.arg)
        case "cancel":
            return _no_cancel(state, asked.arg)
        case "drain" | "undrain":
            return _no_drain(state, asked.verb, asked.arg)
        case _:
            return ""


def promise(state: SessionState, asked: Request) -> str:
    """What a command that is not refused is going to do, in a sentence; `state` is that before it."""
    match asked.verb:
        case "pause":
            return "paused: what runs goes on, nothing new starts"
        case "resume":
            return "resumed"
        case "hint":
            return "the researcher has the hint"
        case "cancel":
            return _cancel_words(asked.arg, still_going(state, asked.arg))
        case "drain":
            return _drain_words(state, asked.arg)
        case "undrain":
            meant = [device.device for device in state.devices_named(asked.arg)]
            return f"{names_in_words(meant)} {'takes' if len(meant) == 1 else 'take'} new runs again"
        case _:
            return "stopping"


def still_going(state: SessionState, name: str) -> list[Run]:
    """The open runs that a name means and that nobody has asked to end yet."""
    return [run for run in state.open_runs_named(name) if run.cancel is None]


def names_in_words(names: list[str]) -> str:
    """Some names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f", and {more} more" if more > 0 else "")


def _no_hint(state: SessionState, words: str) -> str:
    model = state.now.model
    if state.now.research_ended is not None:
        return "the researcher has ended its work"
    if model is not None and model.status is not None and model.status.status == "capped":
        return "the money for the model is spent, so it hears nothing any more"
    return "" if words.strip() else "a hint needs words"


def _no_cancel(state: SessionState, name: str) -> str:
    if still_going(state, name):
        return ""
    if state.open_runs_named(name):
        return f"{name} is being cancelled already"
    return f"there is no open run, experiment or design {name!r}"


def _no_drain(state: SessionState, verb: str, name: str) -> str:
    meant = state.devices_named(name)
    if not meant:
        return f"there is no device {name!r}; there are: {names_in_words(list(state.now.devices)) or 'none'}"
    drained = [device.device in state.now.drained for device in meant]
    if verb == "drain" and all(drained):
        return f"{name} is drained already"
    return f"{name} is not drained" if verb == "undrain" and not any(drained) else ""


def _cancel_words(name: str, runs: list[Run]) -> str:
    if [run.run for run in runs] == [name]:
        return f"{name} is being cancelled"
    queued = sum(run.status == "queued" for run in runs)
    count = f"{len(runs)} {'run is' if len(runs) == 1 else 'runs are'} being cancelled"
    return f"{name}: {count} ({len(runs) - queued} under way, {queued} queued)"


def _drain_words(state: SessionState, name: str) -> str:
    meant = state.devices_named(name)
    working = [device.run for device in meant if device.run is not None]
    going_on = f"; {names_in_words(working)} {'goes' if len(working) == 1 else 'go'} on to the end" if working else ""
    names = names_in_words([device.device for device in meant])
    words = f"{names} {'gets' if len(meant) == 1 else 'get'} no new run{going_on}"
    gone = {device.device for device in meant}
    left = {
        device.cls
        for device in state.now.devices.values()
        if device.up and device.device not in gone and device.device not in state.now.drained
    }
    if not left:
        return f"{words}; nothing new starts anywhere until a device is given back with undrain"
    bare = sorted({device.cls for device in meant} - left)
    return f"{words}; runs for {names_in_words(bare)} wait until it is given back with undrain" if bare else words
