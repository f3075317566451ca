-- list_runs: the $limit newest runs.
--
-- grain   one row per run_id, the newest first
-- reads   runs (every column)
-- params  $limit integer
-- ties    none, run_id is unique and sorts by time
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
order by run_id desc
limit $limit
