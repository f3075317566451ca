-- rule_rated_at_plausible: ratings dated before MovieLens existed, or after the start of the run.
--
-- grain   one row per offending rating
-- reads   ratings (user_id, movie_id, rated_at, …), moments (started_at)
-- params  none
-- ties    none
--
-- Without this rule, a rating in the future would move the default as_of into the future.
select ratings.*
from ratings
where
    ratings.rated_at < timestamptz '1995-01-01 00:00:00+00'
    or ratings.rated_at > (select moments.started_at from moments)
