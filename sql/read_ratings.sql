-- read_ratings: the lines of a ratings file as rows; a line that cannot be read is kept as it is, with the reason.
--
-- grain   one row per line of the file
-- reads   split_lines (source_line, line, fields, problem), the macros of read_fields
-- params  $separator text, $n_fields integer, $user_id, $movie_id, $rating, $rated_at integer positions from 1
-- ties    none; the rows are in no particular order
with

readings as (
    select
        split_lines.*,
        read_id(fields[$user_id]) as user_id,
        read_id(fields[$movie_id]) as movie_id,
        read_stars(fields[$rating]) as rating,
        read_moment(fields[$rated_at]) as rated_at
    from split_lines($separator, $n_fields) as split_lines
)

select
    source_line,
    user_id,
    movie_id,
    rating,
    rated_at,
    coalesce(
        problem,
        wrong_id('user_id', fields[$user_id], user_id),
        wrong_id('movie_id', fields[$movie_id], movie_id),
        wrong_stars('rating', fields[$rating], rating),
        wrong_moment('rated_at', fields[$rated_at], rated_at)
    ) as why,
    case when why is not null then line end as line
from readings
