"""Actions that ask the engine for something: pause, resume, hint, cancel, drain, stop, pace a simulation."""

from __future__ import annotations

from typing import Literal, Protocol

from core.control import EngineSilent, Reply, Request
from core.engine.commands import refusal
from core.sources import Source
from core.state import SessionState
from tui.acting.base import ActingApp
from tui.acting.orders import Orders
from tui.messages import DrainWanted
from tui.screens.ask import AskChoice, AskText, AskYes
from tui.screens.panes import PaneScreen
from tui.view.orders import Order
from tui.view.targets import (
    Choice,
    cancel_choices,
    cancel_names,
    cancel_question,
    drain_names,
    drain_question,
    resume_question,
    stop_choices,
)

_BY_NAME = "?"


class Commands(Protocol):
    """How a screen asks the engine for something. The engine journals a command, then obeys it."""

    async def send(self, verb: str, arg: str = "", *, client: str = "") -> Reply:
        """Ask for a verb of `core.control.COMMANDS`, or for `speed` (`faster` or `slower`); returns the answer.

        `resume` starts an engine where none lives. With the same `client` it is safe to repeat.

        Raises:
            EngineSilent: nobody knows whether the command was heard.
            Exception: it was not obeyed; the text is a sentence for the user.
        """


class CommandActions(ActingApp):
    """Asks the engine; `commands` is None where there is none to ask. `orders` tells what became of what was asked."""

    commands: Commands | None
    orders: Orders

    def action_stop(self) -> None:
        """Stop the session, once the reader has said how."""
        if self._can_ask("stop"):
            state, now_s = self._present()
            question = "End the session for good? What was measured stays."
            self.push_screen(AskChoice(question, stop_choices(state, now_s)), self._stop)

    def action_pause(self) -> None:
        """Pause a session that works, resume one that is paused."""
        state, _ = self._present()
        verb = "resume" if state.now.paused else "pause"
        if self._can_ask(verb):
            self._ask(verb)

    def action_resume(self) -> None:
        """Start an engine again where it is gone, once the reader has said so."""
        if self.commands is None:
            self._can_ask("resume")
        elif self.live is not None and self.live.mode == "engine gone":
            self.push_screen(AskYes(resume_question(self.live.state)), self._start_again)

    def action_hint(self) -> None:
        """Tell the researcher something."""
        if self._can_ask("hint"):
            self.push_screen(AskText("A hint to the researcher"), self._hint)

    def action_cancel(self) -> None:
        """Cancel what the cursor is on, or what the reader names."""
        if not self._can_ask("cancel", of_the_present=True):
            return
        name = self._run_or_experiment()
        choices = cancel_choices(*self._present(), name) if name else ()
        if choices:
            self._ask_which(name, choices)
        else:
            self._ask_what_to_cancel()

    def action_drain(self) -> None:
        """Drain a device that the reader names, or give it back."""
        if self._can_ask("drain", of_the_present=True):
            names = drain_names(self._present()[0])
            self.push_screen(AskText("Which device is to be drained, or given back?", names=names), self._drain)

    def action_clear_orders(self) -> None:
        """Put the lines away that tell what became of commands."""
        self.orders.clear()
        self.show_orders()

    def on_drain_wanted(self, event: DrainWanted) -> None:
        """The device under the cursor."""
        if self._can_ask("drain", of_the_present=True):
            self._drain(event.device)

    def pace_live(self, direction: Literal[-1, 1]) -> bool:
        """Let a simulated session that is on show live pass faster or slower."""
        live = self.live
        if live is None or self.source is not live or live.mode != "live" or not _is_simulated(live):
            return False
        if self._can_ask("speed"):
            self._ask("speed", "faster" if direction > 0 else "slower", journalled=False)
        return True

    def show_orders(self) -> None:
        """Show what became of the commands, as the journal has it now."""
        self.orders.look(self._present()[0])
        for screen in reversed(self.screen_stack):
            if isinstance(screen, PaneScreen):
                if screen.is_mounted:
                    screen.show_orders(self.orders.lines())
                return

    def after_command(self) -> None:
        """Called when the engine has answered."""
        raise NotImplementedError

    def _present(self) -> tuple[SessionState, float]:
        """The session as it is now, whatever moment of it is on show."""
        source: Source = self.live if self.live is not None else self.source
        return source.state, source.now_s

    def _can_ask(self, says: str, *, of_the_present: bool = False) -> bool:
        """Whether there is an engine to ask; if not, that is said. `of_the_present` means something on show."""
        if self.commands is None:
            why = "this is a recording, there is no engine to ask"
        elif self.live is not None and self._present()[0].now.ended is not None:
            why = "the session has ended"
        elif self.live is not None and self.live.mode == "engine gone":
            why = "the engine is gone: press r to resume the session"
        elif of_the_present and self.source is not self.live:
            why = "what is shown is in the past: press E to go live first"
        else:
            return True
        self.orders.refuse(says, why)
        self.show_orders()
        return False

    def _run_or_experiment(self) -> str:
        """The name of what the cursor is on, if that can be cancelled."""
        subject = self.screen.under_cursor() if isinstance(self.screen, PaneScreen) else None
        if subject is None or subject.kind != "device":
            return "" if subject is None else subject.name
        device = self._present()[0].now.devices.get(subject.name)
        return device.run or "" if device is not None else ""

    def _ask_which(self, name: str, choices: tuple[Choice, ...]) -> None:
        other = Choice("o", "something else, by name", _BY_NAME)

        def answer(what: str | None) -> None:
            if what == _BY_NAME:
                self._ask_what_to_cancel()
            elif what:
                self._ask("cancel", what)

        self.push_screen(AskChoice(cancel_question(self._present()[0], name), (*choices, other)), answer)

    def _ask_what_to_cancel(self) -> None:
        state, _ = self._present()

        def answer(name: str | None) -> None:
            if name and self._may("cancel", name):
                self._ask_which(name, cancel_choices(*self._present(), name))

        self.push_screen(AskText("Cancel which run, experiment or design?", names=cancel_names(state)), answer)

    def _drain(self, name: str | None) -> None:
        """Ask before a device is drained; it is given back without."""
        state, _ = self._present()
        if not name:
            return
        meant = state.devices_named(name)
        verb = "undrain" if meant and all(device.device in state.now.drained for device in meant) else "drain"
        if not self._may(verb, name):
            return

        def answer(yes: bool | None) -> None:
            if yes:
                self._ask("drain", name)

        if verb == "undrain":
            self._ask("undrain", name)
        else:
            self.push_screen(AskYes(drain_question(state, name)), answer)

    def _stop(self, how: str | None) -> None:
        if how:
            self._ask("stop", how, says="stop, runs finish" if how == "finish" else "stop")

    def _hint(self, words: str | None) -> None:
        if words:
            self._ask("hint", words, says="hint")

    def _start_again(self, yes: bool | None) -> None:
        if yes:
            self._ask("resume", journalled=False)

    def _may(self, verb: str, name: str) -> bool:
        """Whether the engine would obey, as far as the journal tells; if not, why is said without asking it."""
        why = refusal(self._present()[0], Request(verb, name, "screen"))
        if why:
            self.orders.refuse(f"{verb} {name}", why)
            self.show_orders()
        return not why

    def _ask(self, verb: str, arg: str = "", *, says: str = "", journalled: bool = True) -> None:
        order = self.orders.begin(verb, arg, says or f"{verb} {arg}".rstrip(), journalled=journalled)
        self.show_orders()
        if order is not None:
            self.run_worker(self._send(order), group="commands", exit_on_error=False)

    async def _send(self, order: Order) -> None:
        assert self.commands is not None
        try:
            reply = await self.commands.send(order.verb, order.arg, client=order.client)
        except EngineSilent as error:
            self.orders.failed(order, str(error), unknown=True)
        except Exception as error:  # noqa: BLE001  whatever a command meets, the reader reads it and the screen stays
            self.orders.failed(order, str(error), unknown=False)
        else:
            self.orders.answered(order, reply.text, ok=reply.ok)
        self.after_command()


def _is_simulated(source: Source) -> bool:
    started = source.state.now.started
    return started is not None and started.simulated
