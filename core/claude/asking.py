"""One request to the model: what it may cost is reserved, then it is sent, and what came of it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Literal

from core.bench import Bench
from core.claude.answer import Answer, CallFailed
from core.claude.api import ModelClient
from core.claude.budget import allowance, charged
from core.claude.models import Capabilities
from core.claude.notes import LAST_WORD
from core.claude.prices import Price, Prices, cost_usd
from core.claude.settings import Settings
from core.claude.wire import prompt_bounds, request_body
from core.clock import Clock
from core.conversation import ModelNow
from core.events import EpochStarted, ModelFailed, ModelMessage, ModelRequest
from core.limits import total_usd

Outcome = Literal["answered", "failed", "last word", "capped"]

_MOST_DOUBLED: Final = 2
LONGEST_ANSWER_S: Final = 600.0
"""An answer of the longest kind, with much thinking, takes a few minutes; one that is this late counts as lost."""
PLAIN_LONGEST_S: Final = 3_600.0
"""On a machine of somebody's own a model may say five tokens a second, after reading the prompt for minutes."""


class Asking:
    """Asks one endpoint in the name of one session.

    Args:
        live: whether a real model thinks, so that a simulated world has to wait for it.
    """

    def __init__(
        self, bench: Bench, client: ModelClient, settings: Settings, prices: Prices, clock: Clock, *, live: bool
    ) -> None:
        self._bench, self._client, self._settings, self._prices = bench, client, settings, prices
        self._clock, self._live = clock, live
        self._longest_s = PLAIN_LONGEST_S if live and settings.endpoint else LONGEST_ANSWER_S

    async def ask(
        self,
        epoch: EpochStarted,
        capabilities: Capabilities,
        system: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
    ) -> Outcome:
        """Make one attempt at the next answer of a conversation whose last message is not the model's.

        `last word`: the money only allows a summary, which is not what the conversation asks for yet. `capped`: it
        does not even allow that. Nothing was asked then.
        """
        model = self._model
        price = self._prices.price_of(epoch.model)
        messages = self._bench.state.conversation()
        prompt = prompt_bounds(system, tools, messages)
        wanted = min(self._wanted_tokens(model), capabilities.max_output_tokens)
        last_word = is_last_word(messages[-1])
        cap_usd = total_usd(self._bench.state, self._settings.max_usd)
        allowed = allowance(model, price, cap_usd, prompt, epoch.cache_ttl, wanted, last_word=last_word)
        if allowed is None:
            return "capped"
        if allowed.purpose == "summary" and not last_word:
            return "last word"
        request = ModelRequest(
            req=_next_attempt(model),
            epoch=epoch.epoch,
            upto=len(messages),
            reserve_usd=round(allowed.reserve_usd, 9),
            max_tokens=allowed.max_tokens,
            purpose=allowed.purpose,
        )
        await self._bench.tell(request)
        body = request_body(epoch, system, tools, messages, capabilities, allowed.max_tokens)
        return await self._send(request, body, epoch, price)

    async def probe(self, model: str) -> bool:
        """Look whether the endpoint is there at all, which costs nothing; where it is not, that is the next failure."""
        try:
            with self._bench.thinking(live=self._live):
                await self._client.describe(model)
        except CallFailed as failed:
            await self._bench.tell(
                ModelFailed(
                    req=self._model.asked,
                    kind=failed.kind,
                    reason=failed.reason,
                    request_id=failed.request_id,
                    retry_after_s=failed.retry_after_s,
                )
            )
            return False
        return True

    def last_answered(
        self,
        epoch: EpochStarted,
        capabilities: Capabilities,
        system: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]],
    ) -> tuple[dict[str, Any], float] | None:
        """The last request of the conversation that was answered, and when it was sent; None before there is one."""
        messages = self._bench.state.conversation()
        answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
        latencies_s = self._model.latencies_s
        if not answers or not latencies_s:
            return None
        body = request_body(epoch, system, tools, messages[: answers[-1]], capabilities, self._settings.max_tokens)
        return body, messages[answers[-1]].t - latencies_s[-1]

    async def _send(
        self, request: ModelRequest, body: dict[str, Any], epoch: EpochStarted, price: Price | None
    ) -> Outcome:
        try:
            with self._bench.thinking(live=self._live):
                answer = await self._in_time(self._client.ask(body, self._bench.stream, request.req))
        except CallFailed as failed:
            usd, held_usd = charged(failed, price, request)
            await self._bench.tell(
                ModelFailed(
                    req=request.req,
                    kind=failed.kind,
                    reason=failed.reason,
                    usd=round(usd, 9),
                    held_usd=round(held_usd, 9),
                    usage=failed.usage,
                    category=failed.category,
                    request_id=failed.request_id,
                    retry_after_s=failed.retry_after_s,
                )
            )
            return "failed"
        await self._bench.tell(
            ModelMessage(
                epoch=epoch.epoch,
                role="assistant",
                content=answer.content,
                req=request.req,
                stop=answer.stop,
                model=answer.model,
                usage=answer.usage,
                usd=round(_paid_usd(answer, price, request), 9),
            )
        )
        return "answered"

    async def _in_time(self, asked: Coroutine[Any, Any, Answer]) -> Answer:
        """Give up on an answer that takes longer than any should, in session time: its connection may be open still."""
        task = asyncio.create_task(asked)
        late = False

        def give_up() -> None:
            nonlocal late
            late = not task.done()
            task.cancel()

        self._clock.call_at(self._clock.now() + self._longest_s, ("model-answer", self._model.attempts, 0), give_up)
        try:
            return await task
        except asyncio.CancelledError:
            task.cancel()
            if not late:
                raise
            reason = f"no whole answer came within {self._longest_s / 60:.0f} minutes"
            raise CallFailed("stream", reason, paid="unknown") from None

    @property
    def _model(self) -> ModelNow:
        model = self._bench.state.now.model
        assert model is not None, "an epoch has been started"
        return model

    def _wanted_tokens(self, model: ModelNow) -> int:
        """Twice as much after each answer that was cut off."""
        cut_off = model.last_failure is not None and model.last_failure.kind == "truncated"
        return self._settings.max_tokens * (2 ** min(model.failures_in_row, _MOST_DOUBLED) if cut_off else 1)


def _paid_usd(answer: Answer, price: Price | None, request: ModelRequest) -> float:
    """What an answer has cost: of a server that does not count what it was sent, the most that it can have cost."""
    if price is None:
        return 0.0
    return cost_usd(price, answer.usage) if answer.usage.prompt else request.reserve_usd


def is_last_word(message: ModelMessage) -> bool:
    """Whether a message asks for the model's last word."""
    return message.role == "system" and any(block.get("text") == LAST_WORD for block in message.content)


def _next_attempt(model: ModelNow) -> str:
    """`q7.1` for a new request, `q7.2` for the next attempt at one without an answer."""
    if not model.asked:
        return f"q{model.requests + 1}.1"
    number, _, attempt = model.asked.partition(".")
    return f"{number}.{int(attempt) + 1}"
