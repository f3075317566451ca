-- status: the served run, the newest successful night, and the last night with any verdict.
--
-- grain   one row per part: served, last_success, last_night; a part without a run is absent
-- reads   runs (run_id, dataset, snapshot, as_of, finished_at, verdict, reason), recommendations (run_id)
-- params  none
-- ties    none: rows of runs are in the order in which the runs ended, whatever the clock said
with

nights as (
    select runs.rowid as place, runs.*
    from runs
    where runs.verdict not in ('backfilled', 'rolled back', 'released')
),

served as (
    select 'served' as part, runs.rowid as place, runs.*
    from runs
    where runs.run_id = (select any_value(recommendations.run_id) from recommendations)
),

last_success as (
    select 'last_success' as part, nights.*
    from nights
    where nights.verdict in ('published', 'unchanged')
    order by nights.place desc
    limit 1
),

last_night as (
    select 'last_night' as part, nights.*
    from nights
    order by nights.place desc
    limit 1
),

parts as (
    from served
    union all
    from last_success
    union all
    from last_night
)

select part, run_id, dataset, snapshot, as_of, finished_at, verdict, reason
from parts
