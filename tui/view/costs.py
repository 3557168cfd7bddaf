"""What a session has cost and what its limits leave: limits, the model's report, conversations, failed attempts."""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from core.events import BASELINE, EpochStarted, ModelFailed, ModelMessage, Usage
from core.model_summary import model_summary
from core.state import SessionState
from core.summary import allocated_s
from tui.text import clean
from tui.view.limits import LimitsView, limits_view
from tui.view.model import cost_lines, usd_words
from tui.view.words import clock_words, count_words

_MOST_CONVERSATIONS: Final = 8
_MOST_KINDS: Final = 8


class CostsView(NamedTuple):
    """The limits, labelled sentences, then a table of the last conversations, newest first. All text is clean."""

    limits: LimitsView
    lines: tuple[tuple[str, str], ...]
    table: tuple[str, ...]


class _Conversation:
    def __init__(self, start: EpochStarted) -> None:
        self.start, self.answers, self.usage, self.usd = start, 0, Usage(), 0.0

    def add(self, message: ModelMessage) -> None:
        self.answers += 1
        self.usd += message.usd
        if message.usage is not None:
            self.usage = self.usage + message.usage

    def row(self) -> str:
        prompt = self.usage.prompt
        share = f"{self.usage.cache_read / prompt:.0%}" if prompt else "-"
        since = clock_words(self.start.t)
        return (
            f"{self.start.epoch:>4}  {since:>8}  {self.answers:>7,}  {prompt:>12,}  {share:>5}  "
            f"{self.usage.output:>9,}  {usd_words(self.usd):>8}"
        )


def costs_view(state: SessionState, now_s: float, *, engine_alive: bool = True) -> CostsView:
    """The cost report at a session second."""
    limits, devices = limits_view(state, now_s), _device_lines(state, now_s)
    model = model_summary(state, now_s, engine_alive=engine_alive)
    if model is None:
        return CostsView(limits, (("model", "none was asked: this researcher costs nothing"), *devices), ())
    lines = cost_lines(model)
    lines += [("", words) for words in _by_model(state)]
    if kinds := Counter(clean(event.kind) for event in state.ledger.talk if isinstance(event, ModelFailed)):
        told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(_MOST_KINDS))
        lines.append(("failed", told))
    return CostsView(limits, (*lines, *devices), _table(state))


def _device_lines(state: SessionState, now_s: float) -> list[tuple[str, str]]:
    """Device time in all, and for each improvement that was kept."""
    hours = allocated_s(state, now_s) / 3600.0
    kept = sum(exp != BASELINE for _, exp in state.ledger.incumbents)
    each = f"; {hours / kept:.2f} for each of {count_words(kept, 'improvement')} kept" if kept else ""
    return [("devices", f"{hours:.2f} device-hours{each}")]


def _by_model(state: SessionState) -> list[str]:
    """What each model has cost, where there were several."""
    spent: dict[str, float] = {}
    for message in state.ledger.messages:
        if message.role == "assistant":
            name = clean(message.model)
            spent[name] = spent.get(name, 0.0) + message.usd
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    return [f"{usd_words(usd)} {name}" for name, usd in ranked] if len(spent) > 1 else []


def _table(state: SessionState) -> tuple[str, ...]:
    epochs = state.ledger.epochs[-_MOST_CONVERSATIONS:]
    if not epochs:
        return ()
    found = {start.epoch: _Conversation(start) for start in epochs}
    for message in reversed(state.ledger.messages):
        if message.n < epochs[0].n:
            break
        if message.role == "assistant" and message.epoch in found:
            found[message.epoch].add(message)
    earlier = len(state.ledger.epochs) - len(epochs)
    head = f"{'#':>4}  {'since':>8}  {'answers':>7}  {'tokens sent':>12}  cache  {'received':>9}  {'spent':>8}"
    rows = [conversation.row() for conversation in reversed(found.values())]
    return (head, *rows, *([f"and {count_words(earlier, 'conversation')} before"] if earlier else []))
