-- compare_snapshots: figures of the snapshot as a whole, compared with the last published snapshot.
--
-- grain   one row
-- reads   stored_ratings (user_id, movie_id, rating, rated_at, file_row_number), stored_tags (tagged_at),
--         stored_superseded (until), snapshot_movies (movie_id), refused (source_table, rule, file_row_number),
--         previous_ratings (user_id, rating): empty if there is nothing to compare with,
--         compared_scale (rating): the stars of both, moments (started_at)
-- params  none
-- ties    none; an unknown figure is null. Half a rating is added to each count of stars, because the population
--         stability index (PSI, Σ (p − q) ln (p / q)) is undefined for a count of 0. newest_at is the newest time in
--         the snapshot; after it, no rule depends on the clock
with

stars as (
    select stored_ratings.rating, count(*) as n
    from stored_ratings
    semi join compared_scale using (rating)
    group by stored_ratings.rating
),

previous_stars as (
    select previous_ratings.rating, count(*) as n
    from previous_ratings
    semi join compared_scale using (rating)
    group by previous_ratings.rating
),

both_stars as (
    select
        rating::double as rating,
        coalesce(stars.n, 0) as n,
        coalesce(previous_stars.n, 0) as previous_n,
    from stars
    full join previous_stars using (rating)
),

shares as (
    select
        both_stars.*,
        (both_stars.n + 0.5::double) / sum(both_stars.n + 0.5::double) over () as p,
        (both_stars.previous_n + 0.5::double) / sum(both_stars.previous_n + 0.5::double) over () as q,
    from both_stars
),

compared as (
    select
        sum(shares.rating * shares.n) / nullif(sum(shares.n), 0) as mean,
        sum(shares.rating * shares.previous_n) / nullif(sum(shares.previous_n), 0) as previous_mean,
        sum((shares.p - shares.q) * ln(shares.p / shares.q)) as psi,
    from shares
),

previous as (
    select count(*) as n
    from previous_ratings
),

previous_users as (
    select distinct previous_ratings.user_id
    from previous_ratings
),

users_now as (
    select distinct stored_ratings.user_id
    from stored_ratings
),

new_users as (
    select count(*) as n
    from users_now
    anti join previous_users using (user_id)
),

unknown as (
    select count(*) as n
    from stored_ratings
    anti join snapshot_movies using (movie_id)
),

isolated as (
    select refused.file_row_number
    from refused
    where refused.source_table = 'ratings' and refused.rule = 'rated_at_isolated'
),

dated as (
    select max(stored_ratings.rated_at) as newest_rated_at
    from stored_ratings
    anti join isolated using (file_row_number)
    where stored_ratings.rated_at <= (select moments.started_at from moments)
),

whole as (
    select
        (select count(*) from stored_ratings) as n,
        dated.newest_rated_at,
        moments.started_at,
    from moments
    cross join dated
),

newest as (
    select max(moment) as moment
    from (
        select max(stored_ratings.rated_at) as moment from stored_ratings
        union all
        select max(stored_tags.tagged_at) from stored_tags
        union all
        select max(stored_superseded.until) from stored_superseded
    )
)

select
    whole.n as rating_count,
    whole.n / nullif(previous.n, 0) as rating_count_share,
    abs(compared.mean - compared.previous_mean) as rating_mean_shift,
    case when compared.mean is not null and compared.previous_mean is not null then compared.psi end as rating_psi,
    unknown.n / nullif(whole.n, 0) as unknown_movie_share,
    case when previous.n > 0 then new_users.n / nullif((select count(*) from users_now), 0) end as new_user_share,
    epoch(whole.started_at - whole.newest_rated_at) / 86400 as newest_rating_age_days,
    newest.moment as newest_at,
from whole
cross join previous
cross join compared
cross join new_users
cross join unknown
cross join newest
