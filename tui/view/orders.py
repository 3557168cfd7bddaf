"""What became of the commands that this screen has sent: sent, under way, applied or rejected, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from core.state import SessionState
from tui.palette import Role
from tui.text import clean
from tui.view.words import count_words

Standing = Literal["sent", "under way", "applied", "rejected"]

MOST_LINES: Final = 3
SILENT_S: Final = 2.0
"""An engine that has not answered for so long is said to be silent."""

SIGNS: Final[dict[Standing, tuple[str, str, Role]]] = {
    "sent": ("…", "~", Role.WAITING),
    "under way": ("◐", "*", Role.BUSY),
    "applied": ("✓", "+", Role.KEPT),
    "rejected": ("✗", "x", Role.FAILED),
}
"""Sign, sign in ASCII, colour."""


@dataclass(slots=True)
class Order:
    """A command on its way. Times are of the screen's own clock, in seconds.

    `journalled` ones are applied once the journal shows them, others once the engine says so. `failure` is why it was
    rejected; `unknown` marks one that was never answered: the engine may still obey it. `hidden` ones were put away.
    """

    client: str
    verb: str
    arg: str
    says: str
    sent_s: float
    journalled: bool
    standing: Standing = "sent"
    answer: str = ""
    failure: str = ""
    unknown: bool = False
    waiting: bool = True
    left: str = ""
    outcome: str = ""
    hidden: bool = False
    settled_s: float | None = None


class OrderLine(NamedTuple):
    """A line of the strip."""

    standing: Standing
    words: str


def order_line(order: Order, clock_s: float) -> OrderLine:
    """An order as a line; `clock_s` is the present of the screen's clock."""
    match order.standing:
        case "rejected":
            words = order.failure
        case "applied":
            words = order.outcome
        case "under way":
            words = order.left
        case "sent" if order.waiting and clock_s - order.sent_s >= SILENT_S:
            words = "no answer yet, still waiting"
        case "sent":
            words = order.answer or "sent"
    return OrderLine(order.standing, clean(f"{order.says}: {words}" if words else order.says))


def is_recorded(order: Order, state: SessionState) -> bool:
    """Whether the journal holds the command."""
    return any(known.client == order.client for known in reversed(state.ledger.commands))


def still_to_come(order: Order, state: SessionState) -> str:
    """What a command that is recorded has not brought about yet, in words; empty once all is done."""
    now = state.now
    if now.ended is not None:
        return ""
    match order.verb:
        case "cancel":
            open_runs = state.open_runs_named(order.arg)
            ending = sum(run.cancel is not None or run.run in now.to_cancel for run in open_runs)
            return f"{count_words(ending, 'run')} {'is' if ending == 1 else 'are'} ending" if ending else ""
        case "stop":
            return f"waits for {count_words(state.flying, 'run')} to end" if state.flying else "ending"
        case "pause" if now.paused and state.flying:
            return f"{count_words(state.flying, 'run')} {'goes' if state.flying == 1 else 'go'} on, nothing new starts"
        case "drain":
            devices = [device for device in state.devices_named(order.arg) if device.device in now.drained]
            runs = [device.run for device in devices if device.run is not None]
            return (
                f"{clean(', '.join(runs[:4]))}{' and more' if len(runs) > 4 else ''} to the end, then it is free"
                if runs
                else ""
            )
        case _:
            return ""


def outcome(order: Order, state: SessionState) -> str:
    """What came of a recorded command of which nothing is left to do, in words."""
    now = state.now
    match order.verb:
        case "cancel":
            return "done, the runs have ended"
        case "stop":
            return "the session has ended"
        case "pause":
            return "paused, nothing runs" if now.paused else "the session goes on again"
        case "drain":
            held = any(device.device in now.drained for device in state.devices_named(order.arg))
            return "drained, nothing runs there" if held else "it was given back"
        case _:
            return order.answer or "done"
