"""What the reader wants, as messages from widgets and screens up to the app."""

from __future__ import annotations

from textual.message import Message


class ExperimentChosen(Message):
    """An experiment is to be shown in full."""

    def __init__(self, exp: str) -> None:
        super().__init__()
        self.exp = exp


class DrainWanted(Message):
    """A device is to get no new run, or is to be given back."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device


class SourceWanted(Message):
    """A new screen has nothing to show yet: it is not to wait for the next tick."""


class MomentWanted(Message):
    """The screen's time is to go to an event or, where that is None, to a session second."""

    def __init__(self, n: int | None, t_s: float = 0.0) -> None:
        super().__init__()
        self.n = n
        self.t_s = t_s
