-- rule_tagged_at_plausible: tags dated before MovieLens existed, or after the start of the run.
--
-- grain   one row per offending tag
-- reads   tags (user_id, movie_id, tagged_at, …), moments (started_at)
-- params  none
-- ties    none
select tags.*
from tags
where
    tags.tagged_at < timestamptz '1995-01-01 00:00:00+00'
    or tags.tagged_at > (select moments.started_at from moments)
