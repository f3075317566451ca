-- counted_movies: the movies of a night with their number of known ratings and their film.
--
-- grain   one row per movie_id
-- reads   the Parquet files $movies (movie_id, title, year, genres), $ratings (movie_id), and $films (movie_id,
--         film_id), which lacks the movies whose film_id is their own movie_id
-- params  $movies varchar, $ratings varchar, $films varchar
-- ties    none, movie_id is unique
with

movies as (
    from read_parquet($movies)
),

films as (
    from read_parquet($films)
),

counted as (
    select movie_id, count(*) as n_ratings
    from read_parquet($ratings)
    group by movie_id
)

select
    movies.*,
    coalesce(counted.n_ratings, 0) as n_ratings,
    coalesce(films.film_id, movies.movie_id) as film_id,
from movies
left join counted using (movie_id)
left join films using (movie_id)
order by movies.movie_id
