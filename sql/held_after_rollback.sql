-- held_after_rollback: the rollback that blocks publishing until it is released.
--
-- grain   one row, or none if nights may publish
-- reads   runs (run_id, verdict, reason)
-- params  none
-- ties    none: rows of runs are in the order in which the runs ended, whatever the clock said
with

decisions as (
    select runs.run_id, runs.verdict, runs.reason
    from runs
    where runs.verdict in ('published', 'rolled back', 'released')
    order by runs.rowid desc
    limit 1
)

select decisions.run_id, decisions.reason
from decisions
where decisions.verdict = 'rolled back'
