"""The commands that a screen has sent and how each stands; its clock is the screen's own, not the session's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from core.control import new_client
from core.state import SessionState
from tui.view.orders import MOST_LINES, Order, OrderLine, is_recorded, order_line, outcome, still_to_come

SHOWN_S: Final = 8.0
"""For so long a line stays once nothing more is to come."""


class Orders:
    """Keeps the newest few; those that are settled go after a while.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._orders: list[Order] = []
        self._unheard: dict[tuple[str, str], str] = {}

    def begin(self, verb: str, arg: str, says: str, *, journalled: bool = True) -> Order | None:
        """A command is to be sent; None where the same one waits for its answer already.

        One of which nobody knows whether it was heard keeps its client id: to repeat it is then safe.
        """
        for order in self._orders:
            if (order.verb, order.arg) == (verb, arg) and order.waiting:
                order.hidden = False
                return None
        client = self._unheard.pop((verb, arg), "") or new_client("screen")
        gone = {client} if journalled else {order.client for order in self._orders if order.verb == verb}
        self._orders = [order for order in self._orders if order.client not in gone]
        return self._add(Order(client, verb, arg, says, self.clock(), journalled))

    def refuse(self, says: str, why: str) -> None:
        """Something was asked for that is not to be sent at all."""
        self._orders = [order for order in self._orders if (order.says, order.failure) != (says, why)]
        self._reject(self._add(Order("", "", "", says, self.clock(), journalled=False, waiting=False)), why)

    def answered(self, order: Order, words: str, *, ok: bool) -> None:
        """The engine has answered."""
        order.waiting = False
        order.answer = words
        if not ok:
            self._reject(order, words)
        elif not order.journalled:
            self._settle(order, words)

    def failed(self, order: Order, why: str, *, unknown: bool) -> None:
        """No answer came; `unknown` where the engine may have heard it all the same."""
        order.waiting = False
        if order.standing != "sent":  # the journal has told already
            return
        if unknown:
            self._unheard[order.verb, order.arg] = order.client
        order.unknown = unknown
        self._reject(order, why)

    def look(self, state: SessionState) -> None:
        """See what the journal shows by now."""
        clock_s = self.clock()
        for order in self._orders:
            open_still = order.standing in ("sent", "under way") or order.unknown
            if order.journalled and open_still and is_recorded(order, state):
                self._unheard.pop((order.verb, order.arg), None)
                order.unknown, order.standing, order.settled_s = False, "under way", None
                order.left = still_to_come(order, state)
                if not order.left:
                    self._settle(order, outcome(order, state))
        self._orders = [
            order for order in self._orders if order.settled_s is None or clock_s - order.settled_s < SHOWN_S
        ]

    def clear(self) -> None:
        """Put all lines away; what was sent goes on, and one that is rejected shows itself again."""
        for order in self._orders:
            order.hidden = True

    def lines(self) -> tuple[OrderLine, ...]:
        """The newest orders, the newest last."""
        clock_s = self.clock()
        shown = [order for order in self._orders if not order.hidden]
        return tuple(order_line(order, clock_s) for order in shown[-MOST_LINES:])

    def _add(self, order: Order) -> Order:
        self._orders.append(order)
        return order

    def _reject(self, order: Order, why: str) -> None:
        order.standing, order.failure, order.settled_s, order.hidden = "rejected", why, self.clock(), False

    def _settle(self, order: Order, words: str) -> None:
        order.standing, order.outcome, order.settled_s = "applied", words, self.clock()
