-- audit_lists_distinct: movies that stand in one default or similar list more than once.
--
-- grain   one row per (list, movie_id)
-- reads   other_lists (list, movie_id)
-- params  none
-- ties    none
select list, movie_id, count(*) as n_times
from other_lists
group by list, movie_id
having count(*) > 1
order by list, movie_id
