"""What the effects pane shows: a session's designs, main effects, pairs of knobs, and what cannot be told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from core.analysis.effects import Effect
from core.analysis.knobs import KnobEffect, KnobEffects, KnobPair, knob_effects
from core.analysis.sheets import DesignSheet, ListedDesign, PairCorners, design_sheet, designs_of
from core.analysis.table import table_of
from core.analysis.words import count, gain, listed
from core.state import SessionState
from tui.text import clean
from tui.view.words import count_words, resolution_words

ALL_RUNS: Final = ("", "")
"""The key of the model of all runs; those of designs are (name, parent)."""

EMPTY: Final = (
    "This session has no design yet. A design is a set of runs that are planned together, so that the effects of its "
    "knobs can be told apart.",
    "The builtin researcher begins with one, its opening screen; a model makes one with a grid of knobs at two values.",
)
_SAME: Final = 0.99

Key = tuple[str, str]


class DesignLine(NamedTuple):
    """One entry of the list: what it is called, what it is, how far it got. All text is clean."""

    key: Key
    name: str
    kind: str
    progress: str


class EffectLine(NamedTuple):
    """One main effect: `better` names the level that scores lower, nothing where noise hides which.

    `back` is the step to the other side with its interval, in the model of all runs.
    """

    name: str
    knob: str
    value: float
    low: float
    high: float
    active: bool
    better: str
    back: tuple[float, float, float] | None = None


class PairPlot(NamedTuple):
    """Two knobs at two levels each: `lines[b][a]` is (score, low, high); labels by level, low first.

    `relative` says that scores are differences from where neither step is taken.
    """

    first: str
    second: str
    first_levels: tuple[str, str]
    second_levels: tuple[str, str]
    lines: tuple[tuple[tuple[float, float, float], ...], ...]
    relative: bool


class PairLine(NamedTuple):
    """One pair of knobs: `mixed` counts the effects that it cannot be told from, whole or in part."""

    first: str
    second: str
    value: float
    low: float
    high: float
    active: bool
    mixed: int
    words: str
    plot: PairPlot | None


class EffectsView(NamedTuple):
    """Input of the `Effects` widget: all designs, and one of them in full."""

    designs: tuple[DesignLine, ...] = ()
    chosen: int = 0
    mains: tuple[EffectLine, ...] = ()
    pairs: tuple[PairLine, ...] = ()
    notes: tuple[str, ...] = EMPTY


def effects_view(state: SessionState, wanted: Key | None = None) -> EffectsView:
    """Project a state, with the wanted design in full (the first where there is none of that name).

    Takes some 0.1 s for 1,400 runs: not for the thread of the screen.
    """
    found = designs_of(state)
    lines = [_design_line(each) for each in found]
    if any(run.scored for run in state.ledger.runs) and state.now.incumbent is not None:
        lines.append(DesignLine(ALL_RUNS, "all runs", "model around the incumbent", _all_progress(state)))
    if not lines:
        return EffectsView()
    chosen = next((index for index, line in enumerate(lines) if line.key == wanted), 0)
    none_yet = () if found else EMPTY
    if chosen < len(found):
        return _of_design(design_sheet(state, found[chosen]), tuple(lines), chosen)
    return _of_all_runs(knob_effects(state, table_of(state)), tuple(lines), chosen, none_yet)


def _design_line(each: ListedDesign) -> DesignLine:
    kind = clean(each.kind) or "two-level set, not declared"
    ended = f"{each.ended} of {count_words(each.planned, 'run')}"
    progress = f"{ended}, {count_words(len(each.knobs), 'knob')}"
    name = clean(f"{each.design} on {each.parent}" if each.parent else each.design)
    return DesignLine((each.design, each.parent), name, kind, progress)


def _all_progress(state: SessionState) -> str:
    scored = sum(1 for run in state.ledger.runs if run.scored)
    return f"{count_words(scored, 'scored run')}, around {clean(state.now.incumbent or '')}"


def _of_design(sheet: DesignSheet, lines: tuple[DesignLine, ...], chosen: int) -> EffectsView:
    if sheet.report is None:
        said = "no effect can be told yet: it takes four scored runs at two levels of at least two knobs"
        return EffectsView(lines, chosen, notes=(*_why(sheet.listed), said, *_missing(sheet.listed)))
    levels = sheet.report.levels
    mains = tuple(_main_line(each, levels[each.name]) for each in sheet.report.effects.mains)
    pairs = tuple(_pair_line(each, levels) for each in sheet.pairs)
    return EffectsView(lines, chosen, mains, pairs, tuple(map(clean, _design_notes(sheet))))


def _main_line(effect: Effect, levels: tuple[str, str]) -> EffectLine:
    at = f"{'low' if effect.value > 0 else 'high'} {levels[effect.value < 0]}" if effect.active else ""
    return EffectLine(
        clean(effect.name), clean(effect.name), effect.value, *effect.interval, active=effect.active, better=clean(at)
    )


def _pair_line(pair: PairCorners, levels: dict[str, tuple[str, str]]) -> PairLine:
    first, second = pair.knobs
    plot = None
    if pair.corners:
        at = {(corner.a, corner.b): (corner.mean, *corner.interval) for corner in pair.corners}
        plot = PairPlot(
            first=clean(first),
            second=clean(second),
            first_levels=(clean(levels[first][0]), clean(levels[first][1])),
            second_levels=(clean(levels[second][0]), clean(levels[second][1])),
            lines=tuple(tuple(at[a, b] for a in (-1, 1)) for b in (-1, 1)),
            relative=False,
        )
    mixed = len(pair.aliases)
    words = clean(_pair_words(pair))
    return PairLine(clean(first), clean(second), pair.value, *pair.interval, pair.active, mixed, words, plot)


def _pair_words(pair: PairCorners) -> str:
    name = " × ".join(pair.knobs)
    same = [alias.name.replace(":", " × ") for alias in pair.aliases if abs(alias.share) > _SAME]
    if not pair.corners:
        return f"{name} cannot be told from {listed(same, 3)}" if same else f"too few runs to tell {name}"
    half = (pair.interval[1] - pair.interval[0]) / 2
    alone = "they interact" if not pair.aliases else "beyond the noise"
    said = f"{name}: {gain(pair.value, half)}, {alone if pair.active else 'inside the noise'}"
    if same:
        return f"{said}; cannot be told from {listed(same, 2)}"
    if pair.aliases:
        worst = max(abs(alias.share) for alias in pair.aliases)
        others = count(len(pair.aliases), "other pair")
        return f"{said}; mixed with {others}, by up to {worst:.0%} of each"
    return said


def _design_notes(sheet: DesignSheet) -> list[str]:
    assert sheet.report is not None
    effects = sheet.report.effects
    notes = [*_missing(sheet.listed), effects.sentence, *_mixed_mains(effects.mains), *_mixed_pairs(sheet.pairs)]
    hidden = [effect.name for effect in (*effects.mains, *effects.interactions) if not effect.active]
    if hidden:
        notes.append(f"inside the noise: {listed([name.replace(':', ' × ') for name in hidden], 6)}")
    if effects.curvature is not None:
        notes.append(effects.curvature.sentence)
    if sheet.listed.resolution is not None:
        notes.append(f"{resolution_words(sheet.listed.resolution)} as planned: {_tells(sheet.listed.resolution)}")
    return [*notes, *_why(sheet.listed)]


def _tells(resolution: int) -> str:
    """What a resolution stands for. Source: Box & Hunter 1961, Technometrics 3(3)."""
    if resolution <= 3:
        return "main effects are mixed with pairs of knobs"
    if resolution == 4:
        return "main effects are clear of pairs, pairs are mixed with each other"
    return "main effects and pairs are told apart"


def _missing(each: ListedDesign) -> list[str]:
    said = []
    if each.ended < each.planned:
        said.append(f"{each.ended} of {count_words(each.planned, 'run')} ended: the intervals are those of so many")
    if each.scored < each.ended:
        said.append(f"{count_words(each.ended - each.scored, 'run')} ended without a score")
    return said


def _why(each: ListedDesign) -> list[str]:
    return [f"planned to find out: {clean(each.why)}"] if each.why else []


def _mixed_mains(mains: Sequence[Effect]) -> list[str]:
    """How far interactions may hide in the main effects."""
    shares = [abs(alias.share) for effect in mains for alias in effect.aliases]
    if not shares:
        return ["the main effects are clear of all pairs that are not fitted"] if mains else []
    whole = [
        f"{effect.name} from {alias.name.replace(':', ' × ')}"
        for effect in mains
        for alias in effect.aliases
        if abs(alias.share) > _SAME
    ]
    if whole:
        return [f"cannot be told apart: {listed(whole, 4)}"]
    return [f"each main effect may hold up to {max(shares):.0%} of some pairs"]


def _mixed_pairs(pairs: Sequence[PairCorners]) -> list[str]:
    known = [pair for pair in pairs if pair.known]
    if not known:
        return ["no pair can be told from all others: what is shown of a pair may be others' doing"] if pairs else []
    chains = [
        " = ".join(
            [" × ".join(pair.knobs), *(a.name.replace(":", " × ") for a in pair.aliases if abs(a.share) > _SAME)]
        )
        for pair in known
        if any(abs(alias.share) > _SAME for alias in pair.aliases)
    ]
    return [f"pairs that cannot be told apart: {listed(chains, 4)}"] if chains else []


def _of_all_runs(
    found: KnobEffects | None, lines: tuple[DesignLine, ...], chosen: int, none_yet: tuple[str, ...]
) -> EffectsView:
    if found is None:
        return EffectsView(lines, chosen, notes=(*none_yet, "too few experiments for a model of all runs"))
    notes = [found.sentence]
    hidden = [effect.unit for effect in found.knobs if not effect.active]
    notes += [f"inside the noise: {listed(hidden, 6)}"] if hidden else []
    mains = sorted(found.knobs, key=lambda effect: (-_size(effect), effect.unit))
    return EffectsView(
        lines,
        chosen,
        tuple(_knob_line(each) for each in mains),
        tuple(_knob_pair_line(each) for each in found.pairs),
        tuple(clean(note) for note in (*notes, *none_yet)),
    )


def _size(effect: KnobEffect) -> float:
    return max(abs(effect.value), abs(effect.back or 0.0))


def _knob_line(effect: KnobEffect) -> EffectLine:
    back = (effect.back, *effect.back_interval) if effect.back is not None and effect.back_interval else None
    gains_ahead, gains_back = effect.interval[1] < 0.0, back is not None and back[2] < 0.0
    better = "as it is" if effect.best else "this step" if gains_ahead else "step back" if gains_back else ""
    if effect.active and not better and effect.interval[0] > 0.0:
        better = "as it is"
    name = clean(effect.unit)
    return EffectLine(name, clean(effect.knob), effect.value, *effect.interval, effect.active, better, back)


def _knob_pair_line(pair: KnobPair) -> PairLine:
    first, second = (clean(knob) for knob in pair.knobs)
    neither = (0.0, 0.0, 0.0)
    alone, beside = ((value, *interval) for value, interval in pair.alone)
    together = (pair.together[0], *pair.together[1])
    steps = (clean(pair.units[0].removeprefix(pair.knobs[0])), clean(pair.units[1].removeprefix(pair.knobs[1])))
    plot = PairPlot(
        first=first,
        second=second,
        first_levels=("as it is", steps[0]),
        second_levels=("as it is", steps[1]),
        lines=((neither, alone), (beside, together)),
        relative=True,
    )
    half = (pair.interval[1] - pair.interval[0]) / 2
    does = "they interact" if pair.active else "inside the noise"
    words = f"{clean(pair.units[0])} with {clean(pair.units[1])}: {gain(pair.value, half)} beyond their sum, {does}"
    return PairLine(first, second, pair.value, *pair.interval, pair.active, 0, words, plot)


def reach_of(mains: Sequence[EffectLine]) -> tuple[float, float]:
    """The range of a forest plot: all intervals and zero, never empty."""
    ends = [end for line in mains for end in (line.low, line.high, *(line.back or ()))]
    ends = [end for end in ends if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (low, high) if high > low else (-1e-4, 1e-4)
