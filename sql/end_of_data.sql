-- end_of_data: the latest time at which a rating was given, replaced or retracted.
--
-- grain   one row; null without ratings
-- reads   ratings (rated_at) as admitted, stored_superseded (until), moments (started_at)
-- params  none
-- ties    none; a retraction dated after the start of the run does not count
select
    greatest(
        max(ratings.rated_at),
        (
            select max(stored_superseded.until)
            from stored_superseded
            where stored_superseded.until <= (select moments.started_at from moments)
        )
    ) as newest
from ratings
