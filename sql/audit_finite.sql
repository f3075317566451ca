-- audit_finite: scores, similarities or expected ratings that are infinite or not a number.
--
-- grain   one row per (user_id, segment, similar_to, rank) and kind of number
-- reads   lists (user_id, segment, similar_to, rank, score), recommendations (user_id, rank, rating_hat)
-- params  none
-- ties    none
select user_id, segment, similar_to, rank, score, null::double as rating_hat
from lists
where not isfinite(score)
union all
select user_id, null as segment, null as similar_to, rank, null as score, rating_hat
from recommendations
where not isfinite(rating_hat)
order by user_id, segment, similar_to, rank, rating_hat
