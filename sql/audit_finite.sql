-- audit_finite: scores or expected ratings that are infinite or not a number.
--
-- grain   one row per (user_id, rank)
-- reads   recommendations (user_id, rank, score, rating_hat)
-- params  none
-- ties    none
select user_id, rank, score, rating_hat
from recommendations
where not isfinite(score) or not isfinite(rating_hat)
order by user_id, rank
