-- rated_movies: all movies with their number of ratings, for a search by title.
--
-- grain   one row per movie_id
-- reads   movies (movie_id, title, year, genres, n_ratings)
-- params  none
-- ties    none, movie_id is unique
select movie_id, title, year, genres, n_ratings
from movies
order by movie_id
