-- measure_lists: measures of tonight's lists as a whole and in comparison with the served lists; null if undefined.
--
-- grain   one row
-- reads   recommendations (user_id, rank, movie_id, score, rating_hat, served_by): one list per row with rank 1,
--         lists_before (user_id, rank, movie_id, served_by): the served lists, if they are of the same dataset
-- params  $n_available bigint: number of movies that may be shown;
--         $lowest, $highest double: the ends of the rating scale, in stars
-- ties    none
with

-- lists of different lengths are compared up to the shorter length
depths as (
    select
        least((select max(rank) from recommendations), (select max(rank) from lists_before)) as depth,
        least((select max(rank) from recommendations), 10) as first_places,
),

totals as (
    select count(*) as n_rows
    from recommendations
    where rank <= (select depth from depths)
),

totals_before as (
    select count(*) as n_rows
    from lists_before
    where rank <= (select depth from depths)
),

strangers as (
    select avg((served_by in ('features', 'default'))::integer) as share
    from recommendations
    where rank = 1
),

strangers_before as (
    select avg((served_by in ('features', 'default'))::integer) as share
    from lists_before
    where rank = 1
),

-- as in recsys/metrics/churn.py: the share of a user's earlier movies that are no longer listed
listed_before as (
    select user_id, count(*) as n_movies
    from lists_before
    where rank <= (select depth from depths)
    group by user_id
),

kept as (
    select lists_before.user_id, count(*) as n_movies
    from lists_before
    semi join recommendations
        on lists_before.user_id = recommendations.user_id
        and lists_before.movie_id = recommendations.movie_id
        and recommendations.rank <= (select depth from depths)
    where lists_before.rank <= (select depth from depths)
    group by lists_before.user_id
),

changes as (
    select avg(1 - coalesce(kept.n_movies, 0) / listed_before.n_movies) as churn
    from listed_before
    semi join recommendations using (user_id)
    left join kept using (user_id)
),

ranges as (
    select user_id, count(*) as n_places, min(score) as lowest, max(score) as highest
    from recommendations
    group by user_id
),

flat as (
    select avg((n_places > 1 and lowest = highest)::integer) as share
    from ranges
),

acquaintances as (
    select count(*) as n_users
    from recommendations
    where served_by = 'history' and rank = 1
),

listed_first as (
    select movie_id, count(*) as n_users
    from recommendations
    where served_by = 'history' and rank <= (select first_places from depths)
    group by movie_id
),

-- with few movies, lists overlap anyway; with few users, the share is meaningless
favourite as (
    select max(listed_first.n_users) / any_value(acquaintances.n_users) as share
    from listed_first
    cross join acquaintances
    cross join depths
    where acquaintances.n_users >= 100 and $n_available >= 10 * depths.first_places
),

stars as (
    select
        greatest(max(rating_hat) - $highest, $lowest - min(rating_hat), 0) / nullif($highest - $lowest, 0) as overshoot,
    from recommendations
    where isfinite(rating_hat)
)

select
    totals.n_rows / nullif(totals_before.n_rows, 0) as audit_rows_share,
    strangers.share as audit_stranger_share,
    strangers.share - strangers_before.share as audit_stranger_rise,
    favourite.share as audit_top_movie_share,
    changes.churn as audit_churn,
    flat.share as audit_flat_share,
    stars.overshoot as audit_overshoot,
from totals
cross join totals_before
cross join strangers
cross join strangers_before
cross join changes
cross join flat
cross join favourite
cross join stars
