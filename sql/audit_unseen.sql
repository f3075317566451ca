-- audit_unseen: recommended movies that the user has already rated.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, movie_id), ratings (user_id, movie_id)
-- params  none
-- ties    none
select user_id, rank, movie_id
from recommendations
semi join ratings using (user_id, movie_id)
order by user_id, rank
