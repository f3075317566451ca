-- audit_distinct: movies that stand in one user's list more than once.
--
-- grain   one row per (user_id, movie_id)
-- reads   recommendations (user_id, movie_id)
-- params  none
-- ties    none
select user_id, movie_id, count(*) as n_times
from recommendations
group by user_id, movie_id
having count(*) > 1
order by user_id, movie_id
