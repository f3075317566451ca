-- list_runs: the $limit runs that ended last.
--
-- grain   one row per run_id, the newest first
-- reads   runs (every column)
-- params  $limit integer
-- ties    none: rows of runs are in the order in which the runs ended, whatever the clock said
select
    run_id,
    as_of,
    started_at,
    finished_at,
    dataset,
    snapshot,
    model,
    config_hash,
    code_version,
    verdict,
    reason,
    published,
    champion,
    ratings_path,
from runs
order by runs.rowid desc
limit $limit
