-- The tables and views of session.duckdb. Always rebuildable from the journal, never the truth.
-- Order of columns is the order in which rows.py makes them.

create table meta (schema_sha varchar, storage_version varchar);
create table projection (segment integer, byte_offset bigint, n bigint, crc varchar);

create table sessions (
    session_id varchar, name varchar, status varchar, started_at timestamp, ended_at timestamp,
    end_reason varchar, seed bigint, simulated boolean, executor varchar, researcher varchar,
    budget_s double, budget_kind varchar, profile varchar, seq_len bigint, eval_tokens bigint,
    corpus varchar, harness varchar, limits json, version varchar, reference_class varchar,
    incumbent varchar, last_n bigint, last_at timestamp, last_t_s double, unknown_events bigint,
    forked_from varchar, forked_n bigint, forked_t_s double, forked_at timestamp
);
create table devices (
    session_id varchar, device varchar, device_class varchar, node varchar, memory_mb bigint,
    up boolean, lost_reason varchar, seen_t_s double, lost_t_s double, down_s double
);
create table revisions (
    session_id varchar, revision varchar, parent varchar, n bigint, added_at timestamp, patch varchar
);
create table experiments (
    session_id varchar, experiment_id varchar, n bigint, proposed_at timestamp, proposed_t_s double,
    parent varchar, revision varchar, title varchar, hypothesis varchar, rationale varchar, design varchar,
    reason varchar, device_class varchar, knobs json, seeds bigint[],
    verdict varchar, delta_bpb double, delta_low double, delta_high double, origin varchar
);
create table runs (
    session_id varchar, run_id varchar, experiment_id varchar, revision varchar, title varchar,
    design varchar, seed bigint, reason varchar, device varchar, device_class varchar, status varchar,
    failure varchar, val_bpb double, tier varchar, scored boolean, confinement varchar, note varchar, steps bigint,
    tokens bigint, params bigint, train_s double, startup_s double, score_s double, wall_s double,
    peak_mem_mb double, attempts integer, queued_at timestamp, started_at timestamp, ended_at timestamp,
    queued_t_s double, started_t_s double, ended_t_s double, simulated boolean,
    spared boolean, forecast_bpb double, forecast_low_bpb double, forecast_share double, origin varchar
);
create table attempts (
    session_id varchar, attempt_id varchar, run_id varchar, experiment_id varchar, device varchar,
    device_class varchar, outcome varchar, failure varchar, val_bpb double, tier varchar,
    steps bigint, tokens bigint, train_s double, startup_s double, score_s double, peak_mem_mb double,
    probes bigint, eval_tokens bigint, corpus varchar,
    intent_at timestamp, started_at timestamp, ended_at timestamp,
    intent_t_s double, started_t_s double, ended_t_s double, simulated boolean, origin varchar,
    waiting_reason varchar, waited_s double
);
create table metrics (
    session_id varchar, run_id varchar, attempt_id varchar, experiment_id varchar, n bigint, logged_at timestamp,
    t_s double, step bigint, frac double, loss double, util double, mem_mb double
);
create table messages (
    session_id varchar, n bigint, logged_at timestamp, t_s double, author varchar, kind varchar,
    experiment_id varchar, content varchar
);
create table verdicts (
    session_id varchar, n bigint, logged_at timestamp, t_s double, experiment_id varchar, verdict varchar,
    reason varchar, delta_bpb double, delta_low double, delta_high double, device_class varchar,
    seeds bigint, mean_bpb double, reference_id varchar, reference_seeds bigint, reference_mean_bpb double,
    sd_bpb double, df bigint, look bigint, alpha double, want bigint
);
create table commands (
    session_id varchar, n bigint, logged_at timestamp, t_s double, client varchar, verb varchar, arg varchar
);
create table designs (
    session_id varchar, design varchar, n bigint, declared_at timestamp, declared_t_s double, kind varchar,
    factors json, planned_runs bigint, resolution bigint, why varchar
);
create table phases (
    session_id varchar, n bigint, began_at timestamp, began_t_s double, phase varchar, why varchar
);
create table model_messages (
    session_id varchar, n bigint, logged_at timestamp, t_s double, epoch bigint, role varchar, model varchar,
    stop varchar, request varchar, text varchar, thinking varchar, tools varchar[], results bigint, failed_results bigint,
    sent_tokens bigint, output_tokens bigint, thinking_tokens bigint, usd double
);
create table model_requests (
    session_id varchar, request varchar, attempt bigint, epoch bigint, purpose varchar, messages bigint,
    max_tokens bigint, reserve_usd double, status varchar, kind varchar, reason varchar, category varchar,
    request_id varchar, model varchar, stop varchar, usd double, held_usd double, uncached_tokens bigint,
    cache_read_tokens bigint, cache_write_tokens bigint, output_tokens bigint, thinking_tokens bigint,
    from_t_s double, to_t_s double, from_at timestamp, to_at timestamp
);
create table idle (
    session_id varchar, device varchar, device_class varchar, cause varchar, from_t_s double, to_t_s double,
    settled boolean
);

