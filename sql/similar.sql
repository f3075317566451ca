-- similar: the movies most similar to a movie, with their names.
--
-- grain   one row per rank
-- reads   similar_movies_named (run_id, movie_id, rank, similar_movie_id, similar_title, similar_year, similar_genres,
--         similarity)
-- params  $movie_id integer
-- ties    none, rank is unique
select
    run_id,
    rank,
    similar_movie_id as movie_id,
    similar_title as title,
    similar_year as year,
    similar_genres as genres,
    similarity,
from similar_movies_named
where movie_id = $movie_id
order by rank
