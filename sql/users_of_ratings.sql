-- users_of_ratings: the users of an edition that says nothing about them but their ratings.
--
-- grain   one row per user_id; source_line is where the user first rates
-- reads   ratings (source_line, user_id)
-- params  none
-- ties    none: order is not promised
select
    ratings.user_id,
    null::varchar as gender,
    null::smallint as age,
    null::varchar as occupation,
    null::varchar as zip_code,
    min(ratings.source_line) as source_line
from ratings
group by ratings.user_id
