-- next_change: the next moment from which the same drops give other rows, because a row of them is dated then.
--
-- grain   one row; null if no row is dated in the future
-- reads   drop_ratings (rated_at), drop_retractions (retracted_at), drop_movies (updated_at), drop_users (updated_at)
-- params  $now timestamptz, the time at which the drops are merged
-- ties    none
with

moments as (
    select rated_at as moment from drop_ratings
    union all
    select retracted_at from drop_retractions
    union all
    select updated_at from drop_movies
    union all
    select updated_at from drop_users
)

select min(moments.moment) as next_change
from moments
where moments.moment > $now::timestamptz
