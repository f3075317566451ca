-- counted_movies: the movies of a night with their number of known ratings.
--
-- grain   one row per movie_id
-- reads   the Parquet files $movies (movie_id, title, year, genres) and $ratings (movie_id)
-- params  $movies varchar, $ratings varchar
-- ties    none, movie_id is unique
with

movies as (
    from read_parquet($movies)
),

counted as (
    select movie_id, count(*) as n_ratings
    from read_parquet($ratings)
    group by movie_id
)

select movies.*, coalesce(counted.n_ratings, 0) as n_ratings
from movies
left join counted using (movie_id)
order by movies.movie_id