create view costs as
select a.session_id, a.experiment_id, a.run_id, a.attempt_id, a.device, a.device_class,
    case when s.budget_kind = 'gpu' then 'gpu' else 'cpu' end as kind,
    coalesce(a.ended_t_s, s.last_t_s) - a.intent_t_s - a.waited_s as allocated_s,
    a.train_s
from attempts a join sessions s using (session_id);

create view model_costs as
select session_id, epoch, count(distinct request) as requests, count(*) as attempts,
    count(*) filter (where status = 'answered') as answers,
    count(*) filter (where status in ('failed', 'lost')) as failures,
    sum(uncached_tokens) as uncached_tokens, sum(cache_read_tokens) as cache_read_tokens,
    sum(cache_write_tokens) as cache_write_tokens, sum(output_tokens) as output_tokens,
    sum(thinking_tokens) as thinking_tokens,
    sum(cache_read_tokens) / nullif(sum(uncached_tokens + cache_read_tokens + cache_write_tokens), 0) as cache_share,
    sum(usd) as usd, sum(held_usd) as held_usd, min(from_t_s) as from_t_s, max(to_t_s) as to_t_s
from model_requests group by all;

create view leaderboard as
with scores as (
    select session_id, experiment_id, device_class,
        count(*) as scored_runs, min(val_bpb) as best_bpb,
        count(*) filter (where reason <> 'screen') as n,
        avg(val_bpb) filter (where reason <> 'screen') as mean_bpb,
        stddev_samp(val_bpb) filter (where reason <> 'screen') as sd_bpb
    from runs where scored group by all
)
select rank() over (
        partition by c.session_id, c.device_class order by c.mean_bpb nulls last, c.best_bpb
    ) as place,
    c.session_id, c.experiment_id, e.title, e.revision, s.simulated, c.device_class,
    c.device_class = s.reference_class as reference, c.mean_bpb, c.sd_bpb, c.n, c.best_bpb, c.scored_runs,
    e.verdict, e.delta_bpb, e.delta_low, e.delta_high
from scores c
join sessions s using (session_id)
left join experiments e using (session_id, experiment_id);

create view best_so_far as
select session_id, simulated, device_class, ended_at, ended_t_s, run_id, experiment_id, val_bpb, least(before, val_bpb) as best_bpb,
    before is null or val_bpb < before as improved
from (
    select *, min(val_bpb) over (
        partition by session_id, device_class order by ended_t_s, run_id
        rows between unbounded preceding and 1 preceding
    ) as before
    from runs where scored
);

