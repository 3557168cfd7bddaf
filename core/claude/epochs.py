"""Conversations follow one another: what precedes every message of one, and when the next begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from core.bench import Bench
from core.claude.models import Capabilities
from core.claude.prompt import device_counts, system_blocks
from core.claude.settings import Settings
from core.claude.tools import definitions
from core.claude.wake import SPACING_S, news_wanted, pace
from core.claude.wire import prefix_digest
from core.events import BASELINE, EpochStarted
from core.limits import expected_wall_s
from core.target import PROGRAM, read_program

_SHORT_GAP_S: Final = 240.0
"""Where answers follow each other faster than this, a cache that forgets after five minutes is enough, and cheaper."""
_ROOM_TOKENS: Final = 4_000


class Epochs:
    """The conversations of a session, as its journal has them.

    Args:
        program_dir: the session's copy of the target, with the operator's program.
    """

    def __init__(self, bench: Bench, settings: Settings, program_dir: Path) -> None:
        self._bench, self._settings, self._program = bench, settings, program_dir / PROGRAM
        self.system: list[dict[str, Any]] = []
        self.tools: list[dict[str, Any]] = []
        self._prepared_for = ""

    @property
    def _own(self) -> list[EpochStarted]:
        """Those that are this session's own, not copied when it was forked."""
        before = self._bench.state.now.before
        return self._bench.state.ledger.epochs[before.epochs if before is not None else 0 :]

    @property
    def begun(self) -> bool:
        """Whether this session has had a conversation of its own."""
        return bool(self._own)

    @property
    def current(self) -> EpochStarted:
        """The present one."""
        return self._bench.state.ledger.epochs[-1]

    async def stale(self, capabilities: Capabilities) -> str:
        """Why a new conversation has to begin; empty where the present one goes on."""
        await self._prepare(capabilities)
        epochs = self._own
        if not epochs:
            return "the session begins" if self._bench.state.now.before is None else "the session was forked"
        if epochs[-1].prefix != prefix_digest(self.system, self.tools, capabilities.model):
            return "the model or its tools are others than before"
        return ""

    async def open(self, capabilities: Capabilities, why: str) -> None:
        """Begin a new conversation. The first that has it records what precedes its messages."""
        await self._prepare(capabilities)
        epochs = self._own
        prefix = prefix_digest(self.system, self.tools, capabilities.model)
        known = bool(epochs) and epochs[-1].prefix == prefix
        room = capabilities.context_tokens - self._settings.max_tokens - _ROOM_TOKENS
        await self._bench.tell(
            EpochStarted(
                epoch=len(self._bench.state.ledger.epochs) + 1,
                why=why,
                model=capabilities.model,
                endpoint=self._settings.label,
                prefix=prefix,
                roll_tokens=max(_ROOM_TOKENS, min(self._settings.roll_tokens, room)),
                profile=capabilities.profile,
                effort=self._effort(capabilities),
                cache_ttl=self._ttl() if capabilities.cache else "",
                system=[] if known else self.system,
                tools=[] if known else self.tools,
            )
        )

    async def _prepare(self, capabilities: Capabilities) -> None:
        """What precedes every message: as it was recorded first, or made now, and then the same for all the session."""
        if self._prepared_for == capabilities.model:
            return
        state = self._bench.state
        self.tools = definitions("full" if capabilities.strict_tools else "plain")
        recorded = [epoch.system for epoch in self._own if epoch.system and epoch.model == capabilities.model]
        assert state.now.started is not None
        self.system = (
            recorded[-1]
            if recorded
            else system_blocks(
                program=read_program(self._program),
                baseline=await self._bench.read_code(BASELINE),
                started=state.now.started,
                devices=device_counts(state),
                reference=state.reference_class() or "",
                max_usd=self._settings.max_usd,
                system_turns=capabilities.system_turns,
            )
        )
        self._prepared_for = capabilities.model

    def _effort(self, capabilities: Capabilities) -> str:
        try:
            return capabilities.effort_or_default(self._settings.effort)
        except ValueError:  # it was checked for the model that was asked for; this is another one
            return capabilities.default_effort

    def _ttl(self) -> Any:
        """How long the API should remember: by how far apart answers will be."""
        state = self._bench.state
        devices = max(1, len(state.now.devices))
        gap_s = max(SPACING_S, news_wanted(state) / pace(state) * expected_wall_s(state) / devices)
        return "5m" if gap_s < _SHORT_GAP_S else "1h"
