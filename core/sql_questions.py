"""Questions to begin with: queries that have an answer in every session, for a person to run and to change."""

from __future__ import annotations

from textwrap import dedent
from typing import Final, NamedTuple


class Question(NamedTuple):
    """What a query finds out, in a few words, and the query."""

    asks: str
    sql: str


_ASKED: Final = {
    "leaders, with their evidence": """
        select place, experiment_id, title, round(mean_bpb, 5) as mean_bpb,
            round(sd_bpb, 5) as sd_bpb, n, round(best_bpb, 5) as best_bpb,
            verdict
        from leaderboard where reference order by place limit 20
    """,
    "what was kept, and how sure that is": """
        select experiment_id, title, delta_bpb, delta_low, delta_high, proposed_t_s
        from experiments where verdict = 'kept' order by n
    """,
    "best so far, step by step": """
        select ended_t_s, experiment_id, run_id, device_class, best_bpb
        from best_so_far where improved order by ended_t_s
    """,
    "how runs ended": """
        select status, count(*) as runs, round(avg(wall_s), 1) as mean_wall_s
        from runs group by all order by runs desc
    """,
    "failures by cause": """
        select outcome, failure, attempts, runs, last_run_id, last_at
        from failures order by attempts desc
    """,
    "why devices did not train": """
        select cause, round(sum(to_t_s - from_t_s) / 3600, 3) as hours,
            count(*) as times
        from idle group by all order by hours desc
    """,
    "utilisation, device by device": """
        select device, device_class, node, attempts,
            round(allocated_share, 3) as allocated,
            round(training_share, 3) as training
        from utilisation order by training
    """,
    "noise by device class": """
        select device_class, count(*) as revisions, sum(n) as runs,
            sqrt(sum((n - 1) * sd * sd) / sum(n - 1)) as sd_bpb
        from (
            select revision, device_class, count(*) as n,
                stddev_samp(val_bpb) as sd
            from runs where scored group by all having n > 1
        )
        group by all order by runs desc
    """,
    "what a kept improvement cost": """
        select kept, round(device_hours / nullif(kept, 0), 2) as device_hours_each,
            round(runs / nullif(kept, 0), 1) as runs_each,
            round(usd / nullif(kept, 0), 2) as model_usd_each,
            -gained as gained_bpb
        from (select count(*) as kept, sum(delta_bpb) as gained
              from experiments where verdict = 'kept' and delta_bpb is not null),
            (select sum(allocated_s) / 3600 as device_hours,
                count(distinct run_id) as runs from costs),
            (select coalesce(sum(usd), 0) as usd from model_costs)
    """,
    "device-hours by verdict": """
        select e.verdict, round(sum(c.allocated_s) / 3600, 3) as hours,
            count(distinct c.run_id) as runs
        from costs c join experiments e using (session_id, experiment_id)
        group by all order by hours desc
    """,
    "which constants were tried, and helped": """
        select knob, count(*) as tried,
            count(*) filter (where verdict = 'kept') as kept
        from (select unnest(json_keys(knobs)) as knob, verdict from experiments)
        group by all order by kept desc, tried desc
    """,
    "what stopping early saved": """
        select device_class, stopped, spared, false_stops,
            round(saved_s / 3600, 2) as saved_hours
        from early_stops order by stopped desc
    """,
    "speed and memory by device class": """
        select device_class, count(*) as runs,
            round(avg(tokens / train_s)) as tokens_per_s,
            max(peak_mem_mb) as peak_mem_mb
        from runs where status = 'ok' and train_s > 0
        group by all order by runs desc
    """,
    "loss curve of the best run": """
        select frac, loss, t_s from metrics where run_id = (
            select arg_min(run_id, val_bpb) from runs where scored
        )
        order by frac
    """,
    "what the researcher said, latest first": """
        select n, t_s, kind, experiment_id, content
        from messages where author = 'researcher' order by n desc limit 100
    """,
    "what the model cost, by conversation": """
        select epoch, answers, failures, output_tokens,
            round(cache_share, 3) as cache_share, round(usd, 2) as usd, held_usd
        from model_costs order by epoch
    """,
}
QUESTIONS: Final = tuple(Question(asks, dedent(sql).strip()) for asks, sql in _ASKED.items())
"""The first is what the console begins with."""