create view utilisation as
with allocated as (
    select session_id, device, count(*) as attempts, sum(allocated_s) as allocated_s, sum(train_s) as train_s
    from costs group by all
)
select d.session_id, d.device, d.device_class, d.node, coalesce(a.attempts, 0) as attempts,
    greatest(s.last_t_s - d.seen_t_s - d.down_s - coalesce(s.last_t_s - d.lost_t_s, 0), 0) as up_s,
    coalesce(a.allocated_s, 0) as allocated_s, coalesce(a.train_s, 0) as train_s,
    coalesce(a.allocated_s, 0) / nullif(up_s, 0) as allocated_share,
    coalesce(a.train_s, 0) / nullif(up_s, 0) as training_share
from devices d
join sessions s using (session_id)
left join allocated a using (session_id, device);

create view early_stops as
with walls as (
    select session_id, device_class, avg(ended_t_s - intent_t_s) filter (where outcome = 'ok') as whole_s,
        sum(ended_t_s - intent_t_s) filter (where outcome = 'pruned') as stopped_s
    from attempts group by all
), pursued as (
    select distinct session_id, experiment_id from verdicts where want > 0 or verdict = 'kept'
)
select r.session_id, r.device_class,
    count(*) filter (where r.status = 'pruned') as stopped,
    count(*) filter (where r.spared and r.status = 'ok') as spared,
    count(distinct r.experiment_id) filter (where r.spared and r.status = 'ok' and p.experiment_id is not null) as false_stops,
    coalesce(stopped * any_value(w.whole_s) - any_value(w.stopped_s), 0) as saved_s
from runs r
join walls w using (session_id, device_class)
left join pursued p using (session_id, experiment_id)
group by all;

create view failures as
select session_id, outcome, failure, count(*) as attempts, count(distinct run_id) as runs,
    arg_max(run_id, ended_t_s) as last_run_id, max(ended_at) as last_at
from attempts where outcome not in ('ok', 'cancelled', 'pruned') group by all;

