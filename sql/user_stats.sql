-- user_stats: number, mean, distribution and dates of the ratings of every user, with segment and age band.
--
-- grain   one row per user_id
-- reads   users (user_id, segment, age_band), the Parquet file $ratings (user_id, rating, rated_at)
-- params  $ratings varchar
-- ties    none, user_id is unique
with

known as (
    select user_id, rating, rated_at
    from read_parquet($ratings)
    union all by name
    select user_id  -- so that a user without ratings has a row
    from users
),

counted as (
    select
        user_id,
        count(rating) as n_ratings,
        avg(rating::double) as rating_mean,
        count(*) filter (rating = 0.5) as stars_0_5,
        count(*) filter (rating = 1) as stars_1,
        count(*) filter (rating = 1.5) as stars_1_5,
        count(*) filter (rating = 2) as stars_2,
        count(*) filter (rating = 2.5) as stars_2_5,
        count(*) filter (rating = 3) as stars_3,
        count(*) filter (rating = 3.5) as stars_3_5,
        count(*) filter (rating = 4) as stars_4,
        count(*) filter (rating = 4.5) as stars_4_5,
        count(*) filter (rating = 5) as stars_5,
        min(rated_at) as first_rated_at,
        max(rated_at) as last_rated_at,
    from known
    group by user_id
)

select users.segment, users.age_band, counted.*
from counted
inner join users using (user_id)
order by counted.user_id
