-- audit_because: movies that are given as a reason, although the user has not rated them.
--
-- grain   one row per (user_id, because_movie_id)
-- reads   recommendations (user_id, because_movie_ids), ratings (user_id, movie_id)
-- params  none
-- ties    none
with

reasons as (
    select distinct user_id, unnest(because_movie_ids) as because_movie_id
    from recommendations
)

select reasons.user_id, reasons.because_movie_id
from reasons
anti join ratings
    on reasons.user_id = ratings.user_id and reasons.because_movie_id = ratings.movie_id
order by reasons.user_id, reasons.because_movie_id
