-- night_figures: the errors and list quality of the $limit newest nights of a dataset, with those of the baselines.
--
-- grain   one row per (run_id, model, metric), the oldest night first
-- reads   runs (run_id, dataset, model, verdict), metrics (run_id, model, split, slice, metric, value)
-- params  $dataset varchar, $limit integer
-- ties    none: (run_id, model, metric) is unique; runs are in the order in which they ended
with

nights as (
    select runs.rowid as place, runs.run_id, runs.model, runs.verdict
    from runs
    where runs.dataset = $dataset
        and runs.run_id in (select metrics.run_id from metrics where metrics.metric = 'mae_median')
    order by runs.rowid desc
    limit $limit
),

figures as (
    select
        nights.place,
        nights.run_id,
        nights.verdict,
        if(metrics.model = nights.model, 'network', metrics.model) as model,
        metrics.metric,
        metrics.value,
    from nights
    inner join metrics using (run_id)
    where metrics.slice = 'all'
        and metrics.split like 'holdout%'
        and metrics.metric in ('mae_median', 'mae_rounded', 'ndcg_at_10')
        and metrics.model in (nights.model, 'bias', 'popularity')
)

select run_id, verdict, model, metric, value
from figures
order by place, model, metric
