-- served_by_runs: the run whose lists should be served, by the newest record of a publish or a rollback.
--
-- grain   one row, or none if nothing was published
-- reads   runs (run_id, verdict, reason, published), whose rows are in the order in which the runs ended
-- params  none
-- ties    none: rowid is unique
select
    case
        when runs.verdict = 'rolled back' then regexp_extract(runs.reason, 'to run (\S+)$', 1)
        else runs.run_id
    end as run_id
from runs
where runs.published
order by runs.rowid desc
limit 1
