"""The Claude researcher: asks a model over the Messages API what to try next, for hours, whatever fails on the way.

What happens next is a function of what is recorded (`_Work.step`), so an engine that died is continued at any point:
the request is recorded before it is sent, the answer before any tool is executed, and a tool that was executed is known
by its call. docs/claude.md says how it behaves and what it costs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from core.bench import Bench, Endpoint, ResearcherConfig
from core.claude.answer import CallFailed
from core.claude.api import PLAIN_SILENCE_S, SILENCE_S, ModelClient
from core.claude.asking import Asking
from core.claude.autopilot import Autopilot as Pilot
from core.claude.epochs import Epochs
from core.claude.models import Capabilities, capabilities
from core.claude.notes import LAST_WORD, TRUNCATED, UNREADABLE
from core.claude.prices import Prices
from core.claude.recovery import BLOCKING, RETRY_BLOCKED_S, Recovery, backoff_s, blocking_sentence, is_dark, recovery
from core.claude.settings import Settings, settings_of
from core.claude.telling import Telling
from core.claude.tools import ToolContext, execute
from core.claude.tracing import Tracing, tracing_of, wanted
from core.claude.turns import ends_turn, idle_turns, rolls
from core.claude.wake import is_low, may_ask, next_look_s, water, why_wake
from core.claude.wire import tool_calls
from core.conversation import ModelNow
from core.events import Autopilot, ModelMessage, ModelStanding, ModelStatus
from core.limits import total_usd
from core.registry import endpoint_factory
from core.researchers.builtin import BuiltinResearcher
from core.session import home
from core.state import SessionState

PATIENCE_TURNS: Final = 3
"""After so many turns without a proposal the model is not asked again only because the queue is empty."""
PILOTED: Final = 200
"""So many experiments the autopilot may propose in a session that has no limit."""
LATE_S: Final = 180.0
"""An answer that takes longer than this while the queue is low does not come in time for the devices."""
DOWN_S: Final = 600.0
"""After failing for so long the API counts as down, and the autopilot keeps the devices busy."""


def create(config: ResearcherConfig) -> ClaudeResearcher:
    """Make the researcher (entry point `claude`)."""
    return ClaudeResearcher(config)


class ClaudeResearcher:
    """See core.bench.Researcher."""

    def __init__(self, config: ResearcherConfig) -> None:
        self._config = config

    async def research(self, bench: Bench) -> str:
        settings = settings_of(self._config.options)
        secrets, address = dict(self._config.secrets), settings.endpoint
        async with AsyncExitStack() as stack:
            endpoint = None
            if settings.simulated:
                endpoint = endpoint_factory(settings.endpoint)(self._config, bench)
                address = await endpoint.open()
                stack.push_async_callback(endpoint.close)
                secrets = {"ANTHROPIC_API_KEY": endpoint.key}
            silence_s = settings.read_timeout_s or (SILENCE_S if not address or settings.simulated else PLAIN_SILENCE_S)
            tracing = await _traced(bench, stack)
            client = ModelClient(secrets, address, silence_s=silence_s, spans=tracing.client_option)
            stack.push_async_callback(client.close)
            pilot = Pilot(
                bench, BuiltinResearcher(listens=False, to_limits=True).research, _most_piloted(bench, settings)
            )
            stack.push_async_callback(pilot.release)
            return await _Work(bench, client, pilot, settings, self._config, tracing).work(endpoint)


async def _traced(bench: Bench, stack: AsyncExitStack) -> Tracing:
    """Spans of what is done, where a person asks for them."""
    session = bench.state.now.started.session if bench.state.now.started is not None else ""
    if not wanted(os.environ):
        return Tracing(session)
    tracing = await bench.compute(tracing_of, session)
    stack.push_async_callback(bench.compute, tracing.close)
    return tracing


def _most_piloted(bench: Bench, settings: Settings) -> int:
    """How many experiments the autopilot may propose."""
    if settings.autopilot_runs is not None:
        return settings.autopilot_runs
    limits = bench.state.now.started.limits if bench.state.now.started is not None else None
    bounded = limits is not None and (limits.hours or limits.runs or limits.gpu_hours)
    return sys.maxsize if bounded else PILOTED


class _Work:
    """One engine's share of the session's research."""

    def __init__(
        self,
        bench: Bench,
        client: ModelClient,
        pilot: Pilot,
        settings: Settings,
        config: ResearcherConfig,
        tracing: Tracing,
    ) -> None:
        self._bench, self._client, self._pilot, self._settings = bench, client, pilot, settings
        self._state, self._clock, self._now_s = bench.state, config.clock, config.clock.now
        self._prices = Prices.load(home())
        self._live, self._tracing = not settings.simulated, tracing
        self._asking = Asking(bench, client, settings, self._prices, config.clock, live=self._live)
        self._epochs = Epochs(bench, settings, config.target_dir)
        self._telling = Telling(bench, settings, config.clock.now)
        self._capabilities: Capabilities | None = None
        self._structures: dict[str, str] = {}
        self._relief: asyncio.Task[None] | None = None

    async def work(self, endpoint: Endpoint | None) -> str:
        """Until nothing can come any more; returns why. A simulated endpoint is reminded of what it has answered."""
        self._capabilities = await self._look_up()
        if endpoint is not None and not await self._epochs.stale(self._caps):
            answered = self._asking.last_answered(
                self._epochs.current, self._caps, self._epochs.system, self._epochs.tools
            )
            if answered is not None:
                endpoint.recall(*answered)
        while True:
            ending = await self._step()
            if ending:
                return ending

    @property
    def _model(self) -> ModelNow:
        return self._state.now.model if self._state.now.model is not None else ModelNow()

    # -- one step, chosen by what is recorded

    async def _step(self) -> str:
        """Do the next thing; returns why the research is over, if it is."""
        conversation = self._state.conversation()
        stale = await self._epochs.stale(self._caps)
        if stale:
            await self._epochs.open(self._caps, stale)
        elif not conversation:
            await self._telling.seed()
        elif conversation[-1].role == "assistant":
            await self._after_answer(conversation)
        elif self._model.summarised:
            return await self._spent()
        else:
            return await self._ask()
        return ""

    @property
    def _caps(self) -> Capabilities:
        """What the model of the present conversation accepts: the fallback's for as long as that one is asked."""
        own = self._capabilities
        assert own is not None, "work() has looked it up"
        asked = self._model.model if self._epochs.begun else own.model
        return self._caps_of(asked) if asked in self._chain() else own

    def _caps_of(self, model: str) -> Capabilities:
        own = self._capabilities
        assert own is not None, "work() has looked it up"
        return own if model == own.model else capabilities(model, plain=own.profile == "plain")

    async def _after_answer(self, conversation: list[ModelMessage]) -> None:
        """Execute what the answer asks for; then go on with the turn, or wait for a reason to begin the next."""
        answer = conversation[-1]
        context = ToolContext(
            high_water=water(self._state).high,
            now_s=self._now_s,
            seen_settled=self._model.told.settled,
            scope=f"{answer.req}:",
            structures=self._structures,
        )
        calls = tool_calls(answer)
        results = [await self._tracing.tool(call, execute(self._bench, call, context)) for call in calls]
        if idle_turns(self._state.ledger.messages, results) < PATIENCE_TURNS:
            await self._hand_back()
        if rolls(conversation, self._model.roll_tokens):
            assert self._capabilities is not None
            await self._epochs.open(self._capabilities, "the context is full")
            return
        waits = ends_turn(self._state.ledger.messages, results) and not self._model.summarised
        why = await self._wait(answer, results) if waits else ""
        await self._telling.tell(results, why)

    async def _ask(self) -> str:
        """Make the next attempt, when it may be made."""
        if not may_ask(self._state):
            await self._stand("waiting", "nothing can be started now")
            await self._bench.watch(may_ask)
            return ""
        await self._telling.pass_on_new()
        step = recovery(self._state, self._model, self._now_s(), self._jitter(), self._chain())
        if step.action != "ask":
            await self._recover(step)
            return ""
        if self._model.status is None or self._model.status.status != "capped":  # restarted, it is capped still
            await self._stand("working", "")
        if is_dark(self._model) and not await self._asking.probe(self._model.model):
            return ""
        attempts = self._model.attempts
        self._clock.call_at(self._now_s() + LATE_S, ("model-late", attempts, 0), self._when_late, attempts + 1)
        outcome = await self._asking.ask(self._epochs.current, self._caps, self._epochs.system, self._epochs.tools)
        if outcome == "capped":
            return await self._spent()
        if outcome == "last word" and any(message.role == "assistant" for message in self._state.conversation()):
            assert self._capabilities is not None
            await self._epochs.open(self._capabilities, "the money is nearly spent: a last word")
        elif outcome == "last word":
            await self._telling.say(LAST_WORD)
        return ""

    def _when_late(self, attempt: int) -> None:
        """An answer may take its time as long as no device idles for it."""
        asked = self._model.in_flight
        if asked is not None and self._model.attempts == attempt and is_low(self._state) and may_ask(self._state):
            self._relief = asyncio.create_task(self._take_over("an answer takes long, and the queue is low"))

    # -- waiting

    async def _wait(self, answer: ModelMessage, results: Sequence[Mapping[str, Any]]) -> str:
        """Until there is a reason to ask; returns it."""
        while True:
            patient = idle_turns(self._state.ledger.messages, results) >= PATIENCE_TURNS
            if patient and is_low(self._state):
                await self._take_over(f"the model has proposed nothing in {PATIENCE_TURNS} turns")
            why = self._why(answer, patient=patient)
            if why:
                return why
            until_s = self._next_look_s(answer)
            await self._stand("waiting", self._waiting_words(patient=patient), until_s)
            await self._bench.watch(partial(self._has_moved, answer, until_s, patient), until_s=until_s)

    def _has_moved(self, answer: ModelMessage, until_s: float | None, patient: bool, _state: SessionState) -> bool:
        """Whether there is a reason to ask, or it will come at another time than was thought."""
        return bool(self._why(answer, patient=patient)) or self._next_look_s(answer) != until_s

    def _why(self, answer: ModelMessage, *, patient: bool) -> str:
        """Why to ask now; empty while there is no reason."""
        if not may_ask(self._state):
            return ""
        now_s = self._now_s()
        armed = "" if patient else self._telling.armed(answer)  # what holds already would be asked for without end
        return armed or why_wake(self._state, self._model, now_s, patient=patient)

    def _next_look_s(self, answer: ModelMessage) -> float | None:
        """When time alone may bring a reason."""
        if not may_ask(self._state):
            return None
        now_s = self._now_s()
        times_s = (next_look_s(self._state, self._model, now_s), self._telling.armed_until_s(answer))
        return min((t_s for t_s in times_s if t_s is not None and t_s > now_s), default=None)

    def _waiting_words(self, *, patient: bool) -> str:
        if not may_ask(self._state):
            return "nothing can be started now"
        if patient:
            return f"the model has proposed nothing in {PATIENCE_TURNS} turns; it is asked again when there is news"
        return f"{self._state.backlog} runs wait; the model is asked below {water(self._state).low}, or for news"

    # -- failures

    async def _recover(self, step: Recovery) -> None:
        """Do what a failed attempt calls for."""
        match step.action:
            case "roll":
                await self._epochs.open(self._caps, f"the conversation cannot go on: {step.why}")
            case "split":
                await self._telling.say(TRUNCATED)
            case "repair":
                await self._telling.say(UNREADABLE)
            case "fall back":
                why = f"{step.why}; {step.model} is asked in a new conversation"
                await self._epochs.open(self._caps_of(step.model), why)
            case "delay":
                await self._stand("backoff", step.why, step.until_s)
                failing_since_s = self._model.failing_since_s
                if failing_since_s is not None and self._now_s() - failing_since_s >= DOWN_S:
                    await self._take_over("the API has been down for ten minutes")
                await self._rest(step.until_s, live=self._live)
            case "refused":
                await self._stand("refused", f"{step.why}; a hint asks it again")
                if self._settings.on_refusal == "fallback":
                    await self._take_over("the model declines to go on")
                await self._rest(None, live=False)
            case "blocked":
                await self._stand("blocked", step.why, step.until_s)
                await self._take_over("the model cannot be asked")
                await self._rest(step.until_s, live=False)

    async def _rest(self, until_s: float | None, *, live: bool) -> None:
        """Wait for a time, or for a person to speak; where a real server is waited for, a simulated world waits too."""
        heard = len(self._state.ledger.commands)
        if live and until_s is not None:
            with self._bench.thinking(live=True):
                await self._bench.watch(lambda state: len(state.ledger.commands) > heard, until_s=until_s)
            return
        await self._bench.watch(lambda state: len(state.ledger.commands) > heard, until_s=until_s)

    async def _look_up(self) -> Capabilities:
        """What the endpoint says of the model. What keeps it from saying so is shown, and tried again."""
        plain = self._settings.profile == "plain" or (
            self._settings.profile == "auto" and bool(self._settings.endpoint) and self._live
        )
        for times in itertools.count(1):
            try:
                await self._bench.compute(self._client.load)
                with self._bench.thinking(live=self._live):
                    described = await self._client.describe(self._settings.model)
                return capabilities(self._settings.model, described, plain=plain)
            except CallFailed as failed:
                mendable = failed.kind in BLOCKING
                until_s = self._now_s() + (RETRY_BLOCKED_S if mendable else backoff_s(times, self._jitter()))
                await self._stand(
                    "blocked" if mendable else "backoff", blocking_sentence(failed.kind, failed.reason), until_s
                )
                await self._take_over("the model cannot be asked")
                await self._rest(until_s, live=self._live and not mendable)
        raise AssertionError("counting has no end")

    def _chain(self) -> list[str]:
        """Who is asked where a model declines: the model of choice first, then the documented fallbacks."""
        chain = [self._settings.model]
        following = self._settings.fallback_model or self._caps_of(chain[0]).fallback
        while self._settings.on_refusal == "fallback" and following and following not in chain:
            if self._settings.max_usd is not None and self._prices.price_of(following) is None:
                break  # the cap could not hold
            chain.append(following)
            following = self._caps_of(following).fallback
        return chain

    def _jitter(self) -> float:
        return float(self._bench.rng("backoff", self._model.attempts).random())

    # -- money, and the builtin researcher in the model's place

    async def _spent(self) -> str:
        """The money is spent: the autopilot goes on as far as it may; returns the end of the research after that."""
        cap_usd = total_usd(self._state, self._settings.max_usd) or 0.0
        spent = f"${self._model.most_usd:.2f} of ${cap_usd:.2f} are spent or held"
        if self._prices.price_of(self._epochs.current.model) is None:
            spent = f"nothing is known any more of what {self._epochs.current.model} costs, so the cap could not hold"
        await self._stand("capped", spent)
        await self._take_over("the money for the model is spent")
        return f"{spent}; {await self._pilot.finished()}"

    async def _take_over(self, why: str) -> None:
        if not self._pilot.allowed or self._pilot.flies:
            return
        current = self._model.autopilot
        if current is None or not current.on:
            await self._bench.tell(Autopilot(on=True, why=why))
        self._pilot.engage()

    async def _hand_back(self) -> None:
        await self._pilot.release()
        current = self._model.autopilot
        if current is not None and current.on:
            await self._bench.tell(Autopilot(on=False, why="the model proposes again"))

    async def _stand(self, status: ModelStanding, why: str, until_s: float | None = None) -> None:
        """Say how it stands, where that is news."""
        known = self._model.status
        if known is None or (known.status, known.why, known.until_s) != (status, why, until_s):
            await self._bench.tell(ModelStatus(status=status, why=why, until_s=until_s))
