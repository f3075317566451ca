-- audit_served_by: lists whose served_by is not one of the four valid values.
--
-- grain   one row per (user_id, served_by)
-- reads   recommendations (user_id, served_by)
-- params  none
-- ties    none
select distinct user_id, served_by
from recommendations
where served_by not in ('history', 'few ratings', 'features', 'default')
order by user_id, served_by
