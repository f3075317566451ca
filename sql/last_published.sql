-- last_published: the newest run of a data set that published, and its snapshot.
--
-- grain   one row, or none
-- reads   runs (run_id, dataset, snapshot, published)
-- params  $dataset varchar
-- ties    none: run_id is unique and sorts by time
select runs.run_id, runs.snapshot
from runs
where runs.dataset = $dataset and runs.published
order by runs.run_id desc
limit 1
