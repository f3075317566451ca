-- audit_distinct: movies that appear more than once in one list.
--
-- grain   one row per (user_id, segment, similar_to, movie_id)
-- reads   lists (user_id, segment, similar_to, movie_id)
-- params  none
-- ties    none
select user_id, segment, similar_to, movie_id, count(*) as n_times
from lists
group by user_id, segment, similar_to, movie_id
having count(*) > 1
order by user_id, segment, similar_to, movie_id
