-- audit_served_by: lists said to be made from something that is none of the four things a list is made from.
--
-- grain   one row per (user_id, served_by)
-- reads   recommendations (user_id, served_by)
-- params  none
-- ties    none
select distinct user_id, served_by
from recommendations
where served_by not in ('history', 'few ratings', 'features', 'default')
order by user_id, served_by
