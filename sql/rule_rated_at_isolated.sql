-- rule_rated_at_isolated: a few ratings that are dated more than a year after all others.
--
-- grain   one row per offending rating
-- reads   ratings (user_id, movie_id, rated_at, …)
-- params  none
-- ties    none
--
-- The newest rating is the default as_of and the moment for which lists are made, so a wrong clock must not decide it.
-- Ratings are few if they are at most nine, and at most 0.2% of all ratings: more of them may be a service that was
-- started again.
with

counted as (
    select least(count(*) // 500, 9) as few
    from ratings
),

newest as (
    select ratings.rated_at
    from ratings
    order by ratings.rated_at desc
    limit 10
),

numbered as (
    select
        newest.rated_at,
        lead(newest.rated_at) over newest_first as before_it,
        row_number() over newest_first as n_from_here,
    from newest
    window newest_first as (order by newest.rated_at desc rows between unbounded preceding and unbounded following)
),

isolated as (
    select min(numbered.rated_at) as since
    from numbered
    cross join counted
    where numbered.n_from_here <= counted.few and numbered.rated_at > numbered.before_it + interval 365 days
)

select ratings.*
from ratings
join isolated on ratings.rated_at >= isolated.since
