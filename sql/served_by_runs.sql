-- served_by_runs: the run whose lists should be served, by the newest record of a publish or a rollback.
--
-- grain   one row, or none if nothing was published
-- reads   runs (run_id, verdict, reason, published, finished_at)
-- params  none
-- ties    none: run_id is unique and sorts by time
select
    case
        when runs.verdict = 'rolled back' then regexp_extract(runs.reason, 'to run (\S+)$', 1)
        else runs.run_id
    end as run_id
from runs
where runs.published
order by runs.finished_at desc, runs.run_id desc
limit 1
