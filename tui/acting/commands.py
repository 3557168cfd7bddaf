"""Actions that ask the engine for something: pause, resume, hint, stop, pace a simulation."""

from __future__ import annotations

from typing import Literal, Protocol

from core.sources import Source
from tui.acting.base import ActingApp
from tui.screens.ask import AskText, AskYes


class Commands(Protocol):
    """How a screen asks the engine for something. The engine journals a command, then obeys it."""

    async def send(self, verb: str, arg: str = "") -> str:
        """Ask for `pause`, `resume`, `hint`, `stop`, `speed` (`faster` or `slower`); returns the answer as a sentence.

        `resume` starts an engine where none lives. Raises an exception whose text is a sentence for the user.
        """


class CommandActions(ActingApp):
    """Asks the engine; `commands` is None where there is none to ask."""

    commands: Commands | None

    def action_stop(self) -> None:
        """Stop the session, once the reader has said so twice."""
        if not self._can_ask():
            return

        def answer(yes: bool | None) -> None:
            if yes:
                self._ask("stop")

        self.push_screen(
            AskYes("End the session for good? Runs under way are cancelled; what was measured stays."), answer
        )

    def action_pause(self) -> None:
        """Pause a session that works, resume one that is paused."""
        if self._can_ask():
            state = self.live.state if self.live is not None else self.source.state
            self._ask("resume" if state.now.paused else "pause")

    def action_resume(self) -> None:
        """Start an engine again where it is gone."""
        if (self.live is None or self.live.mode == "engine gone") and self._can_ask():
            self._ask("resume")

    def action_hint(self) -> None:
        """Tell the researcher something."""
        if not self._can_ask():
            return

        def answer(hint: str | None) -> None:
            if hint:
                self._ask("hint", hint)

        self.push_screen(AskText("A hint to the researcher"), answer)

    def pace_live(self, direction: Literal[-1, 1]) -> bool:
        """Let a simulated session that is on show live pass faster or slower."""
        live = self.live
        if live is None or self.source is not live or live.mode != "live" or not _is_simulated(live):
            return False
        if self._can_ask():
            self._ask("speed", "faster" if direction > 0 else "slower")
        return True

    def after_command(self) -> None:
        """Called when the engine has answered."""
        raise NotImplementedError

    def _can_ask(self) -> bool:
        if self.commands is None:
            self.tell("This is a recording: there is no engine to ask.")
        return self.commands is not None

    def _ask(self, verb: str, arg: str = "") -> None:
        self.run_worker(self._send(verb, arg), group="commands", exit_on_error=False)

    async def _send(self, verb: str, arg: str) -> None:
        assert self.commands is not None
        try:
            reply = await self.commands.send(verb, arg)
        except Exception as error:  # noqa: BLE001  whatever a command meets, the reader reads it and the screen stays
            self.tell(str(error), severity="error")
        else:
            self.tell(reply)
        self.after_command()


def _is_simulated(source: Source) -> bool:
    started = source.state.now.started
    return started is not None and started.simulated
