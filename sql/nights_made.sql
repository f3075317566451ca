-- nights_made: the as_of of every night of a dataset that made lists, whether or not they were served.
--
-- grain   one row per as_of, the earliest first
-- reads   runs (run_id, as_of, dataset, verdict)
-- params  $dataset varchar
-- ties    among runs with the same as_of, the run that ended last
select runs.as_of, arg_max(runs.run_id, runs.rowid) as run_id
from runs
where runs.dataset = $dataset and runs.verdict in ('published', 'unchanged', 'backfilled') and runs.as_of is not null
group by runs.as_of
order by runs.as_of
