-- audit_similar_self: movies listed as similar to themselves.
--
-- grain   one row per (movie_id, rank)
-- reads   similar_movies (movie_id, rank, similar_movie_id)
-- params  none
-- ties    none
select movie_id, rank
from similar_movies
where movie_id = similar_movie_id
order by movie_id, rank
