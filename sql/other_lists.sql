-- other_lists: the lists that are of no user in one form: default lists by segment, similar movies by movie.
--
-- grain   one row per (list, rank)
-- reads   default_recommendations (segment, rank, movie_id, score),
--         similar_movies (movie_id, rank, similar_movie_id, similarity)
-- params  none
-- ties    none, rows are in no order
select 'segment ' || segment as list, rank, movie_id, score
from default_recommendations
union all
select 'movie ' || movie_id as list, rank, similar_movie_id as movie_id, similarity as score
from similar_movies
