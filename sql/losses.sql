-- losses: how much worse each run was than its champion, on the same holdout.
--
-- grain   one row per run_id that was compared with a champion
-- reads   runs (run_id, champion), metrics (run_id, slice, metric, value)
-- params  none
-- ties    none: (run_id, slice, metric) is unique for these slices
select
    runs.run_id,
    runs.champion,
    coalesce(max(metrics.value) filter (metrics.metric = 'mae_median_difference'), 0.0::double) as mae,
    coalesce(-max(metrics.value) filter (metrics.metric = 'ndcg_at_10_difference'), 0.0::double) as ndcg,
from runs
inner join metrics using (run_id)
where runs.champion is not null
    and metrics.slice = 'against=champion'
    and metrics.metric in ('mae_median_difference', 'ndcg_at_10_difference')
group by runs.run_id, runs.champion
order by runs.run_id
