-- remembered_runs: the runs whose lists the history has.
--
-- grain   one row per run_id, in order
-- reads   recommendation_history (run_id)
-- params  none
-- ties    none
select distinct recommendation_history.run_id
from recommendation_history
order by recommendation_history.run_id
