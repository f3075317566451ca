-- audit_run: rows whose run_id is not that of the run being published.
--
-- grain   one row per other run_id
-- reads   recommendations (run_id), default_recommendations (run_id), similar_movies (run_id), audited (run_id)
-- params  none
-- ties    none
with

published as (
    select run_id
    from recommendations
    union all
    select run_id
    from default_recommendations
    union all
    select run_id
    from similar_movies
)

select run_id, count(*) as n_rows
from published
where run_id <> (select audited.run_id from audited)
group by run_id
order by run_id
