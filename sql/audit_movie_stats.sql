-- audit_movie_stats: movies whose row of movie_stats is missing or differs from the ratings known to the run.
--
-- grain   one row per movie_id
-- reads   movie_stats, movies (movie_id), counted_ratings (movie_id, n_ratings, total, first_rated_at, last_rated_at)
-- params  none
-- ties    none
with

expected as (
    select
        movies.movie_id,
        coalesce(counted_ratings.n_ratings, 0) as n_expected,
        coalesce(counted_ratings.total, 0) as total,
        counted_ratings.first_rated_at,
        counted_ratings.last_rated_at,
    from movies
    left join counted_ratings using (movie_id)
),

found as (
    select
        movie_id,
        n_ratings as n_found,
        rating_mean,
        first_rated_at,
        last_rated_at,
        stars_0_5 + stars_1 + stars_1_5 + stars_2 + stars_2_5
            + stars_3 + stars_3_5 + stars_4 + stars_4_5 + stars_5 as n_stars,
        0.5 * stars_0_5 + 1 * stars_1 + 1.5 * stars_1_5 + 2 * stars_2 + 2.5 * stars_2_5
            + 3 * stars_3 + 3.5 * stars_3_5 + 4 * stars_4 + 4.5 * stars_4_5 + 5 * stars_5 as total,
    from movie_stats
)

select movie_id, expected.n_expected, found.n_found, expected.total as stars_expected, found.total::double as stars_found,
from expected
full join found using (movie_id)
where
    (found.n_found, found.n_stars, found.total::double, found.first_rated_at, found.last_rated_at)
    is distinct from (
        expected.n_expected, expected.n_expected, expected.total, expected.first_rated_at, expected.last_rated_at
    )
    or (found.rating_mean is null) <> (found.n_found = 0)
    or abs(found.rating_mean * found.n_found - expected.total) > 0.001
order by movie_id
