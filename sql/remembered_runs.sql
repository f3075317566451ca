-- remembered_runs: the runs in recommendation_history.
--
-- grain   one row per run_id, sorted
-- reads   recommendation_history (run_id)
-- params  none
-- ties    none
select distinct recommendation_history.run_id
from recommendation_history
order by recommendation_history.run_id
