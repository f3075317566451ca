-- audit_because_liked: reasons that the user has rated below their own mean or below the middle of the rating scale.
--
-- grain   one row per (user_id, because_movie_id)
-- reads   recommendations (user_id, because_movie_ids), ratings (user_id, movie_id, rating),
--         audited (middle); a middle of null, for an unknown scale, is no limit
-- params  none
-- ties    none; means have rounding errors, so 0.0001 stars are tolerated
with

reasons as (
    select distinct user_id, unnest(because_movie_ids) as movie_id
    from recommendations
),

least as (
    select user_id, greatest(avg(rating::double), (select middle from audited)) as stars
    from ratings
    group by user_id
)

select reasons.user_id, reasons.movie_id as because_movie_id, ratings.rating, least.stars as at_least
from reasons
join ratings using (user_id, movie_id)
join least using (user_id)
where ratings.rating < least.stars - 0.0001
order by reasons.user_id, reasons.movie_id
