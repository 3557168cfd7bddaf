"""How a session begins: its first event, the first revision, and the replicated baseline on every device class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.engine.decide import fresh_seeds
from core.events import (
    BASELINE,
    AnyEvent,
    ConfirmRequested,
    ExperimentProposed,
    RevisionAdded,
    SessionStarted,
)
from core.patching import effective_fingerprint, revision_id, unified_diff
from core.state import SessionState

BASELINE_SEEDS = 4
"""Replicates of the baseline on the reference class: three degrees of freedom for the first noise estimate."""
BASELINE_SEEDS_ELSEWHERE = 4
"""As many on every other class: how the classes differ decides what is screened there, so it must be known as well."""


@dataclass(frozen=True)
class Opening:
    """The session's first event and the text of its first revision, the profile already applied."""

    started: SessionStarted
    source: str

    def events(self, state: SessionState) -> Iterator[AnyEvent]:
        """What must stand at the beginning and does not stand there yet."""
        if state.now.started is None:
            yield self.started
        if not state.ledger.revisions:
            yield RevisionAdded(
                revision=revision_id(self.source),
                parent=None,
                patch=unified_diff("", self.source),
                effective=effective_fingerprint(self.source),
            )

    def baseline(self, state: SessionState) -> Iterator[AnyEvent]:
        """The baseline's runs on each device class, as far as they are not asked for yet."""
        reference = state.reference_class()
        if reference is None or not state.ledger.revisions or state.now.started is None:
            return
        if BASELINE not in state.ledger.experiment_index:
            target = state.now.started.target
            yield ExperimentProposed(
                exp=BASELINE,
                call="engine:baseline",
                revision=state.ledger.revisions[0].revision,
                parent=None,
                title=f"baseline ({target.profile} profile)",
                hypothesis="The unchanged file, replicated: how much do equal runs differ here?",
                rationale="A gain is only a gain against the noise of this machine, so that is measured first.",
                design="baseline",
                knobs={},
                seeds=fresh_seeds(state, BASELINE, BASELINE_SEEDS),
                reason="baseline",
                cls=reference,
            )
        for cls in sorted({device.cls for device in state.now.devices.values()} - {reference}):
            call = f"engine:baseline:{cls}"
            if call not in state.ledger.calls:
                yield ConfirmRequested(
                    exp=BASELINE,
                    call=call,
                    seeds=fresh_seeds(state, BASELINE, BASELINE_SEEDS_ELSEWHERE),
                    cls=cls,
                    reason="baseline",
                )
