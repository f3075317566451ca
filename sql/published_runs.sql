-- published_runs: every run that published lists, and whether its lists are being served.
--
-- grain   one row per run_id, the newest first
-- reads   runs (every column), recommendations (run_id)
-- params  none
-- ties    none: rows of runs are in the order in which the runs ended, whatever the clock said
select
    runs.*,
    runs.run_id is not distinct from (
        select any_value(recommendations.run_id) from recommendations
    ) as is_served,
from runs
where runs.published and runs.verdict <> 'rolled back'
order by runs.rowid desc
