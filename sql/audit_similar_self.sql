-- audit_similar_self: movies listed as similar to themselves, under the same movie_id or another of the film.
--
-- grain   one row per (movie_id, rank)
-- reads   similar_movies (movie_id, rank, similar_movie_id), films (movie_id, film_id)
-- params  none
-- ties    none
select similar_movies.movie_id, similar_movies.rank
from similar_movies
left join films using (movie_id)
left join films as others on similar_movies.similar_movie_id = others.movie_id
where
    similar_movies.movie_id = similar_movies.similar_movie_id
    or films.film_id = others.film_id
order by similar_movies.movie_id, similar_movies.rank
