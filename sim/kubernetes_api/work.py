"""What a kubelet asks of whatever stands for a pod's program: where it may start, how it runs, how it is ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from core.clock import Clock
from sim.kubernetes_api.logs import PodLog
from sim.kubernetes_api.objects import Obj

Obstacle = Literal["", "image", "command"]
"""What keeps a container from starting: nothing, an image that cannot be fetched, a program that is not in it."""


class Place(NamedTuple):
    """Where a pod runs: its node, and which of the node's devices it was given."""

    node: str
    slots: tuple[int, ...]
    since_s: float


class Start(NamedTuple):
    """When the container can start at the earliest, from when on its image is there, and what stands in the way."""

    at_s: float
    image_s: float
    obstacle: Obstacle = ""


class End(NamedTuple):
    """How a container ends. An empty message is filled from the log, where the pod's policy says so."""

    code: int
    message: str = ""
    reason: str = ""


class Container(NamedTuple):
    """What a running program may do: print, and exit."""

    pod: Obj
    clock: Clock
    log: PodLog
    exit: Callable[[End], None]

    def print(self, text: str) -> None:
        """Print a line now."""
        self.log.append(self.clock.now(), text)


class Work(Protocol):
    """The program of one pod."""

    def refused(self) -> bool:
        """Whether the kubelet refuses the pod when it comes to the node."""

    def plan(self) -> Start:
        """Called once, when the pod's volumes are there."""

    def begin(self, container: Container) -> None:
        """The container starts now. The work ends by `container.exit`, at once or later."""

    def end(self) -> None:
        """SIGTERM: exit soon, or be killed when the grace period is over."""

    def kill(self) -> None:
        """SIGKILL: nothing is printed any more, and `exit` is no longer called."""


WorkFactory = Callable[[Obj, Place], Work]
