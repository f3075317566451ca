-- audit_because: movies given as the reason for a recommendation that the user has not rated.
--
-- grain   one row per (user_id, rank, because_movie_id)
-- reads   recommendations (user_id, rank, because_movie_ids), ratings (user_id, movie_id)
-- params  none
-- ties    none
with

reasons as (
    select user_id, rank, unnest(because_movie_ids) as because_movie_id
    from recommendations
)

select reasons.user_id, reasons.rank, reasons.because_movie_id
from reasons
anti join ratings
    on reasons.user_id = ratings.user_id and reasons.because_movie_id = ratings.movie_id
order by reasons.user_id, reasons.rank, reasons.because_movie_id
