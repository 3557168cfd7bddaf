"""A small builder of sessions for the views of runs: devices, experiments, runs with given scores, verdicts."""

from __future__ import annotations

from core.events import (
    AnyEvent,
    DeviceSeen,
    Evidence,
    ExperimentProposed,
    Incumbent,
    Limits,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunReason,
    RunStarted,
    SessionStarted,
    Target,
    Verdict,
    VerdictName,
)
from core.executor import Outcome
from core.reduce import apply
from core.state import SessionState

CLASSES = {"gpu0": "H100-80GB", "gpu1": "H100-80GB", "gpu2": "H200-141GB"}


class Session:
    """A state that events are applied to as they are made; `t_s` is the time of the next event."""

    def __init__(self, devices: dict[str, str] | None = None, name: str = "s1") -> None:
        self.state = SessionState()
        self.t_s = 0.0
        self._runs = 0
        self.add(
            SessionStarted(
                session=name,
                name=name,
                seed=1,
                simulated=True,
                epoch=0.0,
                executor="sim",
                researcher="builtin",
                limits=Limits(),
                target=Target(budget_s=300.0, budget_kind="gpu", seq_len=8, eval_tokens=8, profile="test"),
                version="0",
            )
        )
        self.classes = CLASSES if devices is None else devices
        for device, cls in self.classes.items():
            self.add(DeviceSeen(device=device, seq=1, cls=cls, node="node0"))

    def add(self, event: AnyEvent) -> None:
        """Stamp and fold one event."""
        event.n, event.t = self.state.now.n + 1, self.t_s
        apply(self.state, event)

    def propose(self, exp: str, title: str = "a title", parent: str | None = None) -> str:
        """A new experiment."""
        self.add(
            ExperimentProposed(
                exp=exp,
                call=exp,
                revision=exp * 8,
                parent=parent,
                title=title,
                hypothesis="",
                rationale="",
                design="",
                knobs={},
                seeds=[],
            )
        )
        return exp

    def start(
        self, exp: str, device: str = "gpu0", *, reason: RunReason = "confirm", losses: tuple[float, ...] = ()
    ) -> str:
        """A run under way, with its losses spread evenly over the budget."""
        self._runs += 1
        run = f"r{self._runs}"
        self.add(RunQueued(run=run, exp=exp, seed=self._runs, reason=reason))
        self.add(RunIntent(run=run, attempt=f"{run}.1", device=device, cls=self.classes[device]))
        self.add(RunStarted(run=run, attempt=f"{run}.1", seq=1, device=device))
        for index, loss in enumerate(losses, start=1):
            frac = index / len(losses)
            self.add(
                RunProgress(run=run, attempt=f"{run}.1", seq=1 + index, step=index, frac=frac, loss=loss, util=0.9)
            )
        return run

    def run(
        self,
        exp: str,
        val_bpb: float | None,
        device: str = "gpu0",
        *,
        reason: RunReason = "confirm",
        outcome: Outcome = "ok",
        failure: str = "",
        tier: str = "scored",
        losses: tuple[float, ...] = (),
    ) -> str:
        """A whole run, ten seconds long."""
        run = self.start(exp, device, reason=reason, losses=losses)
        self.t_s += 10.0
        self.add(
            RunFinished(
                run=run, attempt=f"{run}.1", seq=99, outcome=outcome, val_bpb=val_bpb, tier=tier, reason=failure
            )
        )
        return run

    def judge(self, exp: str, verdict: VerdictName, *, tested: bool = True) -> None:
        """A verdict, with evidence of its own or (not `tested`) from nominating runs only."""
        evidence = Evidence(cls="H100-80GB", n=3, mean=1.0, n_ref=3, mean_ref=1.0, ref="e1") if tested else None
        self.add(Verdict(exp=exp, verdict=verdict, reason="", evidence=evidence))

    def baseline(self, scores: tuple[float, ...] = (1.0002, 0.9998, 1.0000)) -> str:
        """Experiment e1, replicated, kept and the incumbent."""
        self.propose("e1", "the baseline")
        for score in scores:
            self.run("e1", score, reason="baseline")
        self.judge("e1", "kept")
        self.add(Incumbent(exp="e1"))
        return "e1"
