"""What the model is told, and when: each message is recorded before it is sent, with all that is news by then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from core.bench import Bench
from core.claude import notes
from core.claude.autopilot import CALLS
from core.claude.budget import NEARLY_SPENT
from core.claude.clean import lines
from core.claude.digest import seed_message
from core.claude.news import news
from core.claude.prompt import events_message, status_of
from core.claude.settings import Settings
from core.claude.tools import armed, due, results_table, until_s
from core.claude.turns import idle_turns, nearly_full
from core.claude.wake import is_low, water
from core.claude.wire import text_block, tool_calls
from core.conversation import ModelNow
from core.events import BASELINE, Command, ModelMessage
from core.limits import total_usd
from core.state import Before

_MOST_HINT_CHARS: Final = 4_000
_MOST_HINTS: Final = 12
"""So many of the operator's last words are told again in a new conversation."""


class Telling:
    """Writes the messages that are not the model's.

    Args:
        now_s: the session's clock.
    """

    def __init__(self, bench: Bench, settings: Settings, now_s: Callable[[], float]) -> None:
        self._bench, self._settings, self._now_s = bench, settings, now_s
        self._state = bench.state

    async def seed(self) -> None:
        """The first message of a conversation, and what the operator has said so far."""
        exps = dict.fromkeys((BASELINE, self._state.now.incumbent or BASELINE))
        sources = {exp: await self._bench.read_code(exp) for exp in exps}
        record = seed_message(self._state, source_of=sources.__getitem__)
        await self._record("user", [text_block(record), text_block(self._news())])
        await self._pass_on([hint for hint in self._state.ledger.commands if hint.verb == "hint"][-_MOST_HINTS:])

    async def tell(self, results: Sequence[dict[str, Any]], why: str) -> None:
        """The results of an answer's tool calls, and what is news.

        Args:
            why: for what reason the model is asked anew; empty within a turn, where only news is told beside results.
        """
        content = list(results)
        if why or not results or self._has_news():
            content.append(text_block(self._news()))
        await self._record("user", content)
        await self.pass_on_new()

    async def pass_on_new(self) -> None:
        """What a person said while no answer came."""
        if self._state.conversation()[-1].role != "assistant":
            await self._pass_on(self._unheard())

    async def say(self, text: str) -> None:
        """Words of ours that go before everything that runs and logs say, after those of a person that are new."""
        await self._record("system", [*map(text_block, _said(self._unheard())), text_block(text)])

    def armed(self, answer: ModelMessage) -> str:
        """Which of the things that the model waits for has come; empty while none has."""
        at = self._model.answered
        found = (due(armed(call), self._state, at, self._now_s()) for call in tool_calls(answer))
        return next((f"{come} has come" for come in found if come), "")

    def armed_until_s(self, answer: ModelMessage) -> float | None:
        """When time alone makes something come that the model waits for."""
        at = self._model.answered
        times_s = [until_s(armed(call), at) for call in tool_calls(answer)]
        return min((t_s for t_s in times_s if t_s is not None), default=None)

    @property
    def _model(self) -> ModelNow:
        assert self._state.now.model is not None, "a conversation has begun"
        return self._state.now.model

    def _has_news(self) -> bool:
        return bool(news(self._state, self._model.told, results_table)) or nearly_full(
            self._state.conversation(), self._model.roll_tokens
        )

    def _news(self) -> str:
        low, high = water(self._state)
        cap_usd = total_usd(self._state, self._settings.max_usd)
        status = status_of(self._state, low=low, high=high, max_usd=cap_usd, now_s=self._now_s())
        told = news(self._state, self._model.told, results_table)
        return events_message(status, told, self._notes(max(0, status.up - status.busy), status.fit))

    def _notes(self, idle: int, fit: int) -> list[str]:
        """Words for what is special about this moment."""
        model, conversation, cap_usd = self._model, self._state.conversation(), self._settings.max_usd
        spent_usd = model.most_usd - (self._state.now.before or Before()).most_usd
        said: list[str] = []
        if nearly_full(conversation, model.roll_tokens):
            said.append(notes.CONTEXT_FULL)
        if cap_usd and spent_usd >= NEARLY_SPENT * cap_usd:
            said.append(notes.money_low(spent_usd, cap_usd))
        turns = idle_turns(conversation)
        if turns and is_low(self._state):
            said.append(notes.nothing_done(turns, idle, fit))
        recent = reversed(self._state.ledger.experiments)
        if any(one.call.startswith(CALLS) for one in recent if one.t >= model.told.t_s and model.answers):
            said.append(notes.BACK)
        return said

    async def _pass_on(self, hints: Sequence[Command]) -> None:
        """What a person said, in the role that nobody else has.

        A system message counts as all that was heard: nothing may be waited for between looking and recording.
        """
        if hints:
            await self._record("system", [*map(text_block, _said(hints))])

    def _unheard(self) -> list[Command]:
        return [one for one in self._state.ledger.commands[self._model.heard :] if one.verb == "hint"]

    async def _record(self, role: Any, content: list[dict[str, Any]]) -> None:
        await self._bench.tell(ModelMessage(epoch=self._model.epoch, role=role, content=content))


def _said(hints: Sequence[Command]) -> list[str]:
    """What a person said, as one text; none where nothing was said."""
    words = "\n".join(lines(hint.arg, _MOST_HINT_CHARS).strip() for hint in hints)
    return [f"The operator says:\n{words}"] if hints else []
