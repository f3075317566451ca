-- last_published: the served run of a dataset, else its newest run that published, with its snapshot.
--
-- grain   one row, or none
-- reads   runs (run_id, dataset, snapshot, verdict), recommendations (run_id)
-- params  $dataset varchar
-- ties    none: rows of runs are in the order in which the runs ended, whatever the clock said
select runs.run_id, runs.snapshot
from runs
where runs.dataset = $dataset and runs.published and runs.verdict <> 'rolled back'
order by
    runs.run_id is not distinct from (select any_value(recommendations.run_id) from recommendations) desc,
    runs.rowid desc
limit 1
