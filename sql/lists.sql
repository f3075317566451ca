-- lists: all lists in one form; two of user_id, segment and similar_to are null.
--
-- grain   one row per (user_id, segment, similar_to, rank)
-- reads   recommendations (user_id, rank, movie_id, score), default_recommendations (segment, rank, movie_id, score),
--         similar_movies (movie_id, rank, similar_movie_id, similarity)
-- params  none
-- ties    none, rows are not sorted
select user_id, null::varchar as segment, null::integer as similar_to, rank, movie_id, score
from recommendations
union all
select null as user_id, segment, null as similar_to, rank, movie_id, score
from default_recommendations
union all
select null as user_id, null as segment, movie_id as similar_to, rank, similar_movie_id as movie_id, similarity as score
from similar_movies
