-- rule_rated_at_plausible: ratings from before MovieLens, or later than 32 bits of seconds can say.
--
-- grain   one row per offending rating
-- reads   ratings (user_id, movie_id, rated_at, …)
-- params  none: the limits are fixed, so that a rerun years later judges the same
-- ties    none
select ratings.*
from ratings
where
    ratings.rated_at < timestamptz '1995-01-01 00:00:00+00'
    or ratings.rated_at >= timestamptz '2038-01-19 03:14:08+00'
