-- end_of_data: the newest moment at which something happened to the ratings.
--
-- grain   one row; null where there is no rating
-- reads   ratings (rated_at) as admitted, stored_superseded (until), moments (started_at)
-- params  none
-- ties    none; a retraction of a day to come has happened to the snapshot, but not yet to the world
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
