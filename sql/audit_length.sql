-- audit_length: users whose list is neither n movies long nor, where fewer are left to them, all of those.
--
-- grain   one row per user_id, users without any list included
-- reads   recommendations (user_id), ratings (user_id, movie_id)
-- params  $n integer
-- ties    none
with

available as (
    -- a movie that nobody has rated cannot be recommended
    select count(distinct movie_id) as n_movies
    from ratings
),

rated as (
    select user_id, count(*) as n_rated
    from ratings
    group by user_id
),

listed as (
    select user_id, count(*) as n_listed
    from recommendations
    group by user_id
),

lengths as (
    select
        user_id,
        coalesce(listed.n_listed, 0) as n_listed,
        least($n, available.n_movies - coalesce(rated.n_rated, 0)) as n_expected,
    from rated
    full join listed using (user_id)
    cross join available
)

select user_id, n_listed, n_expected
from lengths
where n_listed <> n_expected
order by user_id
