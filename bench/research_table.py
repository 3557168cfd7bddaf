"""The tables of the comparison, in Markdown: means over sessions with 95 % t intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bench.intervals import mean_interval, share_bounds
from bench.nulls import Nulls
from bench.records import Record

GAP_SHARES: Final = (0.5, 0.75, 0.9)
YARDSTICK: Final = "factorial"
"""The policy whose mean final value the others are timed against."""
CHECKPOINTS: Final = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the session at which values are compared at equal GPU-hours."""

Column = tuple[str, Callable[[Sequence[Record]], str]]


def tables(records: Sequence[Record], nulls: Sequence[Nulls]) -> str:
    """All tables of a comparison."""
    groups = {name: [r for r in records if r.setting.policy == name] for name in _names(records)}
    parts = [_headline(records)]
    goal = mean_interval([r.final_bpb for r in groups[YARDSTICK]])[0] if YARDSTICK in groups else None
    parts.append(_table("Where they end", groups, _ending_columns()))
    parts.append(_table("How soon (hours; in how many sessions)", groups, _time_columns(records, goal)))
    parts.append(_table("True value of the confirmed incumbent at equal GPU-hours", groups, _course_columns(records)))
    parts.append(_table("What the devices did, and what it cost", groups, _device_columns()))
    parts.append(_table("Verdicts against the truth", groups, _verdict_columns()))
    if nulls:
        parts.append(_null_line(nulls))
    return "\n\n".join(parts)


def _names(records: Iterable[Record]) -> list[str]:
    return list(dict.fromkeys(record.setting.policy for record in records))


def _headline(records: Sequence[Record]) -> str:
    one = records[0].setting
    places = sorted({(r.setting.world, r.setting.seed) for r in records})
    where = f"worlds 1 to {len(places)}, a session on each" if one.world else f"seeds 1 to {len(places)}"
    truth = (
        f"baseline {records[0].baseline_bpb:.5f}, optimum {records[0].optimum_bpb:.5f}, both true values on an H100"
        if not one.world
        else "each with its own optimum"
    )
    return (
        f"{one.gpus}, {one.hours:g} h, {where} ({truth}). Code {one.code}. Means ± half of the 95 % t interval over "
        "sessions; values are true ones, free of noise, on an H100, in bits per byte."
    )


def _table(title: str, groups: dict[str, list[Record]], columns: Sequence[Column]) -> str:
    rows = [f"| {name} | {' | '.join(tell(group) for _, tell in columns)} |" for name, group in groups.items()]
    head = [
        f"**{title}**",
        "",
        f"| policy | {' | '.join(name for name, _ in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    return "\n".join([*head, *rows])


def _mean(of: Callable[[Record], float], digits: int = 5) -> Callable[[Sequence[Record]], str]:
    def tell(group: Sequence[Record]) -> str:
        mean, half = mean_interval([of(record) for record in group])
        return f"{mean:.{digits}f} ± {half:.{digits}f}"

    return tell


def _ending_columns() -> list[Column]:
    return [
        ("sessions", lambda group: str(len(group))),
        ("confirmed incumbent", _mean(lambda r: r.final_bpb)),
        ("regret", _mean(lambda r: r.final_bpb - r.optimum_bpb)),
        ("its knobs alone", _mean(lambda r: r.knobs_bpb)),
        ("raw pick", _mean(lambda r: r.raw_bpb)),
    ]


def _time_columns(records: Sequence[Record], goal: float | None) -> list[Column]:
    columns = [(f"{share:.0%} of the gap", _hours_to(_at_share(share))) for share in GAP_SHARES]
    if goal is not None and not records[0].setting.world:
        columns.append((f"{YARDSTICK}'s final {goal:.5f}", _hours_to(lambda _: goal)))
    return columns


def _at_share(share: float) -> Callable[[Record], float]:
    return lambda record: record.baseline_bpb - share * (record.baseline_bpb - record.optimum_bpb)


def _value_at(share: float) -> Callable[[Record], float]:
    return lambda record: record.value_at(share * record.setting.hours)


def _hours_to(goal: Callable[[Record], float]) -> Callable[[Sequence[Record]], str]:
    """Mean hours to a value; a session that never reached it counts with its whole length, and is told."""

    def tell(group: Sequence[Record]) -> str:
        reached = [record.hours_to(goal(record)) for record in group]
        hits = [at for at in reached if at is not None]
        mean, half = mean_interval(
            [at if at is not None else r.setting.hours for at, r in zip(reached, group, strict=True)]
        )
        if not hits:
            return f"never (0/{len(group)})"
        more = "> " if len(hits) < len(group) else ""
        return f"{more}{mean:.2f} ± {half:.2f} ({len(hits)}/{len(group)})"

    return tell


def _course_columns(records: Sequence[Record]) -> list[Column]:
    hours, devices = records[0].setting.hours, records[0].devices
    return [(f"{share * hours * devices:.0f} GPU-h", _mean(_value_at(share))) for share in CHECKPOINTS]


def _device_columns() -> list[Column]:
    return [
        ("runs with a score", _mean(lambda r: r.completed, 0)),
        ("of what the devices allow", _mean(lambda r: 100.0 * r.completed / max(1, r.allowed), 1)),
        ("failed", _mean(lambda r: r.failed, 0)),
        ("ended early", _mean(lambda r: r.stopped, 0)),
        ("unallocated, %", _mean(lambda r: 100.0 * r.unallocated, 2)),
        ("CPU s a session", _mean(lambda r: r.session_s, 1)),
        ("researcher, ms a run", _mean(lambda r: 1e3 * r.researcher_s / max(1, r.settled), 2)),
    ]


def _verdict_columns() -> list[Column]:
    return [
        ("kept", lambda group: str(_count(group, kept=True)[1])),
        ("truly better", lambda group: _share(_count(group, kept=True))),
        ("interval covers, kept", lambda group: _share(_covered(group, kept_only=True))),
        ("interval covers, all tested", lambda group: _share(_covered(group, kept_only=False))),
    ]


def _count(group: Sequence[Record], *, kept: bool) -> tuple[int, int]:
    """Verdicts that are truly better, and all of that kind."""
    of_kind = [tested for record in group for tested in record.tested if tested.kept == kept]
    return sum(tested.true_delta < 0.0 for tested in of_kind), len(of_kind)


def _covered(group: Sequence[Record], *, kept_only: bool) -> tuple[int, int]:
    chosen = [tested for record in group for tested in record.tested if tested.kept or not kept_only]
    return sum(tested.low <= tested.true_delta <= tested.high for tested in chosen), len(chosen)


def _share(hits_of: tuple[int, int]) -> str:
    hits, of = hits_of
    if not of:
        return "none"
    low, high = share_bounds(hits, of, 0.975)
    return f"{100 * hits / of:.1f} % of {of} ({100 * low:.1f} to {100 * high:.1f})"


def _null_line(nulls: Sequence[Nulls]) -> str:
    kept, judged = sum(n.kept for n in nulls), sum(n.judged for n in nulls)
    bound = share_bounds(kept, judged, 0.95)[1]
    most = max(n.kept for n in nulls)
    return (
        f"**Null controls:** {kept} of {judged:,} kept, {100 * kept / judged:.2f} %; upper 95 % bound "
        f"(Clopper-Pearson) {100 * bound:.2f} %; {len(nulls)} sessions, at most {most} kept in one."
    )