comment on table meta is 'what made this file: the SHA-256 of its schema and the DuckDB storage version';
comment on table projection is 'how far the journal is ingested: everything up to event n is in these tables';
comment on column projection.byte_offset is 'bytes: where event n ends in its segment';
comment on table sessions is 'the session: one row';
comment on column sessions.status is 'new, running, paused, stopping, ended or failed, as the journal says';
comment on column sessions.budget_s is 'training seconds (gpu), process CPU seconds (cpu) or steps (steps) that a run may use';
comment on column sessions.limits is 'JSON: hours, runs, gpu_hours, usd, consecutive_failures; what is absent has its default';
comment on column sessions.reference_class is 'the device class with most devices: best values refer to it';
comment on column sessions.incumbent is 'experiment_id of the best revision that evidence supports';
comment on column sessions.last_n is 'number of the last event in this file';
comment on column sessions.last_t_s is 'session seconds at that event: time with the engine up and not paused';
comment on column sessions.unknown_events is 'events of a newer release, kept in the journal and ignored here';
comment on table devices is 'GPUs or CPU slots, as they are now';
comment on column devices.memory_mb is 'megabytes; 0 where memory does not bound a run';
comment on column devices.seen_t_s is 'session seconds when the device first joined';
comment on column devices.lost_t_s is 'session seconds when its present absence began; null while it is up';
comment on column devices.down_s is 'session seconds of its ended absences';
comment on table revisions is 'contents of train.py';
comment on column revisions.revision is 'SHA-256 of train.py';
comment on column revisions.patch is 'unified diff against the parent; against nothing for the first';
comment on table experiments is 'hypotheses, with the verdict in force';
comment on column experiments.parent is 'experiment_id that it is measured against';
comment on column experiments.knobs is 'JSON: constants that differ from the parent, name to Python literal';
comment on column experiments.seeds is 'seeds that the proposal asked for; confirmations add runs';
comment on column experiments.verdict is 'kept, rejected or undecided; null before the first verdict';
comment on column experiments.delta_bpb is 'bits per byte, this minus its reference; negative is better';
comment on column experiments.delta_low is 'lower end of the confidence interval of delta_bpb';
comment on column experiments.delta_high is 'upper end of the confidence interval of delta_bpb';
comment on table runs is 'one revision, one seed; the numbers are those of its last attempt';
comment on column runs.reason is 'baseline, screen, confirm or replicate; screen runs nominate and are no evidence';
comment on column runs.status is 'queued, starting, running, or the outcome: ok, crash, oom, nan, timeout, cancelled, pruned, preempted, device_lost, unschedulable, image, infrastructure';
comment on column runs.note is 'what a reader of its score must know, such as what a simulation leaves out';
comment on column runs.failure is 'why it did not end well; null where it did or is open';
comment on column runs.val_bpb is 'validation bits per byte, lower is better';
comment on column runs.tier is 'who measured: self_reported, unconfined, scored, audited';
comment on column runs.scored is 'whether this run is evidence: it ended ok and a harness of ours measured it';
comment on column runs.train_s is 'seconds of training (GPU) or process CPU seconds (CPU)';
comment on column runs.startup_s is 'seconds before training, outside the budget';
comment on column runs.score_s is 'seconds of scoring, outside the budget';
comment on column runs.wall_s is 'session seconds from the start of the last attempt to its end';
comment on column runs.peak_mem_mb is 'megabytes';
comment on column runs.spared is 'whether it would have been stopped early, and went on to test the rule';
comment on column runs.forecast_bpb is 'val_bpb that its loss forecast when it was stopped early or spared; else null';
comment on column runs.forecast_low_bpb is 'lower bound of that forecast, one-sided at 95 %';
comment on column runs.forecast_share is 'share of the budget that was spent at that forecast, 0 to 1';
comment on column runs.attempts is 'how many executions were begun';
comment on column runs.queued_at is 'UTC; so are all timestamps';
comment on column runs.queued_t_s is 'session seconds; so are all columns that end in _t_s';
comment on table attempts is 'executions of runs on devices';
comment on column attempts.outcome is 'as runs.status after the end; null while open';
comment on column attempts.intent_t_s is 'session seconds when the device was allocated';
comment on column attempts.waiting_reason is 'why it did not execute, as its executor said last; null: it said nothing';
comment on column attempts.waited_s is 'session seconds that it waited for the cluster: in no figure of device time';
comment on column attempts.train_s is 'seconds of training (GPU) or process CPU seconds (CPU)';
comment on column attempts.peak_mem_mb is 'megabytes';
comment on table metrics is 'samples of running attempts, at most 24 per run';
comment on column metrics.frac is 'share of the budget that is spent, 0 to 1';
comment on column metrics.loss is 'training loss, nats per token';
comment on column metrics.util is 'share of the device in use, 0 to 1';
comment on column metrics.mem_mb is 'megabytes';
comment on table messages is 'all that was said: proposals, designs, phases, notes, verdicts, commands, limits, what the cluster does';
comment on column messages.author is 'researcher, engine, person or executor';
comment on column messages.kind is 'the kind of the event it comes from';
comment on table verdicts is 'every verdict with its evidence; a later one on the same experiment supersedes';
comment on column verdicts.delta_bpb is 'bits per byte, candidate minus reference; negative is better';
comment on column verdicts.delta_low is 'lower end of the confidence interval of delta_bpb at alpha';
comment on column verdicts.delta_high is 'upper end of the confidence interval of delta_bpb at alpha';
comment on column verdicts.seeds is 'runs of the candidate in the comparison; nominating runs are left out';
comment on column verdicts.sd_bpb is 'pooled standard deviation, with df degrees of freedom';
comment on column verdicts.alpha is 'share of error that this look may spend';
comment on column verdicts.want is 'how many more seeds would settle it; 0: none asked for';
comment on table commands is 'what people asked for';
comment on table designs is 'sets of runs that belong together, as they were declared; experiments.design names them';
comment on column designs.kind is 'how it was made, such as Plackett-Burman or full factorial';
comment on column designs.factors is 'JSON: a list of [knob, low literal, high literal]';
comment on column designs.planned_runs is 'rows of the design; what was run of it is in experiments and runs';
comment on column designs.resolution is 'III: main effects mixed with two-factor interactions, IV: these with each other, V: neither; null: does not apply';
comment on column designs.why is 'what it is to find out';
comment on table phases is 'how the researcher went about it, from when, and why';
comment on column phases.phase is 'builtin: opening, single, model, structure, refine, spent';
comment on table model_messages is 'the conversations with a model, message by message; epoch counts the conversations';
comment on column model_messages.role is 'assistant: the model; user: results and news; system: what persons said';
comment on column model_messages.stop is 'why the model ended there: end_turn, tool_use, max_tokens, ...';
comment on column model_messages.thinking is 'as the API summarised it';
comment on column model_messages.tools is 'names of the tools that it calls, in order';
comment on column model_messages.results is 'results of tools that it brings; failed_results of them are errors';
comment on column model_messages.usd is 'dollars by the price file';
comment on table model_requests is 'attempts to have the model answer';
comment on column model_requests.request is 'the request; its attempts are counted in attempt';
comment on column model_requests.status is 'open, answered, failed, or lost with the engine that made it';
comment on column model_requests.kind is 'one word for what failed';
comment on column model_requests.messages is 'messages that were sent';
comment on column model_requests.reserve_usd is 'the most that it could cost';
comment on column model_requests.held_usd is 'may have been spent beyond usd: on an answer that was lost';
comment on column model_requests.uncached_tokens is 'tokens sent that no cache had and none was to keep';
comment on column model_requests.thinking_tokens is 'part of output_tokens';
comment on view model_costs is 'per conversation with a model: attempts, tokens, dollars';
comment on column model_costs.cache_share is 'share of the tokens sent that a cache had, 0 to 1';
comment on table idle is 'stretches of time in which a device neither trained nor scored, each with its cause';
comment on column idle.cause is 'empty queue, researcher thinking, no fitting run, research ended, limit, paused, stopping, drained, down, pending, image or start-up';
comment on column idle.to_t_s is 'session seconds; of what goes on, those of the last event';
comment on column idle.settled is 'false where the last event leaves open how long it lasts, or what it was';
comment on view costs is 'device time of each attempt so far; dollars for models are in model_costs';
comment on column costs.kind is 'gpu or cpu: what the seconds are of';
comment on column costs.allocated_s is 'session seconds that the device was taken, up to now where open, without waiting';
comment on column costs.train_s is 'seconds of training (gpu) or process CPU seconds (cpu)';
comment on view leaderboard is 'experiments on each device class, by the mean of runs that are evidence; filter on reference';
comment on column leaderboard.place is 'rank on its device class: by mean_bpb, those without one last by best_bpb';
comment on column leaderboard.reference is 'whether this is the reference class';
comment on column leaderboard.mean_bpb is 'mean val_bpb of scored runs that did not nominate';
comment on column leaderboard.sd_bpb is 'sample standard deviation of the same';
comment on column leaderboard.n is 'number of the same';
comment on column leaderboard.best_bpb is 'lowest val_bpb of all scored runs: optimistic';
comment on view best_so_far is 'scored runs as they ended, with the lowest val_bpb up to then on that device class';
comment on view utilisation is 'per device: the share of its time up that was allocated, and that trained';
comment on column utilisation.up_s is 'session seconds that the device was there';
comment on column utilisation.allocated_share is 'allocated_s of up_s, 0 to 1';
comment on column utilisation.training_share is 'train_s of up_s; on CPU slots CPU seconds of wall seconds';
comment on view early_stops is 'per device class: runs stopped early, and how often spared ones show that to be wrong';
comment on column early_stops.spared is 'runs that would have been stopped, went on and have a score';
comment on column early_stops.false_stops is 'experiments of spared runs that were worth pursuing: seeds were asked for, or it was kept';
comment on column early_stops.saved_s is 'session seconds of devices saved, had stopped runs taken as long as whole ones';
comment on view failures is 'failed attempts by outcome and reason; cancelled and pruned ones are no failures';
