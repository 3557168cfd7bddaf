"""Questions to begin with: queries that have an answer in every session, for a person to run and to change."""

from __future__ import annotations

from typing import Final, NamedTuple


class Question(NamedTuple):
    """What a query finds out, in a few words, and the query."""

    asks: str
    sql: str


QUESTIONS: Final = (
    Question(
        "leaders, with their evidence",
        "select place, experiment_id, title, round(mean_bpb, 5) as mean_bpb, round(sd_bpb, 5) as sd_bpb, n,\n"
        "    round(best_bpb, 5) as best_bpb, verdict\n"
        "from leaderboard where reference order by place limit 20",
    ),
    Question(
        "what was kept, and how sure that is",
        "select experiment_id, title, delta_bpb, delta_low, delta_high, proposed_t_s\n"
        "from experiments where verdict = 'kept' order by n",
    ),
    Question(
        "best so far, step by step",
        "select ended_t_s, experiment_id, run_id, device_class, best_bpb\nfrom best_so_far where improved\n"
        "order by ended_t_s",
    ),
    Question(
        "how runs ended",
        "select status, count(*) as runs, round(avg(wall_s), 1) as mean_wall_s\n"
        "from runs group by all order by runs desc",
    ),
    Question(
        "failures by cause",
        "select outcome, failure, attempts, runs, last_run_id, last_at\nfrom failures order by attempts desc",
    ),
    Question(
        "why devices did not train",
        "select cause, round(sum(to_t_s - from_t_s) / 3600, 3) as hours, count(*) as times\nfrom idle\n"
        "group by all order by hours desc",
    ),
    Question(
        "utilisation, device by device",
        "select device, device_class, node, attempts, round(allocated_share, 3) as allocated,\n"
        "    round(training_share, 3) as training\nfrom utilisation order by training",
    ),
    Question(
        "noise by device class",
        "select device_class, count(*) as revisions, sum(n) as runs,\n"
        "    sqrt(sum((n - 1) * sd * sd) / sum(n - 1)) as sd_bpb\n"
        "from (\n"
        "    select revision, device_class, count(*) as n, stddev_samp(val_bpb) as sd\n"
        "    from runs where scored group by all having n > 1\n"
        ")\n"
        "group by all order by runs desc",
    ),
    Question(
        "what a kept improvement cost",
        "select kept, round(device_hours / nullif(kept, 0), 2) as device_hours_each,\n"
        "    round(runs / nullif(kept, 0), 1) as runs_each, round(usd / nullif(kept, 0), 2) as model_usd_each,\n"
        "    -gained as gained_bpb\n"
        "from (select count(*) as kept, sum(delta_bpb) as gained from experiments\n"
        "      where verdict = 'kept' and delta_bpb is not null),\n"
        "    (select sum(allocated_s) / 3600 as device_hours, count(distinct run_id) as runs from costs),\n"
        "    (select coalesce(sum(usd), 0) as usd from model_costs)",
    ),
    Question(
        "device-hours by verdict",
        "select e.verdict, round(sum(c.allocated_s) / 3600, 3) as hours, count(distinct c.run_id) as runs\n"
        "from costs c join experiments e using (session_id, experiment_id)\ngroup by all order by hours desc",
    ),
    Question(
        "which constants were tried, and helped",
        "select knob, count(*) as tried, count(*) filter (where verdict = 'kept') as kept\n"
        "from (select unnest(json_keys(knobs)) as knob, verdict from experiments)\n"
        "group by all order by kept desc, tried desc",
    ),
    Question(
        "what stopping early saved",
        "select device_class, stopped, spared, false_stops, round(saved_s / 3600, 2) as saved_hours\n"
        "from early_stops order by stopped desc",
    ),
    Question(
        "speed and memory by device class",
        "select device_class, count(*) as runs, round(avg(tokens / train_s)) as tokens_per_s,\n"
        "    max(peak_mem_mb) as peak_mem_mb\n"
        "from runs where status = 'ok' and train_s > 0 group by all order by runs desc",
    ),
    Question(
        "loss curve of the best run",
        "select frac, loss, t_s from metrics\n"
        "where run_id = (select arg_min(run_id, val_bpb) from runs where scored) order by frac",
    ),
    Question(
        "what the researcher said, latest first",
        "select n, t_s, kind, experiment_id, content\n"
        "from messages where author = 'researcher' order by n desc limit 100",
    ),
    Question(
        "what the model cost, by conversation",
        "select epoch, answers, failures, output_tokens, round(cache_share, 3) as cache_share,\n"
        "    round(usd, 2) as usd, held_usd\nfrom model_costs order by epoch",
    ),
)
"""The first is what the console begins with."""
