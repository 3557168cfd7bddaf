"""Sessions as the world makes them: retries, lost devices, cancellations, stale and repeated reports, odd texts."""

from __future__ import annotations

import random

from core.events import (
    AnyEvent,
    CancelRequested,
    Command,
    ConfirmRequested,
    DesignDeclared,
    DeviceLost,
    DeviceSeen,
    EpochStarted,
    Evidence,
    ExecutorNotice,
    ExperimentProposed,
    Incumbent,
    LimitHit,
    Limits,
    ModelFailed,
    ModelMessage,
    ModelRequest,
    ModelStatus,
    Note,
    PhaseChanged,
    ResearchEnded,
    RevisionAdded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunStarted,
    RunWaiting,
    SessionEnded,
    SessionStarted,
    Target,
    Usage,
    Verdict,
)
from core.executor import OWN_OUTCOMES, WORLD_OUTCOMES
from core.reduce import apply
from core.state import SessionState

TEXTS = ("plain", "two\nlines", "quote ' and \" and ;--", "\x1b[31mred\x00\u202e", "é 漢字 🙂", "")


class Messy:
    """Draws one plausible or implausible event after the other; the fold of what it drew guides the next."""

    def __init__(self, seed: int, *, devices: int = 4, real_time: bool = True, model: bool = False) -> None:
        self.events: list[AnyEvent] = []
        self.state = SessionState()
        self._rng = random.Random(seed)
        self._real_time, self._model = real_time, model
        self._t_s = 0.0
        self._serial = 0
        target = Target(budget_s=20.0, budget_kind="cpu", seq_len=256, eval_tokens=2**16, profile="small")
        self._add(
            SessionStarted(
                session=f"s-{seed}",
                name="messy",
                seed=seed,
                simulated=not real_time,
                epoch=1_790_000_000.0,
                executor="local",
                researcher="builtin",
                limits=Limits(runs=100),
                target=target,
                version="0.1.0",
            )
        )
        self._devices = [f"cpu{index}" for index in range(devices)]
        for device in self._devices:
            self._add(DeviceSeen(device=device, seq=1, cls="cpu-a" if device < "cpu2" else "cpu-b", node="here"))

    def draw(self, count: int) -> list[AnyEvent]:
        """Add about `count` more events; returns all."""
        steps = (
            *(self._propose, self._start_attempt, self._start_attempt, self._report, self._report, self._report),
            *(self._finish, self._finish, self._judge, self._say, self._cancel, self._device, self._repeat),
            *(self._declare, self._change_phase),
            *((self._converse, self._converse) if self._model else ()),
        )
        while len(self.events) < count:
            self._rng.choice(steps)()
        return self.events

    def end(self) -> list[AnyEvent]:
        """Add the last event; returns all."""
        self._add(SessionEnded(reason="stopped", failed=self._rng.random() < 0.2))
        return self.events

    def _add(self, event: AnyEvent) -> None:
        self._t_s += self._rng.choice((0.0, 0.001, 0.7, 3.0))
        event.n, event.t = len(self.events) + 1, round(self._t_s, 3)
        if self._real_time:
            event.w = 1_790_000_000.0 + self._t_s * 1.25
        self.events.append(event)
        apply(self.state, event)

    def _text(self) -> str:
        return self._rng.choice(TEXTS)

    def _propose(self) -> None:
        self._serial += 1
        exp, revision = f"e{self._serial}", f"{self._rng.randrange(self._serial + 3):064x}"
        self._add(RevisionAdded(revision=revision, parent=None, patch=self._text()))
        self._add(
            ExperimentProposed(
                exp=exp if self._rng.random() < 0.9 else "e1",
                call=f"c{self._serial}",
                revision=revision,
                parent=self.state.now.incumbent,
                title=self._text(),
                hypothesis=self._text(),
                rationale=self._text(),
                design="wave",
                knobs={"DEPTH": str(self._serial)},
                seeds=[1, 2],
                reason="screen",
            )
        )
        if self._rng.random() < 0.3:
            self._add(ConfirmRequested(exp=exp, call=f"k{self._serial}", seeds=[3], cls="cpu-a"))
        for seed, reason in ((1, "screen"), (2, "confirm"), (3, "confirm")):
            self._serial += 1
            self._add(RunQueued(run=f"r{self._serial}", exp=exp, seed=seed, reason=reason, cls=None))

    def _some_run(self) -> str:
        return self._rng.choice([*self.state.now.runs, "r999999"])

    def _start_attempt(self) -> None:
        queued = [*self.state.now.queue_first, *self.state.now.queue, self._some_run()]
        run = queued[0] if self._rng.random() < 0.8 else queued[-1]
        known = self.state.run(run)
        number = 1 + (0 if known is None else len(known.attempts))
        device = next(iter(self.state.now.free), self._devices[0])
        cls = "cpu-a" if device < "cpu2" else "cpu-b"
        self._add(RunIntent(run=run, attempt=f"{run}.{number}", device=device, cls=cls))
        if self._rng.random() < 0.2:
            self._add(RunWaiting(run=run, attempt=f"{run}.{number}", seq=1, reason=self._text(), held=number > 1))
        if self._rng.random() < 0.8:
            there = device if self._rng.random() < 0.8 else self._rng.choice(self._devices)
            self._add(RunStarted(run=run, attempt=f"{run}.{number}", seq=2, device=there))

    def _current(self) -> tuple[str, str, int]:
        """Run, attempt and next seq of an open run; now and then of one that is stale."""
        run = self._some_run()
        known = self.state.run(run)
        attempt, seq = (f"{run}.1", 1) if known is None else (known.attempt or f"{run}.1", known.seq + 1)
        return (run, attempt, seq) if self._rng.random() < 0.85 else (run, f"{run}.1", max(1, seq - 1))

    def _report(self) -> None:
        run, attempt, seq = self._current()
        if self._rng.random() < 0.05:
            self._add(RunWaiting(run=run, attempt=attempt, seq=seq, reason=self._text()))
            return
        loss = self._rng.choice((None, 3.0, float("nan")))
        self._add(RunProgress(run=run, attempt=attempt, seq=seq, step=seq, frac=0.1, loss=loss, mem_mb=5.0))

    def _finish(self) -> None:
        run, attempt, seq = self._current()
        outcome = self._rng.choice(["ok", "ok", "ok", *sorted(OWN_OUTCOMES | WORLD_OUTCOMES)])
        score = self._rng.gauss(2.0, 0.1) if outcome == "ok" else None
        self._add(
            RunFinished(
                run=run,
                attempt=attempt,
                seq=seq,
                outcome=outcome,
                val_bpb=score,
                tier=None if score is None else self._rng.choice(("scored", "self_reported")),
                train_s=self._rng.choice((None, 20.0)),
                steps=100,
                tokens=25_600,
                reason="" if outcome == "ok" else self._text(),
            )
        )

    def _judge(self) -> None:
        if not self.state.now.judge:
            return
        exp = next(iter(self.state.now.judge))
        evidence = Evidence(cls="cpu-a", n=2, mean=1.9, n_ref=3, mean_ref=2.0, ref="e1", sd=0.01, df=3)
        kept = self._rng.random() < 0.3
        self._add(
            Verdict(
                exp=exp,
                verdict="kept" if kept else self._rng.choice(("rejected", "undecided")),
                reason=self._text(),
                delta=-0.1 if kept else None,
                interval=(-0.2, -0.01) if kept else None,
                evidence=evidence if kept else None,
            )
        )
        if kept:
            self._add(Incumbent(exp=exp))

    def _say(self) -> None:
        kind = self._rng.randrange(7)
        if kind == 6:
            self._add(ExecutorNotice(text=self._text(), level=self._rng.choice(("info", "warning", "error"))))
        elif kind == 0:
            self._add(Note(text=self._text()))
        elif kind in (1, 2):
            self._add(LimitHit(limit="runs", detail=self._text(), cleared=self._rng.random() < 0.5))
        elif kind == 3:
            self._add(Command(client="c1", verb=self._rng.choice(("pause", "resume", "hint")), arg=self._text()))
        elif kind == 4:
            self._add(ResearchEnded(reason=self._text()))
        else:
            self._add(Command(client="c1", verb="cancel", arg=self._some_run()))

    def _declare(self) -> None:
        self._serial += 1
        name = self._rng.choice(("wave", f"d{self._serial}"))
        self._add(
            DesignDeclared(
                design=name,
                kind=self._text(),
                factors=[("DEPTH", "4", self._text())] * self._rng.randrange(3),
                rows=12,
                resolution=self._rng.choice((None, 3)),
                why=self._text(),
                call=f"d{self._serial}",
            )
        )

    def _change_phase(self) -> None:
        self._serial += 1
        name = self._rng.choice(("opening", "model", self._text()))
        self._add(PhaseChanged(phase=name, why=self._text(), call=f"p{self._serial}"))

    def _converse(self) -> None:
        """What a researcher that talks to a model records, in an order that makes sense or not."""
        self._serial += 1
        now = self.state.now.model
        epoch = 1 if now is None else now.epoch
        asked = "" if now is None or now.in_flight is None else now.in_flight.req
        req = asked if self._rng.random() < 0.9 else f"q{self._serial}.9"
        kind = self._rng.randrange(8)
        usage = self._rng.choice((None, Usage(input=3, cache_read=40, cache_write_5m=2, output=9, thinking=4)))
        if kind == 0:
            self._add(EpochStarted(epoch=epoch + 1, why=self._text(), model="m", prefix="0", roll_tokens=9))
        elif kind in (1, 2, 3):
            req = f"q{self._serial}.{self._rng.randrange(1, 3)}"
            self._add(ModelRequest(req=req, epoch=epoch, upto=1, reserve_usd=0.5, max_tokens=9))
        elif kind == 4:
            failed = ModelFailed(req=req, kind="overloaded", reason=self._text(), usd=0.01, held_usd=0.1, usage=usage)
            self._add(failed)
        elif kind == 5:
            self._add(ModelStatus(status=self._rng.choice(("working", "backoff")), why=self._text()))
        else:
            role = self._rng.choice(("assistant", "assistant", "user", "system"))
            parts = [{"type": "text", "text": self._text()}, {"type": "tool_use", "id": "t", "name": self._text()}]
            mine = role == "assistant"
            usd = 0.25 if mine else 0.0
            message = ModelMessage(epoch=epoch, role=role, content=parts, req=req if mine else "", usage=usage, usd=usd)
            self._add(message)

    def _cancel(self) -> None:
        self._add(CancelRequested(run=self._some_run(), attempt="", reason=self._text()))

    def _device(self) -> None:
        device = self._rng.choice(self._devices)
        seq = self.state.now.devices[device].seq + self._rng.randrange(2)
        if self._rng.random() < 0.4:
            self._add(DeviceLost(device=device, seq=seq, reason=self._text()))
        else:
            self._add(DeviceSeen(device=device, seq=seq, cls="cpu-a" if device < "cpu2" else "cpu-b", node="here"))

    def _repeat(self) -> None:
        """Something that was recorded before comes once more, under a new number."""
        known = self._rng.choice(self.events[1:])
        self._add(type(known)(**{name: getattr(known, name) for name in known.__struct_fields__}))
