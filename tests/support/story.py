"""Synthetic sessions: plausible, seeded lists of events, and journals written from them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

from core.events import (
    AnyEvent,
    Command,
    ConfirmRequested,
    DesignDeclared,
    DeviceSeen,
    Evidence,
    ExperimentProposed,
    Incumbent,
    LimitHit,
    Limits,
    Note,
    PhaseChanged,
    RevisionAdded,
    RunFinished,
    RunIntent,
    RunProgress,
    RunQueued,
    RunReason,
    RunStarted,
    SessionEnded,
    SessionStarted,
    Target,
    Verdict,
)
from core.journal import line_of
from core.journal.format import segment_path

KNOBS = ("MATRIX_LR", "WARMDOWN_RATIO", "DEPTH", "ASPECT_RATIO", "EMBEDDING_LR", "WEIGHT_DECAY")
BUDGET_S = 300.0


class Story:
    """Appends the events of a session one by one, as an engine with `devices` devices would."""

    def __init__(self, *, devices: int = 4, seed: int = 1, progress: int = 6, simulated: bool = False) -> None:
        self.events: list[AnyEvent] = []
        self.t_s = 0.0
        self._rng = random.Random(seed)  # a fixed seed, for tests
        self.progress = progress
        self._devices = [f"gpu{index}" for index in range(devices)]
        self._runs = 0
        self._exps = 0
        self._best = 1.0030
        self._incumbent = ""
        self._revision = ""
        self.add(
            SessionStarted(
                session="s-0001",
                name="mar5",
                seed=seed,
                simulated=simulated,
                epoch=1_700_000_000.0,
                executor="sim" if simulated else "local",
                researcher="builtin",
                limits=Limits(hours=8.0),
                target=Target(budget_s=BUDGET_S, budget_kind="gpu", seq_len=2048, eval_tokens=2**20, profile="h100"),
                version="0.1.0",
            )
        )
        for index, device in enumerate(self._devices):
            cls = "H200-141GB" if index % 5 == 4 else "H100-80GB"
            self.add(DeviceSeen(device=device, seq=1, cls=cls, node=f"node{index // 8}", memory_mb=81_559))

    def add(self, event: AnyEvent, wait_s: float = 0.0) -> AnyEvent:
        """Stamp and append one event."""
        self.t_s += wait_s
        event.n, event.t = len(self.events) + 1, round(self.t_s, 3)
        self.events.append(event)
        return event

    def propose(self, title: str, knobs: dict[str, str], seeds: Sequence[int], *, design: str = "screen") -> str:
        """A new experiment against the incumbent (or the baseline), with its revision; returns its id."""
        self._exps += 1
        exp = f"e{self._exps}"
        revision = hashlib.sha256(f"{exp}{title}".encode()).hexdigest()
        lines = "".join(f"-{name} = 1\n+{name} = {value}\n" for name, value in knobs.items())
        patch = f"--- train.py\n+++ train.py\n@@ -1,{len(knobs)} +1,{len(knobs)} @@\n{lines}"
        self.add(RevisionAdded(revision=revision, parent=self._revision or None, patch=patch), 0.2)
        self.add(
            ExperimentProposed(
                exp=exp,
                call=f"call{self._exps}",
                revision=revision,
                parent=self._incumbent or None,
                title=title,
                hypothesis=f"{title} lowers val_bpb by at least 0.001.",
                rationale="The last three experiments left this alone, and the curve is still steep there.",
                design=design,
                knobs=knobs,
                seeds=list(seeds),
                reason="screen" if self._incumbent else "baseline",
            ),
            0.1,
        )
        self._revision = self._revision or revision
        return exp

    def phase(self, name: str, why: str) -> None:
        """The researcher goes about it in another way."""
        self.add(PhaseChanged(phase=name, why=why, call=f"phase-{name}"), 0.1)

    def declare(self, name: str, why: str) -> None:
        """A screening design over all knobs."""
        factors = [(knob, "0.010", "2.000") for knob in KNOBS]
        kind = "folded Plackett-Burman"
        self.add(
            DesignDeclared(
                design=name, kind=kind, factors=factors, rows=16, resolution=4, why=why, call=f"design-{name}"
            ),
            0.1,
        )

    def start(self, exp: str, seed: int, device: str, reason: RunReason = "screen") -> str:
        """Queue a run and start its first attempt; returns its id."""
        self._runs += 1
        run = f"r{self._runs}"
        cls = "H200-141GB" if int(device[3:]) % 5 == 4 else "H100-80GB"
        self.add(RunQueued(run=run, exp=exp, seed=seed, reason=reason), 0.1)
        self.add(RunIntent(run=run, attempt=f"{run}.1", device=device, cls=cls), 0.1)
        self.add(RunStarted(run=run, attempt=f"{run}.1", seq=1, device=device), 2.0)
        return run

    def advance(self, run: str, share: int) -> None:
        """One progress sample: `share` of `progress` + 1 parts of the budget are spent."""
        frac = share / (self.progress + 1)
        loss = 3.2 - 0.9 * frac + self._rng.uniform(-0.02, 0.02)
        self.add(
            RunProgress(
                run=run,
                attempt=f"{run}.1",
                seq=1 + share,
                step=int(900 * frac),
                frac=frac,
                loss=loss,
                util=0.93,
                mem_mb=44_000.0,
            ),
            BUDGET_S / (self.progress + 1) / max(1, len(self._devices)),
        )

    def finish(self, run: str, val_bpb: float | None, *, reason: str = "", tier: str = "scored") -> None:
        """The end of a run: well with a score, as a crash without."""
        self.add(
            RunFinished(
                run=run,
                attempt=f"{run}.1",
                seq=2 + self.progress,
                outcome="ok" if val_bpb is not None else "crash",
                val_bpb=val_bpb,
                tier=tier if val_bpb is not None else None,
                confinement="bwrap" if val_bpb is not None else None,
                train_s=BUDGET_S,
                startup_s=11.0,
                score_s=4.2,
                steps=900,
                tokens=470_000_000,
                mem_mb=44_000.0,
                params=50_000_000,
                reason=reason,
            ),
            1.0,
        )

    def judge(self, exp: str, deltas: Sequence[float]) -> None:
        """A verdict from the mean difference; a kept experiment becomes the incumbent."""
        delta = sum(deltas) / len(deltas) if deltas else None
        kept = delta is not None and delta < -0.0008
        verdict = "kept" if kept else "rejected" if delta is None or delta > 0 else "undecided"
        self.add(
            Verdict(
                exp=exp,
                verdict=verdict,
                reason="better than the incumbent by more than its noise" if kept else "within the noise",
                delta=delta,
                interval=(delta - 0.0006, delta + 0.0006) if delta is not None else None,
                evidence=Evidence(
                    cls="H100-80GB",
                    n=len(deltas),
                    mean=self._best + (delta or 0.0),
                    n_ref=3,
                    mean_ref=self._best,
                    ref=self._incumbent or exp,
                    sd=0.0004,
                    df=4,
                    look=1,
                    alpha=0.05,
                ),
                want=2 if verdict == "undecided" else 0,
            ),
            0.3,
        )
        if kept and delta is not None:
            self._best += delta
            self._take(exp)

    def experiment(self, title: str = "", runs: int = 1, *, crash: bool = False) -> str:
        """A whole experiment: proposal, runs on devices in turn, verdict."""
        knob = self._rng.choice(KNOBS)
        value = f"{self._rng.uniform(0.01, 2.0):.3f}"
        baseline = not self._incumbent
        seeds = list(range(runs if baseline else 1))
        exp = self.propose(title or f"{knob} to {value}", {} if baseline else {knob: value}, seeds)
        if runs > len(seeds):
            self.add(ConfirmRequested(exp=exp, call=f"confirm-{exp}", seeds=list(range(1, runs))), 0.1)
        started = []
        for seed in range(runs):
            reason: RunReason = "baseline" if baseline else "screen" if seed == 0 else "confirm"
            device = self._devices[(self._runs + seed) % len(self._devices)]
            started.append(self.start(exp, seed, device, reason))
        for share in range(1, self.progress + 1):
            for run in started:
                self.advance(run, share)
        deltas: list[float] = []
        effect = self._rng.gauss(0.001, 0.002) if exp != "e1" else 0.0
        for run in started:
            if crash:
                self.finish(run, None, reason="CUDA error: device-side assert triggered")
                continue
            deltas.append(effect + self._rng.gauss(0.0, 0.0003))
            self.finish(run, self._best + deltas[-1])
        if baseline:
            self._take(exp)
        else:
            self.judge(exp, deltas)
        return exp

    def _take(self, exp: str) -> None:
        self._incumbent = exp
        self.add(Incumbent(exp=exp), 0.1)

    def end(self, reason: str = "the limit of 8 h is reached") -> None:
        """The last event."""
        self.add(SessionEnded(reason=reason), 1.0)


def session(
    *, experiments: int = 20, devices: int = 4, seed: int = 1, progress: int = 6, ended: bool = False
) -> list[AnyEvent]:
    """A plausible session: a replicated baseline, screens, some crashes, notes, phases, a command, a limit."""
    story = Story(devices=devices, seed=seed, progress=progress)
    story.phase("noise", "nothing can be compared before equal runs are.")
    story.experiment("the baseline, replicated", runs=3)
    story.phase("opening", "a run varies by 0.0003, so a screen of all knobs at once can see what matters.")
    story.declare("screen", "which of the six knobs matter at all, each told from all runs")
    for index in range(1, experiments):
        if index == 16:
            story.phase("model", "three knobs carry the gains; from here on they move together.")
        if index % 4 == 1:
            story.add(Note(text=f"Best so far stands after {index} experiments; the schedule looks promising."), 1.0)
        story.experiment(runs=1 + index % 3, crash=index % 7 == 6)
        if index == 5:
            story.add(Command(client="c1", verb="hint", arg="try a longer warm-down"), 2.0)
    story.add(LimitHit(limit="hours", detail="8 h of session time are used"), 1.0)
    if ended:
        story.end()
    return story.events


def with_runs(runs: int, events: int, *, devices: int = 16, ended: bool = False) -> list[AnyEvent]:
    """A session of exactly `runs` runs and about `events` events, for measurements."""
    progress = max(1, round(events / runs) - 8)
    story = Story(devices=devices, progress=progress)
    for index in range(runs):
        story.experiment(crash=index % 12 == 11)
    if ended:
        story.end()
    return story.events


def write_journal(folder: Path, events: Sequence[AnyEvent], *, segment_events: int = 10**9) -> Path:
    """Write events as a journal, rolling segments every `segment_events` events; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    prev = None
    for number, start in enumerate(range(0, len(events), segment_events), start=1):
        lines = []
        for index, event in enumerate(events[start : start + segment_events]):
            event.prev = prev if index == 0 else None
            line, prev = line_of(event)
            lines.append(line)
        segment_path(folder, number).write_bytes(b"".join(lines))
    return folder
