-- counted_ratings: the ratings of every movie and every user in numbers, to audit movie_stats and user_stats.
--
-- grain   one row per movie_id, and one per user_id; the other id is null
-- reads   the Parquet file $ratings (user_id, movie_id, rating, rated_at)
-- params  $ratings varchar
-- ties    none, rows are not sorted
select
    movie_id,
    user_id,
    count(*) as n_ratings,
    sum(rating::double) as total,
    min(rated_at) as first_rated_at,
    max(rated_at) as last_rated_at,
from read_parquet($ratings)
group by grouping sets ((movie_id), (user_id))
