-- known_ratings: the ratings known at as_of, including those that were replaced or retracted later.
--
-- grain   one row per rating
-- reads   stored_ratings (user_id, movie_id, rating, rated_at, file_row_number),
--         stored_superseded (the same, until), moments (as_of)
-- params  none: this is a view
-- ties    none; superseded rows are numbered from -1 downwards, so that every number is unique
select
    stored_ratings.user_id,
    stored_ratings.movie_id,
    stored_ratings.rating,
    stored_ratings.rated_at,
    stored_ratings.file_row_number,
from stored_ratings
where stored_ratings.rated_at < (select moments.as_of from moments)
union all
select
    stored_superseded.user_id,
    stored_superseded.movie_id,
    stored_superseded.rating,
    stored_superseded.rated_at,
    -1 - stored_superseded.file_row_number,
from stored_superseded
where
    stored_superseded.rated_at < (select moments.as_of from moments)
    and stored_superseded.until >= (select moments.as_of from moments)
