-- audit_run: rows that carry another run_id than the run being published.
--
-- grain   one row per foreign run_id
-- reads   recommendations (run_id)
-- params  $run_id varchar
-- ties    none
select run_id, count(*) as n_rows
from recommendations
where run_id <> $run_id
group by run_id
order by run_id
