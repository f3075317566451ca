-- served_run: the run whose lists are being served.
--
-- grain   one row, or none if nothing is served
-- reads   recommendations (run_id), runs (every column)
-- params  none
-- ties    none: all rows of recommendations have the same run_id
select runs.*
from runs
where runs.run_id = (select any_value(recommendations.run_id) from recommendations)
