"""What a fold can do without, copies to go on from, and a hash of the whole state to compare folds by."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from copy import copy

import msgspec

from core.events import (
    AnyEvent,
    CancelRequested,
    EpochStarted,
    ExperimentProposed,
    ModelMessage,
    RevisionAdded,
    RunFinished,
    UnknownEvent,
    Verdict,
)
from core.idle import Book, IdleFold
from core.state import LAST_VERDICTS, Ledger, Noise, OpenState, Pair, SessionState


class Keyframe(msgspec.Struct, frozen=True):
    """A copy of the open part and the ledger's lengths: enough to go on from event `n`."""

    n: int
    t_s: float
    open: bytes
    idle: bytes
    lengths: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes that it takes, but for a few."""
        return len(self.open) + len(self.idle)


_ADDED_LISTS = frozenset({"designs", "epochs", "messages"})
"""Lists of the ledger that 0.1.0 did not have."""

_open_encoder = msgspec.msgpack.Encoder(order="deterministic")
_open_decoder = msgspec.msgpack.Decoder(OpenState)
_idle_decoder = msgspec.msgpack.Decoder(Book)


def forget_texts(state: SessionState, event: AnyEvent | UnknownEvent) -> None:
    """Let go of what only a screen shows, once an event is folded: in a long session that is most of the memory.

    For readers that have told what they tell of the event already; the state cannot be hashed or shown afterwards,
    but it can be summed up (core.summary).
    """
    match event:
        case RevisionAdded():
            event.patch = ""
        case ExperimentProposed():
            event.hypothesis = event.rationale = ""
            event.knobs = {}
        case Verdict():
            told = state.ledger.told
            if not told or told[-1] is not event:
                event.reason = ""
            elif len(told) > LAST_VERDICTS:
                told[0].reason = ""
        case ModelMessage():
            event.content = []
        case EpochStarted():
            event.system, event.tools = [], []
        case RunFinished() | CancelRequested():
            run = state.run(event.run)
            if run is not None and run.status == "finished":
                run.curve = []
        case _:
            pass


def keyframe(state: SessionState) -> Keyframe:
    """Copy what can change; costs grow with devices and open runs only."""
    now, idle = _open_encoder.encode(state.now), _open_encoder.encode(state.idle.book)
    return Keyframe(state.now.n, state.now.t_s, now, idle, state.ledger.lengths())


def restore(frame: Keyframe, ledger: Ledger) -> SessionState:
    """The state at a keyframe; `ledger` is any later ledger of the same journal."""
    idle = IdleFold(_idle_decoder.decode(frame.idle))
    return SessionState(_open_decoder.decode(frame.open), ledger.prefix(frame.lengths), idle)


def settled(state: SessionState) -> Callable[[], SessionState]:
    """What is settled at this event, for another thread to analyse (core.analysis) while the state itself goes on.

    Taking hold of it is cheap; the other thread calls what comes back, which takes a microsecond a run, for a state
    without open runs. Indexes that only ever gain entries for what the copied lists do not have are shared.
    """
    ledger = copy(state.ledger)
    for name in Ledger.LISTS:
        setattr(ledger, name, getattr(state.ledger, name)[:])
    ledger.verdict_index = dict(state.ledger.verdict_index)
    ledger.best_observed = dict(state.ledger.best_observed)
    ledger.noise = defaultdict(Noise, {cls: copy(noise) for cls, noise in state.ledger.noise.items()})
    ledger.pairs = defaultdict(Pair, {classes: copy(pair) for classes, pair in state.ledger.pairs.items()})
    ledger.runs_of = defaultdict(list)
    now = msgspec.structs.replace(state.now, runs={}, devices=dict(state.now.devices))

    def put_together() -> SessionState:
        if not ledger.runs_of:
            for run in ledger.runs:
                ledger.runs_of[run.exp].append(run)
        return SessionState(now, ledger)

    return put_together


def state_hash(state: SessionState) -> str:
    """SHA-256 over the whole state: equal for equal folds, whatever way they were reached.

    Defaults are left out, so that a field or a list that a later release adds does not change older journals' hashes.
    """
    digest = hashlib.sha256(_open_encoder.encode(state.now))
    for name in Ledger.LISTS:
        entries = getattr(state.ledger, name)
        if entries or name not in _ADDED_LISTS:
            digest.update(_open_encoder.encode(entries))
    return digest.hexdigest()
